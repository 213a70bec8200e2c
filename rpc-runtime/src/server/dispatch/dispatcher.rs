//! Dispatcher: drives one connection, and starts the handlers of its requests in the order of arrival.

use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, Waker},
};

use tokio::{
    task::{coop, yield_now},
    time::Instant,
};

use super::{
    Dispatched, blocking,
    handler_task::HandlerTask,
    pass::{Pass, Taken},
};
use crate::{
    Code, Handler, Incoming, Priority, Procedure, Status,
    api::server_limit::ServerLimit,
    base::panic::Panic,
    conn::{Arrived, CallId, RefusalReason, TakenRequests},
    driver::{After, Baton, Clock, RUNTIME_GONE, Round, Wakes},
    message::{control, depth, procedure::Run},
    net::Stream,
    server::{
        builtin, operators,
        router::Route,
        state::ServerState,
        terminate::{Asker, Decision, TerminateKind},
    },
    trace::{self, Method},
};

/// Drives one connection, and starts the handlers of its requests.
///
/// It polls each handler once, in the order of arrival, between two rounds of the driver. Most handlers end there and cost no
/// task. A pending handler gets a task, with the same future, when the dispatcher stops. Not earlier: a task that this one
/// wakes may lie behind the next handler, where no other worker can take it, and that handler may block.
///
/// While handlers are polled, the driver lies in its baton. When a poll lasts, the monitor (see `stall_monitor`) gives the turn
/// to a fresh dispatcher, which drives on, and this one ends with its handler.
pub(crate) struct Dispatcher {
    pub(super) session: Arc<Dispatched>,
    /// None once another dispatcher drives.
    baton: Option<Arc<Baton<Stream>>>,
    pub(super) turn: u64,
    /// Whether a task of this worker may have been woken since this one was polled. It must not lie behind a handler that
    /// blocks.
    woke: bool,
}

impl Dispatcher {
    /// Makes a dispatcher whose turn is `turn`, to be spawned; it drives by `baton`.
    pub(super) fn new(session: Arc<Dispatched>, baton: Option<Arc<Baton<Stream>>>, turn: u64) -> Self {
        Self {
            session,
            baton,
            turn,
            woke: false,
        }
    }

    /// Runs when its turn is `given`, very soon; ends if it gets none. The runtime counts as busy meanwhile.
    pub(super) async fn run_when_given(mut self, given: Arc<OnceLock<Option<u64>>>) {
        match busy_until(&given).await {
            Some(turn) => {
                self.turn = turn;
                self.await;
            }
            // The one before drives on.
            None => self.baton = None,
        }
    }
}

/// Waits for what another thread gives very soon, without a moment in which the runtime is idle.
async fn busy_until<T: Copy>(given: &OnceLock<T>) -> T {
    loop {
        match given.get() {
            Some(given) => return *given,
            None => yield_now().await,
        }
    }
}

/// A dispatcher that is dropped while it drives ends the connection.
impl Drop for Dispatcher {
    fn drop(&mut self) {
        if let Some(baton) = &self.baton {
            // It panicked, if it has taken requests: no handler of theirs has started.
            self.session.give_batch_back();
            baton.cut(RUNTIME_GONE);
        }
    }
}

impl Future for Dispatcher {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.woke = false;
        let mut after = After::Wake;
        for _ in 0..TURNS {
            let round = match &this.baton {
                Some(baton) => baton.round(cx, after),
                None => Round::Over,
            };
            if after == After::Round && round == Round::Idle {
                // No request has come since it found none.
                return Poll::Pending;
            }
            // It woke a caller, or the peer's driver, if that is in this process.
            this.woke |=
                matches!(round, Round::Woke(_)) || (round == Round::Moved && this.session.is_in_memory());
            if after == After::Handlers && matches!(round, Round::Woke(_)) && this.is_guests_turn() {
                break;
            }
            let started = this.start_handlers(cx);
            after = match started {
                Started::All => After::Round,
                Started::Some | Started::Last | Started::Late => After::Handlers,
            };
            match (started, round) {
                // Requests may lie behind the end of their connection: one-way calls still run.
                (Started::Last, Round::Over) | (Started::Late, _) => return Poll::Ready(()),
                (Started::All | Started::Last, Round::Idle) | (Started::All, Round::Over) => {
                    return Poll::Pending;
                }
                (Started::Some, _) | (_, Round::Moved | Round::Woke(_)) => {}
            }
            if !coop::has_budget_remaining() {
                break;
            }
        }
        // Other tasks have their turn, too.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// The result of starting handlers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Started {
    /// No request can be started now.
    All,
    /// Some handlers were started, and there may be more.
    Some,
    /// No more requests can come.
    Last,
    /// This dispatcher lost its turn: another one goes on.
    Late,
}

impl Dispatcher {
    /// Returns whether a guest, which has just got replies, goes on before further handlers start. Its task lies where no other worker can
    /// take it, and a handler may block.
    fn is_guests_turn(&self) -> bool {
        self.session.is_guests() && self.session.has_waiting_requests()
    }

