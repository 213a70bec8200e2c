//! InFlightCall: one call, from finding a connection to its reply.

use std::{
    future::{Future, poll_fn},
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use prost::Message;
use tokio::time::Instant;
use tracing::debug;

use super::{
    options::{CallOptions, ExtraOptions, earlier, refusal},
    retry::{Retries, Retry, never_began},
    span::begin_span,
};
use crate::{
    Code, Compression, Error, Executed, Phase, Procedure,
    base::rare_part::RarePart,
    client::{
        channel::{Channel, HadConnection, WaitFor, connection::ClientConnection},
        deadline::Deadline,
        errors,
        inherited::inherited_deadline,
        timer::{self, LocalTimer},
    },
    conn::{CallFailure, CallId, Cause, Connection, ReceivedReply, Request, Ticket, Time, micros},
    driver::{Clock, Wakes},
    message::{growth::Budget, nesting},
    metrics::CallCounts,
    trace::ClientSpan,
    wire::{
        compression::{self, Outgoing},
        frame::Encoded,
    },
};

/// One call that waits for a connection, for its turn or for its reply. Dropping it gives back its place in the queue,
/// or cancels the call.
pub(super) struct InFlightCall<'a> {
    channel: &'a Arc<Channel>,
    procedure: &'static Procedure,
    more: Option<Box<ExtraOptions>>,
    deadline: Deadline,
    /// True until the call is first enqueued, unless it waited for a connection; lets it reuse its start time.
    is_new: bool,
    class: CallClass,
    options: CallOptions,
    stage: CallStage<'a>,
    /// None for most calls. Boxed, because calls are moved often, and up to 128 bytes are moved without a call of memcpy.
    rare: RarePart<Box<RareParts>>,
    /// Where the call is counted from its beginning to its end; none before and after, and if it is not counted.
    counts: Option<&'static CallCounts>,
    /// When it began, in the time of the connection that has its request, or how long it took once [`InFlightCall::is_timed`]: in
    /// microseconds. Zero if only the clock can tell.
    time_us: u64,
    is_timed: bool,
}

/// What few calls have.
#[derive(Default)]
struct RareParts {
    /// A shorter deadline for finding a connection.
    connect_by: Option<Deadline>,
    /// Why the try before failed, once the call is retried.
    resent: Option<Box<str>>,
    retries: Retries,
    compressed: CompressedRequest,
    binding: Binding,
}

/// Whether a call may go by one connection only, because its request is made for that one.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Binding {
    /// Any connection will do.
    #[default]
    Free,
    /// Only the connection that the call is queued on.
    Bound,
    /// That connection takes no calls any more.
    Broken,
}

/// Which limits a call counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallClass {
    /// A call of the user: the limits that the peer announced.
    User,
    /// A call of the built-in service: none.
    Control,
}

/// How far a call has come.
#[derive(Default)]
enum CallStage<'a> {
    /// Not begun, or over.
    #[default]
    Nowhere,
    /// Boxed, because only a call that finds no connection needs it.
    Connecting(Pin<Box<dyn Future<Output = Result<Arc<ClientConnection>, Error>> + Send + 'a>>),
    Queued(Arc<ClientConnection>, Ticket),
    /// The connection has the request, and the call waits for the reply.
    Open(Arc<ClientConnection>, CallId),
    /// The server has refused the call, and it comes back later.
    Waiting(Box<LocalTimer>),
}

/// The compressed request. It is made once, though the request may be offered often, and retried.
#[derive(Default)]
enum CompressedRequest {
    #[default]
    NotTried,
    /// Compression would not make it shorter.
    Plain,
    Compressed(Box<Encoded>),
}

impl CompressedRequest {
    /// `message` as it is sent to a peer that accepts `compression`.
    fn apply<'a, M: Message>(&mut self, message: &'a M, compression: Compression) -> Outgoing<'a, M> {
        if matches!(self, Self::NotTried) {
            *self = compression::compress(message, compression)
                .map_or(Self::Plain, |compressed| Self::Compressed(Box::new(compressed)));
        }
        match self {
            Self::Compressed(compressed) => Outgoing::compressed(Encoded::clone(compressed)),
            _ => Outgoing::plain(message),
        }
    }
}

/// The result of offering a request to the connection.
enum BeginStep<T> {
    Wait,
    /// The connection has the request.
    Begun(T),
    Failed(CallFailure),
    /// The connection takes no more calls, and did not take this one.
    Elsewhere,
}

