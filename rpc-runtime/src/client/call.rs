//! Call: the options of one call, and the call itself.

mod control;
mod in_flight;
mod options;
mod receipt;
mod reply;
mod retry;
mod sender;
mod stream_call;
mod streaming;
mod unary;

use std::{future::poll_fn, sync::Arc, time::Duration};

use bytes::Bytes;
use prost::Message;
use tokio::time::Instant;

use self::{
    in_flight::{CallClass, InFlightCall},
    options::{CallOptions, ExtraOptions, earlier, refusal},
    stream_call::{CallInfo, StreamCall},
    streaming::Reopen,
};
pub use self::{receipt::Receipt, reply::Reply, sender::Sender, streaming::Streaming, unary::UnaryCall};
use super::{Channel, Client, channel::connection::ClientConnection, deadline::Deadline, errors};
use crate::{
    DrainReport, Error, Priority, Procedure,
    client::inherited::{HandlerId, InstanceId, inherited_deadline, inherited_depth},
    conn::Shape,
    message::{
        control::{PING, SETTLE, SettleReply, TERMINATE, TerminateReply},
        decode::decode,
        growth::Budget,
    },
    wire::frame::control::Progress,
};

/// CallOptions of one call, which then begins: with [`Call::send`] or [`Call::send_recv`].
///
/// Generated stubs hold one; programs rarely name it.
#[derive(Clone, Debug)]
#[must_use = "options do nothing until the call begins"]
pub struct Call<'a> {
    client: &'a Client,
    timeout: CallTimeout,
    /// How many calls it is inside of.
    depth: u8,
    /// The handler in which it was made.
    made_in: HandlerId,
    priority: Option<Priority>,
    /// None if it is as the client says.
    fails_fast: Option<bool>,
    /// None if there is nothing of it.
    more: Option<Box<ExtraOptions>>,
}

/// How long a call may take by itself, apart from what it inherits.
#[derive(Clone, Copy, Debug)]
enum CallTimeout {
    /// What is usual for this kind of call.
    Usual,
    Own(Option<Duration>),
}

/// CallOptions.
impl<'a> Call<'a> {
    pub(super) fn new(client: &'a Client) -> Self {
        Self {
            client,
            timeout: CallTimeout::Usual,
            depth: inherited_depth(),
            made_in: HandlerId::here(),
            priority: None,
            fails_fast: None,
            more: None,
        }
    }

    /// Bounds the call: queue, connect, write and wait together; `None` for no bound of its own.
    ///
    /// Without it, the client's own timeout counts: 30 s, if nothing else was said. A call that is made inside a
    /// handler never takes longer than what is left of the handler's own call, whatever is said here, unless it is
    /// [`Call::detached`].
    ///
    /// The runtime that polls the call keeps the time. Outside of tokio, and in a runtime without timers, the task of the
    /// connection does, in its own runtime.
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = CallTimeout::Own(timeout.into());
        self
    }

    /// Adds an entry that travels beside the request.
    ///
    /// `value` is text or bytes: a `&'static str`, a `String`, a `Vec<u8>`, [`Bytes`]. A call with an entry that
    /// [`Metadata`](crate::Metadata) does not allow, or with too many, fails with INVALID_ARGUMENT and is not executed.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.more_mut().metadata.append(key, value);
        self
    }

    /// Inherits from the call of a handler, wherever this one is made: its deadline, its server, and how deep it is nested.
    pub(crate) fn within_call(mut self, deadline: Option<Instant>, server: InstanceId, depth: u8) -> Self {
        let more = self.more_mut();
        more.within = earlier(more.within, deadline);
        more.origin = Some(server);
        self.depth = self.depth.max(depth.saturating_add(1));
        self
    }

    /// Inherits nothing from the handler that makes the call: neither its deadline, nor how deep it is nested, nor, for a
    /// terminate, whose handler sends it. What an earlier [`Call::within`] said is forgotten, too.
    ///
    /// A call inherits from a handler only if that handler's own future both makes it and polls it first. So a call that was
    /// made elsewhere, and then shared, takes nobody's deadline. But an async block makes its calls when it is first polled,
    /// and so in whichever handler polls it first: what several callers share, as the load of a cache that lets only one of
    /// them ask, says `detached()`, or one impatient caller would end it for all.
    ///
    /// ```ignore
    /// // A cache: `loads` maps a key to a `futures::future::Shared`, of which every handler that asks polls a clone.
    /// let load = loads.entry(key.clone()).or_insert_with(|| {
    ///     let kv = self.kv.clone();
    ///     async move { kv.send_recv().detached().timeout(Duration::from_secs(5)).fetch(key).await }.boxed().shared()
    /// });
    /// ```
    ///
    /// The client's own timeout still counts, or the one that [`Call::timeout`] sets. A handler that waits for a detached
    /// call is dropped at its own deadline all the same, and the call with it, unless somebody else polls it.
    pub fn detached(mut self) -> Self {
        if let Some(more) = &mut self.more {
            more.within = None;
            more.origin = None;
        }
        self.depth = 0;
        self.made_in = HandlerId::DETACHED;
        self
    }
}

