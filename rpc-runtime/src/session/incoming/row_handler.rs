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
use tokio::{task::coop, time::Instant};

use super::{Incoming, Start};
use crate::{
    Context, Handler, Metadata, Result, Status,
    base::panic::Panic,
    client::inherited::{HandlerId, Inherited},
    conn::CallId,
    driver::Clock,
    message::{
        decode::{DecodeFailure, decode_part},
        growth::Budget,
    },
    session::{
        InlinePoll,
        context::{Serving, ServingOwner},
        decoding::refusal_of,
        row_turns::{LastOutcome, RowPoll, RowTurns},
    },
    wire::frame::row::{BadRow, Row},
};

/// One-way calls that came in one frame, on their way to their handlers.
pub(super) struct IncomingRow {
    pub(super) row: Row,
    pub(super) turns: Arc<RowTurns>,
}

/// Makes the handler of the calls of `row`, which runs `handler` for each.
pub(super) fn handle_row<Req, Rep, F, Fut>(call: Incoming, row: IncomingRow, mut handler: F) -> Handler
where
    Req: Message + Default + 'static,
    F: FnOnce(Context, Req) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<Rep>> + Send,
{
    Box::pin(async move {
        let Some(mut row) = RowHandler::begin(call, row) else {
            return;
        };
        let mut current = pin!(None);
        let mut is_pending = false;
        let ended = poll_fn(|cx| {
            if !is_pending {
                is_pending = row.poll_calls(cx, current.as_mut(), &mut handler);
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
    deadline: Option<Instant>,
    budget: Budget,
    serving: ServingOwner,
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
            deadline: call.deadline(),
            budget: call.budget(),
            serving: ServingOwner::new(Serving::new(session, call.id, call.procedure)),
            inherited: call.context(Metadata::new()).inherited(),
            call,
        })
    }

    /// Polls the handlers of the calls that may start, each once. Returns whether the last one is pending.
    fn poll_calls<Req, Rep, F, Fut>(
        &mut self,
        cx: &mut TaskContext<'_>,
        mut current: Pin<&mut Option<Fut>>,
        handler: &mut F,
    ) -> bool
    where
        Req: Message + Default + 'static,
        F: FnOnce(Context, Req) -> Fut + Clone,
        Fut: Future<Output = Result<Rep>>,
    {
        let this = ReportOnDrop(self);
        loop {
            let polled = Panic::catch(|| this.0.poll_until(cx, current.as_mut(), handler));
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
    #[expect(
        clippy::needless_pass_by_ref_mut,
        reason = "a shared reference that is kept over an await would need `F: Sync`"
    )]
    fn poll_until<Req, Rep, F, Fut>(
        &mut self,
        cx: &mut TaskContext<'_>,
        mut current: Pin<&mut Option<Fut>>,
        handler: &mut F,
    ) -> Polled
    where
        Req: Message + Default + 'static,
        F: FnOnce(Context, Req) -> Fut + Clone,
        Fut: Future<Output = Result<Rep>>,
    {
        let scope = self.inherited.enter();
        while self.start_next() {
            let budget = self.budget;
            let request = match self.row.read(|message| decode_part(message, budget)) {
                Ok(Some(Ok(request))) => request,
                Ok(Some(Err(failure))) => return Polled::Unreadable(failure),
                Ok(None) | Err(_) => return Polled::Unreadable(DecodeFailure::Row(BadRow)),
            };
            let context = self.context();
            scope.change(self.inherited);
            let _serving = self.serving.enter();
            current.set(Some(handler.clone()(context, request)));
            let Some(future) = current.as_mut().as_pin_mut() else {
                return Polled::All;
            };
            match future.poll(cx) {
                Poll::Ready(Ok(_)) => current.set(None),
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

    /// Makes the context of the call that starts.
    #[inline]
    fn context(&mut self) -> Context {
        self.inherited.handler = HandlerId::next();
        self.serving.set_id(self.id);
        let call = &self.call;
        Context::new(
            Arc::clone(&call.session),
            self.id,
            true,
            call.depth,
            call.procedure.path(),
            self.deadline,
            Metadata::new(),
        )
    }

    /// Notes what became of calls that were polled. Returns whether the last one has failed, which the connection is told.
    fn note(&mut self, polled: Result<Polled, Panic>) -> bool {
        match polled {
            Ok(Polled::All) => return false,
            Ok(Polled::Pending) => {
                self.outcome = LastOutcome::Pending;
                // What is left goes to other handlers. Here it would keep the frame's buffer alive.
                self.row = Row::default();
                self.become_last_call();
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

    /// From now on `call` is the last call alone, which has started.
    fn become_last_call(&mut self) {
        self.call.id = self.id;
        self.call.start = Start::Told;
        self.call.open = true;
    }

    /// Gives the last call a record of its own.
    fn part(&mut self) {
        self.become_last_call();
        let id = self.id;
        self.call
            .session
            .with(Clock::Recent, |conn, _| conn.part_from_row(id));
    }

    /// Polls the handler that is pending.
    fn poll_pending<Rep, Fut>(
        &mut self,
        cx: &mut TaskContext<'_>,
        current: Pin<&mut Option<Fut>>,
    ) -> Poll<Ended>
    where
        Fut: Future<Output = Result<Rep>>,
    {
        let _inherited = self.inherited.enter();
        let _serving = self.serving.enter();
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
