//! The one coordinator of a drain: from the first terminate to the report, within a bound whatever is stuck.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, sleep, sleep_until};

use super::{
    state::{Phase, Shared},
    until::until,
};
use crate::session::Served;
use crate::{DrainReport, driver::Link, wire::frame::control::Reason};

/// Drains a server: closes its listeners, tells its peers, waits for its calls, drops what is left, and closes.
///
/// It waits for nothing without a limit: it ends at most [`GRACE`] and [`CLOSE`] after the drain's time is over. What is
/// said last has until then to be written, even if the handlers were done long before.
pub(super) fn coordinate(server: Arc<Shared>) -> impl Future<Output = ()> + Send {
    // Not in the future, which a runtime that is gone drops before it has begun.
    let ending = Ending {
        server,
        report: DrainReport::default(),
    };
    run(ending)
}

async fn run(mut ending: Ending) {
    let server = Arc::clone(&ending.server);
    let begun = Instant::now();
    close_listeners(&server).await;
    let served = server.seal();
    tracing::info!(
        connections = served.len(),
        open = served.iter().map(|one| one.link().with(|conn, _| conn.open_requests())).sum::<usize>(),
        timeout = ?server.drain_timeout(),
        "drain begins"
    );
    let left = server.drain_timeout().saturating_sub(begun.elapsed());
    let mut end = pin!(sleep(left));
    for one in &served {
        announce(one.link(), left);
    }
    server.set_phase(Phase::Announced);
    let mut blocked = vec![0; served.len()];
    let over = until(end.as_mut(), server.aborted());
    if until(over, all_drained(&served)).await.is_none() {
        let open: usize = served
            .iter()
            .map(|one| one.link().with(|conn, _| conn.open_requests()))
            .sum();
        tracing::warn!(open, "drain: time is over, open calls are dropped");
        for one in &served {
            one.link().with(|conn, now| conn.abort_calls(now));
        }
        grace(&served, &mut blocked).await;
    }
    let report = report(&served, &blocked);
    tracing::info!(%report, clean = report.is_clean(), "drain: handlers are done");
    ending.report = report.clone();
    server.set_phase(Phase::Drained(report));
    // Each connection closes a second after its last byte was written, whether its peer reads or not.
    let limit = async {
        until(end, server.aborted()).await;
        sleep(CLOSE).await;
    };
    if until(limit, all_closed(&served)).await.is_none() {
        tracing::debug!("drain: peers that do not read or close are cut off");
    }
    for one in &served {
        one.cut("cut off at the end of the drain");
    }
    tracing::info!(took = ?begun.elapsed(), "drain ends");
}

/// Tells a peer that no further calls are taken, and that those which are open have `time`.
pub(super) fn announce(link: &Link, time: Duration) {
    link.with(|conn, now| conn.begin_drain(Reason::Drain, "server is draining", time, now));
}

/// Tells all who wait that the server is closed, also when the runtime shuts down in the middle of a drain.
struct Ending {
    server: Arc<Shared>,
    report: DrainReport,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.server.set_phase(Phase::Closed(self.report.clone()));
    }
}

/// Waits for the accept loops, which close their listeners when a drain begins: nobody connects from then on, and
/// whoever sees the server end finds its addresses free.
async fn close_listeners(server: &Shared) {
    let limit = Instant::now() + CLOSE_LISTENERS;
    for task in server.take_accepting() {
        let abort = task.abort_handle();
        if until(sleep_until(limit), task).await.is_none() {
            abort.abort();
        }
    }
}

async fn all_drained(served: &[Arc<Served>]) {
    for one in served {
        poll_fn(|cx| one.poll_drained(cx)).await;
        // One-ways that a lost peer left behind still run.
        poll_fn(|cx| one.link().with(|conn, _| conn.poll_no_request(cx))).await;
    }
}

async fn all_closed(served: &[Arc<Served>]) {
    for one in served {
        poll_fn(|cx| one.poll_closed(cx)).await;
    }
}

/// Waits until all handlers are gone, but not for long: they are dropped at their next await, and one that blocks does not
/// get there. `blocked` is how many of each connection have been in a poll for a while.
async fn grace(served: &[Arc<Served>], blocked: &mut [u64]) {
    // A timer that is late, because the machine stood still or every worker was blocked, blames nobody: handlers have the
    // other steps.
    for step in 1..=STEPS {
        if until(sleep(GRACE / STEPS), all_drained(served)).await.is_some() {
            return;
        }
        // A single look may hit a poll that is about to end.
        for (blocked, one) in blocked.iter_mut().zip(served) {
            let polls = one.watch().polls();
            *blocked = if step + LOOKS > STEPS + 1 {
                polls.min(*blocked)
            } else {
                polls
            };
        }
    }
}

fn report(served: &[Arc<Served>], blocked: &[u64]) -> DrainReport {
    let (mut completed, mut aborted, mut one_way_dropped, mut stuck, mut starved) = (0, 0, 0, 0, 0);
    for (one, blocked) in served.iter().zip(blocked) {
        let (tally, running) = one.link().with(|conn, _| (conn.tally(), conn.running_handlers()));
        completed += tally.completed;
        aborted += tally.aborted;
        one_way_dropped += tally.one_way_dropped;
        let blocked = (running as u64).min(*blocked);
        stuck += blocked;
        starved += running as u64 - blocked;
    }
    DrainReport::new(completed, aborted, one_way_dropped, stuck).with_starved(starved)
}

/// How long the accept loops may take to close their listeners; they do it at once if a worker is free.
const CLOSE_LISTENERS: Duration = Duration::from_millis(90);
/// How long handlers may take to be dropped when the drain's time is over.
const GRACE: Duration = Duration::from_millis(900);
/// How many timers that time is made of.
const STEPS: u32 = 9;
/// At so many of the last steps a handler has to be in a poll to count as one that blocks its thread.
const LOOKS: u32 = 3;
/// How long connections may take beyond the drain's time to write their last replies and to be closed by their peers: 1 s
/// each.
const CLOSE: Duration = Duration::from_secs(2);