impl Call<'_> {
    /// Sends the call before or after others that wait; without it, the procedure's own priority counts.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Fails the call UNAVAILABLE, with the cause, if its server is away, rather than wait until that is back.
    ///
    /// As gRPC's calls do that do not wait for ready: the call waits while an attempt to connect is on its way, which
    /// [`ClientBuilder::connect_timeout`](crate::ClientBuilder::connect_timeout) bounds, and for the pause behind a
    /// connection that was lost. It fails as soon as all addresses have failed, and at once in the pauses between such
    /// attempts. [`Error::executed`] is `No`.
    ///
    /// [`ClientBuilder::fail_fast`](crate::ClientBuilder::fail_fast) says it for all calls of a client.
    pub fn fail_fast(mut self) -> Self {
        self.fails_fast = Some(true);
        self
    }

    /// Waits for a server that is away until the call's deadline: for a client that
    /// [fails fast](crate::ClientBuilder::fail_fast), for others do so anyway.
    pub fn wait_for_ready(mut self) -> Self {
        self.fails_fast = Some(false);
        self
    }

    /// Bounds how long no message of the call's streams may move, in either direction, beside the call's own timeout.
    ///
    /// Time in which messages lie here that nobody reads does not count. A call without streams takes no notice.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.more_mut().idle = Some(timeout);
        self
    }

    fn more_mut(&mut self) -> &mut ExtraOptions {
        self.more.get_or_insert_default()
    }
}

