//! Drain: what happens to connections and open calls from the first terminate to the report, within a bound.

mod before;
mod times;

use std::{
    future::{Future, pending, poll_fn},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

use self::{before::Before, times::Times};
use super::{
    registrations::Leaving,
    state::ServerState,
    terminate::{Asker, Decision, TerminateKind},
    until::until,
};
use crate::{
    DrainReport,
    conn::DRAINING,
    driver::SharedConnection,
    metrics::DRAINS,
    net::os::{OsSignal, STOP_SIGNAL},
    session::{Session, lifecycle::DrainPhase},
    wire::frame::control::Reason,
};

/// Begins the drain, unless it has begun.
pub(crate) fn begin(server: &Arc<ServerState>, asker: &Asker<'_>) {
    decide(server, asker, TerminateKind::Drain, None);
}

/// Begins the drain, unless it has begun, and ends it before the OS ends the process.
pub(super) fn begin_by(server: &Arc<ServerState>, signal: OsSignal) {
    decide(
        server,
        &Asker::Signal(signal.name),
        TerminateKind::Drain,
        signal.limit,
    );
}

/// Begins the drain if it has not begun, and gives open calls no more time.
pub(crate) fn abort(server: &Arc<ServerState>, asker: &Asker<'_>) {
    server.lifecycle().abort();
    decide(server, asker, TerminateKind::Abort, None);
}

fn decide(server: &Arc<ServerState>, asker: &Asker<'_>, kind: TerminateKind, limit: Option<Duration>) {
    let is_first = server.lifecycle().ask_for_drain();
    let decision = match is_first {
        true => Decision::First,
        false => Decision::Repeated,
    };
    server.audit(asker, kind, decision);
    if is_first {
        DRAINS.begun.add();
        // Whoever asks need not be in a runtime, and a service may spawn.
        let inside = server.runtime().enter();
        let mut before = Before::begin(server.router().services());
        before.add(server.end_registrations().map(Leaving::ended));
        drop(inside);
        let lame_duck = match asker {
            Asker::Signal(STOP_SIGNAL) => server.lame_duck(),
            _ => Duration::ZERO,
        };
        let drain = server.drain_timeout();
        let times = Times { lame_duck, drain }.within(limit);
        if before.is_empty() && times.lame_duck.is_zero() {
            close_door(server);
        }
        server
            .runtime()
            .spawn(coordinate(Arc::clone(server), before, times));
    } else if let Some(limit) = limit {
        let server = Arc::clone(server);
        let runtime = server.runtime().clone();
        runtime.spawn(async move {
            let closed = server.lifecycle().closed();
            if until(closed, sleep(times::longest(limit))).await.is_some() {
                server.lifecycle().abort();
            }
        });
    }
}

/// Lets the listeners close: from now on no peer is accepted, and no call of a new peer begins.
fn close_door(server: &ServerState) {
    server.own_sockets().forget();
    server.lifecycle().set_phase(DrainPhase::Draining);
}

/// Drains a server: serves on as a lame duck, waits for what its services do before, closes its listeners, tells its peers, waits for its
/// calls, drops what is left, and closes.
///
/// The time as a lame duck comes first, and is no part of the drain timeout. Services prepare during it.
///
/// Open calls get the drain timeout to end by themselves. Then they are dropped at their next await, within [`GRACE`].
/// Each wait has a limit: the drain ends at most [`GRACE`] and [`CLOSE`] after the drain timeout, whatever is stuck. The last
/// replies have until then to be written, even if the handlers ended long before.
fn coordinate(server: Arc<ServerState>, before: Before, times: Times) -> impl Future<Output = ()> + Send {
    // Made here and not inside of the future: a runtime that is gone drops that before it has begun.
    let closing = CloseOnDrop {
        server,
        report: DrainReport::default(),
    };
    run(closing, before, times)
}

async fn run(mut closing: CloseOnDrop, mut before: Before, times: Times) {
    let server = Arc::clone(&closing.server);
    if !times.lame_duck.is_zero() {
        serve_as_lame_duck(&server, &mut before, times.lame_duck).await;
    }
    let begun = Instant::now();
    if !before.is_empty() {
        let over = until(sleep(times.drain), server.lifecycle().aborted());
        if until(over, before.ended()).await.is_none() {
            tracing::debug!(
                "drain: services were not ready within ServerBuilder::drain_timeout; draining now"
            );
        }
    }
    if !server.lifecycle().is_draining() {
        close_door(&server);
    }
    let late = close_listeners(&server).await;
    let sessions = server.connections().seal();
    tracing::info!(
        connections = sessions.len(),
        open = sessions.iter().map(|one| one.shared().with(|conn, _| conn.open_requests())).sum::<usize>(),
        timeout = ?times.drain,
        "drain begins"
    );
    let left = times.drain.saturating_sub(begun.elapsed());
    let mut end = pin!(sleep(left));
    for one in &sessions {
        announce(one.shared(), left);
    }
    server.lifecycle().set_phase(DrainPhase::Announced);
    let mut blocked = vec![0; sessions.len()];
    let over = until(end.as_mut(), server.lifecycle().aborted());
    if until(over, all_drained(&sessions)).await.is_none() {
        let open: usize = sessions
            .iter()
            .map(|one| one.shared().with(|conn, _| conn.open_requests()))
            .sum();
        match (open, server.lifecycle().is_aborted()) {
            (0, _) => tracing::debug!("drain: no call is open, waiting no longer"),
            (_, true) => tracing::warn!(open, "drain: the server is aborted, dropping open calls"),
            (_, false) => tracing::warn!(
                open,
                "drain: ServerBuilder::drain_timeout is over, dropping open calls"
            ),
        }
        for one in &sessions {
            one.shared().with(|conn, now| conn.abort_calls(now));
        }
        grace(&sessions, &mut blocked).await;
    }
    let report = report(&sessions, &blocked);
    tracing::info!(%report, clean = report.is_clean(), "drain: handlers have ended");
    closing.report = report.clone();
    server.lifecycle().set_phase(DrainPhase::Drained(report));
    // Each connection closes a second after its last byte was written, whether its peer reads or not.
    let limit = async {
        until(end, server.lifecycle().aborted()).await;
        sleep(CLOSE).await;
    };
    let closed = async {
        all_closed(&sessions).await;
        server.guests().none_left().await;
        for task in late {
            // It was aborted, and ends when a worker is free.
            let _ = task.await;
        }
    };
    if until(limit, closed).await.is_none() {
        tracing::debug!(
            "drain: cutting off peers that do not read or close, after ServerBuilder::drain_timeout"
        );
    }
    for one in &sessions {
        one.cut("cut off at the end of the drain: ServerBuilder::drain_timeout");
    }
    tracing::info!(took = ?begun.elapsed(), "drain ends");
}

/// Accepts connections and calls for `time` more, or until the server is aborted. Services prepare meanwhile.
async fn serve_as_lame_duck(server: &ServerState, before: &mut Before, time: Duration) {
    tracing::info!(
        ?time,
        "lame duck: not ready for new callers, but still accepting; the drain follows"
    );
    let over = until(sleep(time), server.lifecycle().aborted());
    let prepare = async {
        before.ended().await;
        pending::<()>().await;
    };
    until(over, prepare).await;
}

/// Sends a GOAWAY: no further calls are accepted, and open calls have `time` to end.
pub(super) fn announce(shared: &SharedConnection, time: Duration) {
    shared.with(|conn, now| conn.begin_drain(Reason::Drain, DRAINING, time, now));
}

/// Marks the server as closed when it is dropped, also when the runtime shuts down in the middle of a drain.
struct CloseOnDrop {
    server: Arc<ServerState>,
    report: DrainReport,
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.server.key().remove();
        DRAINS.completed.add_many(self.report.completed());
        DRAINS.aborted.add_many(self.report.aborted());
        DRAINS.one_ways_dropped.add_many(self.report.one_way_dropped());
        DRAINS.stuck.add_many(self.report.stuck());
        DRAINS.starved.add_many(self.report.starved());
        self.server.own_sockets().forget();
        self.server
            .lifecycle()
            .set_phase(DrainPhase::Closed(self.report.clone()));
    }
}

