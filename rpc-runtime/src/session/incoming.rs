//! Incoming: a call that has arrived, and the way from its bytes through a handler to its reply.

use std::{
    any::Any,
    fmt,
    future::{Future, poll_fn},
    mem,
    sync::Arc,
    task::{Poll, ready},
};

use bytes::Bytes;
use prost::Message;

use super::panicked;
use crate::{
    Code, Context, Metadata, Result, Status,
    api::error::NO_PROCEDURE,
    conn::{Arrived, CallId, End, MEMORY_SHORT, Time, Unstarted},
    driver::Clock,
    message::{
        decode::{DecodeFailure, decode},
        growth::Budget,
        nesting,
    },
    session::{Session, context::Serving},
    wire::{
        compression::Outgoing,
        frame::{DropReason, Encoded, Payload as _},
    },
};
use crate::{
    message::procedure::Procedure,
    session::{Handler, Replies, Requests},
};

/// A call that has arrived and waits for its handler.
///
/// However its handler ends, by a reply, a failure, a panic or by being dropped, the call ends with it, exactly once.
pub struct Incoming {
    session: Arc<Session>,
    id: CallId,
    one_way: bool,
    depth: u8,
    procedure: &'static Procedure,
    deadline: Option<Time>,
    metadata: Metadata,
    payload: Encoded,
    /// Until the connection knows how the call ended.
    open: bool,
}

impl Incoming {
    pub(crate) fn new(session: Arc<Session>, arrived: Arrived, procedure: &'static Procedure) -> Self {
        Self {
            session,
            id: arrived.id,
            one_way: arrived.one_way,
            depth: arrived.depth,
            procedure,
            deadline: arrived.deadline,
            metadata: arrived.metadata,
            payload: arrived.payload,
            open: true,
        }
    }

    /// Makes a handler: parses the request, runs `handler` on it, sends its reply.
    pub fn handle<Req, Rep, F, Fut>(self, handler: F) -> Handler
    where
        Req: Message + Default + 'static,
        Rep: Message + 'static,
        F: FnOnce(Context, Req) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Rep>> + Send,
    {
        self.run(Self::decode, handler)
    }

    /// Makes a handler that answers by a stream: it forwards its stream to the [`Replies`] that it is given.
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

    /// Makes a handler of a stream of requests.
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

    /// Makes a handler of a stream of requests that answers by a stream, too.
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

    /// Makes a handler: gets its arguments, starts it, tells its end.
    fn run<Args, Rep, A, F, Fut>(mut self, arguments: A, handler: F) -> Handler
    where
        Args: Send + 'static,
        Rep: Message + 'static,
        A: FnOnce(&mut Self) -> Result<Args> + Send + 'static,
        F: FnOnce(Context, Args) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Rep>> + Send,
    {
        Box::pin(async move {
            let arguments = match arguments(&mut self) {
                Ok(arguments) => arguments,
                Err(status) => {
                    let reason = match status.code() {
                        Code::ResourceExhausted => DropReason::Overload,
                        _ => DropReason::BadPayload,
                    };
                    return self.refuse(&status, reason);
                }
            };
            match self.start() {
                Ok(()) => {}
                Err(Unstarted::Unwanted) => return,
                Err(Unstarted::Memory) => {
                    let status = Status::new(Code::ResourceExhausted, MEMORY_SHORT);
                    return self.refuse(&status, DropReason::Overload);
                }
            }
            let metadata = mem::take(&mut self.metadata);
            let context = self.context(metadata);
            // When this line is done, the handler's future is gone, and only then may its slot be free.
            let serving = Serving::new(&self.session, self.id, self.procedure);
            let inherited = context.inherited();
            let ended = serving
                .scope(inherited, move || handler(context, arguments))
                .await;
            let status = match ended {
                Ok(Ok(reply)) => match self.refusal(&reply) {
                    None => return self.reply(&reply).await,
                    Some(status) => status,
                },
                Ok(Err(status)) => status,
                Err(panic) => return self.panicked(&*panic),
            };
            self.fail(&status).await;
        })
    }

    fn requests<T: Message + Default>(&self) -> Requests<T> {
        Requests::new(Arc::clone(&self.session), self.id, self.procedure)
    }

