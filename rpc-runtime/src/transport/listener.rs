//! Listener: accepts streams on one address; frees the address when it is dropped.

use std::{
    ffi::OsString,
    fs,
    future::poll_fn,
    io,
    net::SocketAddr,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

#[cfg(any(target_os = "linux", target_os = "android"))]
use tokio::net::TcpSocket;
use tokio::{
    io::DuplexStream,
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    runtime::Handle,
};

use super::{Address, Incoming, Kind, Peer, Stream, memory::MemoryListener, resolve::resolve_to_bind};
use crate::{
    Code, Error,
    runtime::{transport_error, unless_panics},
};

/// Accepts streams on one address.
#[derive(Debug)]
pub(crate) struct Listener {
    address: Address,
    text: String,
    socket: Socket,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix {
        socket: UnixListener,
        /// Removed with the last listener that has it.
        file: Arc<SocketFile>,
    },
    Memory(MemoryListener),
    Custom(Incoming),
}

impl Listener {
    /// Listens on `address`; port 0 takes a free port, which [`Listener::address`] tells.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE, with the address and what to do, if the OS refuses; FAILED_PRECONDITION if the runtime cannot do IO.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind.
    pub(crate) async fn bind(address: &Address) -> Result<Self, Error> {
        unless_panics(Self::try_bind(address))
            .await
            .map_err(|panic| transport_error(&panic))?
            .map_err(|error| refused(address, error))
    }

    /// Listens on `address` once for each runtime, which drives that listener; a memory name only by the first.
    ///
    /// # Errors
    ///
    /// As [`Listener::bind`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind.
    pub(crate) async fn bind_each(address: &Address, runtimes: &[Handle]) -> Result<Vec<Self>, Error> {
        unless_panics(Self::try_bind_each(address, runtimes))
            .await
            .map_err(|panic| transport_error(&panic))?
            .map_err(|error| refused(address, error))
    }

    async fn try_bind_each(address: &Address, runtimes: &[Handle]) -> io::Result<Vec<Self>> {
        // It also finds out whether somebody has the address, which sockets that share a port would not.
        let first = Self::try_bind(address).await?;
        let Self {
            address,
            text,
            socket,
        } = first;
        let sockets = match socket {
            Socket::Tcp(socket) => listen_each(socket, runtimes)?
                .into_iter()
                .map(Socket::Tcp)
                .collect(),
            Socket::Unix { socket, file } => {
                let socket = socket.into_std()?;
                let each = runtimes.iter().map(|runtime| {
                    let _entered = runtime.enter();
                    Ok(Socket::Unix {
                        socket: UnixListener::from_std(socket.try_clone()?)?,
                        file: Arc::clone(&file),
                    })
                });
                each.collect::<io::Result<Vec<_>>>()?
            }
            socket @ (Socket::Memory(_) | Socket::Custom(_)) => vec![socket],
        };
        let of = |socket| Self {
            address: address.clone(),
            text: text.clone(),
            socket,
        };
        Ok(sockets.into_iter().map(of).collect())
    }

    async fn try_bind(address: &Address) -> io::Result<Self> {
        #[cfg(feature = "sim")]
        if let Some(here) = crate::sim::here() {
            let (bound, listener) = here.listen(address)?;
            return Ok(Self {
                text: bound.to_string(),
                address: bound,
                socket: Socket::Custom(Incoming::of(listener)),
            });
        }
        let (socket, bound) = match address {
            Address::Tcp(host) => {
                let socket = TcpListener::bind(&resolve_to_bind(host).await?[..]).await?;
                let bound = Address::Tcp(socket.local_addr()?.to_string());
                (Socket::Tcp(socket), bound)
            }
            Address::Unix(path) => {
                let (socket, file) = bind_unix(path).await?;
                let file = Arc::new(file);
                (Socket::Unix { socket, file }, address.clone())
            }
            Address::Memory(name) => (Socket::Memory(MemoryListener::bind(name)?), address.clone()),
            // Made by `Listener::incoming` only.
            Address::Custom(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        Ok(Self {
            text: bound.to_string(),
            address: bound,
            socket,
        })
    }

    /// Streams that somebody else accepts at `address`.
    pub(crate) fn incoming(address: &str, incoming: Incoming) -> Self {
        Self {
            address: Address::Custom(address.to_owned()),
            text: address.to_owned(),
            socket: Socket::Custom(incoming),
        }
    }

    /// The address that clients connect to, with the real port.
    pub(crate) fn address(&self) -> &str {
        &self.text
    }

    /// Waits for the next stream, and tells who opened it.
    ///
    /// # Errors
    ///
    /// What the OS says, for example that no more files can be opened; the listener stays usable.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no stream.
    pub(crate) async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match &self.socket {
            Socket::Tcp(socket) => {
                let (stream, peer) = socket.accept().await?;
                tcp_pair(stream, peer, socket.local_addr()?)
            }
            Socket::Unix { socket, .. } => {
                let (stream, _) = socket.accept().await?;
                Ok(unix_pair(stream, &self.address))
            }
            Socket::Memory(socket) => {
                let stream = socket.accept().await?;
                Ok(memory_pair(stream, &self.address))
            }
            Socket::Custom(incoming) => poll_fn(|cx| incoming.poll_accept(cx)).await,
        }
    }

    /// Stops listening; gives the streams of those who have connected and were not accepted, which closing the listener
    /// would reset. At most [`LEFT_MAX`], and none that cannot be taken.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the listener and those streams.
    pub(crate) async fn close(self) -> Vec<(Stream, Peer)> {
        let address = self.address;
        match self.socket {
            Socket::Tcp(socket) => {
                // What tokio knows of the socket may be old: the OS knows whether somebody waits.
                let Ok(socket) = socket.into_std() else {
                    return Vec::new();
                };
                take_left(|| {
                    let (stream, peer) = socket.accept()?;
                    stream.set_nonblocking(true)?;
                    tcp_pair(TcpStream::from_std(stream)?, peer, socket.local_addr()?)
                })
            }
            Socket::Unix { socket, file } => {
                // First, so that nobody comes behind those who are here.
                drop(file);
                let Ok(socket) = socket.into_std() else {
                    return Vec::new();
                };
                take_left(|| {
                    let (stream, _) = socket.accept()?;
                    stream.set_nonblocking(true)?;
                    Ok(unix_pair(UnixStream::from_std(stream)?, &address))
                })
            }
            Socket::Memory(socket) => {
                let left = socket.close().await;
                left.into_iter()
                    .map(|stream| memory_pair(stream, &address))
                    .collect()
            }
            Socket::Custom(incoming) => incoming.take_ready(LEFT_MAX),
        }
    }
}

/// Why nothing listens on `address`, and what to do.
fn refused(address: &Address, error: io::Error) -> Error {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => "; another server has it: stop that one, or choose another address",
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
        io::ErrorKind::PermissionDenied => "; this user may not listen there",
        io::ErrorKind::NotFound => "; the folder does not exist",
        _ => "",
    };
    Error::local(Code::Unavailable, format!("cannot listen on {address}{hint}")).with_source(error)
}

/// In place of `first`, a socket of the same port for each runtime: the OS spreads connections over them.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn listen_each(first: TcpListener, runtimes: &[Handle]) -> io::Result<Vec<TcpListener>> {
    let address = first.local_addr()?;
    drop(first);
    let each = runtimes.iter().map(|runtime| {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(true)?;
        socket.bind(address)?;
        let _entered = runtime.enter();
        socket.listen(LEFT_MAX as u32)
    });
    each.collect()
}

