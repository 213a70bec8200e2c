//! Tries all orders of what relies on one total order of accesses (`SeqCst`), by shuttle. loom knows only weaker ones, and would fail here.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use shuttle::thread;

use crate::{conn::CallId, stall_record::StallRecord};

mod base {
    pub(crate) mod sync {
        pub(crate) use shuttle::sync::{Mutex, MutexGuard, atomic};
    }
}

mod conn {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct CallId(pub(crate) u64);
}

#[allow(dead_code, reason = "the model uses a part of it")]
#[path = "../../../../rpc-runtime/src/session/stall_record.rs"]
mod stall_record;

fn main() {
    static ORDERS: AtomicUsize = AtomicUsize::new(0);
    shuttle::check_dfs(
        || {
            ORDERS.fetch_add(1, Relaxed);
            a_poll_that_begins_while_the_monitor_leaves_is_looked_at();
        },
        None,
    );
    println!(
        "StallRecord: a poll that begins while the monitor leaves is looked at: held in {} orders",
        ORDERS.load(Relaxed)
    );
}

/// Either the monitor goes on to look, or the dispatcher lists the record anew: never both, and never none.
fn a_poll_that_begins_while_the_monitor_leaves_is_looked_at() {
    let record = Arc::new(StallRecord::default());
    assert!(record.is_unlisted(), "the monitor looks");
    let last = record.snapshot();
    let monitor = thread::spawn({
        let record = Arc::clone(&record);
        move || record.delist(last)
    });
    record.begin(0, 7, CallId(5));
    let lists = record.is_unlisted();
    let has_left = monitor.join().expect("it does not panic");
    assert_eq!(has_left, lists);
}
