//! Tries all orders of memory accesses that C11 allows, as ARM has them and x86-64 does not, by loom.
//!
//! It compiles the files of rpc-runtime and rpc-http themselves, with loom's types behind `sync`. Each waker here is told of an event that
//! was stored with the weakest order: whoever is woken has to see it, and nobody may sleep for ever, which loom finds.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};

use loom::{future::block_on, sync::atomic::AtomicBool, thread};

use crate::{
    conn::CallId,
    shared_task::SharedTask,
    stall_record::StallRecord,
    task_waker::TaskWaker,
    woken_slots::{SlotNumber, WokenSlots},
};

mod sync {
    pub(crate) use loom::sync::{Mutex, MutexGuard, atomic};
}

mod base {
    pub(crate) use crate::sync;
}

mod conn {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct CallId(pub(crate) u64);
}

#[path = "../../../../rpc-runtime/src/base/shared_task.rs"]
mod shared_task;
#[allow(dead_code, reason = "the model uses a part of it")]
#[path = "../../../../rpc-runtime/src/session/stall_record.rs"]
mod stall_record;
#[path = "../../../../rpc-http/src/task_waker.rs"]
mod task_waker;
#[path = "../../../../rpc-http/src/woken_slots.rs"]
mod woken_slots;

fn main() {
    model(
        "SharedTask: no half sleeps through its wake",
        no_half_sleeps_through_its_wake,
    );
    model("TaskWaker: no event is slept through", no_event_is_slept_through);
    model(
        "WokenSlots: no answer sleeps through its wake",
        no_answer_sleeps_through_its_wake,
    );
    model(
        "StallRecord: a turn that is taken ends once",
        a_turn_that_is_taken_ends_once,
    );
    model(
        "StallRecord: a poll in a task is found once and forgotten",
        a_poll_in_a_task_is_found_once_and_forgotten,
    );
}

/// Tries all orders of `model`, and prints how many there were.
fn model(name: &str, model: fn()) {
    static ORDERS: AtomicUsize = AtomicUsize::new(0);
    ORDERS.store(0, Relaxed);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(move || {
        ORDERS.fetch_add(1, Relaxed);
        model();
    });
    println!("{name}: held in {} orders", ORDERS.load(Relaxed));
}

/// How often a thread stops for another one that could have gone on. With more, a model of three threads takes minutes.
const PREEMPTIONS: usize = 3;

/// An event that somebody waits for.
type Event = Arc<AtomicBool>;

fn event() -> Event {
    Arc::new(AtomicBool::new(false))
}

/// Lets `event` happen on another thread, and wakes `waker` there.
fn happens(event: &Event, waker: Waker) {
    let event = Arc::clone(event);
    thread::spawn(move || {
        event.store(true, Relaxed);
        waker.wake();
    });
}

/// Is ready when `event` has happened. It puts its waker into `place` with its first poll.
fn half(event: &Event, place: &Arc<OnceLock<Waker>>) -> impl Future<Output = ()> + Unpin {
    let (event, place) = (Arc::clone(event), Arc::clone(place));
    poll_fn(move |cx| {
        place.get_or_init(|| cx.waker().clone());
        ready_if(&event)
    })
}

fn ready_if(event: &AtomicBool) -> Poll<()> {
    match event.load(Relaxed) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    }
}

fn no_half_sleeps_through_its_wake() {
    let (events, places) = ([event(), event()], [Arc::default(), Arc::default()]);
    let mut both = SharedTask::new(half(&events[0], &places[0]), half(&events[1], &places[1]));
    let first = Future::poll(Pin::new(&mut both), &mut Context::from_waker(Waker::noop()));
    assert!(first.is_pending());
    for (event, place) in events.iter().zip(&places) {
        happens(event, place.get().expect("it was polled").clone());
    }
    block_on(both);
}

fn no_event_is_slept_through() {
    let events = [event(), event()];
    let waker = TaskWaker::new();
    let wakes = waker.looks().clone();
    for event in &events {
        happens(event, wakes.clone());
    }
    block_on(poll_fn(|cx| {
        waker.runs(cx);
        loop {
            let _ = waker.looks();
            if events.iter().all(|event| event.load(Relaxed)) {
                return Poll::Ready(());
            }
            if !waker.is_woken() && waker.sleeps() {
                return Poll::Pending;
            }
        }
    }));
}

fn no_answer_sleeps_through_its_wake() {
    let events = [event(), event()];
    let woken = Arc::<WokenSlots>::default();
    let number = Arc::new(SlotNumber::new(0, &woken));
    for event in &events {
        happens(event, Waker::from(Arc::clone(&number)));
    }
    // It has its first turn without a wake.
    let mut turns = VecDeque::from([0]);
    block_on(poll_fn(|cx| {
        loop {
            while turns.pop_front().is_some() {
                number.has_its_turn();
                if events.iter().all(|event| event.load(Relaxed)) {
                    return Poll::Ready(());
                }
            }
            woken.take(&mut turns);
            if turns.is_empty() && woken.sleep(cx.waker()) {
                return Poll::Pending;
            }
        }
    }));
}

/// The dispatcher ends a poll while the monitor takes its turn.
fn a_turn_that_is_taken_ends_once() {
    let record = Arc::new(StallRecord::default());
    record.begin(0, 7, CallId(5));
    let monitor = thread::spawn({
        let record = Arc::clone(&record);
        move || {
            let seen = record.snapshot();
            seen.is_in_first_poll()
                .then(|| record.take_turn(seen.turn()))
                .flatten()
        }
    });
    let went_on = record.end(0);
    let taken = monitor.join().expect("it does not panic");
    assert!(
        went_on.is_some() != taken.is_some(),
        "one of the two has the turn"
    );
    assert!(taken.is_none_or(|(turn, route)| (turn, route) == (2, 7)));
    assert_eq!(record.polls(), 0);
    assert!(record.blocked().is_empty());
}

/// A handler's task ends its poll while the monitor looks.
fn a_poll_in_a_task_is_found_once_and_forgotten() {
    let record = Arc::new(StallRecord::default());
    let poll = record.poll_in_task(Some((CallId(5), 7)));
    let monitor = thread::spawn({
        let record = Arc::clone(&record);
        move || {
            let (mut last, mut found) = (Default::default(), Vec::new());
            for _ in 0..3 {
                record.look_at_tasks(&mut last, |route| found.push(route));
            }
            found
        }
    });
    drop(poll);
    let found = monitor.join().expect("it does not panic");
    assert!(found.is_empty() || found == [7], "{found:?}");
    assert_eq!(record.polls(), 0);
    assert!(record.blocked().is_empty());
}
