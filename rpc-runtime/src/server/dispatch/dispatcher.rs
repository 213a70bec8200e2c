//! Dispatcher: drives one connection, and starts the handlers of its requests, in the order in which they arrived.

use std::{
    future::Future,
    mem,
    panic::{self, AssertUnwindSafe},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use tokio::{task::coop, time::Instant};

use super::{Dispatched, blocking, handler_task::HandlerTask};
use crate::{
    Code, Handler, Incoming, Priority, Procedure, Status,
    conn::{Arrived, CallId, End},
    driver::{Baton, Clock, RUNTIME_GONE, Round, Wakes},
    message::{control, depth, procedure::Run},
    net::Stream,
    server::{
        builtin,
        router::Route,
        state::ServerState,
        terminate::{Asker, Decision, TerminateKind},
    },
    wire::frame::control::DropReason,
};

/// Drives one connection, and starts the handlers of its requests.
///
/// It polls each handler once, in the order of arrival, between two rounds of the driver; most end there, and cost no task.
/// One that is pending gets a task when the dispatcher stops, with the same future: a task that this one wakes may sit where
/// no other worker can take it, behind the next handler, and that one may block. While handlers are polled, the driver lies
/// in its baton. When a poll lasts, the monitor (see `stall_monitor`) gives the turn to a fresh dispatcher, which drives on, and this
/// one ends with its handler.
pub(crate) struct Dispatcher {
    session: Arc<Dispatched>,
    /// None once another one drives.
    baton: Option<Arc<Baton<Stream>>>,
    turn: u64,
    /// Whether a task of this worker may have been woken since this one was polled: it must not sit behind a handler that
    /// blocks.
    woke: bool,
}

impl Dispatcher {
    /// A dispatcher whose turn is `turn`, to be spawned; it drives by `baton`.
    pub(super) fn new(session: Arc<Dispatched>, baton: Option<Arc<Baton<Stream>>>, turn: u64) -> Self {
        Self {
            session,
            baton,
            turn,
            woke: false,
        }
    }
}

/// Whoever drives and is dropped takes the connection with it.
impl Drop for Dispatcher {
    fn drop(&mut self) {
        if let Some(baton) = &self.baton {
            baton.cut(RUNTIME_GONE);
        }
    }
}

impl Future for Dispatcher {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.woke = false;
        for turn in 0..TURNS {
            let round = match &this.baton {
                Some(baton) => baton.round(cx, turn == 0),
                None => Round::Over,
            };
            // A caller, or the peer's driver, if that is in this process.
            this.woke |=
                matches!(round, Round::Woke(_)) || (round == Round::Moved && this.session.is_in_memory());
            match (this.start_handlers(cx), round) {
                // Requests may have stood behind the end of their connection: one-ways still run.
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
        // Others are to have their turn too.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// What starting handlers came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Started {
    /// There is no request that could be started now.
    All,
    /// Some have been, and there may be more.
    Some,
    /// No more can come.
    Last,
    /// This dispatcher was late: another one goes on.
    Late,
}

impl Dispatcher {
    /// Starts handlers of requests that have come, unless it is to write first.
    fn start_handlers(&mut self, cx: &mut Context<'_>) -> Started {
        let session = Arc::clone(&self.session);
        let mut stop = Stop {
            session: &session,
            late: true,
            woke: self.woke,
        };
        let mut started = Started::All;
        let mut after_send = false;
        let waiting = session
            .link()
            .lock(Clock::Recent, Wakes::Waiters)
            .waiting_requests();
        let batch = BATCH.max(waiting / 4);
        for _ in 0..batch {
            let (next, is_full) = {
                let mut conn = session.link().lock(Clock::Recent, Wakes::Waiters);
                match conn.is_to_write_first() {
                    true => (Poll::Pending, true),
                    false => (conn.poll_request(cx), false),
                }
            };
            let arrived = match next {
                Poll::Pending if is_full => {
                    started = Started::Some;
                    break;
                }
                Poll::Pending => break,
                Poll::Ready(None) => {
                    started = Started::Last;
                    break;
                }
                Poll::Ready(Some(arrived)) => arrived,
            };
            if mem::replace(&mut after_send, arrived.one_way) && !arrived.one_way {
                // The end of a send does not look at the clock, and a call's receipt tells when it started.
                drop(session.link().lock(Clock::Now, Wakes::Waiters));
            }
            let Some(turn) = self.dispatch(arrived, &mut stop) else {
                self.baton = None;
                return Started::Late;
            };
            self.turn = turn;
            started = Started::Some;
            if session.stalls().is_to_stop() || !coop::has_budget_remaining() {
                break;
            }
        }
        stop.late = false;
        self.woke = stop.woke;
        started
    }

    /// Starts the handler of a request; the next turn, or none if this dispatcher was late.
    fn dispatch(&self, arrived: Arrived, stop: &mut Stop<'_>) -> Option<u64> {
        let session = &self.session;
        let server = session.state();
        let arrived_at = is_timed(self.turn).then(Instant::now);
        let Some(index) = server.router().find(arrived.procedure) else {
            let status = server.router().unknown(arrived.procedure);
            if arrived.procedure == control::TERMINATE.id() {
                let asker = Asker::Peer {
                    peer: session.peer(),
                    uid: session.peer().uid(),
                };
                server.audit(&asker, TerminateKind::Drain, Decision::Denied("policy"));
            }
            tracing::debug!(
                peer = session.peer().address(),
                procedure = arrived.procedure,
                "unknown procedure"
            );
            refuse(session, arrived.id, &status, DropReason::UnknownProcedure);
            return Some(self.turn);
        };
        let route = server.router().route(index);
        let procedure = route.procedure();
        let has_stream = procedure.has_request_stream();
        if arrived.streams != has_stream || (arrived.one_way && procedure.has_reply_stream()) {
            refuse(session, arrived.id, &misshapen(procedure), DropReason::BadPayload);
            return Some(self.turn);
        }
        if !route.is_control() && arrived.depth > depth::MAX {
            refuse(session, arrived.id, &depth::refusal(), DropReason::Overload);
            return Some(self.turn);
        }
        if !route.is_control() && server.is_full(arrived.one_way) {
            let procedure = route.procedure().path();
            tracing::debug!(
                peer = session.peer().address(),
                procedure,
                "refused: too many calls on this server"
            );
            refuse(session, arrived.id, &server.overloaded(), DropReason::Overload);
            return Some(self.turn);
        }
        if route.procedure().priority() == Priority::Control {
            let mut conn = session.link().lock(Clock::Recent, Wakes::Waiters);
            let now = conn.now();
            conn.urgent(now);
        }
        let counted = !route.is_control();
        let mut run = route.run();
        if run == Run::InOrder && !arrived.one_way && route.is_computing() && session.has_more_requests() {
            // The sends before it have begun; the other calls need not wait for it.
            run = Run::Spawn;
        }
        let start = Start {
            session,
            id: arrived.id,
            index,
            counted,
        };
        let call = Incoming::new(Arc::<Dispatched>::clone(session), arrived, route.procedure());
        if mem::take(&mut stop.woke) {
            // That task must not sit behind this handler either: a further task moves it to where others can take it.
            session.runtime().spawn(async {});
        }
        session.stalls().begin(self.turn, index);
        session.monitor();
        let timed = arrived_at
            .filter(|_| run == Run::InOrder)
            .map(|at| (at, Instant::now()));
        let (task, _) = session.with_driver_asleep(|| start.run(run, || make_handler(server, route, call)));
        if let Some((arrived_at, begun)) = timed {
            route.note_time(begun.elapsed(), begun - arrived_at);
        }
        let turn = session.stalls().end(self.turn);
        if run == Run::InOrder && turn.is_some() {
            route.note_quick();
        }
        match task {
            Some(task) if run == Run::Blocking => {
                blocking::spawn(session.runtime(), task, server.view().threads());
            }
            Some(task) => {
                stop.woke = true;
                session.defer(task);
            }
            None => {}
        }
        turn
    }
}

/// Makes the handler of a call: by the service of its procedure, or by the control service, which needs the server.
fn make_handler(server: &Arc<ServerState>, route: &Route, call: Incoming) -> Handler {
    match route.service() {
        Some(service) => service.call(route.index(), call),
        None => builtin::call(server, route.index(), call),
    }
}

/// Whether the handler of a turn is timed: one in sixteen, at no regular distance, for procedures may take turns.
fn is_timed(turn: u64) -> bool {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    turn.wrapping_mul(GOLDEN) >> 60 == 0
}

/// A handler about to start.
struct Start<'a> {
    session: &'a Arc<Dispatched>,
    id: CallId,
    index: usize,
    counted: bool,
}

impl Start<'_> {
    /// Makes the handler, and polls it once if it runs in order; what needs a task of its own.
    fn run(&self, run: Run, make: impl FnOnce() -> Handler) -> Option<HandlerTask> {
        let Self {
            session,
            id,
            index,
            counted,
        } = *self;
        let handler = panic::catch_unwind(AssertUnwindSafe(make)).ok()?;
        if run != Run::InOrder {
            return Some(HandlerTask::unpolled(
                Arc::clone(session),
                id,
                handler,
                index,
                counted,
            ));
        }
        let handler = poll_once(handler)?;
        Some(HandlerTask::polled(Arc::clone(session), id, handler, counted))
    }
}

/// Polls a handler once; the handler if it has to wait. A panic is caught: the call's own guard has told the caller.
fn poll_once(mut handler: Handler) -> Option<Handler> {
    let poll = panic::catch_unwind(AssertUnwindSafe(move || {
        // Nobody need be woken: a handler that has to wait is polled again, at once, by its own task.
        let mut cx = Context::from_waker(Waker::noop());
        handler.as_mut().poll(&mut cx).is_pending().then_some(handler)
    }));
    poll.ok().flatten()
}

/// What the caller is told who takes a procedure for one with other streams.
fn misshapen(procedure: &Procedure) -> Status {
    let path = procedure.path();
    let takes = match (procedure.has_request_stream(), procedure.has_reply_stream()) {
        (true, _) => "takes a stream of requests",
        (false, true) => "answers by a stream, which a one-way call has no use for",
        (false, false) => "takes one request",
    };
    Status::new(
        Code::Unimplemented,
        format!("{path} {takes}: is the caller's .proto another?"),
    )
}

/// Refuses a request whose handler never starts.
fn refuse(session: &Dispatched, id: CallId, status: &Status, reason: DropReason) {
    let mut conn = session.link().lock(Clock::Now, Wakes::Waiters);
    let now = conn.now();
    conn.end(id, End::Refused { status, reason }, now);
}

/// What the dispatcher does whenever it stops starting handlers, for whatever reason.
struct Stop<'a> {
    session: &'a Dispatched,
    /// Whether another one drives meanwhile, which does not know what there is to write.
    late: bool,
    /// Whether a task of this worker may have been woken: by a handler that has to wait, for it may have asked one to make a
    /// call for it, or before.
    woke: bool,
}

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.session.spawn_deferred();
        if self.late {
            self.session.link().wake_driver();
        }
    }
}

/// How many handlers a dispatcher starts before it writes their replies, at least; a quarter of those that wait, if that is more.
/// Their callers go on while it starts the next, and each write costs as much as some handlers.
const BATCH: usize = 16;
/// How many rounds a dispatcher drives before it lets others have their turn.
const TURNS: usize = 4;
