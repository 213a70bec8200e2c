//! Incoming: a call that has arrived, and its way through a handler to its reply.

mod borrowing;
mod relay;
mod row_handler;
mod slot;

use std::{
    fmt,
    future::{Future, poll_fn},
    mem,
    pin::pin,
    sync::Arc,
    task::{Poll, ready},
};

use bytes::Bytes;
use prost::Message;
use tokio::time::Instant;

pub use self::borrowing::BorrowingHandler;
pub(super) use self::slot::CallSlot;
use self::{
    row_handler::{IncomingRow, handle_row},
    slot::{HandlerEnd, LayeredPart},
};
use super::{
    beside::Beside,
    context::{HandlerScope, Serving},
    decoding::{malformed, refusal_of, unencodable},
    handler::Handler,
    panicked,
    replies::Replies,
    requests::Requests,
    row_turns::RowTurns,
};
use crate::{
    Code, Context, Metadata, Result, Status,
    api::{error::NO_PROCEDURE, server_limit::ServerLimit},
    base::{panic::Panic, rare_part::RarePart},
    conn::{Arrived, ArrivedRow, CallId, Connection, End, MEMORY_SHORT, RefusalReason, Time, Unstarted},
    driver::Clock,
    layer::RawMessage,
    message::{decode::decode, growth::Budget, nesting, procedure::Procedure},
    session::Session,
    trace::{self, CallTrace, Method},
    wire::{
        compression::Outgoing,
        frame::{Encoded, Payload as _},
    },
};

/// A call that has arrived and waits for its handler.
///
/// Generated code makes a handler of it: see [`Service::call`](crate::Service::call) and the example there. The call ends with
/// its handler, exactly once: by a reply, a failure, a panic, or by the drop of the handler.
#[must_use = "a call that is dropped fails"]
pub struct Incoming {
    session: Arc<Session>,
    id: CallId,
    one_way: bool,
    depth: u8,
    procedure: &'static Procedure,
    deadline: Option<Time>,
    payload: Encoded,
    start: Start,
    /// True until the connection knows how the call ended, or until the call went back to its middleware.
    open: bool,
    /// None for most calls. Boxed, because calls are moved often, and up to 128 bytes are moved without a call of memcpy.
    rare: RarePart<Box<RareParts>>,
}

/// What few calls have.
#[derive(Default)]
struct RareParts {
    metadata: Metadata,
    /// The calls for which it stands, if it stands for several.
    row: Option<IncomingRow>,
    /// The middleware that gets the call back when its handler has ended; none without middleware.
    layered: Option<LayeredPart>,
    /// None if the call belongs to no trace, and nobody wants its span.
    trace: Option<Arc<CallTrace>>,
}

impl Incoming {
    pub(crate) fn new(session: Arc<Session>, arrived: Arrived, procedure: &'static Procedure) -> Self {
        let trace = match arrived.trace.is_some() || trace::is_on() {
            false => None,
            true => session.begin_trace(Method::Procedure(procedure), arrived.id, arrived.trace),
        };
        let rare = match arrived.metadata.is_empty() && trace.is_none() {
            true => RarePart::NONE,
            false => RarePart::some(Box::new(RareParts {
                metadata: arrived.metadata,
                trace,
                ..RareParts::default()
            })),
        };
        Self {
            session,
            id: arrived.id,
            one_way: arrived.one_way,
            depth: arrived.depth,
            procedure,
            deadline: arrived.deadline,
            payload: arrived.payload,
            start: Start::NotYet,
            open: true,
            rare,
        }
    }