/// In place of `first`, the same socket for each runtime: whoever is quickest accepts.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn listen_each(first: TcpListener, runtimes: &[Handle]) -> io::Result<Vec<TcpListener>> {
    let socket = first.into_std()?;
    let each = runtimes.iter().map(|runtime| {
        let _entered = runtime.enter();
        TcpListener::from_std(socket.try_clone()?)
    });
    each.collect()
}

/// Accepts until nobody is left, or it fails for another reason than that one peer.
fn take_left(accept: impl Fn() -> io::Result<(Stream, Peer)>) -> Vec<(Stream, Peer)> {
    let mut left = Vec::new();
    for _ in 0..LEFT_MAX {
        match accept() {
            Ok(one) => left.push(one),
            Err(error) if is_the_peers(&error) => {}
            Err(error) => {
                if error.kind() != io::ErrorKind::WouldBlock {
                    tracing::warn!(%error, "peers that waited to be accepted are reset");
                }
                break;
            }
        }
    }
    left
}

/// Whether an accept failed because of that one peer: the next may well succeed.
pub(crate) fn is_the_peers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, InvalidInput, NotConnected};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted | InvalidInput | NotConnected
    )
}

fn tcp_pair(stream: TcpStream, peer: SocketAddr, bound: SocketAddr) -> io::Result<(Stream, Peer)> {
    let peer = Peer::accepted(peer, stream.local_addr()?, bound);
    Ok((Stream::tcp(stream)?, peer))
}

fn unix_pair(stream: UnixStream, address: &Address) -> (Stream, Peer) {
    let peer = Peer::unix(address, stream.peer_cred().ok());
    (Stream(Kind::Unix(stream)), peer)
}

fn memory_pair(stream: DuplexStream, address: &Address) -> (Stream, Peer) {
    (Stream(Kind::Memory(stream)), Peer::memory(address))
}

