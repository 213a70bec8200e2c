//! Call: the options of one call, and the call itself.

mod balanced;
mod client_call;
mod control;
mod in_flight;
mod layered;
mod one_way;
mod options;
mod receipt;
mod reopen;
mod reply;
mod retry;
mod send_token;
mod sender;
mod span;
mod stream_call;
mod stream_meter;
mod stream_slot;
mod streaming;
mod terminate;
mod try_watch;
mod unary;

use std::{future::poll_fn, sync::Arc, time::Duration};

use bytes::Bytes;
use prost::Message;
use tokio::time::Instant;

pub(crate) use self::client_call::CallProgress;
pub(super) use self::{balanced::BalancedCalls, layered::MakeCall, send_token::SendToken};
use self::{
    client_call::CallKind,
    in_flight::{CallClass, InFlightCall},
    layered::LayeredStreams,
    options::{CallOptions, ExtraOptions, earlier, refusal},
    reopen::again,
    span::{begin_span, run_within},
    stream_call::{CallInfo, StreamCall},
    stream_meter::StreamMeter,
    stream_slot::{Opened, StreamSlot},
};
pub use self::{
    client_call::ClientCall, one_way::OneWayCall, receipt::Receipt, reply::Reply, sender::Sender,
    streaming::Streaming, unary::UnaryCall,
};
use super::{
    Channel, Client,
    channel::connection::ClientConnection,
    deadline::{Deadline, FAR},
    errors,
};
use crate::{
    Error, Metadata, Priority, Procedure,
    api::trace_context::TraceContext,
    client::inherited::{HandlerId, Inherited, InstanceId, inherited, inherited_deadline},
    conn::{JoiningSend, Shape},
    layer::{Chain, RawMessage, Tries},
    message::{
        control::{PING, SETTLE, SettleReply},
        decode::decode,
        growth::Budget,
        nesting,
    },
    trace::{self, ClientSpan},
    wire::frame::control::Progress,
};

/// The options of one call, and the methods that make it.
///
/// Generated stubs wrap it: `kv.send_recv().timeout(..).fetch(..)` is `client.call().timeout(..).send_recv(..)`.
///
/// ```no_run
/// # use std::time::Duration;
/// # use rpc_runtime::{Client, Error, server::Procedure};
/// # static FETCH: Procedure = Procedure::new("kv.v1.Kv/rpc_fetch", 1);
/// # async fn example(client: Client) -> Result<(), Error> {
/// let call = client.call().timeout(Duration::from_secs(2)).metadata("x-trace", "42");
/// let value: String = call.send_recv(&FETCH, "dog".to_owned()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "options do nothing until the call begins"]
pub struct Call<'a> {
    client: &'a Client,
    timeout: CallTimeout,
    /// How many calls it is nested in.
    depth: u8,
    /// The handler in which it was made.
    made_in: HandlerId,
    priority: Option<Priority>,
    /// None: as the client is configured.
    fails_fast: Option<bool>,
    /// None: as the procedure says.
    may_repeat: Option<bool>,
    /// None: no rare option is set.
    more: Option<Box<ExtraOptions>>,
}

/// A call's own timeout, beside the deadline that it inherits.
#[derive(Clone, Copy, Debug)]
enum CallTimeout {
    /// The default for this kind of call.
    Usual,
    Own(Option<Duration>),
}

/// Options.
impl<'a> Call<'a> {
    #[inline]
    pub(super) fn new(client: &'a Client) -> Self {
        let Inherited {
            handler,
            depth,
            is_traced,
            ..
        } = inherited();
        let mut call = Self {
            client,
            timeout: CallTimeout::Usual,
            depth,
            made_in: handler,
            priority: None,
            fails_fast: None,
            may_repeat: None,
            more: client.metadata().map(ExtraOptions::with_defaults),
        };
        if is_traced {
            call.inherit_trace();
        }
        call
    }

    /// Lets the call belong to the trace of the handler that makes it.
    #[cold]
    fn inherit_trace(&mut self) {
        self.more_mut().trace = trace::current();
    }