    /// Makes one that stands for one-way calls of one procedure that came in one frame. Their ends are told together.
    pub(crate) fn of_row(
        session: Arc<Session>,
        arrived: ArrivedRow,
        procedure: &'static Procedure,
        turns: Arc<RowTurns>,
    ) -> Self {
        let ArrivedRow {
            first,
            deadline,
            depth,
            row,
            ..
        } = arrived;
        Self {
            session,
            id: first,
            one_way: true,
            depth,
            procedure,
            deadline,
            payload: Encoded::default(),
            start: Start::NotYet,
            open: false,
            rare: RarePart::some(Box::new(RareParts {
                row: Some(IncomingRow { row, turns }),
                ..RareParts::default()
            })),
        }
    }

    /// Makes a handler that parses the request, runs `handler` on it, and sends its reply.
    ///
    /// For one-way calls that came together, it runs a clone of `handler` for each: see [`Service::takes_rows`](crate::Service::takes_rows).
    pub fn handle<Req, Rep, F, Fut>(mut self, handler: F) -> Handler
    where
        Req: Message + Default + 'static,
        Rep: Message + 'static,
        F: FnOnce(Context, Req) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<Rep>> + Send,
    {
        if let Some(row) = self.take_row() {
            let clone = |handler: &F, cx: &Context, request: Req| handler.clone()(cx.clone(), request);
            return handle_row(self, row, Arc::new(handler), clone);
        }
        self.run(Self::decode, handler)
    }

    /// As [`Incoming::handle`], for handlers that borrow their service and their context, as those of generated code do.
    ///
    /// One-way calls that came together share both.
    #[doc(hidden)]
    pub fn handle_with<S, Req, Rep, H>(mut self, service: Arc<S>, handler: H) -> Handler
    where
        S: Send + Sync + 'static,
        Req: Message + Default + 'static,
        Rep: Message + 'static,
        H: for<'a> BorrowingHandler<'a, S, Req, Rep>,
    {
        if let Some(row) = self.take_row() {
            return handle_row(self, row, service, handler);
        }
        self.run(Self::decode, move |cx, request| async move {
            handler.make(&service, &cx, request).await
        })
    }