/// Calls.
impl<'a> Call<'a> {
    /// Sends `request`, one-way: nothing comes back.
    ///
    /// Resolves when the whole request is in the connection's queue, which is bounded: when the peer does not keep
    /// up, it waits. [`Client::flush`] and [`Client::barrier`] tell what became of it. A program that ends drops what is
    /// still queued: flush, or [`Client::close`], before that.
    ///
    /// # Errors
    ///
    /// [`Error::executed`] is `No`: a request that fails here was not sent, and never will be. INVALID_ARGUMENT for one with
    /// messages inside of each other more than 100 deep, which nobody reads.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped before it resolves has sent nothing, unless it is dropped in the very moment of
    /// resolving; it affects no other call.
    pub async fn send<Req: Message + 'static>(
        self,
        procedure: &'static Procedure,
        request: Req,
    ) -> Result<(), Error> {
        let deadline = self.usual_deadline();
        self.check(procedure, &deadline)?;
        self.exchange(procedure, CallClass::User, deadline)
            .send(&request)
            .await
    }

    /// Sends `request` and waits for the reply.
    ///
    /// A call that surely did not run is made once more by itself when its connection was lost or its server is
    /// going, within the same deadline: as long as such calls are few beside those that have their reply.
    ///
    /// # Errors
    ///
    /// [`Error::status`] is `Some` if the peer refused. [`Error::executed`] tells whether the handler ran, whatever
    /// happened; [`Error::phase`] tells how far the call had come.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up this call only: the server is told, and a late reply is discarded.
    #[inline(always)]
    pub fn send_recv<Req: Message + 'static, Rep: Message + Default>(
        self,
        procedure: &'static Procedure,
        request: Req,
    ) -> UnaryCall<'a, Req, Rep> {
        self.send_recv_map(procedure, request, |reply| reply)
    }

    /// As [`Call::send_recv`], and `map` makes of the reply what the caller gets: for stubs that return a field of it.
    ///
    /// # Errors
    ///
    /// As [`Call::send_recv`].
    ///
    /// # Cancel safety
    ///
    /// As [`Call::send_recv`].
    #[inline(always)]
    pub fn send_recv_map<Req: Message + 'static, Rep: Message + Default, T>(
        self,
        procedure: &'static Procedure,
        request: Req,
        map: fn(Rep) -> T,
    ) -> UnaryCall<'a, Req, Rep, T> {
        let timeout = self.own_timeout(self.client.timeout());
        let channel = self.client.next_channel();
        let deadline = Deadline::unbegun(timeout, self.made_in);
        let exchange = self.exchange_on(channel, procedure, CallClass::User, deadline);
        UnaryCall::new(exchange, request, map)
    }

    /// Tells the server to terminate, one-way: it drains, and nothing comes back.
    ///
    /// As with [`Call::terminate`], a server that has taken the place of the one that this client is connected to is
    /// not terminated.
    ///
    /// # Errors
    ///
    /// As [`Call::send`].
    ///
    /// # Cancel safety
    ///
    /// As [`Call::send`].
    pub async fn send_terminate(self) -> Result<(), Error> {
        let deadline = self.usual_deadline();
        self.check(&TERMINATE, &deadline)?;
        let mut exchange = self.exchange(&TERMINATE, CallClass::Control, deadline);
        let request = control::terminate_request(&exchange, Bytes::new());
        exchange.send(&request).await
    }

    /// Tells the server to terminate, and waits until it is drained.
    ///
    /// There is no usual timeout: the server says how long its drain may take, and 5 s more are waited. Until it
    /// has said so, 30 s are.
    ///
    /// It is the server that this client is connected to which is meant, if it is connected: one that was restarted
    /// in between is not terminated.
    ///
    /// # Errors
    ///
    /// PERMISSION_DENIED if this client may not, UNIMPLEMENTED if the server does not let itself be terminated,
    /// FAILED_PRECONDITION if another has taken its place.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops waiting; a drain that has begun goes on.
    pub async fn terminate(self) -> Result<DrainReport, Error> {
        let procedure = &TERMINATE;
        let origin = self.more.as_ref().and_then(|more| more.origin);
        let origin = control::origin_of_terminate(origin, self.made_in);
        let deadline = self.deadline(None);
        self.check(procedure, &deadline)?;
        let exchange = self.exchange(procedure, CallClass::Control, deadline);
        let reply = control::terminate(exchange, origin).await?;
        let reply: TerminateReply = decode(reply.payload, Budget::new(None, 0))
            .map_err(|failure| errors::unreadable_reply(failure).with_procedure(procedure.path()))?;
        Ok(reply.into())
    }

    /// Calls the built-in ping.
    pub(super) async fn ping(self, deadline: Deadline) -> Result<(), Error> {
        self.check(&PING, &deadline)?;
        self.exchange(&PING, CallClass::Control, deadline)
            .call(&())
            .await
            .map(|_| ())
    }

    /// Calls the built-in settle: waits until the sends before it have ended, and takes down that they have. Beside the outcome,
    /// the connection by which it went last, if it went.
    pub(super) async fn settle(
        self,
        deadline: Deadline,
    ) -> (Option<Arc<ClientConnection>>, Result<Progress, Error>) {
        let procedure = &SETTLE;
        if let Err(error) = self.check(procedure, &deadline) {
            return (None, Err(error));
        }
        let mut exchange = self.exchange(procedure, CallClass::Control, deadline);
        let mut on = None;
        let outcome = poll_fn(|cx| {
            let poll = exchange.poll_call(&(), cx);
            if let Some((open, id)) = exchange.on() {
                on = Some((Arc::clone(open), id));
            }
            poll
        })
        .await;
        let reply: Result<SettleReply, Error> =
            outcome.and_then(|reply| match reply.payload.len() <= MAX_ACCOUNT {
                true => decode(reply.payload, Budget::new(None, 0)).map_err(errors::unreadable_reply),
                false => Err(errors::account_too_long()),
            });
        let progress = reply.map(Progress::from);
        if let (Some((on, id)), Ok(progress)) = (&on, &progress) {
            on.link.with(|conn, _| conn.sends_settled(*id, progress));
        }
        let progress = progress.map_err(|error| error.with_procedure(procedure.path()));
        (on.map(|(on, _)| on), progress)
    }

    /// When the call is over, if it takes `usual` unless it says otherwise.
    #[inline]
    pub(super) fn deadline(&self, usual: Option<Duration>) -> Deadline {
        let within = self.more.as_ref().and_then(|more| more.within);
        let inherited = earlier(within, inherited_deadline(self.made_in));
        Deadline::new(self.own_timeout(usual), inherited, Instant::now())
    }

    /// How long it may take by itself, if it is `usual` unless it says otherwise.
    #[inline]
    fn own_timeout(&self, usual: Option<Duration>) -> Option<Duration> {
        match self.timeout {
            CallTimeout::Usual => usual,
            CallTimeout::Own(timeout) => timeout,
        }
    }

    #[inline]
    fn usual_deadline(&self) -> Deadline {
        self.deadline(self.client.timeout())
    }

    /// Refuses a call that cannot be made.
    fn check(&self, procedure: &'static Procedure, deadline: &Deadline) -> Result<(), Error> {
        match refusal(deadline, self.depth, self.more.as_deref()) {
            None => Ok(()),
            Some(refused) => Err(self.locate(refused, procedure)),
        }
    }

    /// The call on its way, from now on; to be checked first.
    fn exchange(
        self,
        procedure: &'static Procedure,
        class: CallClass,
        deadline: Deadline,
    ) -> InFlightCall<'a> {
        let channel = self.client.channel();
        self.exchange_on(channel, procedure, class, deadline)
    }

    /// As [`Call::exchange`], by one of several connections.
    #[inline]
    fn exchange_on<'c>(
        self,
        channel: &'c Arc<Channel>,
        procedure: &'static Procedure,
        class: CallClass,
        deadline: Deadline,
    ) -> InFlightCall<'c> {
        let options = self.options(procedure);
        let mut exchange = InFlightCall::new(channel, procedure, self.more, deadline, class, options);
        exchange.begins_now();
        exchange
    }

    fn locate(&self, error: Error, procedure: &Procedure) -> Error {
        error
            .with_procedure(procedure.path())
            .with_peer(self.client.peer_or_address())
    }
}