impl<'a> InFlightCall<'a> {
    #[inline]
    pub(super) fn new(
        channel: &'a Arc<Channel>,
        procedure: &'static Procedure,
        more: Option<Box<ExtraOptions>>,
        deadline: Deadline,
        class: CallClass,
        options: CallOptions,
    ) -> Self {
        Self {
            channel,
            procedure,
            more,
            deadline,
            is_new: false,
            class,
            options,
            stage: CallStage::Nowhere,
            rare: RarePart::NONE,
            counts: None,
            time_us: 0,
            is_timed: false,
        }
    }

    /// Begins the call and its deadline, or returns why it cannot be made. From now on it is counted, until
    /// [`InFlightCall::count_end`].
    #[inline(always)]
    pub(super) fn begin(&mut self) -> Result<(), Error> {
        let more = self.more.as_deref();
        let within = more.and_then(|more| more.within);
        let inherited = inherited_deadline(self.deadline.made_in());
        self.deadline.begin(earlier(within, inherited), Instant::now());
        self.counts = self.channel.counts(self.procedure);
        if let Some(counts) = self.counts {
            counts.begin();
        }
        self.check()
    }

    /// Counts the end of the call, once.
    #[inline]
    pub(super) fn count_end(&mut self, code: Code) {
        if let Some(counts) = self.counts.take() {
            let took_us = if self.is_timed {
                self.time_us
            } else {
                self.elapsed_us()
            };
            counts.end(code, took_us);
        }
    }

    /// The time since the call began, by the clock.
    #[cold]
    fn elapsed_us(&self) -> u64 {
        self.deadline.begun().map_or(0, |begun| micros(begun.elapsed()))
    }

    /// Returns why the call cannot be made.
    #[inline]
    pub(super) fn check(&self) -> Result<(), Error> {
        let more = self.more.as_deref();
        match refusal(&self.deadline, self.options.depth, more) {
            None => Ok(()),
            Some(refused) => Err(self.locate(refused)),
        }
    }

    /// Notes that the call begins now, which saves reading the clock.
    pub(super) fn begins_now(&mut self) {
        self.is_new = true;
    }

