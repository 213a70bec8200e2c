//! RowHandler: one-way calls that came in one frame, handled one after the other by one future.
//!
//! What most calls need is done once for all: a future, a visit to the connection, a look at the route. The handler of each call is made
//! and polled once, in order. One that is pending stays in the future, which becomes the handler of this call alone; the dispatcher gives
//! the calls behind it to another one.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use prost::Message;
use tokio::task::coop;

use super::{BorrowingHandler, Incoming, Start};
use crate::{
    Code, Handler, Metadata, Result, Status,
    base::panic::Panic,
    client::inherited::{HandlerId, Inherited},
    conn::CallId,
    driver::Clock,
    message::{
        decode::{DecodeFailure, decode_part_into},
        growth::Budget,
    },
    session::{
        InlinePoll,
        context::{Serving, ServingOwner},
        decoding::refusal_of,
        row_turns::{LastOutcome, RowPoll, RowTurns},
    },
    trace::{self, CallTrace, Method},
    wire::frame::row::{BadRow, Row},
};

/// One-way calls that came in one frame, on their way to their handlers.
pub(super) struct IncomingRow {
    pub(super) row: Row,
    pub(super) turns: Arc<RowTurns>,
}

/// Makes the handler of the calls of `row`, which runs `handler` for each, with one service and one context for all.
pub(super) fn handle_row<S, Req, Rep, H>(
    call: Incoming,
    row: IncomingRow,
    service: Arc<S>,
    handler: H,
) -> Handler
where
    S: Send + Sync + 'static,
    Req: Message + Default + 'static,
    Rep: 'static,
    H: for<'a> BorrowingHandler<'a, S, Req, Rep>,
{
    Box::pin(async move {
        let Some(mut row) = RowHandler::begin(call, row) else {
            return;
        };
        let context = row.call.context(Metadata::new());
        let mut serving = ServingOwner::new(Serving::of(&row.call));
        let mut current = pin!(None);
        let mut is_pending = false;
        let ended = poll_fn(|cx| {
            let serving = serving.enter();
            if !is_pending {
                let begin = |id, request| {
                    serving.set_id(id);
                    context.set_id(id);
                    handler.make(&service, &context, request)
                };
                is_pending = row.poll_calls(cx, current.as_mut(), begin);
                return match is_pending {
                    true => Poll::Pending,
                    false => Poll::Ready(None),
                };
            }
            row.poll_pending(cx, current.as_mut()).map(Some)
        })
        .await;
        current.set(None);
        if let Some(ended) = ended {
            row.end_pending(ended);
        }
    })
}

/// The calls of a row, while their handlers are polled one after the other.
struct RowHandler {
    /// What the calls have in common. When one is pending, it is that call.
    call: Incoming,
    /// The messages of the calls that have not started.
    row: Row,
    /// How long the row was before the last call started.
    before: usize,
    /// The last call that started, or the first one.
    id: CallId,
    started: usize,
    most: usize,
    turn: u64,
    outcome: LastOutcome,
    turns: Arc<RowTurns>,
    budget: Budget,
    /// What calls inherit that the handler of the last call makes.
    inherited: Inherited,
}

/// What became of calls that were polled.
enum Polled {
    /// All that may start have ended well.
    All,
    /// The last one is pending.
    Pending,
    /// The last one failed.
    Failed(Status),
    /// The message of the last one cannot be read.
    Unreadable(DecodeFailure),
}

/// How a handler ended; the error is what it panicked with.
type Ended = Result<Result<()>, Panic>;

impl RowHandler {
    /// Begins the calls of `row`, if this is the first poll of their handler by the dispatcher.
    fn begin(call: Incoming, row: IncomingRow) -> Option<Self> {
        let IncomingRow { row, turns } = row;
        let session = &call.session;
        if !InlinePoll::is_of(session.address()) {
            return None;
        }
        let (turn, most) = turns.begin()?;
        Some(Self {
            before: row.len(),
            row,
            id: call.id,
            started: 0,
            most,
            turn,
            outcome: LastOutcome::Handled,
            turns,
            budget: call.budget(),
            inherited: call.context(Metadata::new()).inherited(),
            call,
        })
    }

    /// Polls the handlers of the calls that may start, each once; `begin` makes them. Returns whether the last one is pending.
    fn poll_calls<Req, Rep, Fut>(
        &mut self,
        cx: &mut TaskContext<'_>,
        mut current: Pin<&mut Option<Fut>>,
        begin: impl Fn(CallId, Req) -> Fut,
    ) -> bool
    where
        Req: Message + Default,
        Fut: Future<Output = Result<Rep>>,
    {
        let this = ReportOnDrop(self);
        loop {
            let polled = Panic::catch(|| this.0.poll_until(cx, current.as_mut(), &begin));
            if !matches!(polled, Ok(Polled::Pending)) {
                // Before the connection is told, as its place is free then. The call has failed already if this panics.
                let _ = Panic::catch(|| current.set(None));
            }
            let has_failed = this.0.note(polled);
            if !has_failed {
                return this.0.outcome == LastOutcome::Pending;
            }
        }
    }

