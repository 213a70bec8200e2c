//! Rows: starts the handlers of one-way calls that came in one frame.

use std::{mem, sync::Arc};

use tokio::{task::coop, time::Instant};

use super::{
    Dispatched,
    batch::RowsNext,
    dispatcher::{BatchEnd, Dispatcher, is_timed, make_and_poll},
    handler_task::{HandlerTask, drop_handler},
    pass::{Pass, TakenRow},
};
use crate::{
    Handler, Incoming,
    conn::{ArrivedRow, CallId},
    driver::{Clock, Wakes},
    server::router::Route,
    session::{LastOutcome, RowPoll, RowTurns},
};

impl Dispatcher {
    /// Starts the handlers of one-way calls that came in one frame, one after the other. Those that it does not start go back.
    pub(super) fn start_row(&mut self, taken: TakenRow, pass: &mut Pass<'_>) -> BatchEnd {
        let TakenRow { arrived, index, most } = taken;
        let session = Arc::clone(&self.session);
        let stalls = session.stalls();
        let route = session.state().router().route(index);
        let first = arrived.first;
        if mem::take(&mut pass.woke) {
            // As for other handlers: the woken task must not lie behind these.
            session.runtime().spawn(async {});
        }
        let turns = Arc::new(RowTurns::new(self.turn, most));
        session.batch().hold_row(first, stalls, &turns);
        stalls.begin(self.turn, index, first);
        session.monitor();
        let timed = is_timed(self.turn).then(Instant::now);
        let (pending, _) = session.first_poll(None, pass.now(), || {
            poll_row(&session, route, arrived, Arc::clone(&turns))
        });
        let Some(poll) = turns.end() else {
            drop_handler(pending);
            return self.start_one_by_one(first, pass);
        };
        if let Some(begun) = timed {
            let each = begun.elapsed() / u32::try_from(poll.started).unwrap_or(u32::MAX);
            route.note_time(each, each);
        }
        let turn = stalls.end(poll.turn);
        self.end_row(poll, turn.is_some(), most, pass);
        match pending {
            Some(handler) if poll.outcome == LastOutcome::Pending => {
                let task = HandlerTask::new(Arc::clone(&session), poll.last, handler, index, true);
                pass.woke = true;
                session.defer(task);
            }
            // A service by hand has put something around its calls, which have ended.
            pending => drop_handler(pending),
        }
        let Some(turn) = turn else {
            return BatchEnd::Late;
        };
        route.note_quick_polls(poll.started);
        self.turn = turn;
        match stalls.is_to_stop() || !coop::has_budget_remaining() {
            true => BatchEnd::Stopped,
            false => BatchEnd::Done,
        }
    }

    /// Tells the connection what became of the calls, and gives it back those that did not start, unless another dispatcher does so.
    fn end_row(&self, poll: RowPoll, has_turn: bool, most: usize, pass: &mut Pass<'_>) {
        let session = &self.session;
        let mut conn = session.shared().lock(Clock::Recent, Wakes::Waiters);
        let now = conn.now();
        if !has_turn {
            // A call that did not end well has a record already.
            if poll.outcome == LastOutcome::Handled {
                conn.part_from_row(poll.last);
                conn.handled(poll.last, now);
            }
            return;
        }
        session.batch().drop_row();
        conn.put_row_back(CallId(poll.last.0 + 2), now);
        // Without a limit they count as one.
        let taken = if most == usize::MAX { 1 } else { poll.started };
        pass.note_row(taken, &conn);
    }

    /// Gives all calls of a row back whose service has not begun it, unless another dispatcher does so: they are taken one by one.
    fn start_one_by_one(&mut self, first: CallId, pass: &mut Pass<'_>) -> BatchEnd {
        let session = &self.session;
        let Some(turn) = session.stalls().end(self.turn) else {
            return BatchEnd::Late;
        };
        self.turn = turn;
        pass.rows = RowsNext::OneByOne;
        session.batch().drop_row();
        let mut conn = session.shared().lock(Clock::Recent, Wakes::Waiters);
        let now = conn.now();
        conn.put_row_back(first, now);
        pass.note_row(0, &conn);
        BatchEnd::Done
    }
}