    /// Makes a handler that answers by a stream: `handler` forwards its stream to [`Replies`].
    pub fn handle_reply_stream<Req, Rep, F, Fut>(self, handler: F) -> Handler
    where
        Req: Message + Default + 'static,
        Rep: Message + 'static,
        F: FnOnce(Context, Req, Replies<Rep>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<()>> + Send,
    {
        let replies = self.replies();
        self.run(Self::decode, move |cx, request| handler(cx, request, replies))
    }

    /// Makes a handler that reads a stream of requests.
    pub fn handle_request_stream<Req, Rep, F, Fut>(self, handler: F) -> Handler
    where
        Req: Message + Default + 'static,
        Rep: Message + 'static,
        F: FnOnce(Context, Requests<Req>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Rep>> + Send,
    {
        let requests = self.requests();
        self.run(|_| Ok(()), move |cx, ()| handler(cx, requests))
    }

    /// Makes a handler that reads a stream of requests and answers by a stream.
    pub fn handle_both_streams<Req, Rep, F, Fut>(self, handler: F) -> Handler
    where
        Req: Message + Default + 'static,
        Rep: Message + 'static,
        F: FnOnce(Context, Requests<Req>, Replies<Rep>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<()>> + Send,
    {
        let (requests, replies) = (self.requests(), self.replies());
        self.run(|_| Ok(()), move |cx, ()| handler(cx, requests, replies))
    }

    /// Makes a handler that gets its arguments, starts, and tells the connection its end.
    fn run<Args, Rep, A, F, Fut>(mut self, arguments: A, handler: F) -> Handler
    where
        Args: Send + 'static,
        Rep: Message + 'static,
        A: FnOnce(&mut Self) -> Result<Args, (Status, RefusalReason)> + Send + 'static,
        F: FnOnce(Context, Args) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Rep>> + Send,
    {
        Box::pin(async move {
            let arguments = match arguments(&mut self) {
                Ok(arguments) => arguments,
                Err((status, reason)) => return self.refuse(&status, reason),
            };
            match self.start() {
                Ok(()) => {}
                Err(Unstarted::Unwanted) => return self.unwanted(),
                Err(Unstarted::Memory) => return self.refuse_for_memory(),
            }
            let context = self.take_context();
            let serving = Serving::of(&self);
            let mut scope = HandlerScope::new(serving, context.inherited(), self.trace().cloned());
            // Not an async function, since that would move all of this once more. After the block the handler's future is
            // dropped, and only then may its slot be free.
            let ended = {
                let mut handler = pin!(scope.make(|| handler(context, arguments)));
                poll_fn(|cx| scope.poll(handler.as_mut(), cx)).await
            };
            let status = match ended {
                Ok(Ok(reply)) => match self.refusal(&reply) {
                    None => return self.reply(&reply).await,
                    Some(status) => status,
                },
                Ok(Err(status)) => status,
                Err(panic) => return self.panicked(panic.text()),
            };
            self.fail(&status).await;
        })
    }

    pub(super) fn procedure(&self) -> &'static Procedure {
        self.procedure
    }

    /// The span of the call, and the trace that it belongs to.
    #[inline]
    pub(super) fn trace(&self) -> Option<&Arc<CallTrace>> {
        self.rare.get()?.trace.as_ref()
    }

    /// The middleware that gets the call back.
    #[inline]
    fn layered(&self) -> Option<&LayeredPart> {
        self.rare.get()?.layered.as_ref()
    }

    #[inline]
    fn take_layered(&mut self) -> Option<LayeredPart> {
        self.rare.get_mut()?.layered.take()
    }

    #[inline]
    fn take_row(&mut self) -> Option<IncomingRow> {
        self.rare.get_mut()?.row.take()
    }

    #[inline]
    fn take_metadata(&mut self) -> Metadata {
        self.rare
            .get_mut()
            .map_or_else(Metadata::new, |rare| mem::take(&mut rare.metadata))
    }

    fn requests<T: Message + Default>(&self) -> Requests<T> {
        Requests::new(Arc::clone(&self.session), self.id, self.procedure)
    }

    fn replies<T: Message + 'static>(&self) -> Replies<T> {
        Replies::new(Arc::clone(&self.session), self.id, self.procedure)
    }

    /// Makes the context that the handler will have, for code that decides whether it starts.
    pub(crate) fn preview(&self) -> Context {
        let metadata = self.rare.get().map(|rare| rare.metadata.clone());
        self.context(metadata.unwrap_or_default())
    }

    /// Returns the request, not parsed yet.
    pub(crate) fn payload(&self) -> Result<Bytes> {
        let decompressed = self.payload.clone().decompress();
        decompressed.map_err(|error| malformed(self.procedure.path(), &error))
    }

    /// Ends the call without its handler: it was not executed.
    pub(crate) fn refused(mut self, status: &Status, reason: RefusalReason) {
        self.refuse(status, reason);
    }

    /// Makes a handler that refuses the call: its service has no procedure of that index.
    pub fn unknown(mut self) -> Handler {
        Box::pin(async move {
            let text = format!(
                "{NO_PROCEDURE}{}: its generated code lists it and does not run it",
                self.procedure.path()
            );
            let status = Status::new(Code::Unimplemented, text);
            self.refuse(&status, RefusalReason::UnknownProcedure);
        })
    }

    #[inline]
    fn decode<Req: Message + Default>(&mut self) -> Result<Req, (Status, RefusalReason)> {
        let decoded = decode(mem::take(&mut self.payload), self.budget());
        decoded.map_err(|failure| refusal_of(self.procedure.path(), failure))
    }

    /// How much memory its request may take once it is decoded.
    #[inline]
    fn budget(&self) -> Budget {
        self.session.server().budget(self.procedure.request_growth())
    }

    /// The context that the handler gets.
    #[inline(always)]
    fn take_context(&mut self) -> Context {
        match self.layered() {
            Some(layered) => layered.context.clone(),
            None => {
                let metadata = self.take_metadata();
                self.context(metadata)
            }
        }
    }

    #[inline(always)]
    fn context(&self, metadata: Metadata) -> Context {
        let beside = match self.rare.get().is_some() {
            false => None,
            true => self.beside(metadata),
        };
        Context::new(
            Arc::clone(&self.session),
            self.id,
            self.one_way,
            self.depth,
            self.procedure.path(),
            self.deadline(),
            beside,
        )
    }

    /// What the handler finds beside the message.
    #[inline(never)]
    fn beside(&self, metadata: Metadata) -> Option<Arc<Beside>> {
        let trace = self.trace().and_then(|trace| trace.context()).cloned();
        Beside::of(metadata, trace, |metadata| {
            self.session.call_values()?.find(metadata)
        })
    }

    /// When the call ends at the latest.
    #[inline]
    fn deadline(&self) -> Option<Instant> {
        self.deadline
            .map(|deadline| self.session.shared().instant(deadline))
    }

    /// Decides whether the handler is polled for the first time now, and notes that it is.
    #[inline]
    fn start(&mut self) -> Result<(), Unstarted> {
        self.start = match self.session.start_here(self.id) {
            Some(at) => Start::Untold(at),
            None => {
                self.session
                    .with(Clock::Recent, |conn, now| conn.started(self.id, now))?;
                Start::Told
            }
        };
        if let Some(layered) = self.layered() {
            layered.note_start(self.start);
        }
        Ok(())
    }

    /// Returns the status of a reply that cannot be sent.
    #[inline]
    fn refusal<M: 'static>(&self, reply: &M) -> Option<Status> {
        let nesting = self.procedure.reply_nesting().filter(|_| !self.one_way);
        let text = nesting::check(nesting, reply).err()?;
        Some(unencodable("reply", self.procedure, &text))
    }

