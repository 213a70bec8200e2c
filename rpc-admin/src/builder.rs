//! AdminBuilder: what the pages show, to whom, and where.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use rpc_http::Http;
use rpc_runtime::{
    Error, Server,
    server::{Handler, Incoming, Peer, Procedure, Service, TerminatePolicy},
};
use rpc_services::HealthHandle;
use tokio::runtime::Handle;

use crate::{
    admin::Admin,
    pages::Pages,
    visitor::{PolicyFn, Visitors},
};

/// Configures the pages of a process, and where they are served.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), rpc_runtime::Error> {
/// use rpc_services::Health;
///
/// let health = Health::new();
/// let admin = rpc_admin::builder()
///     .health(health.handle())
///     .policy(|peer, headers| {
///         let token = headers.get("authorization").map(|value| value.as_bytes());
///         peer.is_local() || token == Some(b"Bearer of-the-operators".as_slice())
///     })
///     .listen("tcp://127.0.0.1:0")
///     .await?;
/// println!("admin {}", admin.address());
/// # admin.stop().await;
/// # Ok(())
/// # }
/// ```
#[must_use = "a builder does nothing until it listens"]
pub struct AdminBuilder {
    health: Option<HealthHandle>,
    visitors: Visitors,
    #[cfg(any(feature = "tls", feature = "tls-ring"))]
    tls: Option<rpc_runtime::tls::ServerTls>,
}

impl AdminBuilder {
    pub(crate) fn new() -> Self {
        Self {
            health: None,
            visitors: Visitors::OfThisMachine,
            #[cfg(any(feature = "tls", feature = "tls-ring"))]
            tls: None,
        }
    }

    /// Sets the health that `/readyz` reads: that of the server, `Health::handle`. Default: none, and `/readyz` answers as `/healthz`.
    ///
    /// Then `/readyz` is 503 once a drain of the server is asked for, and while the program has set the name "" to NOT_SERVING.
    pub fn health(mut self, health: HealthHandle) -> Self {
        self.health = Some(health);
        self
    }

    /// Sets who may see the debug pages. Default: peers of this machine, by a request that no proxy has forwarded, for an IP address or
    /// `localhost`.
    ///
    /// The policy gets the peer and the headers of the request. It decides about peers of this machine, too. It is asked for each request
    /// of a page below `/debug`, on the thread of the listener, so it must not block.
    ///
    /// Over plain TCP everybody on the way can read a token in a header: use a `tls://` address for that.
    pub fn policy(mut self, may_see: impl Fn(&Peer, &HeaderMap) -> bool + Send + Sync + 'static) -> Self {
        let may_see: Arc<PolicyFn> = Arc::new(may_see);
        self.visitors = Visitors::ByPolicy(may_see);
        self
    }

    /// Sets the certificate for a `tls://` address, and which clients it lets in.
    #[cfg(any(feature = "tls", feature = "tls-ring"))]
    #[cfg_attr(docsrs, doc(cfg(any(feature = "tls", feature = "tls-ring"))))]
    pub fn tls(mut self, tls: rpc_runtime::tls::ServerTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Listens at `tcp://host:port`, `tls://host:port` or `unix:/path`: the addresses of
    /// [`ServerBuilder::listener`](rpc_runtime::server::ServerBuilder::listener). Port 0 takes a free port.
    ///
    /// The listener has a thread of its own. It takes at most 256 connections, which hold at most 64 MiB together. It obeys no signals, and no
    /// peer can terminate it: it ends when the [`Admin`] is dropped.
    ///
    /// # Errors
    ///
    /// Those of [`ServerBuilder::bind`](rpc_runtime::server::ServerBuilder::bind): INVALID_ARGUMENT for a text that is no address, UNAVAILABLE for
    /// an address that is in use, FAILED_PRECONDITION for a `tls://` address without a certificate.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind.
    pub async fn listen(self, address: impl Into<String>) -> Result<Admin, Error> {
        let server = Server::builder()
            .service(NoCalls)
            .listener(address)
            .workers(1)
            .signals(false)
            .terminate_policy(TerminatePolicy::disabled())
            .max_connections(MAX_CONNECTIONS)
            .max_waiting_handlers(1)
            .max_buffered_bytes(MAX_BUFFERED)
            .drain_timeout(DRAIN);
        #[cfg(any(feature = "tls", feature = "tls-ring"))]
        let server = match &self.tls {
            Some(tls) => server.tls(tls.clone()),
            None => server,
        };
        let guest = Http::new()
            .max_body(MAX_BODY)
            .request_timeout(REQUEST)
            .header_timeout(IDLE)
            .with_fixed_limits()
            .routes(self.routes());
        Ok(Admin::serve(server.guest(guest).bind().await?))
    }

    /// Returns the pages as routes, for a server that shows them on a port of its own: give them to [`Http::routes`].
    ///
    /// They then answer on the threads of that server, and to all peers that reach it.
    ///
    /// ```
    /// use rpc_http::Http;
    /// use rpc_runtime::Server;
    /// use rpc_services::Health;
    ///
    /// let health = Health::new();
    /// let pages = rpc_admin::builder().health(health.handle()).routes();
    /// let server = Server::builder().service(health).guest(Http::new().grpc().routes(pages));
    /// ```
    pub fn routes(
        self,
    ) -> impl Fn(Request<Bytes>) -> Pin<Box<dyn Future<Output = Response<Bytes>> + Send>> + Send + Sync + 'static
    {
        let runtime = Handle::try_current().ok();
        let pages = Arc::new(Pages::new(self.health, self.visitors, runtime));
        move |request| {
            let pages = Arc::clone(&pages);
            Box::pin(async move { pages.answer(&request).await })
        }
    }
}

impl fmt::Debug for AdminBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminBuilder")
            .field("health", &self.health)
            .field("visitors", &self.visitors)
            .finish_non_exhaustive()
    }
}

/// The service of the listener: a server has to have one.
struct NoCalls;

impl Service for NoCalls {
    fn name(&self) -> &'static str {
        "rpc.admin.v1.NoCalls"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &[]
    }

    fn call(&self, _: usize, call: Incoming) -> Handler {
        call.unknown()
    }
}

const MAX_CONNECTIONS: usize = 256;
const MAX_BUFFERED: u64 = 64 << 20;
/// How long open requests may take when the listener ends.
const DRAIN: Duration = Duration::from_secs(1);
/// No page asks for a body.
const MAX_BODY: usize = 4 << 10;
/// How long a page may take.
const REQUEST: Duration = Duration::from_secs(10);
/// How long a connection may be idle. Prometheus scrapes once a minute, or more often.
const IDLE: Duration = Duration::from_secs(90);
