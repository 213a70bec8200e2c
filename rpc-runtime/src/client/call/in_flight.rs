//! InFlightCall: one call on its way, from the channel to its reply.

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
    retry::{is_resendable, never_began},
};
use crate::{
    Compression, Error, Phase, Procedure,
    client::{
        channel::{Channel, HadConnection, WaitFor, connection::ClientConnection},
        deadline::Deadline,
        errors,
        inherited::inherited_deadline,
    },
    conn::{CallId, Cause, Connection, Failure, Reply, Request, Ticket, Time},
    driver::{Clock, Wakes},
    message::{growth::Budget, nesting},
    wire::{
        compression::{self, Outgoing},
        frame::Encoded,
    },
};

/// One call on its way. Dropping it at any point gives back what it holds: its stage in the queue, or the call.
pub(super) struct InFlightCall<'a> {
    channel: &'a Arc<Channel>,
    procedure: &'static Procedure,
    more: Option<Box<ExtraOptions>>,
    deadline: Deadline,
    /// Whether it is not far from its beginning: until the first visit of the connection, unless it had to wait for one.
    is_new: bool,
    /// Another deadline for finding a connection.
    connect_by: Option<Box<Deadline>>,
    class: CallClass,
    options: CallOptions,
    stage: CallStage<'a>,
    /// Why the first try failed, once there is a second.
    resent: Option<Box<str>>,
    packed: PackedRequest,
}

/// What a call counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallClass {
    /// The limits that the peer announced.
    User,
    /// Nothing: it is a call of the built-in service.
    Control,
}

/// How far a call is.
#[derive(Default)]
enum CallStage<'a> {
    /// Not begun, or over.
    #[default]
    Nowhere,
    /// Boxed, for only a call that finds no connection needs it.
    Connecting(Pin<Box<dyn Future<Output = Result<Arc<ClientConnection>, Error>> + Send + 'a>>),
    Queued(Arc<ClientConnection>, Ticket),
    /// The connection has the request, and is to bring the reply.
    Open(Arc<ClientConnection>, CallId),
}

/// What compressing the request came to: done once, though it may be looked at often, and resent.
#[derive(Default)]
enum PackedRequest {
    #[default]
    NotTried,
    /// It would not be shorter.
    Plain,
    Packed(Box<Encoded>),
}

impl PackedRequest {
    /// `message` as it travels on a connection whose peer takes `compression`.
    #[inline]
    fn apply<'a, M: Message>(&mut self, message: &'a M, compression: Option<Compression>) -> Outgoing<'a, M> {
        let Some(compression) = compression else {
            return Outgoing::Plain(message);
        };
        if matches!(self, Self::NotTried) {
            *self = compression::pack(message, compression)
                .map_or(Self::Plain, |packed| Self::Packed(Box::new(packed)));
        }
        match self {
            Self::Packed(packed) => Outgoing::Packed(Encoded::clone(packed)),
            _ => Outgoing::Plain(message),
        }
    }
}