    /// Limits the whole call: to queue, to connect, to write and to wait. `None` for no limit of its own.
    ///
    /// Default: the client's timeout, which is 30 s by default. A call that is made inside a handler also ends at the
    /// deadline of the handler's own call, unless it is [`Call::detached`].
    ///
    /// The timer belongs to the runtime that polls the call. Outside of tokio, and in a runtime without timers, it belongs
    /// to the task of the connection in its own runtime.
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = CallTimeout::Own(timeout.into());
        self
    }

    /// Adds a metadata entry, which travels beside the request.
    ///
    /// It replaces entries of the same key that [`ClientBuilder::metadata`](crate::ClientBuilder::metadata) gives to all calls.
    ///
    /// `value` is text or bytes: a `&'static str`, a `String`, a `Vec<u8>`, [`Bytes`]. A call with an entry that
    /// [`Metadata`] does not allow, or with too many, fails with INVALID_ARGUMENT and is not executed.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.more_mut().add_metadata(key, value);
        self
    }

    /// Adds all entries of `metadata`, as [`Call::metadata`] does: for proxies, which pass on what came to them.
    pub fn all_metadata(mut self, metadata: Metadata) -> Self {
        if !metadata.is_empty() {
            self.more_mut().add_all_metadata(metadata);
        }
        self
    }

    /// Lets the call belong to a trace, for one that has begun elsewhere: in a request of HTTP, say.
    ///
    /// Default: the trace of the handler that makes the call, and none elsewhere. See [the module `trace`](crate::trace).
    pub fn trace_context(mut self, trace: TraceContext) -> Self {
        let more = self.more_mut();
        more.trace = Some(trace);
        more.is_trace_given = true;
        self
    }

    /// Inherits the deadline, the server, the depth and the trace of a handler's call, wherever this call is made.
    pub(crate) fn within_call(
        mut self,
        deadline: Option<Instant>,
        server: InstanceId,
        depth: u8,
        trace: Option<&TraceContext>,
    ) -> Self {
        let more = self.more_mut();
        if trace.is_some() && !more.is_trace_given {
            more.trace = trace.cloned();
        }
        more.within = earlier(more.within, deadline);
        more.origin = Some(server);
        self.depth = self.depth.max(depth.saturating_add(1));
        self
    }

    /// Inherits nothing from the handler that makes the call, and forgets an earlier [`Call::within`].
    ///
    /// Without it, a call inherits the handler's deadline, depth and trace, and a terminate knows which server's handler sends it.
    ///
    /// A call inherits from a handler only if that handler's own future makes it and is the first to poll it. A call that was
    /// made elsewhere and is then shared inherits no deadline. But an async block makes its calls when it is first polled,
    /// so inside the handler that polls it first. Use `detached()` for a call that several callers share, such as the load
    /// of a cache entry. Otherwise the deadline of one caller would end it for all of them.
    ///
    /// ```ignore
    /// // A cache: `loads` maps a key to a `futures::future::Shared`. Every handler that needs the key polls a clone.
    /// let load = loads.entry(key.clone()).or_insert_with(|| {
    ///     let kv = self.kv.clone();
    ///     async move { kv.send_recv().detached().timeout(Duration::from_secs(5)).fetch(key).await }.boxed().shared()
    /// });
    /// ```
    ///
    /// The client's timeout still limits the call, or the one that [`Call::timeout`] sets. A handler that waits for a
    /// detached call is still dropped at its own deadline, and the call with it, unless another task polls it, too.
    pub fn detached(mut self) -> Self {
        if let Some(more) = &mut self.more {
            more.within = None;
            more.origin = None;
            if !more.is_trace_given {
                more.trace = None;
            }
        }
        self.depth = 0;
        self.made_in = HandlerId::DETACHED;
        self
    }
}