/// Waits for the accept loops, which close their listeners when a drain begins. From then on no peer connects, and the
/// addresses are free when the server has ended. Returns the loops that got no worker in time: they are aborted, but not over.
async fn close_listeners(server: &ServerState) -> Vec<JoinHandle<()>> {
    let limit = Instant::now() + CLOSE_LISTENERS;
    let mut late = Vec::new();
    for mut task in server.take_accepting() {
        if until(sleep_until(limit), &mut task).await.is_none() {
            task.abort();
            late.push(task);
        }
    }
    late
}

async fn all_drained(sessions: &[Arc<Session>]) {
    for one in sessions {
        poll_fn(|cx| one.poll_drained(cx)).await;
        // One-way calls that a lost peer left behind still run.
        poll_fn(|cx| one.shared().with(|conn, _| conn.poll_no_request(cx))).await;
    }
}

async fn all_closed(sessions: &[Arc<Session>]) {
    for one in sessions {
        poll_fn(|cx| one.poll_closed(cx)).await;
    }
}

/// Waits until all handlers are gone, at most [`GRACE`]: they are dropped at their next await, and a handler that blocks does
/// not get there. `blocked` gets, for each connection, the number of handlers that have been in a poll for the last steps.
async fn grace(sessions: &[Arc<Session>], blocked: &mut [u64]) {
    // One timer may be late because the machine stood still or every worker was blocked. Handlers still have the other steps.
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
        let (tally, running) = one
            .shared()
            .with(|conn, _| (conn.tally(), conn.running_handlers()));
        completed += tally.completed;
        aborted += tally.aborted;
        one_way_dropped += tally.one_way_dropped;
        let blocked = (running as u64).min(*blocked);
        stuck += blocked;
        starved += running as u64 - blocked;
    }
    DrainReport::new(completed, aborted, one_way_dropped, stuck).with_starved(starved)
}

