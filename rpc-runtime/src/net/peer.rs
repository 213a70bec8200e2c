//! Peer: the other end of a connection, as far as the transport knows it.

use std::{net::SocketAddr, sync::Arc};

use super::{
    Address, Transport,
    os::{Credentials, User, own_user},
    terminate_key::Challenge,
};
#[cfg(feature = "_tls")]
use crate::tls::CertificateSlot;

/// The other end of a connection, as far as the transport knows it.
#[derive(Clone, Debug)]
pub struct Peer(Arc<PeerData>);

#[derive(Debug)]
struct PeerData {
    address: Arc<str>,
    transport: Transport,
    socket: Option<SocketAddr>,
    /// The address that the listener was given; none if none has accepted it.
    listener: Option<Arc<str>>,
    /// The proxy that has passed the connection on, and says where it comes from.
    proxy: Option<SocketAddr>,
    /// What it has to prove its user with, if only this machine can reach our end because the listener is bound to loopback.
    challenge: Option<Challenge>,
    /// The user and the process, as the OS tells them.
    user: Option<Credentials>,
    /// The certificate of a TLS peer: empty until the handshake has ended, and if it has shown none. None without TLS.
    #[cfg(feature = "_tls")]
    certificate: Option<CertificateSlot>,
    /// True if the peer is on the same node of a simulation.
    #[cfg(feature = "sim")]
    is_on_node: bool,
}

impl Peer {
    /// Makes the TCP peer at `socket`.
    pub(super) fn tcp(socket: SocketAddr) -> Self {
        Self::new(
            Transport::Tcp,
            format!("tcp://{socket}"),
            None,
            Some(socket),
            None,
        )
    }

    /// Makes the TCP peer at `socket`, accepted by a listener that is bound to `bound`.
    pub(super) fn accepted(socket: SocketAddr, bound: SocketAddr) -> Self {
        let challenge = is_loopback(bound).then(|| fastrand::u128(..).to_be_bytes());
        Self::new(
            Transport::Tcp,
            format!("tcp://{socket}"),
            challenge,
            Some(socket),
            None,
        )
    }

    /// Makes the TCP peer at `client`, of which `proxy` has told in a PROXY header on the connection `from`.
    pub(super) fn proxied(client: SocketAddr, proxy: SocketAddr, from: &Self) -> Self {
        let mut peer = Self::tcp(client);
        if let Some(data) = Arc::get_mut(&mut peer.0) {
            data.proxy = Some(proxy);
            data.listener.clone_from(&from.0.listener);
        }
        peer
    }

    /// Notes the address of the listener that has accepted the peer. The peer must not be shared yet.
    pub(super) fn with_listener(mut self, address: &Arc<str>) -> Self {
        if let Some(data) = Arc::get_mut(&mut self.0) {
            data.listener = Some(Arc::clone(address));
        }
        self
    }

    /// The address of the listener that has accepted the peer; none if none has.
    pub(crate) fn listener(&self) -> Option<&str> {
        self.0.listener.as_deref()
    }

    /// Makes the peer of a stream of the local transport.
    pub(super) fn local(address: &Address, credentials: Option<Credentials>) -> Self {
        Self::new(Transport::LOCAL, address.to_string(), None, None, credentials)
    }

    pub(super) fn memory(address: &Address) -> Self {
        Self::new(Transport::Memory, address.to_string(), None, None, None)
    }

    /// Makes the peer of a user's own stream; only its address is known.
    pub(super) fn custom(address: &str) -> Self {
        Self::new(Transport::Custom, address.to_owned(), None, None, None)
    }

    /// Makes a peer in a simulation. A peer on the same node runs as the same user.
    #[cfg(feature = "sim")]
    pub(crate) fn simulated(transport: Transport, address: String, is_on_node: bool) -> Self {
        Self(Arc::new(PeerData {
            address: address.into(),
            transport,
            socket: None,
            listener: None,
            proxy: None,
            challenge: None,
            user: None,
            #[cfg(feature = "_tls")]
            certificate: None,
            is_on_node,
        }))
    }

    pub(crate) fn in_process() -> Self {
        Self::new(Transport::InProcess, "in-process".to_owned(), None, None, None)
    }

