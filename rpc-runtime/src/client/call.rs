//! Call: the options of one call, and the call itself.

use std::{
    future::{Future, poll_fn},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use prost::{DecodeError, Message};
use tokio::time::Instant;

use super::{
    Channel, Client, Receipt, Reply, Sender, Streaming,
    connected::Connected,
    control,
    deadline::Deadline,
    exchange::{Exchange, Lane, More, Options},
    failure,
    open_call::{About, OpenCall},
    streaming::Again,
    unary::Unary,
};
use crate::{
    Code, Context, DrainReport, Error, Executed, Phase, Priority, Procedure,
    client::inherited::{HandlerId, inherited_deadline, inherited_depth},
    conn::Shape,
    message::{
        control::{PING, SETTLE, SettleReply, TERMINATE, TerminateReply},
        depth,
        growth::Budget,
    },
    wire::frame::{Encoded, Output, control::Progress},
};

/// Options of one call, which then begins: with [`Call::send`] or [`Call::send_recv`].
///
/// Generated stubs hold one; programs rarely name it.
#[derive(Clone, Debug)]
#[must_use = "options do nothing until the call begins"]
pub struct Call<'a> {
    client: &'a Client,
    timeout: Timeout,
    /// How many calls it is inside of.
    depth: u8,
    /// The handler in which it was made.
    made_in: HandlerId,
    priority: Option<Priority>,
    /// None if it is as the client says.
    fails_fast: Option<bool>,
    /// None if there is nothing of it.
    more: Option<Box<More>>,
}

/// How long a call may take by itself, apart from what it inherits.
#[derive(Clone, Copy, Debug)]
enum Timeout {
    /// What is usual for this kind of call.
    Usual,
    Own(Option<Duration>),
}

