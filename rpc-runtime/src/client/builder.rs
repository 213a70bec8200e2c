//! ClientBuilder: the configuration of a client.

mod cluster;

use std::{fmt, future::Future, io, marker::PhantomData, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use self::cluster::ClusterChoice;
use super::{
    Client, ClientCall,
    acceptor::{Bridge, CallbackServices, StreamAcceptor},
    bridge_plan::{BridgePlan, NO_CALLBACKS, NO_COMPRESSION},
    channel::{
        Channel,
        addresses::{AddressEntry, Addresses, ConnectTarget},
        pool::ChannelPool,
    },
    credentials::{CheckedCredentials, Credentials, TokenChoice},
    known_procedures::KnownProcedures,
    token::TokenSource,
};
use crate::{
    Compression, Error, Limits, Metadata,
    api::{
        limits::{CALL_TIMEOUT, CLIENT_KEEP_ALIVE, CONNECT_TIMEOUT},
        secret::Secret,
    },
    conn::{BUSY_POLL, Settings, memory::Memory},
    layer::{DynMiddleware, Middleware},
    net::{Address, ClientSecurity, Connector},
};

/// Configures a client and makes it; [`Client::builder`] returns one.
///
/// ```no_run
/// # async fn connect() -> Result<(), rpc_runtime::Error> {
/// use std::time::Duration;
///
/// use rpc_runtime::{Client, Limits};
///
/// let client = Client::builder("tcp://127.0.0.1:5005")
///     .limits(Limits::default().max_message(64 << 20))
///     .timeout(Duration::from_secs(5))
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a builder does nothing until it connects"]
pub struct ClientBuilder<C = Client> {
    places: Vec<AddressEntry>,
    limits: Limits,
    timeout: Option<Duration>,
    connect_timeout: Duration,
    fails_fast: bool,
    takes_hints: bool,
    has_spans: bool,
    compression: Option<Compression>,
    callbacks: Option<Arc<dyn CallbackServices>>,
    connections: usize,
    busy_poll: Duration,
    connector: Option<Connector>,
    bridges: Vec<Arc<dyn Bridge>>,
    cluster: ClusterChoice,
    layers: Vec<Arc<dyn DynMiddleware<ClientCall>>>,
    metadata: Metadata,
    credentials: Credentials,
    security: ClientSecurity,
    memory: Arc<Memory>,
    /// Whether its calls are counted, and its connections listed: not those of a guest's client, which carry the calls of others.
    is_visible: bool,
    client: PhantomData<fn() -> C>,
}

impl<C> ClientBuilder<C> {
    /// Makes a builder of a client of `address`, as [`Client::builder`] does, or the `builder` of a generated client.
    pub fn new(address: impl AsRef<str>) -> Self {
        Self::to(place(address.as_ref()))
    }

    /// Makes a builder of a client of a server in this process.
    pub(crate) fn to_acceptor(acceptor: Arc<dyn StreamAcceptor>) -> Self {
        let target = ConnectTarget::InProcess(acceptor);
        Self::to(AddressEntry::new(target, "in-process".into()))
    }

    fn to(place: AddressEntry) -> Self {
        Self {
            places: vec![place],
            limits: Limits::default(),
            timeout: Some(CALL_TIMEOUT),
            connect_timeout: CONNECT_TIMEOUT,
            fails_fast: false,
            takes_hints: true,
            has_spans: true,
            compression: None,
            callbacks: None,
            connections: 1,
            busy_poll: BUSY_POLL,
            connector: None,
            bridges: Vec::new(),
            cluster: ClusterChoice::default(),
            layers: Vec::new(),
            metadata: Metadata::new(),
            credentials: Credentials::default(),
            security: ClientSecurity::default(),
            memory: Arc::default(),
            is_visible: true,
            client: PhantomData,
        }
    }

    /// Adds an address of the same service, which is tried if those before it do not answer promptly.
    ///
    /// There is one connection at a time. When it ends, the next address is tried first, and after the last one the
    /// first. With an invalid address every call fails.
    ///
    /// Addresses race as in RFC 8305 (Happy Eyeballs). If an address has not shaken hands within 250 ms, the next one
    /// is tried beside it; if one fails, the next one is tried at once. The first that shakes hands is kept. The
    /// endpoints behind a host name race in the same way. With several addresses no call goes ahead of the handshake.
    ///
    /// If a call misses its deadline, and nothing arrived on its connection since it began, the connection is in doubt.
    /// The peer is pinged at once. If nothing arrives within 250 ms, the next address is tried beside it. Calls wait
    /// meanwhile, and use the connection that answers first.
    pub fn fallback(mut self, address: impl AsRef<str>) -> Self {
        self.places.push(place(address.as_ref()));
        self
    }

    /// Sets how many connections the client keeps to the server, at least 1. Default: 1.
    ///
    /// Calls with a reply or with streams take turns on them. Several connections help with messages of megabytes, and
    /// with more small calls than one core at an end can carry; see docs/how-to/workers.md. Each connection has its own
    /// [`Limits`] and connects by itself. Closing the client closes all of them.
    ///
    /// All one-way calls use the first connection, so they keep their order. [`Client::barrier`],
    /// [`Client::terminate`], [`Client::state`] and [`Client::last_failure`] also refer to the first one. A call on
    /// another connection does not wait for the one-way calls before it: there is no order across connections.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// Limits how long the task of a connection looks at its socket again before it sleeps; zero for never. Default: 50 µs.
    ///
    /// While calls are under way, and the last answers came quickly, the task yields and looks again, so that neither the thread nor its
    /// processor has to wake for the answer. It does not look where that does not pay: with one processor, beside other busy connections of
    /// the process, beside busy programs, and for answers that take longer. Only sockets of Unix systems are looked at. Servers have
    /// [`ServerBuilder::busy_poll`](crate::server::ServerBuilder::busy_poll). See docs/explanation/performance.md for figures.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use rpc_runtime::Client;
    ///
    /// let client: Client = Client::builder("tcp://127.0.0.1:5005")
    ///     .busy_poll(Duration::ZERO)
    ///     .connect_lazy();
    /// ```
    pub fn busy_poll(mut self, limit: Duration) -> Self {
        self.busy_poll = limit;
        self
    }

    /// Sets the limits of each connection on this side: how much it may hold, and how long it may take.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Accepts compressed replies, and compresses requests for servers that accept it; see [`Compression`]. Default:
    /// none.
    ///
    /// Requests that go ahead of the server's handshake are not compressed.
    #[cfg(any(feature = "zstd", feature = "lz4"))]
    #[cfg_attr(docsrs, doc(cfg(any(feature = "zstd", feature = "lz4"))))]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = Some(compression);
        self
    }

    /// Sets the timeout of calls that set none; `None` for unlimited. Default: 30 s.
    ///
    /// It also limits [`Client::flush`], [`Client::barrier`] and [`Client::close`].
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// Limits one attempt to connect to one address: look-up, transport and handshake. Default: 10 s.
    ///
    /// [`Limits::handshake_timeout`] limits the handshake alone, also on servers.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Fails calls UNAVAILABLE while the server is away, if true. Default: false, calls wait until their deadline.
    ///
    /// [`Call::fail_fast`](crate::Call::fail_fast) and [`Call::wait_for_ready`](crate::Call::wait_for_ready) set it for
    /// one call.
    pub fn fail_fast(mut self, fail_fast: bool) -> Self {
        self.fails_fast = fail_fast;
        self
    }

    /// Makes calls again that a server refused with a hint when to come back, if true. Default: true.
    ///
    /// A server gives the hint by [`Status::with_retry_after`](crate::Status::with_retry_after), as the
    /// [limits](crate::limit) of this library do. The call surely did not run. The client waits for as long as the hint
    /// says and for a random time up to as much again, so that clients that were refused together do not come back together.
    ///
    /// A call comes back three times at most, and a stream of replies once. Each time costs a token of the client's retry budget:
    /// ten at most, and each reply returns a tenth of one. The call fails at once, with the hint in
    /// [`Error::retry_after`](crate::Error::retry_after), if its deadline leaves no time for the wait, if the hint is longer than
    /// a minute, or if the call fails fast. One-way calls and calls that send a stream never come back.
    pub fn retry_hints(mut self, retry_hints: bool) -> Self {
        self.takes_hints = retry_hints;
        self
    }

    /// Makes no [spans](crate::trace) of its calls on this side. Default: it makes them, if a subscriber wants them.
    ///
    /// It is for a client that sends spans away, because each of its calls would make another span to send. The trace of a call still travels.
    pub fn without_spans(mut self) -> Self {
        self.has_spans = false;
        self
    }

    /// Adds [middleware](crate::middleware) around the calls of this client, inside of what was added before.
    ///
    /// A call passes middleware in the order in which it was added: the first is the outermost. Calls of the control service
    /// (`terminate`, `ping`, `settled`), and the calls that a handler makes by
    /// [`Context::caller`](crate::Context::caller), pass none.
    ///
    /// ```
    /// use rpc_runtime::{Client, middleware::{self, ClientCall}};
    ///
    /// let client: Client = Client::builder("tcp://127.0.0.1:5005")
    ///     .layer(middleware::from_fn(async |mut call: ClientCall, next| {
    ///         call.metadata_mut().insert("x-tenant", "acme");
    ///         next.run(call).await
    ///     }))
    ///     .connect_lazy();
    /// ```
    pub fn layer(mut self, middleware: impl Middleware<ClientCall>) -> Self {
        self.layers.push(Arc::new(middleware));
        self
    }

    /// Adds a metadata entry to all calls of this client, `terminate` and `ping` included. Default: none.
    ///
    /// A call that has an entry of the same key itself, by [`Call::metadata`](crate::Call::metadata), sends that one alone. A call
    /// with an entry that [`Metadata`] does not allow, or with too many, fails with INVALID_ARGUMENT.
    ///
    /// Each call carries the bytes. One-way calls with metadata do not share frames, so many of them in a row cost several times
    /// as much. Say once what belongs to the connection, by [`ClientBuilder::connection_metadata`].
    ///
    /// ```
    /// use rpc_runtime::Client;
    ///
    /// let client: Client = Client::builder("tcp://127.0.0.1:5005")
    ///     .metadata("x-tenant", "acme")
    ///     .connect_lazy();
    /// ```
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.metadata.append(key, value);
        self
    }

    /// Says an entry once for all calls of each connection, in the HELLO. Default: none.
    ///
    /// Middleware and handlers of the server read it by [`Context::connection_metadata`](crate::Context::connection_metadata). A call
    /// carries nothing of it. The limits are those of [`Metadata`]: with an entry that it does not allow, or with too many, every
    /// call fails with INVALID_ARGUMENT.
    ///
    /// ```
    /// use rpc_runtime::Client;
    ///
    /// let client: Client = Client::builder("tcp://127.0.0.1:5005")
    ///     .connection_metadata("x-build", env!("CARGO_PKG_VERSION"))
    ///     .connect_lazy();
    /// ```
    pub fn connection_metadata(mut self, key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.credentials.metadata.append(key, value);
        self
    }

    /// Sets a token that shows who the client is. It is sent once for each connection, in the HELLO. Default: none.
    ///
    /// A call carries nothing of it, and costs the same as without. A server takes it by
    /// [`BearerTokens`](crate::auth::BearerTokens). It replaces an earlier token or source of tokens. A call that has an entry
    /// `authorization` of its own is made with that one.
    ///
    /// The client does not send it over plain TCP: every call fails with FAILED_PRECONDITION if an address is `tcp://`, or if a
    /// [`connector`](Self::connector) is set. `tls://`, `unix:`, `pipe:` and `mem:` addresses, and a server in this process, are safe.
    ///
    /// ```
    /// use rpc_runtime::Client;
    ///
    /// let client: Client = Client::builder("unix:/run/kv.sock").token("mF_9.B5f-4.1JqM").connect_lazy();
    /// ```
    pub fn token(mut self, token: impl Into<Secret>) -> Self {
        self.credentials.token = TokenChoice::Fixed(token.into());
        self
    }

    /// Sets where the client gets its tokens, for tokens that expire. Default: none.
    ///
    /// Each call carries the token that is valid then, in the entry `authorization`, so it costs about as much as a call with a
    /// middleware. A call waits for the first token, and for a new one if the old one has expired. While it is valid, it is renewed
    /// beside the calls: after 70 to 80 % of its time. If a server refuses a token with UNAUTHENTICATED, and ran nothing, the
    /// client gets another one, and makes a call without streams once more with it; at most once in 5 s.
    ///
    /// It replaces an earlier token or source of tokens, and is as careful about plain TCP as [`token`](Self::token).
    /// [`TokenSource`] says what happens when the source fails.
    pub fn token_source(mut self, source: impl TokenSource) -> Self {
        self.credentials.token = TokenChoice::Source(Arc::new(source));
        self
    }

    /// Sends tokens over plain TCP, over TLS that takes any certificate, and over streams of a [`connector`](Self::connector), too.
    ///
    /// Whoever can read the traffic has the token then. Call it only if something else keeps the bytes secret: a tunnel, or a network
    /// inside of one machine.
    pub fn dangerous_token_over_plain_tcp(mut self) -> Self {
        self.credentials.allows_plain_tcp = true;
        self
    }

    /// Names a user that may serve at `unix:` addresses; called again, a further one. Default: anybody, or the user of this process and
    /// root if the client sends a token. A `pipe:` of Windows can only have the default.
    ///
    /// The kernel tells who listens at a socket. If it is another user, the client sends nothing, and every call fails with
    /// UNAUTHENTICATED. Name the server's user if your client runs as another one and sends tokens:
    ///
    /// ```
    /// use rpc_runtime::Client;
    ///
    /// // The user `kv`.
    /// let client: Client = Client::builder("unix:/run/kv/kv.sock").token("mF_9.B5f-4.1JqM").unix_server_uid(998).connect_lazy();
    /// ```
    ///
    /// Root, and the user of this process, count only if they are named, too. All users that this namespace does not know
    /// have the uid 65534. If you name it, you trust all of them.
    pub fn unix_server_uid(mut self, uid: u32) -> Self {
        self.credentials.unix_servers.push(uid);
        self
    }

    /// Sets which servers it trusts at `tls://` addresses, and who it is itself. Default: the CAs of this machine, and no
    /// certificate of its own.
    ///
    /// Over TLS no call goes ahead of the handshake, because the server may refuse this client's certificate.
    #[cfg(feature = "_tls")]
    #[cfg_attr(docsrs, doc(cfg(any(feature = "tls", feature = "tls-ring"))))]
    pub fn tls(mut self, tls: crate::tls::ClientTls) -> Self {
        self.security = self.security.with_tls(tls);
        self
    }

    /// Connects by a function of yours, which gets each address as it was written.
    ///
    /// Use it for transports that are not built in, such as vsock, a tunnel or a simulated network. If the function
    /// panics, that address has failed, and the error has the text of the panic.
    ///
    /// The stream may buffer what is written, as [`BufStream`](tokio::io::BufStream) does. It is flushed when
    /// everything is written, and after 32 KiB at the latest. [`Client::flush`] waits for that.
    ///
    /// ```
    /// use rpc_runtime::Client;
    /// use tokio::net::TcpStream;
    ///
    /// let client: Client = Client::builder("10.0.0.7:5005")
    ///     .connector(|address| TcpStream::connect(address))
    ///     .connect_lazy();
    /// ```
    pub fn connector<F, O, S>(mut self, connect: F) -> Self
    where
        F: Fn(String) -> O + Send + Sync + 'static,
        O: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        self.connector = Some(Connector::new(connect));
        self
    }

    /// Makes the client, connects, and waits for the handshake.
    ///
    /// # Errors
    ///
    /// At once if no server listens there, if the peer does not speak the protocol, or if the address is invalid;
    /// DEADLINE_EXCEEDED if the peer does not answer within the connect timeout. With several addresses, only when all
    /// of them have failed. It tries once more if a server drains: another one may have taken over.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the attempt.
    pub async fn connect(self) -> Result<C, Error>
    where
        C: From<Client> + 'static,
    {
        let client = self.client();
        // Made first, because a generated client says which procedures it calls.
        let made = C::from(client.clone());
        client.first_attempt().await?;
        Ok(made)
    }

    /// Makes the client, which connects at its first call.
    ///
    /// A call that finds no server tries again until its deadline. With an invalid address every call fails.
    pub fn connect_lazy(self) -> C
    where
        C: From<Client> + 'static,
    {
        self.client().into()
    }

    /// The services that the server may call, as collected so far.
    pub(crate) fn callbacks(&self) -> Option<&dyn CallbackServices> {
        self.callbacks.as_deref()
    }

    /// Replaces the services that the server may call.
    pub(crate) fn set_callbacks(&mut self, callbacks: Arc<dyn CallbackServices>) {
        self.callbacks = Some(callbacks);
    }

    /// Adds another protocol, after those that were added before.
    pub(crate) fn add_bridge(&mut self, bridge: Arc<dyn Bridge>) {
        self.bridges.push(bridge);
    }

    /// Counts what its connections hold in `memory`. Default: in one of its own, without a limit.
    pub(crate) fn memory(mut self, memory: Arc<Memory>) -> Self {
        self.memory = memory;
        self
    }

    /// Leaves it out of metrics, and hides it from those who look into the process: it carries the calls of others, which the server counts
    /// and lists.
    pub(crate) fn invisible(mut self) -> Self {
        self.is_visible = false;
        self
    }

    fn client(mut self) -> Client
    where
        C: 'static,
    {
        match self.resolver_to_follow() {
            Some(Ok(resolver)) => self.cluster(resolver),
            Some(Err(error)) => {
                self.places[0].target = ConnectTarget::Bad(error);
                self.plain(Arc::default())
            }
            None => self.plain(Arc::default()),
        }
    }

    /// Makes a client of one server at a time.
    pub(super) fn plain(mut self, procedures: Arc<KnownProcedures>) -> Client {
        if let Some(connector) = &self.connector {
            for place in &mut self.places {
                place.target = ConnectTarget::Custom(connector.clone(), Arc::clone(&place.address));
            }
        }
        let sends_token = self.metadata.contains_key(Metadata::AUTHORIZATION);
        if let Some(servers) = self.credentials.unix_servers(sends_token) {
            self.security = self.security.with_unix_servers(servers);
        }
        for place in &mut self.places {
            if let ConnectTarget::Address(_, security) = &mut place.target {
                *security = self.security.clone();
            }
        }
        let plan = BridgePlan {
            procedures,
            bridges: &self.bridges,
            security: &self.security,
            connector: self.connector.as_ref(),
            limits: &self.limits,
            misfit: match (&self.callbacks, self.compression) {
                (Some(_), _) => Some(NO_CALLBACKS),
                (None, Some(_)) => Some(NO_COMPRESSION),
                (None, None) => None,
            },
        };
        let procedures = plan.apply(&mut self.places);
        let credentials = match self.credentials.checked(&self.places, sends_token) {
            Ok(checked) => checked,
            Err(error) => {
                for place in &mut self.places {
                    place.target = ConnectTarget::Bad(error.clone());
                }
                CheckedCredentials::default()
            }
        };
        let mut instance = [0; 16];
        fastrand::fill(&mut instance);
        let limits = self.limits.clone();
        let priorities = self
            .callbacks
            .as_ref()
            .map(|services| services.priorities())
            .unwrap_or_default();
        let served = self.callbacks.as_ref().map(|services| services.served());
        let settings = Arc::new(Settings {
            serves: self.callbacks.is_some(),
            priorities,
            served: served.unwrap_or_default(),
            is_metered: self.is_visible,
            encodings: Compression::announced(self.compression),
            metadata: credentials.metadata,
            memory: Arc::clone(&self.memory),
            busy_poll: self.busy_poll,
            ..Settings::new(
                &limits,
                CLIENT_KEEP_ALIVE,
                Bytes::copy_from_slice(&instance),
                fastrand::u32(..),
            )
        });
        let callbacks = self
            .callbacks
            .map(|services| services.server(limits, self.compression))
            .transpose();
        let channels = ChannelPool::new(self.connections, || {
            let channel = Channel::new(
                Addresses::new(self.places.clone()),
                Arc::clone(&settings),
                self.compression,
                self.connect_timeout,
                callbacks.clone(),
                procedures.clone(),
                fastrand::Rng::new(),
            );
            if self.is_visible {
                channel.list();
            }
            channel
        });
        Client::new(channels, self.timeout, self.connect_timeout, self.fails_fast)
            .with_hints(self.takes_hints)
            .with_spans(self.has_spans)
            .with_layers(self.layers, credentials.tokens)
            .with_metadata(self.metadata)
    }
}

impl<C> Clone for ClientBuilder<C> {
    fn clone(&self) -> Self {
        Self {
            places: self.places.clone(),
            limits: self.limits.clone(),
            memory: Arc::clone(&self.memory),
            callbacks: self.callbacks.clone(),
            connector: self.connector.clone(),
            bridges: self.bridges.clone(),
            cluster: self.cluster.clone(),
            layers: self.layers.clone(),
            metadata: self.metadata.clone(),
            credentials: self.credentials.clone(),
            security: self.security.clone(),
            ..*self
        }
    }
}

impl<C> fmt::Debug for ClientBuilder<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("places", &self.places)
            .field("limits", &self.limits)
            .field("timeout", &self.timeout)
            .field("layers", &self.layers.len())
            .finish_non_exhaustive()
    }
}

/// The entry of one address.
fn place(address: &str) -> AddressEntry {
    let target = match Address::parse_server(address) {
        Ok(address) => ConnectTarget::Address(address, ClientSecurity::default()),
        Err(error) => ConnectTarget::Bad(error),
    };
    AddressEntry::new(target, address.into())
}
