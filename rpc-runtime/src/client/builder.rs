//! ClientBuilder: what a client may be told before it begins.

use std::{fmt, future::Future, io, marker::PhantomData, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    Client,
    acceptor::{CallbackServices, StreamAcceptor},
    channel::{
        Channel,
        addresses::{AddressEntry, Addresses, ConnectTarget},
        pool::ChannelPool,
    },
};
use crate::{
    Compression, Error, Limits,
    api::limits::{CALL_TIMEOUT, CLIENT_KEEP_ALIVE, CONNECT_TIMEOUT},
    conn::Settings,
    net::{Address, Connector},
};

/// What a client may be told before it begins; [`Client::builder`] makes one.
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
    compression: Option<Compression>,
    callbacks: Option<Arc<dyn CallbackServices>>,
    connections: usize,
    connector: Option<Connector>,
    client: PhantomData<fn() -> C>,
}

impl<C> ClientBuilder<C> {
    /// A client of `address`: as [`Client::builder`], or the `builder` of a generated client.
    pub fn new(address: impl AsRef<str>) -> Self {
        Self::to(place(address.as_ref()))
    }

    /// A client of a server in this process.
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
            compression: None,
            callbacks: None,
            connections: 1,
            connector: None,
            client: PhantomData,
        }
    }

    /// Adds an address of the same service, which is tried when those before it do not answer promptly.
    ///
    /// There is one connection at a time. When it ends, the address after its own is tried next, and after the last
    /// one the first. An address that is none makes every call fail.
    ///
    /// An address that has not shaken hands within 250 ms is raced by the next one, and so on, as RFC 8305 (Happy
    /// Eyeballs) does it; one that fails is followed at once. The first that shakes hands is kept. The addresses behind a
    /// host name race in the same way. With several addresses no call goes ahead of the handshake.
    ///
    /// A call that misses its deadline on a connection on which nothing came since it began puts that in doubt: the peer
    /// is asked at once, and if nothing comes within 250 ms either, the next address is tried beside it. Calls wait
    /// meanwhile, and go by whichever answers first.
    pub fn address(mut self, address: impl AsRef<str>) -> Self {
        self.places.push(place(address.as_ref()));
        self
    }

    /// How many connections to keep to the server, at least 1. Default 1.
    ///
    /// Calls with a reply, and those with streams, take turns on them: for messages of megabytes, and for more small calls
    /// than one core at an end can carry; see docs/how-to/workers.md. Each connection has its own [`Limits`], connects by itself, and
    /// is closed with the client.
    ///
    /// One-way calls all go by the first one, so their order is kept, and [`Client::barrier`] and [`Client::terminate`] speak
    /// of it, as do [`Client::state`] and [`Client::last_failure`]. But a call that takes another one does not wait for the
    /// one-way calls before it: nothing is in order across connections.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// How much a connection may hold, and how long it may take, on this side of it.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Takes compressed replies, and compresses requests for servers that take them; see [`Compression`]. Default: none.
    ///
    /// What is sent before the server's handshake is read travels as it is.
    #[cfg(any(feature = "zstd", feature = "lz4"))]
    #[cfg_attr(docsrs, doc(cfg(any(feature = "zstd", feature = "lz4"))))]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = Some(compression);
        self
    }

    /// How long a call may take that says nothing else; `None` for no limit. Default 30 s.
    ///
    /// It bounds [`Client::flush`], [`Client::barrier`] and [`Client::close`], too.
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// How long one attempt to connect to one address may take: to look its name up, to connect, and until the server's
    /// HELLO is accepted. Default 10 s.
    ///
    /// [`Limits::handshake_timeout`] bounds the handshake alone, for servers, too.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Whether calls fail UNAVAILABLE, rather than wait until their deadline, while the server is away. Default: they wait.
    ///
    /// See [`Call::fail_fast`](crate::Call::fail_fast), which says it for one call, as
    /// [`Call::wait_for_ready`](crate::Call::wait_for_ready) says the contrary.
    pub fn fail_fast(mut self, fail_fast: bool) -> Self {
        self.fails_fast = fail_fast;
        self
    }

    /// Connects by a function of yours, which is given each address as it was written, whatever that means to it: for
    /// transports that are not built in, as vsock, a tunnel, or a simulated network.
    ///
    /// If it panics, that address has failed, with the text of the panic.
    ///
    /// The stream may buffer what is written, as [`BufStream`](tokio::io::BufStream) does: it is flushed when all is written that
    /// there is, and after 32 KiB at the latest. [`Client::flush`] waits for that.
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
    /// At once if nobody listens there, if the peer does not speak the protocol, or if the address is bad;
    /// DEADLINE_EXCEEDED if the peer does not answer within the connect timeout. With several addresses, only when
    /// all of them have failed so.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the attempt up.
    pub async fn connect(self) -> Result<C, Error>
    where
        C: From<Client>,
    {
        let client = self.client();
        client.first_attempt().await?;
        Ok(client.into())
    }

    /// Makes the client, which connects at its first call.
    ///
    /// A call that finds nobody there tries again until its deadline. A bad address makes every call fail.
    pub fn connect_lazy(self) -> C
    where
        C: From<Client>,
    {
        self.client().into()
    }

    /// The services that the server may call, as far as they are collected.
    pub(crate) fn callbacks(&self) -> Option<&dyn CallbackServices> {
        self.callbacks.as_deref()
    }

    /// Replaces the services that the server may call.
    pub(crate) fn set_callbacks(&mut self, callbacks: Arc<dyn CallbackServices>) {
        self.callbacks = Some(callbacks);
    }

    fn client(mut self) -> Client {
        if let Some(connector) = &self.connector {
            for place in &mut self.places {
                place.target = ConnectTarget::Custom(connector.clone(), Arc::clone(&place.address));
            }
        }
        let mut instance = [0; 16];
        fastrand::fill(&mut instance);
        let limits = self.limits.clone();
        let priorities = self
            .callbacks
            .as_ref()
            .map(|services| services.priorities())
            .unwrap_or_default();
        let settings = Arc::new(Settings {
            serves: self.callbacks.is_some(),
            priorities,
            encodings: Compression::announced(self.compression),
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
            Channel::new(
                Addresses::new(self.places.clone()),
                Arc::clone(&settings),
                self.compression,
                self.connect_timeout,
                callbacks.clone(),
                fastrand::Rng::new(),
            )
        });
        Client::new(channels, self.timeout, self.connect_timeout, self.fails_fast)
    }
}

impl<C> Clone for ClientBuilder<C> {
    fn clone(&self) -> Self {
        Self {
            places: self.places.clone(),
            limits: self.limits.clone(),
            callbacks: self.callbacks.clone(),
            connector: self.connector.clone(),
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
            .finish_non_exhaustive()
    }
}

/// What is to be connected to at `address`.
fn place(address: &str) -> AddressEntry {
    let target = match Address::parse(address) {
        Ok(address) => ConnectTarget::Address(address),
        Err(error) => ConnectTarget::Bad(error),
    };
    AddressEntry::new(target, address.into())
}