    async fn reply<M: Message>(&mut self, reply: &M) {
        if self.layered().is_some() {
            // Encoding runs the user's code. If it panics, the middleware gets that as it gets a handler's panic.
            match Panic::catch(|| RawMessage::of(reply)) {
                Ok(reply) => {
                    if let Some(layered) = self.take_layered() {
                        self.give_back(&layered, HandlerEnd::Replied(reply));
                    }
                }
                Err(panic) => self.panicked(panic.text()),
            }
            return;
        }
        if self.one_way {
            return self.handled();
        }
        let reply = Outgoing::new(reply, self.session.compression());
        poll_fn(|cx| {
            self.session.with(Clock::Now, |conn, now| {
                ready!(conn.poll_room(self.id, reply.size().len, cx));
                self.start.tell(conn, self.id);
                conn.reply(self.id, &reply, now);
                Poll::Ready(())
            })
        })
        .await;
        self.open = false;
        self.end_trace(Code::Ok, "");
    }

    /// Ends a one-way call that succeeded: its reply and its times are not sent.
    fn handled(&mut self) {
        self.session
            .with(Clock::Recent, |conn, now| conn.handled(self.id, now));
        self.open = false;
        self.end_trace(Code::Ok, "");
    }

    /// Ends the call with `status`. As a reply, it waits for room, since it may have details of any length.
    async fn fail(&mut self, status: &Status) {
        if !self.one_way && self.layered().is_none() {
            let len = status.details().len();
            poll_fn(|cx| {
                self.session
                    .with(Clock::Now, |conn, _| conn.poll_room(self.id, len, cx))
            })
            .await;
        }
        self.failed(status);
    }

    /// Ends the call with `status` now.
    fn failed(&mut self, status: &Status) {
        self.finish(End::Failed(status));
    }