/// What came of a look at the connection.
enum BeginStep<T> {
    Wait,
    /// The connection has the request.
    Begun(T),
    Failed(Failure),
    /// The connection takes no calls any more, and never had this one.
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
            connect_by: None,
            class,
            options,
            stage: CallStage::Nowhere,
            resent: None,
            packed: PackedRequest::default(),
        }
    }

    /// Begins a call whose deadline is not begun, unless it cannot be made.
    #[inline]
    pub(super) fn begin(&mut self) -> Result<(), Error> {
        let more = self.more.as_deref();
        let within = more.and_then(|more| more.within);
        let inherited = inherited_deadline(self.deadline.made_in());
        self.deadline.begin(earlier(within, inherited), Instant::now());
        match refusal(&self.deadline, self.options.depth, more) {
            None => Ok(()),
            Some(refused) => Err(self.locate(refused)),
        }
    }

    /// For a call that begins right now: spares it a look at the clock.
    pub(super) fn begins_now(&mut self) {
        self.is_new = true;
    }

    /// The procedure that is called.
    pub(super) fn procedure(&self) -> &'static Procedure {
        self.procedure
    }

    /// Takes out what few calls say of themselves.
    pub(super) fn take_more(&mut self) -> Option<Box<ExtraOptions>> {
        self.more.take()
    }

    /// Bounds the search for a connection by more than the call is.
    pub(super) fn connect_within(&mut self, timeout: Duration) {
        let deadline = Deadline::new(Some(timeout), self.deadline.at(), Instant::now());
        self.connect_by = Some(Box::new(deadline));
    }

    /// Sends a request, and waits until the connection has it whole.
    pub(super) fn send<M: Message + 'static>(
        &mut self,
        message: &M,
    ) -> impl Future<Output = Result<(), Error>> {
        poll_fn(move |cx| {
            self.poll_begin(message, cx, |conn, ticket, request, message, now, cx| {
                conn.poll_send(ticket, request, message, now, cx)
            })
            .map_ok(|_| ())
        })
    }

    /// Opens a call with streams: waits until the connection has its request. What comes then is the caller's business.
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
    ) -> impl Future<Output = Result<Reply, Error>> {
        poll_fn(move |cx| self.poll_call(message, cx))
    }

    /// Says which call an error is about that the connection knows nothing of.
    pub(super) fn locate(&self, error: Error) -> Error {
        self.about(error).with_peer(self.channel.peer_or_address())
    }

    /// How much memory its reply may take once it is decoded.
    #[inline]
    pub(super) fn budget(&self) -> Budget {
        self.channel.budget(self.procedure.reply_growth())
    }

    /// As [`InFlightCall::call`]. A call that surely did not run is resent, once, if its connection is to blame (G1).
    pub(super) fn poll_call<M: Message + 'static>(
        &mut self,
        message: &M,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Reply, Error>> {
        loop {
            let CallStage::Open(on, id) = &self.stage else {
                let (on, id) =
                    ready!(
                        self.poll_begin(message, cx, |conn, ticket, request, message, now, cx| {
                            conn.poll_call(ticket, request, message, now, cx)
                        })
                    )?;
                self.stage = CallStage::Open(on, id);
                // This task is woken when the outcome is there.
                return Poll::Pending;
            };
            let outcome = {
                // Taking a reply gives the driver nothing to do.
                let mut conn = on.link.lock(Clock::Recent, Wakes::Waiters);
                let outcome = conn.poll_reply(*id, cx);
                if outcome.is_pending() {
                    conn.watch_deadlines(&on.link);
                }
                outcome
            };
            let outcome = ready!(outcome);
            let CallStage::Open(on, _) = mem::take(&mut self.stage) else {
                unreachable!("it was open, and stays so until its outcome is taken")
            };
            match outcome {
                Ok(reply) => {
                    self.channel.retry_budget().replied();
                    return Poll::Ready(Ok(reply));
                }
                Err(failure) if self.may_resend(&failure, &on) => {
                    debug!(procedure = self.procedure.path(), peer = %on.peer, cause = %failure.cause, "resending");
                    self.resent = Some(failure.cause.to_string().into());
                }
                Err(failure) => return Poll::Ready(Err(self.error(failure, &on))),
            }
        }
    }

    /// Whether a call that failed is made once more; takes the token for it.
    fn may_resend(&self, failure: &Failure, on: &ClientConnection) -> bool {
        self.class == CallClass::User && self.resent.is_none() && is_resendable(self.channel, failure, on)
    }

    /// Which run of a server the call would go to, as far as is known.
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

    /// Finds a connection, and has `begin` give it the request as soon as the call's turn has come.
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
        ) -> Poll<Result<T, Failure>>,
    ) -> Poll<Result<(Arc<ClientConnection>, T), Error>> {
        loop {
            // The stage stays where it is meanwhile: a message that panics takes nobody's turn away.
            let (on, ticket) = match &mut self.stage {
                CallStage::Nowhere | CallStage::Open(..) => {
                    if let Err(text) = nesting::check(self.procedure.request_nesting(), message) {
                        return Poll::Ready(Err(self.locate(errors::too_deep(&text))));
                    }
                    self.stage = match self.channel.current() {
                        Some(on) => CallStage::Queued(on, Ticket::default()),
                        None => self.connecting(),
                    };
                    continue;
                }
                CallStage::Connecting(connected) => {
                    let connected = ready!(connected.as_mut().poll(cx));
                    self.stage = CallStage::Nowhere;
                    let on = connected.map_err(|error| self.about(error))?;
                    self.stage = CallStage::Queued(on, Ticket::default());
                    continue;
                }
                CallStage::Queued(on, ticket) => (on, ticket),
            };
            let is_new = mem::take(&mut self.is_new);
            let begun = if is_new { self.deadline.begun() } else { None };
            let begun = begun.map(|begun| on.link.time(begun));
            let more = self.more.as_deref();
            let request = Request {
                procedure: self.procedure.id(),
                control: self.class == CallClass::Control,
                deadline: self.deadline.time(&on.link, begun),
                // The common case costs the connection not even a look at it.
                metadata: more
                    .map(|more| &more.metadata)
                    .filter(|metadata| !metadata.is_empty()),
                shape: self.options.shape,
                priority: self.options.priority,
                depth: self.options.depth,
                idle: more.and_then(|more| more.idle),
            };
            let chosen = self
                .channel
                .compression()
                .filter(|_| self.class == CallClass::User);
            let message = self.packed.apply(message, on.compression(chosen));
            let mut conn = on.link.lock(begun.map_or(Clock::Now, Clock::At), Wakes::Driver);
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
                conn.watch_deadlines(&on.link);
            }
            drop(conn);
            let begun = match step {
                BeginStep::Wait => return Poll::Pending,
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

    fn connecting(&mut self) -> CallStage<'a> {
        self.is_new = false;
        let deadline = self.connect_by.as_deref().unwrap_or(&self.deadline);
        let want = WaitFor::of_calls(self.options.fails_fast);
        let before = match (&self.stage, &self.resent) {
            (CallStage::Nowhere, None) => HadConnection::No,
            _ => HadConnection::Yes,
        };
        CallStage::Connecting(Box::pin(self.channel.connected(want, before, *deadline)))
    }

    fn error(&self, failure: Failure, on: &ClientConnection) -> Error {
        let is_mute = matches!(failure.cause, Cause::Deadline) && failure.phase == Phase::Wait;
        let error = if is_mute && on.link.lock(Clock::Recent, Wakes::Waiters).peer_hello().is_none() {
            errors::without_hello(failure, &self.deadline)
        } else {
            errors::of_call(failure, &self.deadline)
        };
        self.about(error.with_peer(Arc::clone(&on.peer)))
    }

    /// Which call an error is about.
    fn about(&self, error: Error) -> Error {
        let error = error.with_procedure(self.procedure.path());
        match &self.resent {
            Some(cause) => error.with_resent_after(cause),
            None => error,
        }
    }
}

/// Cancel safety: whatever the call holds is given back.
impl Drop for InFlightCall<'_> {
    fn drop(&mut self) {
        match &mut self.stage {
            CallStage::Nowhere | CallStage::Connecting(_) => {}
            CallStage::Queued(on, ticket) => on.link.with(|conn, _| conn.drop_ticket(ticket)),
            CallStage::Open(on, id) => on.link.with(|conn, now| conn.drop_call(*id, now)),
        }
    }
}