impl Call<'_> {
    /// Sets the priority of the call among those that wait. Default: the procedure's priority.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Fails the call UNAVAILABLE, with the cause, if its server is away. Default: the call waits.
    ///
    /// It works as in gRPC: the call waits while an attempt to connect runs, limited by
    /// [`ClientBuilder::connect_timeout`](crate::ClientBuilder::connect_timeout), and during the pause after a connection was
    /// lost. It fails when all addresses have failed, and at once in the pauses between such attempts.
    /// [`Error::executed`] is `No`.
    ///
    /// [`ClientBuilder::fail_fast`](crate::ClientBuilder::fail_fast) sets it for all calls of a client.
    pub fn fail_fast(mut self) -> Self {
        self.fails_fast = Some(true);
        self
    }

    /// Waits until the call's deadline for a server that is away.
    ///
    /// This is the default, unless the client [fails fast](crate::ClientBuilder::fail_fast).
    pub fn wait_for_ready(mut self) -> Self {
        self.fails_fast = Some(false);
        self
    }

    /// Limits how long no message of the call's streams may move, in either direction. Default: unlimited.
    ///
    /// Time while received messages wait here to be read does not count. A call without streams ignores it.
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
    /// Sends `request` one-way: there is no reply.
    ///
    /// The future resolves when the whole request is in the connection's queue. The queue is limited, so the future waits
    /// when the peer does not keep up. [`Client::flush`] and [`Client::barrier`] tell whether the request has arrived. A
    /// program that ends drops its queue: call [`Client::flush`] or [`Client::close`] first.
    ///
    /// # Errors
    ///
    /// [`Error::executed`] is `No`: a request that fails here was not sent, and never will be. INVALID_ARGUMENT if messages
    /// are nested more than 100 deep in it: no peer reads it.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped before it resolves has sent nothing, except when it is dropped in the same moment in which
    /// it would resolve. It affects no other call.
    #[inline(always)]
    pub fn send<Req: Message + 'static>(
        self,
        procedure: &'static Procedure,
        request: Req,
    ) -> OneWayCall<'a, Req> {
        OneWayCall::new(self, procedure, request)
    }

    /// Sends `request` and waits for the reply.
    ///
    /// If the connection was lost or its server drains, a call that surely did not run is retried once, within the same
    /// deadline. If the server refused it and said when to come back, it is retried then: see
    /// [`ClientBuilder::retry_hints`](crate::ClientBuilder::retry_hints). The client's retry budget limits retries to a tenth of
    /// the replies.
    ///
    /// # Errors
    ///
    /// [`Error::status`] is `Some` if the peer refused. [`Error::executed`] tells whether the handler ran, and
    /// [`Error::phase`] how far the call came.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels this call only: the server is told, and a late reply is discarded.
    #[inline(always)]
    pub fn send_recv<Req: Message + 'static, Rep: Message + Default>(
        self,
        procedure: &'static Procedure,
        request: Req,
    ) -> UnaryCall<'a, Req, Rep> {
        self.send_recv_map(procedure, request, |reply| reply)
    }

    /// Sends `request`, waits for the reply, and returns what `map` makes of it, such as its only field.
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
        let chain = self.client.chain();
        let is_traced = trace::is_on() && self.client.has_spans();
        let call = self.in_flight_on(channel, procedure, CallClass::User, deadline);
        UnaryCall::new(call, request, map, chain, is_traced)
    }

    /// Calls the built-in ping.
    pub(super) async fn ping(self, deadline: Deadline) -> Result<(), Error> {
        self.check(&PING, &deadline)?;
        self.in_flight(&PING, CallClass::Control, deadline)
            .call(&())
            .await
            .map(|_| ())
    }

    /// Calls the built-in settle: waits until earlier sends have ended, and tells the connection so.
    ///
    /// Beside the outcome it returns the connection that the call used last, if it used one.
    pub(super) async fn settle(
        self,
        deadline: Deadline,
    ) -> (Option<Arc<ClientConnection>>, Result<Progress, Error>) {
        let procedure = &SETTLE;
        if let Err(error) = self.check(procedure, &deadline) {
            return (None, Err(error));
        }
        let mut call = self.in_flight(procedure, CallClass::Control, deadline);
        let mut on = None;
        let outcome = poll_fn(|cx| {
            let poll = call.poll_call(&(), cx);
            if let Some((open, id)) = call.on() {
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
            on.shared.with(|conn, _| conn.sends_settled(*id, progress));
        }
        let progress = progress.map_err(|error| error.with_procedure(procedure.path()));
        (on.map(|(on, _)| on), progress)
    }

    /// Adds `request` to the frame of the one-way call before it, if that waits to be written and takes it. Returns whether it did.
    ///
    /// Most one-way calls of a busy client go this way, so it does without what only others need: the clock, rare options, a place
    /// among those that wait.
    #[inline]
    fn joins<Req: Message + 'static>(&self, procedure: &'static Procedure, request: &Req) -> bool {
        let channel = self.client.channel();
        let timeout = self.own_timeout(self.client.timeout());
        // A call that a handler makes has a depth.
        let is_plain = self.more.is_none() && self.depth == 0 && channel.compression().is_none();
        let is_plain = is_plain && self.client.chain().is_none();
        if !is_plain || timeout.is_some_and(|timeout| timeout.is_zero() || timeout >= FAR) {
            return false;
        }
        let send = JoiningSend {
            procedure: procedure.id(),
            timeout,
            priority: self.priority.unwrap_or_else(|| procedure.priority()),
        };
        nesting::check(procedure.request_nesting(), request).is_ok()
            && channel.with_current(|on| on.shared.join_send(&send, request)) == Some(true)
    }

    /// The deadline of the call, with the timeout `usual` unless it has its own.
    #[inline]
    pub(super) fn deadline(&self, usual: Option<Duration>) -> Deadline {
        let within = self.more.as_ref().and_then(|more| more.within);
        let inherited = earlier(within, inherited_deadline(self.made_in));
        Deadline::new(self.own_timeout(usual), inherited, Instant::now())
    }

    /// The timeout of the call: `usual` unless it has its own.
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

    /// Checks that the call can be made.
    fn check(&self, procedure: &'static Procedure, deadline: &Deadline) -> Result<(), Error> {
        match refusal(deadline, self.depth, self.more.as_deref()) {
            None => Ok(()),
            Some(refused) => Err(self.locate(refused, procedure)),
        }
    }

    /// Starts the call; it must have been checked.
    fn in_flight(
        self,
        procedure: &'static Procedure,
        class: CallClass,
        deadline: Deadline,
    ) -> InFlightCall<'a> {
        let channel = self.client.channel();
        self.in_flight_on(channel, procedure, class, deadline)
    }

    /// Starts the call on one of several channels.
    #[inline]
    fn in_flight_on<'c>(
        self,
        channel: &'c Arc<Channel>,
        procedure: &'static Procedure,
        class: CallClass,
        deadline: Deadline,
    ) -> InFlightCall<'c> {
        let options = self.options(procedure);
        let mut call = InFlightCall::new(channel, procedure, self.more, deadline, class, options);
        call.begins_now();
        call
    }

    fn locate(&self, error: Error, procedure: &Procedure) -> Error {
        error
            .with_procedure(procedure.path())
            .with_peer(self.client.peer_or_address())
    }
}