/// Calls with streams.
impl Call<'_> {
    /// Sends `request`, which is answered by a stream.
    ///
    /// It resolves when the request is in the connection's queue; what the handler says, its failure too, comes by the
    /// stream. The deadline bounds the whole stream. As long as no message was read, a call that surely did not run is made
    /// once more, as by [`Call::send_recv`].
    ///
    /// # Errors
    ///
    /// [`Error::executed`] is `No`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up this call only.
    pub async fn reply_stream<Req, Rep>(
        self,
        procedure: &'static Procedure,
        request: Req,
    ) -> Result<Streaming<Rep>, Error>
    where
        Req: Message + 'static,
        Rep: Message + Default,
    {
        let about = self.about(procedure);
        let options = self.options(procedure);
        self.check(procedure, &about.deadline)?;
        let mut exchange = self.exchange_on(&about.channel, procedure, CallClass::User, about.deadline);
        let (on, id) = exchange.open(&request).await?;
        let more = exchange.take_more();
        drop(exchange);
        let again = again(about.clone(), options, more, request);
        Ok(Streaming::new(
            Arc::new(StreamCall::new(on, id, about)),
            Some(again),
        ))
    }

    /// Opens a call whose requests are a stream, and which has one reply; `map` makes of that what the caller gets.
    ///
    /// # Errors
    ///
    /// [`Error::executed`] is `No`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up this call only.
    pub async fn request_stream<Req, Rep, T>(
        self,
        procedure: &'static Procedure,
        map: fn(Rep) -> Result<T, Error>,
    ) -> Result<(Sender<Req>, Reply<T>), Error>
    where
        Req: Message,
        Rep: Message + Default + 'static,
        T: 'static,
    {
        let call = self.open(procedure).await?;
        let budget = call.about.budget();
        let reply = Reply::new(
            Arc::clone(&call),
            Box::new(move |payload| {
                decode(payload, budget)
                    .map_err(errors::unreadable_reply)
                    .and_then(map)
            }),
        );
        Ok((Sender::new(call), reply))
    }

    /// Opens a call whose requests and replies are streams: neither waits for the end of the other.
    ///
    /// # Errors
    ///
    /// [`Error::executed`] is `No`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up this call only.
    pub async fn both_streams<Req, Rep>(
        self,
        procedure: &'static Procedure,
    ) -> Result<(Sender<Req>, Streaming<Rep>), Error>
    where
        Req: Message,
        Rep: Message + Default,
    {
        let call = self.open(procedure).await?;
        Ok((Sender::new(Arc::clone(&call)), Streaming::new(call, None)))
    }

    async fn open(self, procedure: &'static Procedure) -> Result<Arc<StreamCall>, Error> {
        let about = self.about(procedure);
        self.check(procedure, &about.deadline)?;
        let opened = self
            .exchange_on(&about.channel, procedure, CallClass::User, about.deadline)
            .open(&())
            .await;
        let (on, id) = opened?;
        Ok(Arc::new(StreamCall::new(on, id, about)))
    }

    fn about(&self, procedure: &'static Procedure) -> CallInfo {
        CallInfo {
            channel: Arc::clone(self.client.next_channel()),
            procedure,
            deadline: self.usual_deadline(),
            resent: None,
        }
    }

    fn options(&self, procedure: &Procedure) -> CallOptions {
        CallOptions {
            shape: match (procedure.has_request_stream(), procedure.has_reply_stream()) {
                (false, false) => Shape::Unary,
                (false, true) => Shape::ReplyStream,
                (true, false) => Shape::RequestStream,
                (true, true) => Shape::Both,
            },
            priority: self.priority.unwrap_or_else(|| procedure.priority()),
            depth: self.depth,
            fails_fast: self.fails_fast.unwrap_or_else(|| self.client.fails_fast()),
        }
    }
}

/// Keeps what it takes to make a call with a stream of replies once more.
fn again<Req: Message + 'static>(
    about: CallInfo,
    options: CallOptions,
    more: Option<Box<ExtraOptions>>,
    request: Req,
) -> Reopen {
    Box::new(move |cause| {
        Box::pin(async move {
            let CallInfo {
                channel,
                procedure,
                deadline,
                ..
            } = &about;
            let mut exchange =
                InFlightCall::new(channel, procedure, more, *deadline, CallClass::User, options);
            let opened = exchange.open(&request).await;
            let (on, id) = opened.map_err(|error| error.with_resent_after(&cause))?;
            drop(exchange);
            let about = CallInfo {
                resent: Some(cause),
                ..about
            };
            Ok(StreamCall::new(on, id, about))
        })
    })
}

/// How long the reply of a settle may be: five numbers, and one for each reason that there is.
const MAX_ACCOUNT: u64 = 4 * 1024;