    /// Polls handlers up to the first that does not end well.
    fn poll_until<Req, Rep, Fut>(
        &mut self,
        cx: &mut TaskContext<'_>,
        mut current: Pin<&mut Option<Fut>>,
        begin: &impl Fn(CallId, Req) -> Fut,
    ) -> Polled
    where
        Req: Message + Default,
        Fut: Future<Output = Result<Rep>>,
    {
        let scope = self.inherited.enter();
        let is_traced = trace::is_on();
        while self.start_next() {
            let budget = self.budget;
            let mut request = Req::default();
            match self
                .row
                .read(|message| decode_part_into(&mut request, message, budget))
            {
                Ok(Some(Ok(()))) => {}
                Ok(Some(Err(failure))) => return Polled::Unreadable(failure),
                Ok(None) | Err(_) => return Polled::Unreadable(DecodeFailure::Row(BadRow)),
            }
            self.inherited.handler = HandlerId::next();
            scope.change_handler(self.inherited.handler);
            if is_traced {
                let call = &mut self.call;
                let trace = call
                    .session
                    .begin_trace(Method::Procedure(call.procedure), self.id, None);
                call.rare.get_or_insert_default().trace = trace;
            }
            let trace = self.call.trace().cloned();
            let traced = trace.as_deref().map(CallTrace::enter);
            current.set(Some(begin(self.id, request)));
            let Some(future) = current.as_mut().as_pin_mut() else {
                return Polled::All;
            };
            let polled = future.poll(cx);
            drop(traced);
            match polled {
                Poll::Ready(Ok(_)) => {
                    current.set(None);
                    self.call.end_trace(Code::Ok, "");
                }
                Poll::Ready(Err(status)) => return Polled::Failed(status),
                Poll::Pending => return Polled::Pending,
            }
        }
        Polled::All
    }

    /// Starts the next call, if one may start.
    #[inline]
    fn start_next(&mut self) -> bool {
        if self.started > 0 {
            let stalls = self.call.session.stalls();
            let is_over = self.row.is_empty() || self.started == self.most;
            if is_over || stalls.is_asked_to_stop() || !coop::has_budget_remaining() {
                return false;
            }
            let Some(turn) = stalls.go_on(self.turn) else {
                // Another dispatcher has the calls behind the last one.
                return false;
            };
            self.turn = turn;
            self.id.0 += 2;
        }
        self.started += 1;
        self.before = self.row.len();
        self.outcome = LastOutcome::Handled;
        true
    }

    /// Notes what became of calls that were polled. Returns whether the last one has failed, which the connection is told.
    fn note(&mut self, polled: Result<Polled, Panic>) -> bool {
        match polled {
            Ok(Polled::All) => return false,
            Ok(Polled::Pending) => {
                self.outcome = LastOutcome::Pending;
                // What is left goes to other handlers. Here it would keep the frame's buffer alive.
                self.row = Row::default();
                // At once, since a service may drop this handler before its poll returns to the dispatcher.
                self.part();
                return false;
            }
            Ok(Polled::Failed(status)) => {
                self.part();
                self.call.failed(&status);
            }
            Ok(Polled::Unreadable(failure)) => {
                self.part();
                let (status, reason) = refusal_of(self.call.procedure.path(), failure);
                self.call.refuse(&status, reason);
            }
            Err(panic) => {
                if self.row.len() == self.before {
                    // Its message was not read to the end.
                    let _ = self.row.read(|_| ());
                }
                self.part();
                self.call.panicked(panic.text());
            }
        }
        self.outcome = LastOutcome::Told;
        true
    }

    /// Gives the last call a record of its own. From now on `call` is that call alone, which has started.
    fn part(&mut self) {
        self.call.id = self.id;
        self.call.start = Start::Told;
        self.call.open = true;
        let id = self.id;
        self.call
            .session
            .with(Clock::Recent, |conn, _| conn.part_from_row(id));
    }

    /// Polls the handler that is pending.
    fn poll_pending<Rep, Fut>(&self, cx: &mut TaskContext<'_>, current: Pin<&mut Option<Fut>>) -> Poll<Ended>
    where
        Fut: Future<Output = Result<Rep>>,
    {
        let _inherited = self.inherited.enter();
        let _traced = self.call.trace().map(|trace| trace.enter());
        let Some(future) = current.as_pin_mut() else {
            return Poll::Pending;
        };
        match Panic::catch(|| future.poll(cx)) {
            Ok(poll) => poll.map(|ended| Ok(ended.map(drop))),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }

    /// Ends the call that was pending.
    fn end_pending(&mut self, ended: Ended) {
        match ended {
            Ok(Ok(())) => self.call.handled(),
            Ok(Err(status)) => self.call.failed(&status),
            Err(panic) => self.call.panicked(panic.text()),
        }
    }
}

/// Tells the dispatcher how far the calls came, also if a panic ends their poll.
struct ReportOnDrop<'a>(&'a mut RowHandler);

impl Drop for ReportOnDrop<'_> {
    fn drop(&mut self) {
        let RowHandler {
            turn,
            id,
            started,
            outcome,
            turns,
            ..
        } = &*self.0;
        turns.polled(RowPoll {
            turn: *turn,
            last: *id,
            started: *started,
            outcome: *outcome,
        });
    }
}