/// The time that accept loops have to close their listeners. They do it at once if a worker is free.
const CLOSE_LISTENERS: Duration = Duration::from_millis(90);
/// The time that handlers have to be dropped after the drain timeout.
const GRACE: Duration = Duration::from_millis(900);
/// The number of timers that this time consists of.
const STEPS: u32 = 9;
/// The number of last steps at which a handler has to be in a poll to count as stuck: still blocking its thread.
const LOOKS: u32 = 3;
/// The time that connections have after the drain timeout to write their last replies, 1 s, and to be closed by their peers,
/// 1 s.
const CLOSE: Duration = Duration::from_secs(2);
/// The longest time from the end of the drain timeout to the end of the server: [`GRACE`], [`CLOSE`], and what accept loops take.
pub(super) const END: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use std::{pin::Pin, thread};

    use tokio::{runtime::Builder, task::spawn_blocking, time::advance};

    use super::*;
    use crate::{Handler, Incoming, Procedure, Service, server::state::ServerOptions};

    fn server() -> Arc<ServerState> {
        ServerState::of_nothing(ServerOptions {
            lame_duck: Duration::from_secs(5),
            ..ServerOptions::default()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn only_sigterm_makes_a_lame_duck() {
        for (asker, seconds) in [
            (Asker::Signal(STOP_SIGNAL), 5),
            (Asker::Signal("SIGINT"), 0),
            (Asker::Handle, 0),
            (Asker::Shutdown, 0),
        ] {
            let server = server();
            let begun = Instant::now();
            begin(&server, &asker);
            assert!(server.lifecycle().is_asked());
            assert_eq!(server.lifecycle().is_draining(), seconds == 0, "{asker:?}");
            server.lifecycle().draining().await;
            assert_eq!(begun.elapsed().as_secs(), seconds, "{asker:?}");
            server.lifecycle().closed().await;
        }
    }

    struct NeverReady;

    impl Service for NeverReady {
        fn name(&self) -> &'static str {
            "a.NeverReady"
        }
        fn procedures(&self) -> &'static [Procedure] {
            &[]
        }
        fn before_drain(&self) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
            Some(Box::pin(pending()))
        }
        fn call(&self, _: usize, call: Incoming) -> Handler {
            call.unknown()
        }
    }

    fn console_closes() -> OsSignal {
        OsSignal {
            name: "CTRL_CLOSE",
            code: 1,
            limit: Some(Duration::from_secs(5)),
        }
    }

    /// How long a drain takes whose services are not ready before the drain timeout of 30 s is over.
    async fn time_of_drain(begin: impl FnOnce(&Arc<ServerState>)) -> Duration {
        let server = ServerState::of(Arc::new(NeverReady), ServerOptions::default());
        let begun = Instant::now();
        begin(&server);
        server.lifecycle().closed().await;
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_console_that_closes_shortens_the_drain() {
        let time = time_of_drain(|server| begin(server, &Asker::Handle)).await;
        assert_eq!(time, Duration::from_secs(30));
        let time = time_of_drain(|server| begin_by(server, console_closes())).await;
        assert_eq!(time, Duration::from_millis(1750));
        let time = time_of_drain(|server| {
            begin(server, &Asker::Handle);
            begin_by(server, console_closes());
        });
        assert_eq!(time.await, Duration::from_millis(1750));
    }

    #[tokio::test(start_paused = true)]
    async fn an_abort_ends_a_lame_duck() {
        let server = server();
        let begun = Instant::now();
        begin(&server, &Asker::Signal(STOP_SIGNAL));
        sleep(Duration::from_secs(1)).await;
        abort(&server, &Asker::Signal(STOP_SIGNAL));
        server.lifecycle().closed().await;
        assert_eq!(begun.elapsed().as_secs(), 1);
    }

    /// Keeps its thread until nothing else holds `until`.
    fn block(until: Arc<()>) {
        while Arc::strong_count(&until) > 1 {
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_ends_after_its_last_accept_loop() {
        let server = server();
        // A loop that gets no worker.
        let other = Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let free = Arc::new(());
        let until_free = Arc::clone(&free);
        other.spawn(async { block(until_free) });
        server.add_accepting(other.spawn(pending())).unwrap();
        // While a thread runs, the clock does not jump.
        let done = Arc::new(());
        let until_done = Arc::clone(&done);
        let holds_the_clock = spawn_blocking(|| block(until_done));
        begin(&server, &Asker::Handle);
        let mut closed = pin!(server.lifecycle().closed());
        for _ in 0..10 {
            assert!(
                until(advance(CLOSE_LISTENERS / 5), closed.as_mut())
                    .await
                    .is_none()
            );
        }
        drop(free);
        closed.await;
        drop(done);
        let _ = holds_the_clock.await;
        other.shutdown_background();
    }
}