/// Spans.
impl Call<'_> {
    /// Begins the span of the call, if somebody wants it.
    #[inline]
    fn begin_span(&mut self, procedure: &'static Procedure) -> Option<Box<ClientSpan>> {
        match trace::is_on() && self.client.has_spans() {
            true => begin_span(self.client.channel(), procedure, &mut self.more),
            false => None,
        }
    }
}

/// Calls with streams.
impl Call<'_> {
    /// Sends `request` and returns the stream of replies.
    ///
    /// The future resolves when the request is in the connection's queue. The handler's replies and its failure arrive on
    /// the stream. The deadline limits the whole stream. Until a message was read, a call that surely did not run is retried
    /// once, as by [`Call::send_recv`].
    ///
    /// # Errors
    ///
    /// [`Error::executed`] is `No`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels this call only.
    pub async fn reply_stream<Req, Rep>(
        mut self,
        procedure: &'static Procedure,
        request: Req,
    ) -> Result<Streaming<Rep>, Error>
    where
        Req: Message + 'static,
        Rep: Message + Default,
    {
        let Some(span) = self.begin_span(procedure) else {
            return self.count_reply_stream(procedure, request).await;
        };
        match run_within(&span, self.count_reply_stream(procedure, request)).await {
            Ok(replies) => Ok(replies.with_span(span)),
            Err(error) => Err(span.fail(error)),
        }
    }

    async fn count_reply_stream<Req, Rep>(
        self,
        procedure: &'static Procedure,
        request: Req,
    ) -> Result<Streaming<Rep>, Error>
    where
        Req: Message + 'static,
        Rep: Message + Default,
    {
        let about = self.about(procedure);
        let meter = StreamMeter::begin(&about);
        let opened = self.open_reply_stream(about, request).await;
        let (streaming, meter) = meter.opened(opened)?;
        Ok(streaming.metered(meter))
    }

    async fn open_reply_stream<Req, Rep>(self, about: CallInfo, request: Req) -> Result<Streaming<Rep>, Error>
    where
        Req: Message + 'static,
        Rep: Message + Default,
    {
        let procedure = about.procedure;
        self.check(procedure, &about.deadline)?;
        if let Some(chain) = self.client.chain() {
            let request = self.raw(procedure, &request)?;
            let (opened, layered) = self.open_layered(chain, procedure, about, request).await?;
            let call = Arc::new(opened.call);
            return Ok(Streaming::new(call, opened.reopen, Some(layered)));
        }
        let mut call = self.in_flight_on(&about.channel, procedure, CallClass::User, about.deadline);
        let (on, id) = call.open(&request).await?;
        let more = call.take_more();
        drop(call);
        let again = again(about.clone(), more, request);
        Ok(Streaming::new(
            Arc::new(StreamCall::new(on, id, about)),
            Some(again),
            None,
        ))
    }

    /// Opens a call with a stream of requests and one reply; returns what `map` makes of the reply.
    ///
    /// # Errors
    ///
    /// [`Error::executed`] is `No`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels this call only.
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
        let about = self.about(procedure);
        let meter = StreamMeter::begin(&about);
        let opened = self.open_within_span(about).await;
        let ((call, layered, span), meter) = meter.opened(opened)?;
        let budget = call.about.budget();
        let reply = Reply::new(
            Arc::clone(&call),
            Box::new(move |payload| {
                decode(payload, budget)
                    .map_err(errors::unreadable_reply)
                    .and_then(map)
            }),
            layered,
            meter,
            span,
        );
        Ok((Sender::new(call), reply))
    }

    /// Opens a call with streams of requests and replies; neither waits for the end of the other.
    ///
    /// # Errors
    ///
    /// [`Error::executed`] is `No`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels this call only.
    pub async fn both_streams<Req, Rep>(
        self,
        procedure: &'static Procedure,
    ) -> Result<(Sender<Req>, Streaming<Rep>), Error>
    where
        Req: Message,
        Rep: Message + Default,
    {
        let about = self.about(procedure);
        let meter = StreamMeter::begin(&about);
        let opened = self.open_within_span(about).await;
        let ((call, layered, span), meter) = meter.opened(opened)?;
        let sender = Sender::new(Arc::clone(&call));
        let replies = Streaming::new(call, None, layered).metered(meter);
        Ok((
            sender,
            match span {
                Some(span) => replies.with_span(span),
                None => replies,
            },
        ))
    }

    /// Opens a call with a stream of requests. Returns its middleware, if it has any, and its span, if somebody wants it.
    async fn open_within_span(mut self, about: CallInfo) -> Result<OpenedWithin, Error> {
        let Some(span) = self.begin_span(about.procedure) else {
            let (call, layered) = self.open(about).await?;
            return Ok((call, layered, None));
        };
        match run_within(&span, self.open(about)).await {
            Ok((call, layered)) => Ok((call, layered, Some(span))),
            Err(error) => Err(span.fail(error)),
        }
    }

    /// Opens a call with a stream of requests, and returns its middleware if it has any.
    async fn open(self, about: CallInfo) -> Result<(Arc<StreamCall>, Option<Box<LayeredStreams>>), Error> {
        let procedure = about.procedure;
        self.check(procedure, &about.deadline)?;
        if let Some(chain) = self.client.chain() {
            let request = RawMessage::default();
            let (opened, layered) = self.open_layered(chain, procedure, about, request).await?;
            return Ok((Arc::new(opened.call), Some(layered)));
        }
        let opened = self
            .in_flight_on(&about.channel, procedure, CallClass::User, about.deadline)
            .open(&())
            .await;
        let (on, id) = opened?;
        Ok((Arc::new(StreamCall::new(on, id, about)), None))
    }

    /// Opens a call with streams through the middleware of its client.
    async fn open_layered(
        self,
        chain: &Arc<Chain<ClientCall>>,
        procedure: &'static Procedure,
        about: CallInfo,
        request: RawMessage,
    ) -> Result<(Opened, Box<LayeredStreams>), Error> {
        let slot = Arc::new(StreamSlot::default());
        let kind = CallKind::Streams(Arc::clone(&slot));
        let call = self.layered(about.channel, procedure, request, about.deadline, kind);
        LayeredStreams::open(Arc::clone(chain), call, slot).await
    }

    fn about(&self, procedure: &'static Procedure) -> CallInfo {
        CallInfo {
            channel: Arc::clone(self.client.next_channel()),
            procedure,
            deadline: self.usual_deadline(),
            options: self.options(procedure),
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
            takes_hints: self.client.takes_hints(),
            is_balanced: false,
            may_repeat: self.may_repeat.unwrap_or_else(|| procedure.is_idempotent()),
        }
    }
}

/// Calls through middleware.
impl Call<'_> {
    /// Encodes a request for middleware.
    fn raw<Req: Message + 'static>(
        &self,
        procedure: &'static Procedure,
        request: &Req,
    ) -> Result<RawMessage, Error> {
        nesting::check(procedure.request_nesting(), request)
            .map_err(|text| self.locate(errors::too_deep(&text), procedure))?;
        Ok(RawMessage::of(request))
    }

    /// Makes the call that middleware gets.
    fn layered(
        self,
        channel: Arc<Channel>,
        procedure: &'static Procedure,
        message: RawMessage,
        deadline: Deadline,
        kind: CallKind,
    ) -> ClientCall {
        ClientCall {
            options: self.options(procedure),
            channel,
            procedure,
            message,
            more: self.more,
            deadline,
            kind,
            tries: Arc::new(Tries::default()),
        }
    }
}

/// A call that is open, its middleware if it has any, and its span if somebody wants it.
type OpenedWithin = (
    Arc<StreamCall>,
    Option<Box<LayeredStreams>>,
    Option<Box<ClientSpan>>,
);

/// The longest reply of a settle, in bytes: five numbers, and one for each reason to drop a call.
const MAX_ACCOUNT: u64 = 4 * 1024;
