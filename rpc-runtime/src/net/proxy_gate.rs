//! ProxyGate: the way of a connection that a proxy has passed on, before TLS and the opening.

use std::io;

use super::{
    Peer, ServerSecurity, Stream, StreamKind,
    proxy_header::{ProxyFault, ProxyHeader},
    trusted_networks::TrustedNetworks,
};

/// What a connection has to show before it is served, on a listener behind proxies.
#[derive(Clone, Debug)]
pub(crate) struct ProxyGate {
    trusted: TrustedNetworks,
    /// How the stream behind the header is secured.
    security: Option<ServerSecurity>,
}

impl ProxyGate {
    pub(super) fn new(trusted: TrustedNetworks, security: Option<ServerSecurity>) -> Self {
        Self { trusted, security }
    }

    /// Reads the header of a proxy. Returns the stream behind it, and the client as its peer.
    ///
    /// The client's address is what the proxy says. So such a peer never counts as local, and proves nothing about its user.
    ///
    /// # Errors
    ///
    /// The connection does not come from a trusted proxy, or its header is wrong.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub(crate) async fn pass(&self, mut stream: Stream, from: &Peer) -> Result<(Stream, Peer), ProxyFault> {
        let proxy = from.socket_addr().filter(|proxy| self.trusted.contain(*proxy));
        let Some(proxy) = proxy else {
            let trusted = self.trusted.to_string();
            return Err(ProxyFault::Untrusted { trusted });
        };
        let peer = match ProxyHeader::read(&mut stream).await? {
            ProxyHeader::Client(client) => Peer::proxied(client, proxy, from),
            ProxyHeader::Unknown => Peer::proxied(proxy, proxy, from),
        };
        match (&self.security, stream.kind) {
            (Some(security), StreamKind::Tcp(stream)) => {
                security.accept(stream, peer).map_err(ProxyFault::Io)
            }
            (None, stream) => Ok((Stream::of(stream), peer)),
            (Some(_), _) => Err(ProxyFault::Io(io::ErrorKind::Unsupported.into())),
        }
    }
}
