//! Exchange: one call on its way, from the channel to its reply.

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
    call::{earlier, refusal},
    channel::{Before, Channel, Want},
    connected::Connected,
    deadline::Deadline,
    failure,
    receipt::Receipt,
};
use crate::{
    Code, Compression, Error, Executed, Metadata, Phase, Priority, Procedure,
    client::inherited::{InstanceId, inherited_deadline},
    conn::{CallId, Cause, Connection, Failure, Reply, Request, Shape, Ticket, Time},
    message::{growth::Budget, nesting},
    wire::{
        compression::{self, Outgoing},
        frame::Encoded,
    },
};

/// One call on its way. Dropping it at any point gives back what it holds: its place in the queue, or the call.
pub(super) struct Exchange<'a> {
    channel: &'a Arc<Channel>,
    procedure: &'static Procedure,
    more: Option<Box<More>>,
    deadline: Deadline,
    /// Whether it is not far from its beginning: until the first visit of the connection, unless it had to wait for one.
    is_new: bool,
    /// Another deadline for finding a connection.
    connect_by: Option<Box<Deadline>>,
    lane: Lane,
    options: Options,
    place: Place<'a>,
    /// Why the first try failed, once there is a second.
    resent: Option<Box<str>>,
    packing: Packing,
}

/// What else a call may say of itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Options {
    pub(super) shape: Shape,
    pub(super) priority: Priority,
    /// How many calls it is inside of.
    pub(super) depth: u8,
    /// Whether it fails rather than wait until a server that is away is back.
    pub(super) fails_fast: bool,
}

/// What most calls do not say of themselves: out of the way of those, which are moved about much.
#[derive(Clone, Debug, Default)]
pub(super) struct More {
    pub(super) metadata: Metadata,
    pub(super) within: Option<Instant>,
    /// The server whose handler makes the call, from a task that it spawned.
    pub(super) origin: Option<InstanceId>,
    /// How long no message of its streams may move.
    pub(super) idle: Option<Duration>,
    pub(super) receipt: Option<Receipt>,
}

/// What a call counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// The limits that the peer announced.
    User,
    /// Nothing: it is a call of the built-in service.
    Control,
}

/// How far a call is.
#[derive(Default)]
enum Place<'a> {
    /// Not begun, or over.
    #[default]
    Nowhere,
    /// Boxed, for only a call that finds no connection needs it.
    Connecting(Pin<Box<dyn Future<Output = Result<Arc<Connected>, Error>> + Send + 'a>>),
    Queued(Arc<Connected>, Ticket),
    /// The connection has the request, and is to bring the reply.
    Open(Arc<Connected>, CallId),
}

/// What compressing the request came to: done once, though it may be looked at often, and resent.
#[derive(Default)]
enum Packing {
    #[default]
    NotTried,
    /// It would not be shorter.
    Plain,
    Packed(Box<Encoded>),
}

