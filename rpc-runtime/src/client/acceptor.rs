//! What a server implements for a client of its process: it accepts streams, serves the callbacks of peers, and bridges to servers of
//! other protocols.

use std::{any::Any, fmt, future::Future, io, pin::Pin, sync::Arc};

use super::known_procedures::KnownProcedures;
use crate::{
    Compression, Error, Limits, Peer, Status, Transport,
    api::priority::Priorities,
    driver::{Baton, SharedConnection},
    metrics::ServedProcedures,
    net::Stream,
};

/// A server in this process, to which a client connects without a socket.
pub(crate) trait StreamAcceptor: fmt::Debug + Send + Sync {
    /// Serves `stream` in the background.
    ///
    /// # Errors
    ///
    /// The stream will never be served. The error is final: the client does not try again.
    fn accept(&self, stream: Stream) -> Result<(), Error>;
}

/// The services that a builder collects for its client: the server may call them.
pub(crate) trait CallbackServices: fmt::Debug + Send + Sync {
    /// The priorities of their procedures.
    fn priorities(&self) -> Priorities;

    /// The counters of their procedures.
    fn served(&self) -> ServedProcedures;

    /// Makes the server of a client with these services.
    ///
    /// # Errors
    ///
    /// The services cannot be served together.
    fn server(
        &self,
        limits: Limits,
        compression: Option<Compression>,
    ) -> Result<Arc<dyn CallbackServer>, Error>;

    /// The collection itself, so that one more service can be added to it.
    fn as_any(&self) -> &dyn Any;
}

/// Serves the calls that the peer makes on a client's connections.
pub(crate) trait CallbackServer: fmt::Debug + Send + Sync {
    /// Drives the connection and serves the calls that arrive on it; to be called inside of a runtime.
    ///
    /// None if it does not drive the connection.
    fn serve(
        &self,
        shared: Arc<SharedConnection>,
        peer: Peer,
        baton: &Arc<Baton<Stream>>,
    ) -> Option<AfterConnection>;
}

/// Waits for the callbacks that outlive their connection. It is run, or dropped, when that has ended.
pub(crate) type AfterConnection = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A bridge to servers of another protocol: a server in this process that makes their calls of ours.
pub(crate) trait Bridge: fmt::Debug + Send + Sync {
    /// How the servers at addresses of `scheme` are reached; none if the scheme is not the protocol's.
    fn way(&self, scheme: &str) -> Option<BridgeWay>;

    /// Begins to speak the protocol on `stream`. Returns a server of one connection, which speaks ours.
    ///
    /// `address` is what the user wrote.
    ///
    /// # Errors
    ///
    /// FAILED_PRECONDITION if another attempt would fail in the same way.
    fn join(&self, stream: Stream, peer: Peer, address: Arc<str>, settings: BridgeSettings) -> Joining;
}

/// A bridge that begins.
pub(crate) type Joining = Pin<Box<dyn Future<Output = Result<Arc<dyn StreamAcceptor>, JoinFailure>> + Send>>;

/// Why a bridge does not begin.
pub(crate) enum JoinFailure {
    /// TLS failed under the protocol: a server refuses the certificate of its client after the handshake.
    Tls(io::Error),
    /// What the protocol says.
    Protocol(Status),
}

impl From<Status> for JoinFailure {
    fn from(status: Status) -> Self {
        Self::Protocol(status)
    }
}

/// How the servers of another protocol are reached.
pub(crate) struct BridgeWay {
    pub(crate) transport: Transport,
    /// The id of the protocol in ALPN.
    pub(crate) alpn: &'static [u8],
}

/// What a bridge knows of its client.
#[derive(Clone)]
pub(crate) struct BridgeSettings {
    pub(crate) limits: Limits,
    pub(crate) procedures: Arc<KnownProcedures>,
}
