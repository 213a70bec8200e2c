//! Listener: accepts streams on one address; frees the address when it is dropped.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tokio::net::{TcpListener, UnixListener, UnixStream};

use super::{Address, Kind, Peer, Stream, memory::MemoryListener};
use crate::{Code, Error};

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
        /// Here to be dropped with the listener.
        _file: SocketFile,
    },
    Memory(MemoryListener),
}

impl Listener {
    /// Listens on `address`; port 0 takes a free port, which [`Listener::address`] tells.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE, with the address and what to do, if the OS refuses.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind.
    pub(crate) async fn bind(address: &Address) -> Result<Self, Error> {
        Self::try_bind(address).await.map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::AddrInUse => {
                    "; another server has it: stop that one, or choose another address"
                }
                io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
                io::ErrorKind::PermissionDenied => "; this user may not listen there",
                io::ErrorKind::NotFound => "; the folder does not exist",
                _ => "",
            };
            Error::local(Code::Unavailable, format!("cannot listen on {address}{hint}")).with_source(error)
        })
    }

    async fn try_bind(address: &Address) -> io::Result<Self> {
        let (socket, bound) = match address {
            Address::Tcp(host) => {
                let socket = TcpListener::bind(host.as_str()).await?;
                let bound = Address::Tcp(socket.local_addr()?.to_string());
                (Socket::Tcp(socket), bound)
            }
            Address::Unix(path) => {
                let (socket, file) = bind_unix(path).await?;
                (Socket::Unix { socket, _file: file }, address.clone())
            }
            Address::Memory(name) => (Socket::Memory(MemoryListener::bind(name)?), address.clone()),
        };
        Ok(Self {
            text: bound.to_string(),
            address: bound,
            socket,
        })
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
                Ok((Stream::tcp(stream)?, Peer::tcp(peer)))
            }
            Socket::Unix { socket, .. } => {
                let (stream, _) = socket.accept().await?;
                let peer = Peer::unix(&self.address, stream.peer_cred().ok());
                Ok((Stream(Kind::Unix(stream)), peer))
            }
            Socket::Memory(socket) => {
                let stream = socket.accept().await?;
                Ok((Stream(Kind::Memory(stream)), Peer::memory(&self.address)))
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::transport::connect;

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
