//! Peer: who is at the other end of a connection, as far as the transport knows.

use std::{net::SocketAddr, sync::Arc, sync::OnceLock};

use tokio::net::{UnixStream, unix::UCred};

use super::Address;

/// How a peer is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Transport {
    /// A TCP connection.
    Tcp,
    /// A Unix socket.
    Unix,
    /// A `mem:` name of this process.
    Memory,
    /// A client that was made from the server itself.
    InProcess,
}

/// Who is at the other end of a connection, as far as the transport knows.
#[derive(Clone, Debug)]
pub struct Peer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    address: Arc<str>,
    transport: Transport,
    socket: Option<SocketAddr>,
    uid: Option<u32>,
    pid: Option<i32>,
}

impl Peer {
    pub(super) fn tcp(socket: SocketAddr) -> Self {
        Self::new(format!("tcp://{socket}"), Transport::Tcp, Some(socket), None)
    }

    pub(super) fn unix(address: &Address, credentials: Option<UCred>) -> Self {
        Self::new(address.to_string(), Transport::Unix, None, credentials)
    }

    pub(super) fn memory(address: &Address) -> Self {
        Self::new(address.to_string(), Transport::Memory, None, None)
    }

    pub(crate) fn in_process() -> Self {
        Self::new("in-process".to_owned(), Transport::InProcess, None, None)
    }

    fn new(address: String, transport: Transport, socket: Option<SocketAddr>, user: Option<UCred>) -> Self {
        Self(Arc::new(Inner {
            address: address.into(),
            transport,
            socket,
            uid: user.map(|user| user.uid()),
            pid: user.and_then(|user| user.pid()),
        }))
    }

    /// The peer's address as text; for a Unix socket, the path that both ends share.
    pub fn address(&self) -> &str {
        &self.0.address
    }

    /// How the peer is connected.
    pub fn transport(&self) -> Transport {
        self.0.transport
    }

    /// The effective user id of the peer's process; known of Unix sockets only.
    pub fn uid(&self) -> Option<u32> {
        self.0.uid
    }

    /// The process id of the peer; known of Unix sockets only, and not on every system.
    pub fn pid(&self) -> Option<i32> {
        self.0.pid
    }

    /// The IP address and port of the peer; known of TCP only.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        self.0.socket
    }

    /// Whether the peer is on this machine: any transport but TCP, or TCP from a loopback address.
    pub fn is_local(&self) -> bool {
        match self.0.socket {
            // An IPv4 peer of a listener on [::] arrives as ::ffff:127.0.0.1.
            Some(socket) => socket.ip().to_canonical().is_loopback(),
            None => self.0.transport != Transport::Tcp,
        }
    }

    /// Whether the peer surely runs as our own user or as root: this process itself, or a Unix peer that says so.
    ///
    /// The overflow uid is what a user of another namespace looks like: it is never the same user.
    pub fn is_same_user(&self) -> bool {
        match self.0.transport {
            Transport::Memory | Transport::InProcess => true,
            Transport::Unix => match (self.0.uid, own_uid()) {
                (Some(OVERFLOW_UID), _) | (None, _) | (_, None) => false,
                (Some(peer), Some(own)) => peer == own || peer == 0,
            },
            Transport::Tcp => false,
        }
    }

    pub(crate) fn address_arc(&self) -> Arc<str> {
        Arc::clone(&self.0.address)
    }
}

/// Our own effective uid, as a peer of ours would see it: the only way without `unsafe`.
fn own_uid() -> Option<u32> {
    static UID: OnceLock<u32> = OnceLock::new();
    if let Some(uid) = UID.get() {
        return Some(*uid);
    }
    let (one, _other) = UnixStream::pair().ok()?;
    let uid = one.peer_cred().ok()?.uid();
    Some(*UID.get_or_init(|| uid))
}

/// What the kernel shows for a user that this namespace does not know.
const OVERFLOW_UID: u32 = 65534;

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

    #[tokio::test]
    async fn a_unix_peer_of_this_process_is_the_same_user() {
        let (one, _other) = UnixStream::pair().unwrap();
        let peer = Peer::unix(&Address::Unix("/x".into()), one.peer_cred().ok());
        assert!(peer.is_same_user());
        assert!(!Peer::unix(&Address::Unix("/x".into()), None).is_same_user());
    }
}
