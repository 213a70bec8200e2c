//! Calling a service: the client, its options, and its calls.
//!
//! Generated clients wrap a [`Client`]. Its builder sets addresses, timeouts and limits; a [`Call`] sets options for one call.

pub(crate) mod acceptor;
mod bridge_plan;
mod builder;
mod call;
mod channel;
mod cluster;
mod connection_failure;
mod credentials;
mod deadline;
mod errors;
mod flush;
pub(crate) mod inherited;
pub(crate) mod known_procedures;
#[cfg(test)]
mod tests;
mod timer;
pub(crate) mod token;
pub(crate) mod user_proof;

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

pub use crate::api::account::{Account, DropReason};

use self::{
    bridge_plan::{NO_PING, NO_TERMINATE},
    call::{BalancedCalls, MakeCall, SendToken},
    channel::{HadConnection, WaitFor, pool::ChannelPool},
    cluster::Cluster,
    deadline::Deadline,
    token::Tokens,
};
pub use self::{
    builder::ClientBuilder,
    call::{Call, ClientCall, OneWayCall, Receipt, Reply, Sender, Streaming, UnaryCall},
    channel::{ConnectionState, StateWatch},
    cluster::{EndpointState, EndpointStatus},
};
pub(crate) use self::{call::CallProgress, channel::Channel};
use crate::{
    Code, DrainReport, Error, Load, Metadata, Procedure,
    api::limits::CALL_TIMEOUT,
    layer::{Chain, DynMiddleware},
    message::control::{PING, TERMINATE},
};

/// A client of one service: it connects when a call needs a connection, and again after a loss.
///
/// ```no_run
/// use rpc_runtime::Client;
///
/// # async fn connect() -> Result<(), rpc_runtime::Error> {
/// let client = Client::connect("tcp://127.0.0.1:5005").await?;
/// // Generated clients wrap one: KvClient::connect("tcp://127.0.0.1:5005").await?
/// println!("the server answers after {:?}", client.ping().await?);
/// client.close().await?;
/// # Ok(())
/// # }
/// ```
///
/// A client works in any tokio runtime. Its connection lives in the runtime of the call that made it, and needs that
/// runtime to run. Each call ends at its deadline by a timer of the runtime that polls it.
///
/// Cloning is cheap. All clones share one connection, or as many as [`ClientBuilder::connections`] sets. When the last clone
/// is dropped, the connection closes in the background after it has written what is queued; [`Client::close`] waits for that.
#[derive(Clone)]
pub struct Client {
    channels: ChannelPool,
    /// None of a client of one server at a time. Otherwise `channels` has no connection.
    cluster: Option<Arc<Cluster>>,
    timeout: Option<Duration>,
    connect_timeout: Duration,
    fails_fast: bool,
    takes_hints: bool,
    /// None without middleware.
    chain: Option<Arc<Chain<ClientCall>>>,
    /// The entries of all its calls; none without any.
    metadata: Option<Arc<Metadata>>,
    /// The tokens of its calls; none without a token source.
    tokens: Option<Arc<Tokens>>,
    /// False for the client of a guest: the guest's peer makes its calls.
    has_spans: bool,
}

/// Construction.
impl Client {
    /// Connects to `tcp://host:port`, `tls://host:port`, `unix:/path` (on Windows `pipe:name`) or `mem:name`, and waits for
    /// the handshake.
    ///
    /// After that, a lost connection is replaced at the next call, which tries until its deadline.
    ///
    /// With a target, `dns:///host:port` or `file:///path`, it [finds all servers](crate::discover) of a service, waits for one of them, and
    /// [balances](crate::balance) its calls over them.
    ///
    /// # Errors
    ///
    /// At once if no server listens there, if the peer does not speak the protocol, or if the address is invalid;
    /// DEADLINE_EXCEEDED if the peer does not answer within 10 s. It tries once more if the server drains: another one may have taken over.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the attempt.
    pub async fn connect(address: impl AsRef<str>) -> Result<Self, Error> {
        Self::builder(address).connect().await
    }