    /// The called procedure.
    pub(super) fn procedure(&self) -> &'static Procedure {
        self.procedure
    }

    /// Takes the channel, the options and the deadline: middleware makes a call with them instead.
    pub(super) fn parts(&mut self) -> (Arc<Channel>, Option<Box<ExtraOptions>>, Deadline, CallOptions) {
        let more = self.more.take();
        (Arc::clone(self.channel), more, self.deadline, self.options)
    }

    /// Begins the span of the call, if somebody wants it.
    #[cold]
    pub(super) fn begin_span(&mut self) -> Option<Box<ClientSpan>> {
        begin_span(self.channel, self.procedure, &mut self.more)
    }

    /// Takes out the rare options.
    pub(super) fn take_more(&mut self) -> Option<Box<ExtraOptions>> {
        self.more.take()
    }

    /// Sets a shorter timeout for finding a connection than for the call.
    pub(super) fn connect_within(&mut self, timeout: Duration) {
        let fixed = Deadline::fixed(timeout, Instant::now());
        let is_first = self
            .deadline
            .at()
            .is_none_or(|at| fixed.at().is_some_and(|fixed| fixed < at));
        self.rare_mut().connect_by = Some(if is_first { fixed } else { self.deadline });
    }

    /// Waits for the HELLO of a server, and binds the call to that connection. So its request can answer the HELLO.
    ///
    /// If the connection takes no calls any more when the request is to go out, the call fails, and [`InFlightCall::is_unbound`].
    pub(super) async fn wait_for_hello(&mut self) -> Result<Arc<ClientConnection>, Error> {
        let deadline = *self.connect_by();
        let on = match self.channel.current().filter(|on| on.takes_calls()) {
            Some(on) => on,
            None => {
                let want = WaitFor::of_calls(self.options.fails_fast);
                let connected = self.channel.connected(want, HadConnection::No, deadline).await;
                connected.map_err(|error| self.about(error))?
            }
        };
        if on.instance().is_none() {
            let hello = poll_fn(|cx| on.shared.with(|conn, _| conn.poll_ready(cx)));
            let hello = match deadline.at() {
                Some(at) => timer::until(at, hello).await,
                None => Some(hello.await),
            };
            let cause = match hello {
                Some(Ok(())) => None,
                Some(Err(cause)) => Some(cause),
                None => Some(Cause::Deadline),
            };
            if let Some(cause) = cause {
                let failure = CallFailure {
                    cause,
                    phase: Phase::Wait,
                    executed: Executed::No,
                    times: None,
                };
                return Err(self.error(failure, &on).with_phase(Phase::Connect));
            }
        }
        self.is_new = false;
        self.stage = CallStage::Queued(Arc::clone(&on), Ticket::default());
        self.rare_mut().binding = Binding::Bound;
        Ok(on)
    }

    /// True if the connection that the call was bound to took no calls any more: the request has to be made anew for another one.
    pub(super) fn is_unbound(&self) -> bool {
        self.binding() == Binding::Broken
    }

    /// Sends a request, and waits until the connection has all of it.
    pub(super) fn send<M: Message + 'static>(
        &mut self,
        message: &M,
    ) -> impl Future<Output = Result<(), Error>> {
        poll_fn(move |cx| self.poll_send(message, cx))
    }

    /// As [`InFlightCall::send`], for a future that is written by hand.
    pub(super) fn poll_send<M: Message + 'static>(
        &mut self,
        message: &M,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        self.poll_begin(message, cx, |conn, ticket, request, message, now, cx| {
            conn.poll_send(ticket, request, message, now, cx)
        })
        .map_ok(|_| ())
    }

    /// Opens a call with streams: waits until the connection has its request. The caller handles the rest.
    pub(super) fn open<M: Message + 'static>(
        &mut self,
        message: &M,
    ) -> impl Future<Output = Result<(Arc<ClientConnection>, CallId), Error>> {
        poll_fn(move |cx| {
            self.poll_begin(message, cx, |conn, ticket, request, message, now, cx| {
                conn.poll_call(ticket, request, message, now, cx)
            })
        })
    }

    /// Sends a request, and waits for its reply.
    pub(super) fn call<M: Message + 'static>(
        &mut self,
        message: &M,
    ) -> impl Future<Output = Result<ReceivedReply, Error>> {
        poll_fn(move |cx| self.poll_call(message, cx))
    }

    /// Adds the procedure and the peer to an error that did not come from the connection.
    pub(super) fn locate(&self, error: Error) -> Error {
        self.about(error).with_peer(self.channel.peer_or_address())
    }

    /// How much memory its reply may take once it is decoded.
    #[inline]
    pub(super) fn budget(&self) -> Budget {
        self.channel.budget(self.procedure.reply_growth())
    }

    /// Polls as [`InFlightCall::call`] does. A call that surely did not run is retried: once if its connection is to blame, and
    /// a few times if the server says when (G1).
    pub(super) fn poll_call<M: Message + 'static>(
        &mut self,
        message: &M,
        cx: &mut Context<'_>,
    ) -> Poll<Result<ReceivedReply, Error>> {
        loop {
            let CallStage::Open(on, id) = &self.stage else {
                let (on, id) =
                    ready!(
                        self.poll_begin(message, cx, |conn, ticket, request, message, now, cx| {
                            conn.poll_call(ticket, request, message, now, cx)
                        })
                    )?;
                self.enter(CallStage::Open(on, id));
                // This task is woken when the outcome is there.
                return Poll::Pending;
            };
            let outcome = {
                // Taking a reply gives the driver nothing to do.
                let mut conn = on.shared.lock(Clock::Recent, Wakes::Waiters);
                let outcome = conn.poll_reply(*id, cx);
                if outcome.is_pending() {
                    conn.watch_deadlines(&on.shared);
                } else if self.time_us != 0 {
                    self.time_us = micros(conn.now()).saturating_sub(self.time_us);
                    self.is_timed = true;
                }
                outcome
            };
            let outcome = ready!(outcome);
            let CallStage::Open(on, id) = mem::take(&mut self.stage) else {
                unreachable!("it was open, and stays so until its outcome is taken")
            };
            match outcome {
                Ok(reply) => {
                    self.channel.retry_budget().replied();
                    return Poll::Ready(Ok(reply));
                }
                Err(failure) => {
                    let Some(retry) = self.retry(&failure, &on) else {
                        return Poll::Ready(Err(self.error(failure, &on)));
                    };
                    debug!(procedure = self.procedure.path(), call = id.0, peer = %on.peer, cause = %failure.cause, ?retry, "resending");
                    self.rare_mut().resent = Some(failure.cause.to_string().into());
                    (self.time_us, self.is_timed) = (0, false);
                    if let Retry::After(wait) = retry {
                        self.stage = CallStage::Waiting(Box::new(LocalTimer::new(Instant::now() + wait)));
                    }
                }
            }
        }
    }

    /// Decides whether a failed call is retried; takes the token for it.
    fn retry(&mut self, failure: &CallFailure, on: &ClientConnection) -> Option<Retry> {
        if self.class == CallClass::Control {
            return None;
        }
        let (channel, options, deadline) = (self.channel, self.options, self.deadline);
        let retries = &mut self.rare_mut().retries;
        retries.next(channel, failure, on, options, &deadline)
    }

    /// The instance of the server that the call would go to, as far as is known.
    pub(super) fn instance(&self) -> Option<Bytes> {
        self.channel.instance()
    }

    /// The connection on which the call is open, and its id there.
    pub(super) fn on(&self) -> Option<(&Arc<ClientConnection>, CallId)> {
        match &self.stage {
            CallStage::Open(on, id) => Some((on, *id)),
            _ => None,
        }
    }

    /// Finds a connection and, when it is the call's turn, gives it the request by `begin`.
    fn poll_begin<M: Message + 'static, T>(
        &mut self,
        message: &M,
        cx: &mut Context<'_>,
        begin: impl Fn(
            &mut Connection,
            &mut Ticket,
            &Request<'_>,
            &Outgoing<'_, M>,
            Time,
            &mut Context<'_>,
        ) -> Poll<Result<T, CallFailure>>,
    ) -> Poll<Result<(Arc<ClientConnection>, T), Error>> {
        loop {
            // The stage is not taken out meanwhile: a message that panics does not lose the place in the queue.
            let (on, ticket) = match &mut self.stage {
                CallStage::Nowhere | CallStage::Open(..) => {
                    if let Err(text) = nesting::check(self.procedure.request_nesting(), message) {
                        return Poll::Ready(Err(self.locate(errors::too_deep(&text))));
                    }
                    let next = match self.channel.current() {
                        Some(on) => CallStage::Queued(on, Ticket::default()),
                        None => self.connecting(),
                    };
                    self.enter(next);
                    continue;
                }
                CallStage::Connecting(connected) => {
                    let connected = ready!(connected.as_mut().poll(cx));
                    self.stage = CallStage::Nowhere;
                    let on = connected.map_err(|error| self.about(error))?;
                    self.stage = CallStage::Queued(on, Ticket::default());
                    continue;
                }
                CallStage::Waiting(timer) => {
                    ready!(timer.poll(cx));
                    self.stage = CallStage::Nowhere;
                    continue;
                }
                CallStage::Queued(on, ticket) => (on, ticket),
            };
            let is_new = mem::take(&mut self.is_new);
            let begun = if is_new { self.deadline.begun() } else { None };
            let begun = begun.map(|begun| on.shared.time(begun));
            if let Some(begun) = begun {
                self.time_us = micros(begun);
            }
            let more = self.more.as_deref();
            let request = Request {
                procedure: self.procedure.id(),
                called: Some(self.procedure),
                control: self.class == CallClass::Control,
                deadline: self.deadline.time(&on.shared, begun),
                // In the common case the connection does not look at it.
                metadata: more
                    .map(|more| &more.metadata)
                    .filter(|metadata| !metadata.is_empty()),
                trace: more.and_then(|more| more.trace.as_ref()),
                shape: self.options.shape,
                priority: self.options.priority,
                depth: self.options.depth,
                idle: more.and_then(|more| more.idle),
            };
            let chosen = self
                .channel
                .compression()
                .filter(|_| self.class == CallClass::User);
            let message = match on.compression(chosen) {
                None => Outgoing::plain(message),
                Some(compression) => {
                    let rare = self.rare.get_or_insert_default();
                    rare.compressed.apply(message, compression)
                }
            };
            let step = {
                let mut conn = on.shared.lock(begun.map_or(Clock::Now, Clock::At), Wakes::Driver);
                let now = conn.now();
                let step = match begin(&mut conn, ticket, &request, &message, now, cx) {
                    Poll::Pending => BeginStep::Wait,
                    Poll::Ready(Ok(begun)) => BeginStep::Begun(begun),
                    Poll::Ready(Err(failure)) if never_began(&failure) && !conn.takes_calls() => {
                        BeginStep::Elsewhere
                    }
                    Poll::Ready(Err(failure)) => BeginStep::Failed(failure),
                };
                if matches!(step, BeginStep::Wait | BeginStep::Begun(_)) {
                    conn.watch_deadlines(&on.shared);
                }
                step
            };
            let begun = match step {
                BeginStep::Wait => return Poll::Pending,
                BeginStep::Elsewhere if self.binding() != Binding::Free => {
                    self.rare_mut().binding = Binding::Broken;
                    self.stage = CallStage::Nowhere;
                    return Poll::Ready(Err(self.locate(errors::moved())));
                }
                BeginStep::Elsewhere => {
                    self.stage = self.connecting();
                    continue;
                }
                BeginStep::Begun(begun) => Ok(begun),
                BeginStep::Failed(failure) => Err(failure),
            };
            if let CallStage::Queued(on, _) = mem::take(&mut self.stage) {
                return Poll::Ready(match begun {
                    Ok(begun) => Ok((on, begun)),
                    Err(failure) => Err(self.error(failure, &on)),
                });
            }
        }
    }

    /// Gives back the call's place in the queue, or cancels it.
    #[cold]
    fn give_up(&mut self) {
        match &mut self.stage {
            CallStage::Nowhere | CallStage::Connecting(_) | CallStage::Waiting(_) => {}
            CallStage::Queued(on, ticket) => on.shared.with(|conn, _| conn.drop_ticket(ticket)),
            CallStage::Open(on, id) => on.shared.with(|conn, now| conn.drop_call(*id, now)),
        }
    }

    fn connecting(&mut self) -> CallStage<'a> {
        self.is_new = false;
        self.time_us = 0;
        let deadline = *self.connect_by();
        let want = match self.options.is_balanced {
            false => WaitFor::of_calls(self.options.fails_fast),
            true => WaitFor::Nothing,
        };
        let before = match (&self.stage, self.resent()) {
            (CallStage::Nowhere, None) => HadConnection::No,
            _ => HadConnection::Yes,
        };
        CallStage::Connecting(Box::pin(self.channel.connected(want, before, deadline)))
    }

    /// Goes on to `stage`. A stage that holds nothing is not dropped, which would cost a call.
    #[inline]
    fn enter(&mut self, stage: CallStage<'a>) {
        match mem::replace(&mut self.stage, stage) {
            nowhere @ CallStage::Nowhere => mem::forget(nowhere),
            before => drop(before),
        }
    }

    fn rare_mut(&mut self) -> &mut RareParts {
        self.rare.get_or_insert_default()
    }

    /// The deadline for finding a connection.
    fn connect_by(&self) -> &Deadline {
        let own = self.rare.get().and_then(|rare| rare.connect_by.as_ref());
        own.unwrap_or(&self.deadline)
    }

    fn binding(&self) -> Binding {
        self.rare.get().map_or(Binding::Free, |rare| rare.binding)
    }

    /// Why the try before failed, once the call is retried.
    fn resent(&self) -> Option<&str> {
        self.rare.get()?.resent.as_deref()
    }

    fn error(&self, failure: CallFailure, on: &ClientConnection) -> Error {
        let spent = errors::time_spent(&failure, &self.deadline, &on.shared);
        let is_mute = matches!(failure.cause, Cause::Deadline) && failure.phase == Phase::Wait;
        let error = if is_mute
            && on
                .shared
                .lock(Clock::Recent, Wakes::Waiters)
                .peer_hello()
                .is_none()
        {
            errors::without_hello(failure, &self.deadline)
        } else {
            errors::of_call(failure, &self.deadline)
        };
        self.about(error.with_time_spent(spent).with_peer(Arc::clone(&on.peer)))
    }

    /// Adds the procedure to an error, and why the call was retried.
    fn about(&self, error: Error) -> Error {
        let error = error.with_procedure(self.procedure.path());
        match self.resent() {
            Some(cause) => error.with_resent_after(cause),
            None => error,
        }
    }
}

/// Gives back what the call holds.
impl Drop for InFlightCall<'_> {
    #[inline]
    fn drop(&mut self) {
        // Its caller has given it up.
        self.count_end(Code::Cancelled);
        if !matches!(self.stage, CallStage::Nowhere) {
            self.give_up();
        }
    }
}
