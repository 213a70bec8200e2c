//! Grpc: gRPC as a protocol of clients.

mod body;
mod call;
mod connection;
mod driver;
mod failure;
mod first_bytes;
mod foreign;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod handed_calls;
mod message_bytes;
mod messages;
mod reply;
mod reply_headers;
mod request;

use std::{sync::Arc, time::Duration};

use rpc_runtime::{
    protocol::{Connecting, Protocol, ProtocolConnection, ProtocolStream},
    server::Transport,
};

use self::connection::Connection;
pub use self::reply_headers::ReplyHeaders;

/// gRPC over HTTP/2 as a protocol of clients: give it to
/// [`ClientBuilder::protocol`](rpc_runtime::client::ClientBuilder::protocol).
///
/// Then the client's addresses may be `grpc://host:port`, `grpcs://host:port` for TLS (with a feature `tls` of rpc-runtime), and
/// `grpc+unix:/path`.
///
/// ```no_run
/// # use demo_api::demo::kv::v1::KvClient;
/// # async fn example() -> Result<(), rpc_runtime::Error> {
/// use rpc_http::Grpc;
///
/// let kv = KvClient::builder("grpc://127.0.0.1:50051")
///     .protocol(Grpc::new())
///     .connect()
///     .await?;
/// kv.send_recv().update("dog", "woof").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "it does nothing until a client has it"]
pub struct Grpc(Settings);

/// How a client speaks gRPC.
#[derive(Clone, Debug)]
struct Settings {
    gzip: bool,
    authority: Option<String>,
    keep_alive: Option<Duration>,
    keep_alive_timeout: Duration,
}

impl Grpc {
    /// Makes one that compresses nothing.
    pub fn new() -> Self {
        Self(Settings {
            gzip: false,
            authority: None,
            keep_alive: Some(KEEP_ALIVE),
            keep_alive_timeout: Duration::from_secs(20),
        })
    }

    /// Compresses requests of 1 KiB and more with gzip. Default: no. Replies may always be compressed so.
    ///
    /// A server that has no gzip refuses such a call with UNIMPLEMENTED.
    #[cfg(feature = "gzip")]
    pub fn gzip(mut self) -> Self {
        self.0.gzip = true;
        self
    }

    /// Sets the name that servers and proxies are asked for, as `:authority`. Default: the host and the port of the address, and `localhost`
    /// for Unix sockets.
    pub fn authority(mut self, authority: impl Into<String>) -> Self {
        self.0.authority = Some(authority.into());
        self
    }

    /// Sets after how long without a byte from the server a PING is sent, while calls are open; `None` for never. Default: 6 minutes.
    ///
    /// The client looks once per interval, so the PING goes out after one to two intervals. By default, many servers end a connection that
    /// sends PINGs more often than every 5 minutes.
    pub fn keep_alive(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.0.keep_alive = interval.into();
        self
    }

    /// Sets how long a server may take to answer a PING before its connection ends. Default: 20 s.
    pub fn keep_alive_timeout(mut self, timeout: Duration) -> Self {
        self.0.keep_alive_timeout = timeout;
        self
    }
}

impl Default for Grpc {
    fn default() -> Self {
        Self::new()
    }
}

impl Protocol for Grpc {
    fn transport(&self, scheme: &str) -> Option<Transport> {
        match scheme {
            "grpc" => Some(Transport::Tcp),
            "grpcs" => Some(Transport::Tls),
            "grpc+unix" => Some(Transport::Unix),
            _ => None,
        }
    }

    fn alpn(&self) -> &'static [u8] {
        b"h2"
    }

    fn connect(&self, stream: ProtocolStream) -> Connecting {
        let settings = self.0.clone();
        Box::pin(async move {
            let connection = Connection::open(&settings, stream).await?;
            Ok(Arc::new(connection) as Arc<dyn ProtocolConnection>)
        })
    }
}

/// Servers allow a PING every 5 minutes by default.
const KEEP_ALIVE: Duration = Duration::from_secs(360);