    /// Starts handlers of requests that have come, until the dispatcher has to write.
    fn start_handlers(&mut self, cx: &mut Context<'_>) -> Started {
        let session = Arc::clone(&self.session);
        let mut pass = Pass::new(&session, self.woke);
        let mut started = Started::All;
        loop {
            let end = match pass.take(cx) {
                Taken::Requests(taken) => self.start_batch(taken, &mut pass),
                Taken::Row(taken) => self.start_row(taken, &mut pass),
                Taken::Nothing => break,
                Taken::WriteFirst => {
                    started = Started::Some;
                    break;
                }
                Taken::Last => {
                    started = Started::Last;
                    break;
                }
            };
            started = Started::Some;
            match end {
                BatchEnd::Done if !pass.is_over() => {}
                BatchEnd::Done | BatchEnd::Stopped => break,
                BatchEnd::Late => {
                    self.baton = None;
                    return Started::Late;
                }
            }
        }
        pass.is_late = false;
        self.woke = pass.woke;
        started
    }

    /// Starts the handlers of requests that were taken together. Those that it does not start go back.
    fn start_batch(&mut self, taken: TakenRequests, pass: &mut Pass<'_>) -> BatchEnd {
        let TakenRequests { first, asks, .. } = taken;
        let mut next = Some(first);
        while let Some(arrived) = next {
            let Some(turn) = self.dispatch(arrived, asks, pass) else {
                return BatchEnd::Late;
            };
            self.turn = turn;
            if self.session.stalls().is_to_stop() || !coop::has_budget_remaining() {
                pass.give_back();
                return BatchEnd::Stopped;
            }
            next = pass.next();
        }
        BatchEnd::Done
    }

    /// Starts the handler of a request, which may have to ask before it starts. Returns the next turn, or none if this
    /// dispatcher lost its turn.
    fn dispatch(&self, arrived: Arrived, asks: bool, pass: &mut Pass<'_>) -> Option<u64> {
        let begins_at = pass.begin(arrived.one_way);
        let session = &self.session;
        let server = session.state();
        let arrived_at = is_timed(self.turn).then(Instant::now);
        let Some(index) = server.router().find(arrived.procedure) else {
            let status = server.router().unknown(arrived.procedure);
            if arrived.procedure == control::TERMINATE.id() {
                let asker = Asker::Peer {
                    peer: session.peer(),
                    uid: session.peer().uid(),
                    caller: None,
                };
                server.audit(&asker, TerminateKind::Drain, Decision::Denied("policy"));
            }
            tracing::debug!(
                peer = session.peer().address(),
                call = arrived.id.0,
                procedure = arrived.procedure,
                "unknown procedure"
            );
            self.refuse(arrived, None, &status, RefusalReason::UnknownProcedure, pass);
            return Some(self.turn);
        };
        let route = server.router().route(index);
        let procedure = route.procedure();
        let has_stream = procedure.has_request_stream();
        if arrived.streams != has_stream || (arrived.one_way && procedure.has_reply_stream()) {
            let status = misshapen(procedure);
            self.refuse(arrived, Some(procedure), &status, RefusalReason::BadPayload, pass);
            return Some(self.turn);
        }
        if !route.is_control() && arrived.depth > depth::MAX {
            self.refuse(
                arrived,
                Some(procedure),
                &depth::refusal(),
                RefusalReason::Over(ServerLimit::Fixed),
                pass,
            );
            return Some(self.turn);
        }
        if !route.is_control() && server.is_full(arrived.one_way) {
            let status = server.overloaded();
            let reason = RefusalReason::Over(ServerLimit::MaxWaitingHandlers);
            self.refuse(arrived, Some(procedure), &status, reason, pass);
            return Some(self.turn);
        }
        if route.procedure().priority() == Priority::Control {
            let mut conn = session.shared().lock(Clock::Recent, Wakes::Waiters);
            let now = conn.now();
            conn.urgent(now);
        }
        let counted = !route.is_control();
        let mut run = route.run();
        if run == Run::InOrder && !arrived.one_way && route.is_computing() && session.has_more_requests() {
            // The one-way calls before it have begun, and the other calls need not wait for it.
            run = Run::Spawn;
        }
        let is_taken = server.router().call_taker().is_some();
        if is_taken {
            // It only waits for another server. Its first poll comes with those that follow.
            run = Run::Spawn;
        }
        let id = arrived.id;
        let start = HandlerStart {
            session,
            id,
            index,
            counted,
            is_taken,
        };
        let unasked = (!asks).then_some(id);
        // Taken out of here when its handler is made, so that no closure moves it.
        let mut call = Some(Incoming::new(
            Arc::<Dispatched>::clone(session),
            arrived,
            route.procedure(),
        ));
        if mem::take(&mut pass.woke) && !is_taken {
            // The woken task must not lie behind this handler either: a further task moves it to where other workers take it.
            session.runtime().spawn(async {});
        }
        session.stalls().begin(self.turn, index, id);
        session.monitor();
        let timed = arrived_at
            .filter(|_| run == Run::InOrder)
            .map(|at| (at, Instant::now()));
        let (task, poll) = session.first_poll(unasked, begins_at, || {
            start.run(run, || {
                make_handler(server, route, call.take().expect("a handler is made once"))
            })
        });
        pass.note_poll(id, &poll);
        if let Some((arrived_at, begun)) = timed {
            route.note_time(begun.elapsed(), begun - arrived_at);
        }
        let turn = session.stalls().end(self.turn);
        if run == Run::InOrder && turn.is_some() {
            route.note_quick();
        }
        match task {
            Some(task) if run == Run::Blocking => {
                blocking::spawn(session.runtime(), task.may_block(), server.view().threads());
            }
            Some(task) => {
                pass.woke = !is_taken;
                session.defer(task);
            }
            None => {}
        }
        turn
    }