    /// Makes a client that connects at its first call.
    ///
    /// A call that finds no server tries again until its deadline. With an invalid address every call fails.
    pub fn connect_lazy(address: impl AsRef<str>) -> Self {
        Self::builder(address).connect_lazy()
    }

    /// Makes a builder of a client of `address`.
    pub fn builder(address: impl AsRef<str>) -> ClientBuilder {
        ClientBuilder::new(address)
    }

    /// Tells the client which procedures it may call at a server that speaks another [protocol](crate::protocol).
    ///
    /// Generated clients do it when they are made. A program that calls procedures it has written by hand does it itself. At a server
    /// of this library's own protocol it changes nothing.
    ///
    /// ```
    /// use rpc_runtime::{Client, server::Procedure};
    ///
    /// static PROCEDURES: [Procedure; 1] = [Procedure::new("doc.v1.Echo/rpc_echo", 0x5a1c_66d0_17b5_11ee)];
    ///
    /// let client = Client::connect_lazy("tcp://127.0.0.1:5005").with_procedures(&PROCEDURES);
    /// ```
    #[must_use]
    pub fn with_procedures(self, procedures: &'static [Procedure]) -> Self {
        if let Some(known) = self.channel().procedures() {
            known.add(procedures);
        }
        if let Some(cluster) = &self.cluster {
            cluster.procedures().add(procedures);
        }
        self
    }

    fn new(
        channels: ChannelPool,
        timeout: Option<Duration>,
        connect_timeout: Duration,
        fails_fast: bool,
    ) -> Self {
        Self {
            channels,
            cluster: None,
            timeout,
            connect_timeout,
            fails_fast,
            takes_hints: true,
            chain: None,
            metadata: None,
            tokens: None,
            has_spans: true,
        }
    }

    /// This client, whose calls come back when a server that refused them says so, or not.
    fn with_hints(self, takes_hints: bool) -> Self {
        Self { takes_hints, ..self }
    }

    /// This client, whose calls have spans on this side, or not.
    fn with_spans(self, has_spans: bool) -> Self {
        Self { has_spans, ..self }
    }

    /// This client with middleware around its calls; without any, as it is. Tokens are added inside of all middleware.
    fn with_layers(
        self,
        mut layers: Vec<Arc<dyn DynMiddleware<ClientCall>>>,
        tokens: Option<Arc<Tokens>>,
    ) -> Self {
        if let Some(tokens) = &tokens {
            layers.push(Arc::new(SendToken(Arc::clone(tokens))));
        }
        let chain = (!layers.is_empty()).then(|| {
            Arc::new(Chain {
                layers,
                last: Box::new(MakeCall),
            })
        });
        Self {
            chain,
            tokens,
            ..self
        }
    }

    /// This client, whose calls go to the servers of `cluster`, with middleware around them. Its tokens are those that it has.
    fn with_cluster(
        self,
        cluster: Arc<Cluster>,
        mut layers: Vec<Arc<dyn DynMiddleware<ClientCall>>>,
    ) -> Self {
        if let Some(tokens) = &self.tokens {
            layers.push(Arc::new(SendToken(Arc::clone(tokens))));
        }
        let last = Box::new(BalancedCalls(Arc::clone(&cluster)));
        Self {
            chain: Some(Arc::new(Chain { layers, last })),
            cluster: Some(cluster),
            ..self
        }
    }

    /// This client with entries beside all its calls.
    fn with_metadata(self, metadata: Metadata) -> Self {
        let metadata = (!metadata.is_empty()).then(|| Arc::new(metadata));
        Self { metadata, ..self }
    }

    /// A client over one connection of a server: see [`Channel::over_connection`].
    pub(crate) fn over(channel: Arc<Channel>) -> Self {
        Self::new(
            ChannelPool::one(channel),
            Some(CALL_TIMEOUT),
            Duration::ZERO,
            false,
        )
    }