    fn replies<T: Message + 'static>(&self) -> Replies<T> {
        Replies::new(Arc::clone(&self.session), self.id, self.procedure)
    }

    /// The context that the handler will have, for who decides whether it starts.
    pub(crate) fn preview(&self) -> Context {
        self.context(self.metadata.clone())
    }

    /// The request, not parsed yet.
    pub(crate) fn payload(&self) -> Result<Bytes> {
        let unpacked = self.payload.clone().unpack();
        unpacked.map_err(|error| malformed(self.procedure.path(), &error))
    }

    /// Ends the call without its handler: it was not executed.
    pub(crate) fn refused(mut self, status: &Status, reason: DropReason) {
        self.refuse(status, reason);
    }

    /// Makes the handler of a call whose index is none of the service's.
    pub fn unknown(mut self) -> Handler {
        Box::pin(async move {
            let text = format!(
                "{NO_PROCEDURE}{}: its generated code lists it and does not run it",
                self.procedure.path()
            );
            let status = Status::new(Code::Unimplemented, text);
            self.refuse(&status, DropReason::UnknownProcedure);
        })
    }

    fn decode<Req: Message + Default>(&mut self) -> Result<Req> {
        let budget = self.session.server().budget(self.procedure.request_growth());
        parse(mem::take(&mut self.payload), self.procedure, budget)
    }

    fn context(&self, metadata: Metadata) -> Context {
        Context::new(
            Arc::clone(&self.session),
            self.id,
            self.one_way,
            self.depth,
            self.procedure.path(),
            self.deadline
                .map(|deadline| self.session.link().instant(deadline)),
            metadata,
        )
    }

    /// Notes that the handler is about to be polled for the first time.
    fn start(&self) -> Result<(), Unstarted> {
        self.session
            .with(Clock::Recent, |conn, now| conn.started(self.id, now))
    }

    /// Why `reply` cannot be sent, if it cannot.
    #[inline]
    fn refusal<M: 'static>(&self, reply: &M) -> Option<Status> {
        let nesting = self.procedure.reply_nesting().filter(|_| !self.one_way);
        let text = nesting::check(nesting, reply).err()?;
        Some(unencodable("reply", self.procedure, &text))
    }

    async fn reply<M: Message>(&mut self, reply: &M) {
        if self.one_way {
            // Nobody reads its reply, nor how long it took.
            self.session
                .with(Clock::Recent, |conn, now| conn.handled(self.id, now));
            self.open = false;
            return;
        }
        let reply = Outgoing::new(reply, self.session.compression());
        poll_fn(|cx| {
            self.session.with(Clock::Now, |conn, now| {
                ready!(conn.poll_room(self.id, reply.size().len, cx));
                conn.reply(self.id, &reply, now);
                Poll::Ready(())
            })
        })
        .await;
        self.open = false;
    }

    /// As a reply, a failure waits for room: it may bring details of any length.
    async fn fail(&mut self, status: &Status) {
        if !self.one_way {
            let len = status.details().len();
            poll_fn(|cx| {
                self.session
                    .with(Clock::Now, |conn, _| conn.poll_room(self.id, len, cx))
            })
            .await;
        }
        self.finish(End::Failed(status));
    }

    /// The handler has panicked, or its reply when it was written.
    fn panicked(&mut self, panic: &(dyn Any + Send)) {
        let procedure = self.procedure.path();
        let status = match panicked::advice(panic, self.procedure, self.session.server().threads()) {
            Some(advice) => {
                tracing::error!(procedure, advice, "handler panicked");
                format!("handler panicked: {advice}")
            }
            None => {
                tracing::error!(procedure, "handler panicked");
                "handler panicked".to_owned()
            }
        };
        self.finish(End::Failed(&Status::new(Code::Unknown, status)));
    }

    fn refuse(&mut self, status: &Status, reason: DropReason) {
        self.finish(End::Refused { status, reason });
    }

    fn finish(&mut self, end: End<'_>) {
        self.open = false;
        let left_out = self
            .session
            .with(Clock::Now, |conn, now| conn.end_noting(self.id, end, now));
        if let Some(left_out) = left_out {
            self.session
                .server()
                .note_left_out(self.procedure.path(), &left_out);
        }
    }
}

/// Ends a call whose handler was dropped, or whose reply panicked when it was written.
impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        if std::thread::panicking() {
            self.panicked(&());
        } else {
            self.finish(End::Dropped);
        }
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

/// Parses a request of `procedure`, or a message of its stream.
pub(crate) fn parse<Req: Message + Default>(
    payload: Encoded,
    procedure: &Procedure,
    budget: Budget,
) -> Result<Req> {
    decode(payload, budget).map_err(|failure| unreadable(procedure.path(), failure))
}

#[cold]
fn unreadable(procedure: &str, failure: DecodeFailure) -> Status {
    match failure {
        DecodeFailure::TooLarge(budget) => {
            let text = budget.excess(&format!("a request of {procedure}"));
            Status::new(Code::ResourceExhausted, text)
        }
        failure => malformed(procedure, &failure),
    }
}

/// Why a reply of `procedure`, or a message of its replies, is not sent.
#[cold]
pub(crate) fn unencodable(what: &str, procedure: &Procedure, text: &str) -> Status {
    let text = format!("the {what} of {} cannot be sent: {text}", procedure.path());
    Status::new(Code::Internal, text)
}

fn malformed(procedure: &str, error: &dyn fmt::Display) -> Status {
    let text = format!("the request of {procedure} is malformed: {error}");
    Status::new(Code::Internal, text)
}