impl Packing {
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
enum Step<T> {
    Wait,
    /// The connection has the request.
    Begun(T),
    Failed(Failure),
    /// The connection takes no calls any more, and never had this one.
    Elsewhere,
}

impl<'a> Exchange<'a> {
    #[inline]
    pub(super) fn new(
        channel: &'a Arc<Channel>,
        procedure: &'static Procedure,
        more: Option<Box<More>>,
        deadline: Deadline,
        lane: Lane,
        options: Options,
    ) -> Self {
        Self {
            channel,
            procedure,
            more,
            deadline,
            is_new: false,
            connect_by: None,
            lane,
            options,
            place: Place::Nowhere,
            resent: None,
            packing: Packing::default(),
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

    /// Takes out what few calls say of themselves.
    pub(super) fn take_more(&mut self) -> Option<Box<More>> {
        self.more.take()
    }

    fn receipt(&self) -> Option<&Receipt> {
        self.more.as_ref()?.receipt.as_ref()
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
    ) -> impl Future<Output = Result<(Arc<Connected>, CallId), Error>> {
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

    /// As [`Exchange::call`]. A call that surely did not run is resent, once, if its connection is to blame (G1).
    pub(super) fn poll_call<M: Message + 'static>(
        &mut self,
        message: &M,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Reply, Error>> {
        loop {
            let Place::Open(on, id) = &self.place else {
                let (on, id) =
                    ready!(
                        self.poll_begin(message, cx, |conn, ticket, request, message, now, cx| {
                            conn.poll_call(ticket, request, message, now, cx)
                        })
                    )?;
                self.place = Place::Open(on, id);
                // This task is woken when the outcome is there.
                return Poll::Pending;
            };
            let outcome = ready!(on.link.wait_look(|conn| conn.poll_reply(*id, cx)));
            let Place::Open(on, _) = mem::take(&mut self.place) else {
                unreachable!("it was open, and stays so until its outcome is taken")
            };
            match outcome {
                Ok(reply) => {
                    self.channel.standing().replied();
                    if let Some(receipt) = self.receipt() {
                        receipt.fill(&reply);
                    }
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
    fn may_resend(&self, failure: &Failure, on: &Connected) -> bool {
        self.lane == Lane::User && self.resent.is_none() && is_resendable(self.channel, failure, on)
    }

    /// Which run of a server the call would go to, as far as is known.
    pub(super) fn instance(&self) -> Option<Bytes> {
        self.channel.instance()
    }

    /// The connection on which the call is open, and its id there.
    pub(super) fn on(&self) -> Option<(&Arc<Connected>, CallId)> {
        match &self.place {
            Place::Open(on, id) => Some((on, *id)),
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
    ) -> Poll<Result<(Arc<Connected>, T), Error>> {
        loop {
            // The place stays where it is meanwhile: a message that panics takes nobody's turn away.
            let (on, ticket) = match &mut self.place {
                Place::Nowhere | Place::Open(..) => {
                    if let Err(text) = nesting::check(self.procedure.request_nesting(), message) {
                        return Poll::Ready(Err(self.locate(failure::too_deep(&text))));
                    }
                    self.place = match self.channel.current() {
                        Some(on) => Place::Queued(on, Ticket::default()),
                        None => self.connecting(),
                    };
                    continue;
                }
                Place::Connecting(connected) => {
                    let connected = ready!(connected.as_mut().poll(cx));
                    self.place = Place::Nowhere;
                    let on = connected.map_err(|error| self.about(error))?;
                    self.place = Place::Queued(on, Ticket::default());
                    continue;
                }
                Place::Queued(on, ticket) => (on, ticket),
            };
            let is_new = mem::take(&mut self.is_new);
            let begun = if is_new { self.deadline.begun() } else { None };
            let begun = begun.map(|begun| on.link.time(begun));
            let more = self.more.as_deref();
            let request = Request {
                procedure: self.procedure.id(),
                control: self.lane == Lane::Control,
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
            let chosen = self.channel.compression().filter(|_| self.lane == Lane::User);
            let message = self.packing.apply(message, on.compression(chosen));
            let visit = |conn: &mut Connection, now| match begin(conn, ticket, &request, &message, now, cx) {
                Poll::Pending => Step::Wait,
                Poll::Ready(Ok(begun)) => Step::Begun(begun),
                Poll::Ready(Err(failure)) if never_began(&failure) && !conn.takes_calls() => Step::Elsewhere,
                Poll::Ready(Err(failure)) => Step::Failed(failure),
            };
            let is_over = |step: &Step<T>| matches!(step, Step::Failed(_) | Step::Elsewhere);
            let begun = match on.link.request(begun, visit, is_over) {
                Step::Wait => return Poll::Pending,
                Step::Elsewhere => {
                    self.place = self.connecting();
                    continue;
                }
                Step::Begun(begun) => Ok(begun),
                Step::Failed(failure) => Err(failure),
            };
            if let Place::Queued(on, _) = mem::take(&mut self.place) {
                return Poll::Ready(match begun {
                    Ok(begun) => Ok((on, begun)),
                    Err(failure) => Err(self.error(failure, &on)),
                });
            }
        }
    }

    fn connecting(&mut self) -> Place<'a> {
        self.is_new = false;
        let deadline = self.connect_by.as_deref().unwrap_or(&self.deadline);
        let want = Want::of_calls(self.options.fails_fast);
        let before = match (&self.place, &self.resent) {
            (Place::Nowhere, None) => Before::Nothing,
            _ => Before::Connection,
        };
        Place::Connecting(Box::pin(self.channel.connected(want, before, *deadline)))
    }

    fn error(&self, failure: Failure, on: &Connected) -> Error {
        if let (Some(receipt), Cause::Replied(status)) = (self.receipt(), &failure.cause) {
            receipt.fill_refused(status);
        }
        let is_mute = matches!(failure.cause, Cause::Deadline) && failure.phase == Phase::Wait;
        let error = if is_mute && on.link.look(|conn| conn.peer_hello().is_none()) {
            failure::without_hello(failure, &self.deadline)
        } else {
            failure::of_call(failure, &self.deadline)
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

/// Whether a call that failed may be made once more, for its connection is to blame; takes the token for it.
///
/// A peer that went without taking anything at all costs no token: only calls that went out ahead of its HELLO meet
/// that, of which there are sixteen at most, and a restart must not fail those above ten.
pub(super) fn is_resendable(channel: &Channel, failure: &Failure, on: &Connected) -> bool {
    let is_to_blame = match &failure.cause {
        Cause::Lost { .. } | Cause::GoingAway { .. } | Cause::Closed => true,
        Cause::Replied(status) => status.code() == Code::Unavailable,
        // Another address may lead to a better peer.
        Cause::HelloRejected { .. } => channel.addresses() > 1,
        _ => false,
    };
    failure.executed == Executed::No
        && is_to_blame
        && channel.finds_another()
        && (on.took_nothing() || channel.standing().take())
}

/// Whether a call failed before any of it was sent, for a reason that lies with its connection.
fn never_began(failure: &Failure) -> bool {
    let of_connection = matches!(
        failure.cause,
        Cause::GoingAway { .. }
            | Cause::HelloRejected { .. }
            | Cause::Protocol { .. }
            | Cause::Lost { .. }
            | Cause::Closed
    );
    of_connection && failure.phase == Phase::Queue && failure.executed == Executed::No
}

/// Cancel safety: whatever the call holds is given back.
impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        match &mut self.place {
            Place::Nowhere | Place::Connecting(_) => {}
            Place::Queued(on, ticket) => on.link.with(|conn, _| conn.drop_ticket(ticket)),
            Place::Open(on, id) => on.link.with(|conn, now| conn.drop_call(*id, now)),
        }
    }
}
