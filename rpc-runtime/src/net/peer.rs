//! Peer: the other end of a connection, as far as the transport knows it.

use std::{net::SocketAddr, sync::Arc};

use tokio::net::unix::UCred;

use super::{
    Address,
    uid::{OVERFLOW_UID, own_uid},
};
#[cfg(feature = "_tls")]
use crate::tls::CertificateSlot;

/// The transport by which a peer is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Transport {
    /// A TCP connection.
    Tcp,
    /// TLS over a TCP connection.
    Tls,
    /// A Unix socket.
    Unix,
    /// A `mem:` name of this process.
    Memory,
    /// A client that was made from the server itself, in this process.
    InProcess,
    /// A user's own stream, from [`ServerBuilder::incoming`](crate::server::ServerBuilder::incoming) or
    /// [`ClientBuilder::connector`](crate::ClientBuilder::connector).
    Custom,
}

/// The other end of a connection, as far as the transport knows it.
#[derive(Clone, Debug)]
pub struct Peer(Arc<PeerData>);

#[derive(Debug)]
struct PeerData {
    address: Arc<str>,
    transport: Transport,
    socket: Option<SocketAddr>,
    /// The address of our own end, if only this machine can reach it because the listener is bound to loopback.
    loopback: Option<SocketAddr>,
    uid: Option<u32>,
    gid: Option<u32>,
    pid: Option<i32>,
    /// The certificate of a TLS peer: empty until the handshake has ended, and for a peer without one.
    #[cfg(feature = "_tls")]
    certificate: CertificateSlot,
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

    /// Makes the TCP peer at `socket`, accepted at `local` by a listener that is bound to `bound`.
    pub(super) fn accepted(socket: SocketAddr, local: SocketAddr, bound: SocketAddr) -> Self {
        let loopback = bound.ip().to_canonical().is_loopback().then_some(local);
        Self::new(
            Transport::Tcp,
            format!("tcp://{socket}"),
            loopback,
            Some(socket),
            None,
        )
    }