/// Options.
impl<'a> Call<'a> {
    pub(super) fn new(client: &'a Client) -> Self {
        Self {
            client,
            timeout: Timeout::Usual,
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
        self.timeout = Timeout::Own(timeout.into());
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

    /// Inherits the deadline of `cx`, in a task that a handler spawned.
    ///
    /// Calls that the handler makes in its own future inherit it by themselves. A terminate of the handler's own
    /// server returns when the drain begins then, too, so that the handler may wait for the task.
    pub fn within(mut self, cx: &Context) -> Self {
        let more = self.more_mut();
        more.within = earlier(more.within, cx.deadline_instant());
        more.origin = Some(cx.instance());
        self.depth = self.depth.max(cx.depth().saturating_add(1));
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

    /// Has what comes beside the reply written down in `receipt`, in the place of what an earlier call wrote there.
    pub fn receipt(mut self, receipt: &Receipt) -> Self {
        receipt.clear();
        self.more_mut().receipt = Some(receipt.clone());
        self
    }

    fn more_mut(&mut self) -> &mut More {
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
        self.exchange(procedure, Lane::User, deadline)
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
    ) -> impl Future<Output = Result<Rep, Error>> {
        let timeout = self.own_timeout(self.client.timeout());
        let channel = self.client.next_channel();
        let deadline = Deadline::unbegun(timeout, self.made_in);
        let exchange = self.exchange_on(channel, procedure, Lane::User, deadline);
        Unary::new(exchange, request)
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
        let mut exchange = self.exchange(&TERMINATE, Lane::Control, deadline);
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
        let exchange = self.exchange(procedure, Lane::Control, deadline);
        let reply = control::terminate(exchange, origin).await?;
        let reply: TerminateReply = decode(reply.payload, Budget::new(None, 0))
            .map_err(|error| error.with_procedure(procedure.path()))?;
        Ok(reply.into())
    }

    /// Calls the built-in ping.
    pub(super) async fn ping(self, deadline: Deadline) -> Result<(), Error> {
        self.check(&PING, &deadline)?;
        self.exchange(&PING, Lane::Control, deadline)
            .call(&())
            .await
            .map(|_| ())
    }

    /// Calls the built-in settle: waits until the sends before it have ended, and takes down that they have. Beside the outcome,
    /// the connection by which it went last, if it went.
    pub(super) async fn settle(
        self,
        deadline: Deadline,
    ) -> (Option<Arc<Connected>>, Result<Progress, Error>) {
        let procedure = &SETTLE;
        if let Err(error) = self.check(procedure, &deadline) {
            return (None, Err(error));
        }
        let mut exchange = self.exchange(procedure, Lane::Control, deadline);
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
                true => decode(reply.payload, Budget::new(None, 0)),
                false => Err(unreadable(
                    Code::Internal,
                    "the account of one-way calls is too long",
                )),
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
            Timeout::Usual => usual,
            Timeout::Own(timeout) => timeout,
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
    fn exchange(self, procedure: &'static Procedure, lane: Lane, deadline: Deadline) -> Exchange<'a> {
        let channel = self.client.channel();
        self.exchange_on(channel, procedure, lane, deadline)
    }

    /// As [`Call::exchange`], by one of several connections.
    #[inline]
    fn exchange_on<'c>(
        self,
        channel: &'c Arc<Channel>,
        procedure: &'static Procedure,
        lane: Lane,
        deadline: Deadline,
    ) -> Exchange<'c> {
        let options = self.options(procedure);
        let mut exchange = Exchange::new(channel, procedure, self.more, deadline, lane, options);
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
        let mut exchange = self.exchange_on(&about.channel, procedure, Lane::User, about.deadline);
        let (on, id) = exchange.open(&request).await?;
        let more = exchange.take_more();
        drop(exchange);
        let again = again(about.clone(), options, more, request);
        Ok(Streaming::new(
            Arc::new(OpenCall::new(on, id, about)),
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
            Box::new(move |payload| decode(payload, budget).and_then(map)),
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

    async fn open(self, procedure: &'static Procedure) -> Result<Arc<OpenCall>, Error> {
        let about = self.about(procedure);
        self.check(procedure, &about.deadline)?;
        let opened = self
            .exchange_on(&about.channel, procedure, Lane::User, about.deadline)
            .open(&())
            .await;
        let (on, id) = opened?;
        Ok(Arc::new(OpenCall::new(on, id, about)))
    }

    fn about(&self, procedure: &'static Procedure) -> About {
        About {
            channel: Arc::clone(self.client.next_channel()),
            procedure,
            deadline: self.usual_deadline(),
            receipt: self.more.as_ref().and_then(|more| more.receipt.clone()),
            resent: None,
        }
    }

    fn options(&self, procedure: &Procedure) -> Options {
        Options {
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
    about: About,
    options: Options,
    more: Option<Box<More>>,
    request: Req,
) -> Again {
    Box::new(move |cause| {
        Box::pin(async move {
            let About {
                channel,
                procedure,
                deadline,
                ..
            } = &about;
            let mut exchange = Exchange::new(channel, procedure, more, *deadline, Lane::User, options);
            let opened = exchange.open(&request).await;
            let (on, id) = opened.map_err(|error| error.with_resent_after(&cause))?;
            drop(exchange);
            let about = About {
                resent: Some(cause),
                ..about
            };
            Ok(OpenCall::new(on, id, about))
        })
    })
}

/// Reads a reply: fields of a small one are copied, for a slice would pin the whole read buffer.
#[inline(always)]
pub(super) fn decode<Rep: Message + Default>(payload: Encoded, budget: Budget) -> Result<Rep, Error> {
    let result = if payload.encoding() == 0
        && payload.len() < Output::BY_REFERENCE as u64
        && budget.admits(payload.bytes())
    {
        Rep::decode(&payload.bytes()[..])
    } else {
        decode_long(payload, budget)?
    };
    result.map_err(|error| {
        let text = "the reply is no message of the procedure's type: is the peer's .proto another?";
        unreadable(Code::Internal, text).with_source(error)
    })
}

/// One that is compressed, or so long that its fields stay slices, or too large.
#[cold]
fn decode_long<Rep: Message + Default>(
    payload: Encoded,
    budget: Budget,
) -> Result<Result<Rep, DecodeError>, Error> {
    let unpacked = payload.unpack();
    let payload = unpacked
        .map_err(|error| unreadable(Code::Internal, "the reply cannot be unpacked").with_source(error))?;
    if !budget.admits(&payload) {
        return Err(unreadable(Code::ResourceExhausted, budget.excess("the reply")));
    }
    Ok(if payload.len() < Output::BY_REFERENCE {
        Rep::decode(&payload[..])
    } else {
        Rep::decode(payload)
    })
}

/// How long the reply of a settle may be: five numbers, and one for each reason that there is.
const MAX_ACCOUNT: u64 = 4 * 1024;

fn unreadable(code: Code, text: impl Into<String>) -> Error {
    Error::local(code, text)
        .with_executed(Executed::Yes)
        .with_phase(Phase::Wait)
}

/// Why a call cannot be made.
#[inline]
pub(super) fn refusal(deadline: &Deadline, depth: u8, more: Option<&More>) -> Option<Error> {
    let keys = more.map_or(Ok(()), |more| more.metadata.check_keys());
    let fits = more.is_none_or(|more| more.metadata.fits());
    if fits && keys.is_ok() && depth <= depth::MAX && !deadline.has_passed() {
        return None;
    }
    Some(if deadline.has_passed() {
        failure::expired(deadline)
    } else if depth > depth::MAX {
        depth::too_deep()
    } else if let Err(text) = keys {
        failure::bad_metadata_key(text).with_phase(Phase::Queue)
    } else {
        failure::too_much_metadata().with_phase(Phase::Queue)
    })
}

pub(super) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