    /// Refuses a request without a look at its service. `procedure` is none if the server has none with that id.
    #[cold]
    fn refuse(
        &self,
        arrived: Arrived,
        procedure: Option<&'static Procedure>,
        status: &Status,
        reason: RefusalReason,
        pass: &mut Pass<'_>,
    ) {
        let Arrived { id, trace, .. } = arrived;
        if trace::is_on() {
            let method = procedure.map_or(Method::UnknownId(arrived.procedure), Method::Procedure);
            if let Some(trace) = self.session.begin_trace(method, id, trace) {
                trace.end(status.code(), status.message());
            }
        }
        if let (RefusalReason::Over(limit), Some(procedure)) = (reason, procedure) {
            self.session.note_refusal(limit, procedure, status);
        }
        pass.refuse(id, status, reason);
    }
}

/// Makes the handler of a call: by the service of its procedure, or by the control service, which needs the server.
fn make_handler(server: &Arc<ServerState>, route: &Route, call: Incoming) -> Handler {
    match route.service() {
        Some(service) if route.is_for_operators() => operators::call(server, service, route.index(), call),
        Some(service) => service.call(route.index(), call),
        None => builtin::call(server, route.index(), call),
    }
}

/// Returns whether the handler of a turn is timed: one in sixteen, at irregular distances, since procedures may alternate.
pub(super) fn is_timed(turn: u64) -> bool {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    turn.wrapping_mul(GOLDEN) >> 60 == 0
}

/// A handler about to start.
struct HandlerStart<'a> {
    session: &'a Arc<Dispatched>,
    id: CallId,
    index: usize,
    counted: bool,
    is_taken: bool,
}

impl HandlerStart<'_> {
    /// Makes the handler, and polls it once if it runs in order. Returns what needs a task of its own.
    #[inline]
    fn run(&self, run: Run, make: impl FnOnce() -> Handler) -> Option<HandlerTask> {
        let Self {
            session,
            id,
            index,
            counted,
            is_taken,
        } = *self;
        if run != Run::InOrder {
            let handler = Panic::catch(make).ok()?;
            let task = if is_taken {
                HandlerTask::new
            } else {
                HandlerTask::unpolled
            };
            return Some(task(Arc::clone(session), id, handler, index, counted));
        }
        let handler = make_and_poll(make)?;
        Some(HandlerTask::new(Arc::clone(session), id, handler, index, counted))
    }
}

/// Makes a handler and polls it once. Returns the handler if it is pending. A panic is caught here; the call's own guard has
/// answered.
#[inline]
pub(super) fn make_and_poll(make: impl FnOnce() -> Handler) -> Option<Handler> {
    let poll = Panic::catch(move || {
        let mut handler = make();
        // The waker wakes nothing: a pending handler gets a task of its own, which polls it again at once.
        let mut cx = Context::from_waker(Waker::noop());
        handler.as_mut().poll(&mut cx).is_pending().then_some(handler)
    });
    poll.ok().flatten()
}

/// Makes the status of a call with the wrong streaming shape.
fn misshapen(procedure: &Procedure) -> Status {
    let path = procedure.path();
    let takes = match (procedure.has_request_stream(), procedure.has_reply_stream()) {
        (true, _) => "takes a stream of requests",
        (false, true) => "answers by a stream, which a one-way call cannot receive",
        (false, false) => "takes one request",
    };
    Status::new(
        Code::Unimplemented,
        format!("{path} {takes}: does the caller use another version of the .proto?"),
    )
}

/// What has become of requests that were taken together.
pub(super) enum BatchEnd {
    /// The dispatcher may take more.
    Done,
    /// The dispatcher is to stop.
    Stopped,
    /// This dispatcher lost its turn: another one goes on.
    Late,
}

/// The number of rounds that a dispatcher drives before other tasks have their turn.
const TURNS: usize = 4;

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_paused_clock_does_not_jump_while_a_dispatcher_waits_for_its_turn() {
        let given = Arc::new(OnceLock::new());
        let gives = Arc::clone(&given);
        let other = thread::spawn(move || {
            thread::sleep(Duration::from_millis(10));
            gives.set(7)
        });
        assert_eq!(timeout(Duration::from_millis(1), busy_until(&given)).await, Ok(7));
        other.join().unwrap().unwrap();
    }
}