    async fn first_attempt(&self) -> Result<(), Error> {
        let addresses = u32::try_from(self.channel().addresses()).unwrap_or(u32::MAX);
        // Each attempt has its own, shorter timeout. Its error says more, so it comes first.
        let timeout = self
            .connect_timeout
            .saturating_mul(addresses)
            .saturating_add(SPARE);
        if let Some(cluster) = &self.cluster {
            return cluster
                .connect(&Deadline::new(Some(timeout), None, Instant::now()))
                .await;
        }
        for channel in self.channels.all() {
            let deadline = Deadline::new(Some(timeout), None, Instant::now());
            let connect = || channel.connected(WaitFor::FirstRound, HadConnection::No, deadline);
            let mut connected = connect().await;
            if connected.is_err() && channel.drains() {
                // The server may have given way to another one, which accepts.
                connected = connect().await;
            }
            connected?;
        }
        Ok(())
    }
}

/// Calls.
impl Client {
    /// Begins a call, to which options can be added; stubs do this.
    #[inline]
    pub fn call(&self) -> Call<'_> {
        Call::new(self)
    }

    /// Tells the server to terminate, and waits until it is drained.
    ///
    /// # Errors
    ///
    /// PERMISSION_DENIED if the server's policy forbids it to this client, UNIMPLEMENTED if the server cannot be
    /// terminated by clients. See [`Call::terminate`] for how long this waits.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops waiting; a drain that has begun goes on.
    pub async fn terminate(&self) -> Result<DrainReport, Error> {
        self.call().terminate().await
    }

    /// Measures how long a built-in ping takes, without the time to connect.
    ///
    /// # Errors
    ///
    /// As any call. FAILED_PRECONDITION if an address of the client is of another [protocol](crate::protocol), which has no ping.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn ping(&self) -> Result<Duration, Error> {
        if let Some(cluster) = &self.cluster {
            let deadline = self.call().deadline(self.timeout);
            let client = cluster.client_of_one(self.fails_fast, &deadline).await?;
            return Box::pin(client.ping()).await;
        }
        self.check_native(NO_PING)
            .map_err(|error| error.with_procedure(PING.path()))?;
        let deadline = self.call().deadline(self.timeout);
        let connected = self
            .channel()
            .connected(WaitFor::of_calls(self.fails_fast), HadConnection::No, deadline)
            .await;
        connected.map_err(|error| error.with_procedure(PING.path()))?;
        let start = Instant::now();
        self.call().ping(deadline).await?;
        Ok(start.elapsed())
    }

    /// Waits until the operating system has everything that was sent so far.
    ///
    /// The client's timeout limits the wait.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE, once, if a connection ended with one-way calls that no [`Client::barrier`] had covered:
    /// [`Error::lost_sends`] counts them.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn flush(&self) -> Result<(), Error> {
        if let Some(cluster) = &self.cluster {
            return cluster.flush().await.map(drop);
        }
        if self.channel().procedures().is_some() {
            // Bytes that a bridge still holds have not reached the operating system.
            return self.settled().await.map(drop);
        }
        let deadline = self.call().deadline(self.timeout);
        let mut result = Ok(());
        for channel in self.channels.all() {
            result = result.and(flush::flush(channel, deadline).await);
        }
        result
    }

    /// Waits until the server has admitted every one-way call sent so far, and returns their account.
    ///
    /// The account covers this connection since it began. Handlers may still wait or run: [`Account::pending`] counts them,
    /// and [`Client::settled`] waits for their end.
    ///
    /// Without a connection, and if no call is in doubt, this returns at once the last account of the last connection that
    /// carried one-way calls. A client that never had a connection returns an empty account at once.
    ///
    /// At a server that speaks another [protocol](crate::protocol), such as gRPC, one-way calls have replies that are dropped here. Then
    /// this waits for the replies, as [`Client::settled`] does.
    ///
    /// The client's timeout limits the wait.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE, once, if a connection ended with one-way calls that no barrier had covered: [`Error::lost_sends`]
    /// counts them.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn barrier(&self) -> Result<Account, Error> {
        if let Some(cluster) = &self.cluster {
            return cluster.barrier().await;
        }
        if self.channel().procedures().is_some() {
            return self.settled().await;
        }
        flush::barrier(self, self.call().deadline(self.timeout)).await
    }

    /// Waits until every one-way call sent so far has ended on the server, and returns their account.
    ///
    /// A call ends when it is handled, or has failed, expired or been dropped. Calls that are still [`Account::pending`] were
    /// sent later.
    ///
    /// The client's timeout, 30 s by default, limits the wait; [`Client::settled_within`] sets another limit. One-way calls
    /// also end at their own deadlines.
    ///
    /// ```no_run
    /// # async fn example(client: rpc_runtime::Client) -> Result<(), rpc_runtime::Error> {
    /// let account = client.settled().await?;
    /// assert_eq!(account.pending(), 0, "no other task sends by this client");
    /// println!("{} of {} failed", account.failed(), account.received());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// DEADLINE_EXCEEDED if some have not ended in time: [`Client::barrier`] counts them. UNAVAILABLE, once, if a connection
    /// ended with one-way calls that no barrier had covered ([`Error::lost_sends`] counts them), or that were still running
    /// by the last account of its server. UNIMPLEMENTED if calls are pending and the peer is another implementation that
    /// cannot tell when they end.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn settled(&self) -> Result<Account, Error> {
        self.settled_within(self.timeout).await
    }

    /// Waits as [`Client::settled`] does, limited by `timeout`; `None` for no limit.
    ///
    /// # Errors
    ///
    /// As [`Client::settled`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn settled_within(&self, timeout: impl Into<Option<Duration>>) -> Result<Account, Error> {
        let timeout = timeout.into();
        if let Some(cluster) = &self.cluster {
            return cluster.settled(timeout).await;
        }
        flush::settled(self, self.call().deadline(timeout)).await
    }

    /// Closes the client and all its clones: writes what was sent, and waits for open calls.
    ///
    /// New calls fail UNAVAILABLE; to a server of another [protocol](crate::protocol), once the one-way calls before have ended. The client's timeout limits the wait, or 30 s if it has none; calls that are still open
    /// then fail. A client of a handler's caller closes at once and leaves the connection open, because that belongs to
    /// the caller.
    ///
    /// # Errors
    ///
    /// DEADLINE_EXCEEDED if calls were still open at the limit; UNAVAILABLE if the connection was lost before everything was
    /// written.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops waiting; the client closes all the same.
    pub async fn close(&self) -> Result<(), Error> {
        if let Some(cluster) = &self.cluster {
            return cluster.close().await.map(drop);
        }
        let mut patience = self.timeout;
        if self.channel().procedures().is_some() {
            let begun = Instant::now();
            // One-way calls outlive the connection to the bridge. What became of them is for a barrier to tell.
            let all = patience.unwrap_or(CALL_TIMEOUT);
            let closing = flush::CloseOnDrop(&self.channels);
            let _ = self.settled_within(all).await;
            drop(closing);
            patience = Some(all.saturating_sub(begun.elapsed()));
        }
        flush::close(&self.channels, patience).await
    }
}