    pub(super) fn unix(address: &Address, credentials: Option<UCred>) -> Self {
        Self::new(Transport::Unix, address.to_string(), None, None, credentials)
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
            loopback: None,
            uid: None,
            gid: None,
            pid: None,
            #[cfg(feature = "_tls")]
            certificate: CertificateSlot::default(),
            is_on_node,
        }))
    }

    pub(crate) fn in_process() -> Self {
        Self::new(Transport::InProcess, "in-process".to_owned(), None, None, None)
    }

    fn new(
        transport: Transport,
        address: String,
        loopback: Option<SocketAddr>,
        socket: Option<SocketAddr>,
        user: Option<UCred>,
    ) -> Self {
        Self(Arc::new(PeerData {
            address: address.into(),
            transport,
            socket,
            loopback,
            uid: user.map(|user| user.uid()),
            gid: user.map(|user| user.gid()),
            pid: user.and_then(|user| user.pid()),
            #[cfg(feature = "_tls")]
            certificate: CertificateSlot::default(),
            #[cfg(feature = "sim")]
            is_on_node: false,
        }))
    }

    /// Makes the TLS peer of a TCP peer, and the place for its certificate. The TCP peer must not be shared yet.
    #[cfg(feature = "_tls")]
    pub(super) fn over_tls(mut self) -> (Self, CertificateSlot) {
        let slot = Arc::clone(&self.0.certificate);
        if let Some(data) = Arc::get_mut(&mut self.0) {
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
        self.0.certificate.get()
    }

    /// Returns the peer's address as text; for a Unix socket, the path that both ends share.
    pub fn address(&self) -> &str {
        &self.0.address
    }

    /// Returns the transport by which the peer is connected.
    pub fn transport(&self) -> Transport {
        self.0.transport
    }

    /// Returns the effective user id of the peer's process; known for Unix sockets only.
    ///
    /// [`TerminatePolicy`](crate::TerminatePolicy) looks up the user of a loopback TCP connection itself when it needs
    /// it.
    pub fn uid(&self) -> Option<u32> {
        self.0.uid
    }

    /// Returns the effective group id of the peer's process; known for Unix sockets only.
    pub fn gid(&self) -> Option<u32> {
        self.0.gid
    }

    /// Returns the process id of the peer; known for Unix sockets only, and not on every system.
    pub fn pid(&self) -> Option<i32> {
        self.0.pid
    }

    /// Returns the IP address and port of the peer; known for TCP and TLS only.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        self.0.socket
    }

    /// Returns true if the peer is on this machine.
    ///
    /// That is a Unix socket, this process, or TCP from a loopback address.
    pub fn is_local(&self) -> bool {
        #[cfg(feature = "sim")]
        if self.0.is_on_node {
            return true;
        }
        match self.0.socket {
            // An IPv4 peer of a listener on [::] arrives as ::ffff:127.0.0.1.
            Some(socket) => socket.ip().to_canonical().is_loopback(),
            None => !matches!(
                self.0.transport,
                Transport::Tcp | Transport::Tls | Transport::Custom
            ),
        }
    }

    /// Returns true if the peer surely runs as our own user or as root.
    ///
    /// That is this process itself, or a Unix peer with such a user id. The overflow uid stands for any user of another
    /// namespace, so it never counts as the same user.
    pub fn is_same_user(&self) -> bool {
        #[cfg(feature = "sim")]
        if self.0.is_on_node {
            return true;
        }
        match self.0.transport {
            Transport::Memory | Transport::InProcess => true,
            Transport::Unix => match (self.0.uid, own_uid()) {
                (Some(OVERFLOW_UID), _) | (None, _) | (_, None) => false,
                (Some(peer), Some(own)) => peer == own || peer == 0,
            },
            Transport::Tcp | Transport::Tls | Transport::Custom => false,
        }
    }

    /// Looks up the user who owns the other end of a loopback TCP connection.
    ///
    /// Only for a connection from this machine to a listener that is bound to loopback; `None` for all others, and if
    /// the kernel does not tell. The answer is the kernel's at this moment.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the look-up.
    pub(crate) async fn loopback_owner(&self) -> Option<u32> {
        let local = self.0.loopback.filter(|_| self.is_local())?;
        owner_of(self.0.socket?, local).await
    }

    pub(crate) fn address_arc(&self) -> Arc<str> {
        Arc::clone(&self.0.address)
    }
}

#[cfg(target_os = "linux")]
use super::proc_net::owner as owner_of;

/// Only Linux tells the owner.
#[cfg(not(target_os = "linux"))]
async fn owner_of(_: SocketAddr, _: SocketAddr) -> Option<u32> {
    None
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixStream;

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

    #[tokio::test]
    async fn only_a_listener_that_is_bound_to_loopback_has_owners_looked_up() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = tokio::net::TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        let local = stream.local_addr().unwrap();
        let owner = async |bound: &str| {
            Peer::accepted(peer, local, bound.parse().unwrap())
                .loopback_owner()
                .await
        };
        let known = own_uid().filter(|_| cfg!(target_os = "linux"));
        assert_eq!(owner("127.0.0.1:1").await, known);
        assert_eq!(owner("[::ffff:127.0.0.1]:1").await, known);
        assert_eq!(owner("0.0.0.0:1").await, None);
        assert_eq!(owner("[::]:1").await, None);
        assert_eq!(owner("192.0.2.1:1").await, None);
        assert_eq!(Peer::tcp(peer).loopback_owner().await, None);
        drop(client);
    }

    #[tokio::test]
    async fn a_unix_peer_of_this_process_is_the_same_user() {
        let (one, _other) = UnixStream::pair().unwrap();
        let peer = Peer::unix(&Address::Unix("/x".into()), one.peer_cred().ok());
        assert!(peer.is_same_user());
        assert!(!Peer::unix(&Address::Unix("/x".into()), None).is_same_user());
    }
}