    /// Ends the call after a panic of the handler, or of the reply's encoding.
    fn panicked(&mut self, text: Option<&str>) {
        let procedure = self.procedure.path();
        let (call, peer) = (self.id.0, self.session.peer().address());
        let threads = self.session.server().threads();
        let advice = text.and_then(|text| panicked::advice(text, self.procedure, threads));
        let status = match advice {
            Some(advice) => {
                tracing::error!(procedure, call, peer, advice, "handler panicked");
                format!("handler panicked: {advice}")
            }
            None => {
                tracing::error!(procedure, call, peer, "handler panicked");
                "handler panicked".to_owned()
            }
        };
        self.finish(End::Failed(&Status::new(Code::Unknown, status)));
    }

    /// Records on the call's span how it ended.
    #[inline]
    fn end_trace(&mut self, code: Code, text: &str) {
        if let Some(trace) = self.rare.get_mut().and_then(|rare| rare.trace.take()) {
            trace.end(code, text);
        }
    }

    /// As [`Incoming::end_trace`], for a call that did not end well.
    #[cold]
    fn end_trace_by(&mut self, end: &End<'_>) {
        match end {
            End::Refused { status, .. } | End::Failed(status) | End::Reported { status, .. } => {
                self.end_trace(status.code(), status.message());
            }
            End::Dropped => {
                let is_late = self.deadline().is_some_and(|deadline| deadline <= Instant::now());
                match is_late {
                    true => self.end_trace(Code::DeadlineExceeded, DEADLINE_PASSED),
                    false => self.end_trace(Code::Cancelled, "the reply is no longer wanted"),
                }
            }
        }
    }

    fn refuse(&mut self, status: &Status, reason: RefusalReason) {
        self.finish(End::Refused { status, reason });
    }

    /// Refuses the call because memory is short.
    #[cold]
    fn refuse_for_memory(&mut self) {
        let status = Status::new(Code::ResourceExhausted, MEMORY_SHORT);
        self.refuse(&status, RefusalReason::Over(ServerLimit::MaxBufferedBytes));
    }

    fn finish(&mut self, end: End<'_>) {
        if let Some(layered) = self.take_layered() {
            return self.give_back(&layered, HandlerEnd::of(end));
        }
        self.open = false;
        if self.trace().is_some() {
            self.end_trace_by(&end);
        }
        if let End::Refused {
            status,
            reason: RefusalReason::Over(limit),
        } = end
        {
            self.session.note_refusal(limit, self.procedure, status);
        }
        let left_out = self.session.with(Clock::Now, |conn, now| {
            self.start.tell(conn, self.id);
            conn.end_noting(self.id, end, now)
        });
        if let Some(left_out) = left_out {
            self.session
                .server()
                .note_left_out(self.procedure.path(), self.id.0, &left_out);
        }
    }
}

/// Whether a handler has started, and whether its connection knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// It has not.
    NotYet,
    /// It has, at this time, which the connection learns with its end.
    Untold(Time),
    /// It has, and the connection knows.
    Told,
}

impl Start {
    /// Tells the connection, in the visit that ends the call.
    #[inline]
    fn tell(self, conn: &mut Connection, id: CallId) {
        match self {
            Self::NotYet => conn.not_started(id),
            Self::Untold(at) => conn.began(id, at),
            Self::Told => {}
        }
    }
}

/// Ends a call whose handler was dropped, or whose reply panicked while it was encoded.
impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        if std::thread::panicking() {
            self.panicked(None);
        } else {
            self.finish(End::Dropped);
        }
    }
}

impl Serving {
    /// The call whose handler is about to be polled.
    #[inline]
    pub(super) fn of(call: &Incoming) -> Self {
        Self::new(&call.session, call.id, call.procedure)
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("procedure", &self.procedure.path())
            .field("id", &self.id.0)
            .field("payload_len", &self.payload.len())
            .finish_non_exhaustive()
    }
}

/// The text of a handler that was dropped at its deadline. One-way calls without a deadline of their own have one of the server.
const DEADLINE_PASSED: &str =
    "the deadline passed while the handler ran: the caller's Call::timeout, or Limits::one_way_timeout";