/// Makes the handler of a row, and polls it once. Returns it if the last call that it has started is pending.
fn poll_row(
    session: &Arc<Dispatched>,
    route: &Route,
    arrived: ArrivedRow,
    turns: Arc<RowTurns>,
) -> Option<Handler> {
    let service = route.service()?;
    let call = Incoming::of_row(
        Arc::<Dispatched>::clone(session),
        arrived,
        route.procedure(),
        turns,
    );
    make_and_poll(|| service.call(route.index(), call))
}

#[cfg(test)]
mod tests {
    use std::{
        future::{Future, pending, ready},
        sync::Mutex,
        task::{Context as TaskContext, Poll, Waker},
    };

    use bytes::Bytes;
    use tokio::runtime::Handle;

    use super::*;
    use crate::{
        Context, Peer, Procedure, Result,
        conn::{Connection, Side, Time},
        driver::SharedConnection,
        server::state::{ServerOptions, ServerState},
        wire::frame::row::{Row, row},
    };

    static NOTE: Procedure = Procedure::new("rows.v1.Rows/rpc_note", 1);

    fn session() -> Arc<Dispatched> {
        let server = ServerState::of_nothing(ServerOptions::default());
        let settings = Arc::clone(server.view().settings());
        let shared = SharedConnection::new(Connection::new(Side::Acceptor, settings));
        Dispatched::register(&server, shared, Peer::in_process(), Handle::current()).unwrap()
    }

    /// Polls the handler that `make` makes of the calls in `frame`, for the first time. Returns the handler, and how far it came.
    fn first_poll(
        session: &Arc<Dispatched>,
        frame: Bytes,
        make: impl FnOnce(Incoming) -> Handler,
    ) -> (Handler, Poll<()>, RowPoll) {
        let arrived = ArrivedRow {
            first: CallId(1),
            depth: 0,
            deadline: None,
            row: Row::new(frame),
        };
        let turns = Arc::new(RowTurns::new(0, usize::MAX));
        let session = Arc::<Dispatched>::clone(session);
        session.stalls().begin(0, 0, CallId(1));
        let mut handler = make(Incoming::of_row(
            session.clone(),
            arrived,
            &NOTE,
            Arc::clone(&turns),
        ));
        let mut cx = TaskContext::from_waker(Waker::noop());
        let (poll, _) = session.first_poll(None, Time::ZERO, || handler.as_mut().poll(&mut cx));
        (handler, poll, turns.end().unwrap())
    }

    #[tokio::test]
    async fn a_pending_handler_does_not_keep_the_frame_of_its_row() {
        let frame = Bytes::from(row(&["", ""]));
        let (handler, poll, polled) = first_poll(&session(), frame.clone(), |call| {
            call.handle(|_, (): ()| pending::<Result<()>>())
        });
        assert!(poll.is_pending());
        assert_eq!((polled.last, polled.outcome), (CallId(1), LastOutcome::Pending));
        assert!(frame.is_unique());
        drop(handler);
    }

    #[tokio::test]
    async fn a_clone_of_the_context_of_a_row_is_that_of_its_call() {
        fn keep<'a>(
            kept: &'a Mutex<Vec<Context>>,
            cx: &'a Context,
            (): (),
        ) -> impl Future<Output = Result<()>> + Send + 'a {
            kept.lock().unwrap().push(cx.clone());
            ready(Ok(()))
        }
        let kept = Arc::new(Mutex::new(Vec::new()));
        let frame = Bytes::from(row(&["", "", ""]));
        let (_, poll, polled) = first_poll(&session(), frame, |call| {
            call.handle_with(Arc::clone(&kept), keep)
        });
        assert!(poll.is_ready());
        assert_eq!((polled.last, polled.outcome), (CallId(5), LastOutcome::Handled));
        let kept = kept.lock().unwrap();
        let ids: Vec<_> = kept.iter().map(Context::id).collect();
        assert_eq!(ids, [CallId(1), CallId(3), CallId(5)]);
    }
}
