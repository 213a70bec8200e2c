//! The one coordinator of a drain: from the first terminate to the report, within a bound whatever is stuck.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, sleep, sleep_until};

use super::{
    state::ServerState,
    terminate::{Asker, Decision, TerminateKind},
    until::until,
};
use crate::{
    DrainReport,
    driver::Link,
    session::{Session, lifecycle::DrainPhase},
    wire::frame::control::Reason,
};

/// Begins the drain, unless it has begun.
pub(crate) fn begin(server: &Arc<ServerState>, asker: &Asker<'_>) {
    decide(server, asker, TerminateKind::Drain);
}

/// Begins the drain if it has not begun, and gives open calls no more time.
pub(crate) fn abort(server: &Arc<ServerState>, asker: &Asker<'_>) {
    server.lifecycle().abort();
    decide(server, asker, TerminateKind::Abort);
}

fn decide(server: &Arc<ServerState>, asker: &Asker<'_>, kind: TerminateKind) {
    let is_first = server.lifecycle().begin_drain();
    let decision = match is_first {
        true => Decision::First,
        false => Decision::Repeated,
    };
    server.audit(asker, kind, decision);
    if is_first {
        server.lifecycle().announce_drain();
        server.runtime().spawn(coordinate(Arc::clone(server)));
    }
}

/// Drains a server: closes its listeners, tells its peers, waits for its calls, drops what is left, and closes.
///
/// Open calls get the drain timeout to end by themselves. Then they are dropped at their next await, within [`GRACE`].
/// Each wait has a limit: the drain ends at most [`GRACE`] and [`CLOSE`] after the drain timeout, whatever is stuck. The last
/// replies have until then to be written, even if the handlers ended long before.
fn coordinate(server: Arc<ServerState>) -> impl Future<Output = ()> + Send {
    // Made here and not inside of the future: a runtime that is gone drops that before it has begun.
    let closing = CloseOnDrop {
        server,
        report: DrainReport::default(),
    };
    run(closing)
}

async fn run(mut closing: CloseOnDrop) {
    let server = Arc::clone(&closing.server);
    let begun = Instant::now();
    close_listeners(&server).await;
    let sessions = server.connections().seal();
    tracing::info!(
        connections = sessions.len(),
        open = sessions.iter().map(|one| one.link().with(|conn, _| conn.open_requests())).sum::<usize>(),
        timeout = ?server.drain_timeout(),
        "drain begins"
    );
    let left = server.drain_timeout().saturating_sub(begun.elapsed());
    let mut end = pin!(sleep(left));
    for one in &sessions {
        announce(one.link(), left);
    }
    server.lifecycle().set_phase(DrainPhase::Announced);
    let mut blocked = vec![0; sessions.len()];
    let over = until(end.as_mut(), server.lifecycle().aborted());
    if until(over, all_drained(&sessions)).await.is_none() {
        let open: usize = sessions
            .iter()
            .map(|one| one.link().with(|conn, _| conn.open_requests()))
            .sum();
        tracing::warn!(open, "drain: time is over, open calls are dropped");
        for one in &sessions {
            one.link().with(|conn, now| conn.abort_calls(now));
        }
        grace(&sessions, &mut blocked).await;
    }
    let report = report(&sessions, &blocked);
    tracing::info!(%report, clean = report.is_clean(), "drain: handlers are done");
    closing.report = report.clone();
    server.lifecycle().set_phase(DrainPhase::Drained(report));
    // Each connection closes a second after its last byte was written, whether its peer reads or not.
    let limit = async {
        until(end, server.lifecycle().aborted()).await;
        sleep(CLOSE).await;
    };
    if until(limit, all_closed(&sessions)).await.is_none() {
        tracing::debug!("drain: peers that do not read or close are cut off");
    }
    for one in &sessions {
        one.cut("cut off at the end of the drain");
    }
    tracing::info!(took = ?begun.elapsed(), "drain ends");
}

/// Tells a peer that no further calls are taken, and that those which are open have `time`.
pub(super) fn announce(link: &Link, time: Duration) {
    link.with(|conn, now| conn.begin_drain(Reason::Drain, "server is draining", time, now));
}

/// Marks the server as closed when it is dropped, also when the runtime shuts down in the middle of a drain.
struct CloseOnDrop {
    server: Arc<ServerState>,
    report: DrainReport,
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.server
            .lifecycle()
            .set_phase(DrainPhase::Closed(self.report.clone()));
    }
}

/// Waits for the accept loops, which close their listeners when a drain begins: nobody connects from then on, and
/// whoever sees the server end finds its addresses free.
async fn close_listeners(server: &ServerState) {
    let limit = Instant::now() + CLOSE_LISTENERS;
    for task in server.take_accepting() {
        let abort = task.abort_handle();
        if until(sleep_until(limit), task).await.is_none() {
            abort.abort();
        }
    }
}

async fn all_drained(sessions: &[Arc<Session>]) {
    for one in sessions {
        poll_fn(|cx| one.poll_drained(cx)).await;
        // One-ways that a lost peer left behind still run.
        poll_fn(|cx| one.link().with(|conn, _| conn.poll_no_request(cx))).await;
    }
}

async fn all_closed(sessions: &[Arc<Session>]) {
    for one in sessions {
        poll_fn(|cx| one.poll_closed(cx)).await;
    }
}

/// Waits until all handlers are gone, but not for long: they are dropped at their next await, and one that blocks does not
/// get there. `blocked` is how many of each connection have been in a poll for a while.
async fn grace(sessions: &[Arc<Session>], blocked: &mut [u64]) {
    // A timer that is late, because the machine stood still or every worker was blocked, blames nobody: handlers have the
    // other steps.
    for step in 1..=STEPS {
        if until(sleep(GRACE / STEPS), all_drained(sessions)).await.is_some() {
            return;
        }
        // A single look may hit a poll that is about to end.
        for (blocked, one) in blocked.iter_mut().zip(sessions) {
            let polls = one.stalls().polls();
            *blocked = if step + LOOKS > STEPS + 1 {
                polls.min(*blocked)
            } else {
                polls
            };
        }
    }
}

fn report(sessions: &[Arc<Session>], blocked: &[u64]) -> DrainReport {
    let (mut completed, mut aborted, mut one_way_dropped, mut stuck, mut starved) = (0, 0, 0, 0, 0);
    for (one, blocked) in sessions.iter().zip(blocked) {
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