    fn new(
        transport: Transport,
        address: String,
        challenge: Option<Challenge>,
        socket: Option<SocketAddr>,
        user: Option<Credentials>,
    ) -> Self {
        Self(Arc::new(PeerData {
            address: address.into(),
            transport,
            socket,
            listener: None,
            proxy: None,
            challenge,
            user,
            #[cfg(feature = "_tls")]
            certificate: None,
            #[cfg(feature = "sim")]
            is_on_node: false,
        }))
    }

    /// Makes the peer of the same transport whose address has the scheme of `address`, which the user wrote.
    pub(crate) fn at(&self, address: &str) -> Self {
        let (scheme, _) = address.split_once(':').unwrap_or((address, ""));
        let (_, place) = self.0.address.split_once(':').unwrap_or(("", &self.0.address));
        let address = format!("{scheme}:{place}");
        Self::new(
            self.0.transport,
            address,
            None,
            self.0.socket,
            self.0.user.clone(),
        )
    }

    /// Makes the TLS peer of a TCP peer, and the place for its certificate. The TCP peer must not be shared yet.
    #[cfg(feature = "_tls")]
    pub(super) fn over_tls(mut self) -> (Self, CertificateSlot) {
        let slot = CertificateSlot::default();
        if let Some(data) = Arc::get_mut(&mut self.0) {
            data.certificate = Some(Arc::clone(&slot));
            data.transport = Transport::Tls;
            data.address = data.address.replacen("tcp://", "tls://", 1).into();
        }
        (self, slot)
    }

    /// Returns the verified certificate of a TLS peer; `None` if it has shown none.
    ///
    /// A server asks for one if [`ServerTlsBuilder::client_roots`](crate::tls::ServerTlsBuilder::client_roots) is set.
    #[cfg(feature = "_tls")]
    #[cfg_attr(docsrs, doc(cfg(any(feature = "tls", feature = "tls-ring"))))]
    pub fn certificate(&self) -> Option<&crate::tls::PeerCertificate> {
        self.0.certificate.as_ref()?.get()
    }

    /// Returns the peer's address as text; for a Unix socket the path, and for a named pipe the name, that both
    /// ends share.
    pub fn address(&self) -> &str {
        &self.0.address
    }

    /// Returns the transport by which the peer is connected.
    pub fn transport(&self) -> Transport {
        self.0.transport
    }

    /// Returns the effective user id of the peer's process; known for Unix sockets only.
    ///
    /// By default a peer over loopback TCP proves its user when it sends a terminate: see
    /// [`TerminatePolicy`](crate::TerminatePolicy).
    pub fn uid(&self) -> Option<u32> {
        self.user()?.uid()
    }

    /// Returns the security identifier of the user of the peer's process, such as `S-1-5-21-..-1001`; known for named pipes only.
    pub fn sid(&self) -> Option<&str> {
        match self.user() {
            Some(User::Sid(sid)) => Some(sid),
            _ => None,
        }
    }

    pub(crate) fn user(&self) -> Option<&User> {
        self.0.user.as_ref().map(|credentials| &credentials.user)
    }

    /// Returns the effective group id of the peer's process; known for Unix sockets only.
    pub fn gid(&self) -> Option<u32> {
        self.0.user.as_ref()?.gid
    }

    /// Returns the process id of the peer; known for Unix sockets and named pipes only, and not on every system.
    pub fn pid(&self) -> Option<i32> {
        self.0.user.as_ref()?.pid
    }