/// The state of the connection.
impl Client {
    /// Returns the state of the connection, or of the first of several connections.
    ///
    /// Show it to users, but do not decide by it whether to call: a call makes its connection, and a connection may be lost
    /// a moment later. `Ready` means that the connection was made and has not ended. If its runtime stands still, calls
    /// from other runtimes end at their deadlines.
    pub fn state(&self) -> ConnectionState {
        match &self.cluster {
            Some(cluster) => cluster.state(),
            None => self.channel().connection_state(),
        }
    }

    /// Returns a watch that tells when [`Client::state`] changes.
    pub fn watch_state(&self) -> StateWatch {
        self.channel().watch_state()
    }

    /// Counts the calls and bytes that all connections of the client hold now.
    pub fn load(&self) -> Load {
        if let Some(cluster) = &self.cluster {
            return cluster.load();
        }
        self.channels
            .all()
            .map(|channel| channel.load())
            .fold(Load::default(), Load::and)
    }

    /// Returns why there is no connection: how the last attempts failed, or how the last connection ended.
    ///
    /// None while there is a connection, and before the first attempt.
    pub fn last_failure(&self) -> Option<Error> {
        match &self.cluster {
            Some(cluster) => cluster.last_failure(),
            None => self.channel().last_failure(),
        }
    }
}