/// Binds beside `path`, closes the file to others, and only then moves it to `path`: nobody can connect in between,
/// and a file that a killed server left behind is replaced.
async fn bind_unix(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    if UnixStream::connect(path).await.is_ok() {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    if let Ok(metadata) = fs::symlink_metadata(path) {
        use std::os::unix::fs::FileTypeExt;
        if !metadata.file_type().is_socket() {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "the path is a file that is no socket",
            ));
        }
    }
    let mut beside = OsString::from(path);
    beside.push(format!(".{:04x}", fastrand::u16(..)));
    let beside = PathBuf::from(beside);
    let listener = UnixListener::bind(&beside)?;
    let file = SocketFile {
        inode: fs::symlink_metadata(&beside)?.ino(),
        path: beside,
    };
    fs::set_permissions(&file.path, fs::Permissions::from_mode(SOCKET_MODE))?;
    fs::rename(&file.path, path)?;
    Ok((
        listener,
        SocketFile {
            inode: file.inode,
            path: path.to_owned(),
        },
    ))
}

/// The file of a Unix socket: removed at the end, unless another server has replaced it.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode);
        if ours {
            // A file that cannot be removed is replaced by the next server.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Only the server's own user may connect to a Unix socket.
const SOCKET_MODE: u32 = 0o600;
/// How many streams a listener that is closed takes over: as many as the OS keeps for tokio's listeners.
const LEFT_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::transport;

    /// To the first place of an address.
    async fn connect(address: &Address) -> io::Result<(Stream, Peer)> {
        transport::connect(address, transport::find(address).await?[0]).await
    }

    fn socket_path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("rpc-{}-{name}", std::process::id()))
    }

    async fn greets(address: &Address) {
        let listener = Listener::bind(address).await.unwrap();
        let address = Address::parse(listener.address()).unwrap();
        let (mut client, _) = connect(&address).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        client.write_all(b"hello").await.unwrap();
        let mut buf = [0; 5];
        server.read_exact(&mut buf).await.unwrap();
        assert_eq!(&buf, b"hello");
    }

    #[tokio::test]
    async fn every_transport_carries_bytes() {
        greets(&Address::parse("tcp://127.0.0.1:0").unwrap()).await;
        greets(&Address::Unix(socket_path("greets"))).await;
        greets(&Address::parse("mem:listener-test-greets").unwrap()).await;
    }

    async fn keeps_those_who_wait(address: &Address) {
        let listener = Listener::bind(address).await.unwrap();
        let address = Address::parse(listener.address()).unwrap();
        let mut clients = Vec::new();
        for _ in 0..3 {
            let (mut client, _) = connect(&address).await.unwrap();
            client.write_all(b"hello").await.unwrap();
            clients.push(client);
        }
        let left = listener.close().await;
        assert_eq!(left.len(), 3, "{address}");
        for (mut server, peer) in left {
            assert!(address.to_string().starts_with("tcp") || address.to_string() == peer.address());
            let mut buf = [0; 5];
            server.read_exact(&mut buf).await.unwrap();
            server.shutdown().await.unwrap();
        }
        for mut client in clients {
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "{address}");
        }
        let refused = connect(&address).await.unwrap_err();
        assert!(
            matches!(
                refused.kind(),
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
            ),
            "{refused}"
        );
    }

    #[tokio::test]
    async fn closing_a_listener_resets_nobody_who_waits() {
        keeps_those_who_wait(&Address::parse("tcp://127.0.0.1:0").unwrap()).await;
        keeps_those_who_wait(&Address::Unix(socket_path("waiting"))).await;
        keeps_those_who_wait(&Address::parse("mem:listener-test-waiting").unwrap()).await;
    }

    #[tokio::test]
    async fn a_taken_port_is_one_clear_line() {
        let first = Listener::bind(&Address::parse("tcp://127.0.0.1:0").unwrap())
            .await
            .unwrap();
        let error = Listener::bind(&Address::parse(first.address()).unwrap())
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(first.address()) && text.contains("another server has it"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 1);
    }

    #[tokio::test]
    async fn a_unix_socket_is_private_replaces_a_stale_file_and_is_removed() {
        let path = socket_path("stale");
        let address = Address::Unix(path.clone());
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "std leaves the file behind");
        let listener = Listener::bind(&address).await.unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            SOCKET_MODE
        );
        let taken = Listener::bind(&address).await.unwrap_err();
        assert!(taken.to_string().contains("another server has it"), "{taken}");
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_plain_file_is_never_replaced() {
        let path = socket_path("plain");
        fs::write(&path, "precious").unwrap();
        Listener::bind(&Address::Unix(path.clone())).await.unwrap_err();
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        fs::remove_file(&path).unwrap();
    }

    #[tokio::test]
    async fn a_socket_that_another_server_replaced_is_left_alone() {
        let path = socket_path("replaced");
        let listener = Listener::bind(&Address::Unix(path.clone())).await.unwrap();
        fs::remove_file(&path).unwrap();
        let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop(listener);
        assert!(path.exists());
        fs::remove_file(&path).unwrap();
    }
}