    /// Returns the IP address and port of the peer; known for TCP and TLS only.
    ///
    /// On a listener [behind proxies](crate::server::Endpoint::behind_proxies) it is what the proxy says.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        self.0.socket
    }

    /// Returns the address of the proxy that has passed the connection on, if the listener is
    /// [behind proxies](crate::server::Endpoint::behind_proxies).
    ///
    /// [`Peer::address`] and [`Peer::socket_addr`] are then those of its client. They are the proxy's own if it has connected for itself, as
    /// for a health check.
    pub fn proxy(&self) -> Option<SocketAddr> {
        self.0.proxy
    }

    /// Returns true if the peer is on this machine.
    ///
    /// That is a Unix socket, a named pipe, this process, or TCP from a loopback address. It is never a peer that comes by a [proxy](Peer::proxy), whatever
    /// address that names.
    pub fn is_local(&self) -> bool {
        #[cfg(feature = "sim")]
        if self.0.is_on_node {
            return true;
        }
        match self.0.socket {
            Some(socket) => self.0.proxy.is_none() && is_loopback(socket),
            None => !matches!(
                self.0.transport,
                Transport::Tcp | Transport::Tls | Transport::Custom
            ),
        }
    }

    /// Returns true if the peer surely runs as our own user or as root.
    ///
    /// That is this process itself, a Unix peer with such a user id, or the peer of a named pipe with such a SID. The overflow uid stands for any user of another
    /// namespace, so it never counts as the same user.
    pub fn is_same_user(&self) -> bool {
        #[cfg(feature = "sim")]
        if self.0.is_on_node {
            return true;
        }
        match self.0.transport {
            Transport::Memory | Transport::InProcess => true,
            Transport::Unix | Transport::Pipe => match (self.user(), own_user()) {
                (Some(peer), Some(own)) => peer.may_act_as(&own),
                (None, _) | (_, None) => false,
            },
            Transport::Tcp | Transport::Tls | Transport::Custom => false,
        }
    }

    /// What the peer proves with that it runs as our own user; `None` if it is not over loopback TCP, or came to a listener
    /// that other machines can reach.
    pub(crate) fn challenge(&self) -> Option<Challenge> {
        self.0.challenge.filter(|_| self.is_local())
    }

    /// Returns true if the peer is connected by TCP, perhaps with TLS, and on this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        matches!(self.0.transport, Transport::Tcp | Transport::Tls) && self.is_local()
    }

    pub(crate) fn address_arc(&self) -> Arc<str> {
        Arc::clone(&self.0.address)
    }
}

/// True for an address that only this machine reaches. An IPv4 peer of a listener on `[::]` arrives as ::ffff:127.0.0.1.
pub(super) fn is_loopback(socket: SocketAddr) -> bool {
    socket.ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_local_in_both_families() {
        for (text, local) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("192.0.2.1:1", false),
            ("[2001:db8::1]:1", false),
        ] {
            let peer = Peer::tcp(text.parse().unwrap());
            assert_eq!(peer.is_local(), local, "{text}");
            assert!(!peer.is_same_user(), "{text}");
        }
    }

    #[test]
    fn only_a_peer_over_loopback_of_a_listener_there_has_a_challenge() {
        let challenge = |peer: &str, bound: &str| {
            Peer::accepted(peer.parse().unwrap(), bound.parse().unwrap()).challenge()
        };
        for (peer, bound) in [
            ("127.0.0.1:1", "127.0.0.1:2"),
            ("127.9.9.9:1", "127.0.0.1:2"),
            ("[::1]:1", "[::1]:2"),
            ("[::ffff:127.0.0.1]:1", "[::ffff:127.0.0.1]:2"),
        ] {
            let one = challenge(peer, bound);
            assert!(
                one.is_some() && one != challenge(peer, bound),
                "{bound}: each has its own"
            );
        }
        for (peer, bound) in [
            ("127.0.0.1:1", "0.0.0.0:2"),
            ("127.0.0.1:1", "192.0.2.1:2"),
            ("[::1]:1", "[::]:2"),
            ("192.0.2.1:1", "127.0.0.1:2"),
        ] {
            assert_eq!(challenge(peer, bound), None, "{peer} at {bound}");
        }
        assert_eq!(Peer::tcp("127.0.0.1:1".parse().unwrap()).challenge(), None);
    }

    #[test]
    fn a_peer_behind_a_proxy_is_never_local_whatever_address_the_proxy_names() {
        let [client, proxy] = ["127.0.0.1:1", "127.0.0.1:2"].map(|text| text.parse().unwrap());
        let peer = Peer::proxied(client, proxy, &Peer::tcp(proxy));
        assert_eq!((peer.address(), peer.proxy()), ("tcp://127.0.0.1:1", Some(proxy)));
        assert!(!peer.is_local() && !peer.is_loopback() && !peer.is_same_user());
        assert_eq!(peer.challenge(), None);
    }

    #[test]
    fn a_local_peer_of_this_process_is_the_same_user() {
        let address = Address::Local("/x".into());
        let of = |user| Credentials {
            user,
            gid: None,
            pid: None,
        };
        let peer = Peer::local(&address, own_user().map(of));
        assert!(peer.is_same_user() && peer.is_local());
        assert!(peer.uid().is_some() != peer.sid().is_some());
        assert!(!Peer::local(&address, None).is_same_user());
        assert!(!Peer::local(&address, Some(of(User::Uid(65534)))).is_same_user());
    }
}