/// Clients of several servers.
impl Client {
    /// Returns the servers of a client that follows a [resolver](crate::discover), in the resolver's order, each with its state, its load, and
    /// the reason if it gets no calls. Empty for a client of one server at a time, and until the first call.
    ///
    /// ```
    /// # fn show(client: &rpc_runtime::Client) {
    /// for server in client.endpoints() {
    ///     println!("{}: {:?}, {} calls in flight", server.endpoint.address(), server.status, server.in_flight);
    /// }
    /// # }
    /// ```
    pub fn endpoints(&self) -> Vec<EndpointState> {
        let cluster = self.cluster.as_ref();
        cluster.map(|cluster| cluster.endpoints()).unwrap_or_default()
    }

    /// Returns a client of one chosen server, by its address, as [`Client::endpoints`] has it; none if this client has no such server.
    ///
    /// It shares the connections of this client. It has its middleware, metadata and tokens, and its calls are not balanced.
    ///
    /// ```
    /// # async fn example(client: rpc_runtime::Client) -> Result<(), rpc_runtime::Error> {
    /// if let Some(one) = client.at("10.0.0.7:5005") {
    ///     println!("{}", one.terminate().await?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn at(&self, address: &str) -> Option<Self> {
        self.cluster.as_ref()?.client_at(address)
    }

    /// Tells all servers of a client that follows a [resolver](crate::discover) to terminate, at the same time, and waits for the report of
    /// each. Beside each report is the address. Empty for a client of one server at a time: use [`Client::terminate`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops waiting; drains that have begun go on.
    pub async fn terminate_all(&self) -> Vec<(String, Result<DrainReport, Error>)> {
        match &self.cluster {
            Some(cluster) => Box::pin(cluster.terminate()).await,
            None => Vec::new(),
        }
    }
}

/// For the options of a call.
impl Client {
    /// Refuses a terminate by a client that has an address of another protocol.
    fn check_terminates(&self) -> Result<(), Error> {
        self.check_native(NO_TERMINATE)
            .map_err(|error| error.with_procedure(TERMINATE.path()))
    }

    /// Refuses a call that only servers of our own protocol have; `why` says what to do.
    fn check_native(&self, why: &str) -> Result<(), Error> {
        match self.channel().procedures() {
            None => Ok(()),
            Some(_) => {
                let error = Error::local(Code::FailedPrecondition, why);
                Err(error.with_peer(Arc::clone(self.channel().address())))
            }
        }
    }

    /// The channel of one-way calls and of built-in calls.
    fn channel(&self) -> &Arc<Channel> {
        self.channels.first()
    }

    /// The channel of the next call with a reply.
    #[inline]
    fn next_channel(&self) -> &Arc<Channel> {
        self.channels.next()
    }

    /// The middleware of each call.
    #[inline]
    fn chain(&self) -> Option<&Arc<Chain<ClientCall>>> {
        self.chain.as_ref()
    }

    /// The entries beside each call.
    #[inline]
    fn metadata(&self) -> Option<&Metadata> {
        self.metadata.as_deref()
    }

    /// The tokens of its calls, if a source gives them.
    fn tokens(&self) -> Option<&Arc<Tokens>> {
        self.tokens.as_ref()
    }

    #[inline]
    fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// True if its calls have spans on this side.
    #[inline]
    fn has_spans(&self) -> bool {
        self.has_spans
    }

    #[inline]
    fn takes_hints(&self) -> bool {
        self.takes_hints
    }

    #[inline]
    fn fails_fast(&self) -> bool {
        self.fails_fast
    }

    /// The peer's address, or the client's addresses while there is no peer.
    fn peer_or_address(&self) -> Arc<str> {
        self.channel().peer_or_address()
    }
}

/// [`Client::connect`] waits for the end of its attempts this much longer than all their timeouts.
const SPARE: Duration = Duration::from_secs(5);

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("address", self.channel().address())
            .field("state", &self.state())
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
