//! Endpoint: where a server listens, and what its peers have to show first.

use super::ListeningSocket;
use crate::{
    Code, Error,
    net::{Address, TrustedNetworks},
};

/// Where a server listens: an address, or sockets that listen already.
///
/// [`ServerBuilder::listener`] takes it, or a text in its place, which is an address.
///
/// [`ServerBuilder::listener`]: crate::server::ServerBuilder::listener
///
/// ```
/// use rpc_runtime::{Server, server::Endpoint};
///
/// let server = Server::builder()
///     .listener("tcp://127.0.0.1:5005")
///     .listener(Endpoint::new("tcp://0.0.0.0:5006").behind_proxies(["10.0.0.0/8"]));
/// ```
#[derive(Debug)]
#[must_use = "it does nothing until a server listens there"]
pub struct Endpoint {
    address: String,
    /// Empty: the server binds the address.
    sockets: Option<Vec<ListeningSocket>>,
    /// From where proxies may connect.
    proxies: Option<Vec<String>>,
}

impl Endpoint {
    /// Listens on an address: `tcp://host:port`, `tls://host:port`, `unix:/path` (on Windows `pipe:name`) or `mem:name`.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            sockets: None,
            proxies: None,
        }
    }

    /// Listens by sockets that listen already, in place of binding `address`.
    ///
    /// `address` is what the program would have bound. If it begins with `tls://`, the streams are secured; its host and port are not
    /// looked at. The path of `unix:` is where the file of the socket is. Several sockets may share one address by SO_REUSEPORT, as those of
    /// [workers](crate::server::ServerBuilder::workers) do; the server accepts by all of them.
    ///
    /// The server owns the sockets: it takes the connections that wait in them when it drains, and removes the file of a Unix socket at
    /// its end. [`ListeningSocket::kept_elsewhere`] says otherwise.
    pub fn sockets<S: Into<ListeningSocket>>(
        address: impl Into<String>,
        sockets: impl IntoIterator<Item = S>,
    ) -> Self {
        Self {
            address: address.into(),
            sockets: Some(sockets.into_iter().map(Into::into).collect()),
            proxies: None,
        }
    }

    /// Asks for a header of the PROXY protocol, version 2, at the beginning of each connection, and believes those of proxies in `networks`:
    /// IP addresses, `192.0.2.1`, and networks, `10.0.0.0/8`. Default: no header, and none is understood.
    ///
    /// [`Peer::address`](crate::Peer::address) is then that of the client which the proxy names, and [`Peer::proxy`](crate::Peer::proxy) the proxy's. Such
    /// a peer never counts as local: what the proxy says gives nobody the right to terminate the server.
    ///
    /// The header comes before TLS. It has a part of the time of [`Limits::handshake_timeout`](crate::Limits::handshake_timeout), and at most 4 KiB; its TLVs are
    /// skipped. A connection from elsewhere, without a header, or with one of version 1 is closed, counted by
    /// [`Counters::proxy_headers_refused`](crate::server::Counters::proxy_headers_refused), and logged. Only `tcp://` and `tls://` can be behind proxies.
    pub fn behind_proxies<N: Into<String>>(mut self, networks: impl IntoIterator<Item = N>) -> Self {
        self.proxies = Some(networks.into_iter().map(Into::into).collect());
        self
    }

    /// Checks it.
    ///
    /// # Errors
    ///
    /// INVALID_ARGUMENT for a text that is no address, or no network.
    pub(super) fn checked(self) -> Result<CheckedEndpoint, Error> {
        let address = Address::parse(&self.address)?;
        let networks = self.proxies.as_deref().map(TrustedNetworks::parse).transpose()?;
        if networks.is_some() && !matches!(address, Address::Tcp(_) | Address::Tls(_)) {
            let text = format!(
                "{address} cannot be behind proxies: PROXY headers are read on tcp:// and tls:// only"
            );
            return Err(Error::local(Code::InvalidArgument, text));
        }
        Ok(CheckedEndpoint {
            written: self.address,
            address,
            sockets: self.sockets,
            proxies: networks,
        })
    }
}

impl<T: Into<String>> From<T> for Endpoint {
    fn from(address: T) -> Self {
        Self::new(address)
    }
}

/// An endpoint whose texts have been parsed.
#[derive(Debug)]
pub(super) struct CheckedEndpoint {
    /// The address as the program has written it.
    pub(super) written: String,
    pub(super) address: Address,
    /// None: the server binds the address.
    pub(super) sockets: Option<Vec<ListeningSocket>>,
    pub(super) proxies: Option<TrustedNetworks>,
}
