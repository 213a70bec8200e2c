//! The listener and the streams of peers that bring none: TCP on 127.0.0.1 without delay, or a Unix socket.

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};

/// Whether this process runs the variant for Unix sockets.
pub fn on_unix() -> bool {
    crate::variant() == "unix"
}

/// Where this server's Unix socket goes.
pub fn socket_path() -> String {
    let path = std::env::temp_dir().join(format!("bench-{}.sock", std::process::id()));
    path.display().to_string()
}

/// A TCP listener; `ready` learns its address.
pub async fn listen_tcp(ready: impl FnOnce(String) + Send) -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    ready(listener.local_addr().unwrap().to_string());
    listener
}

/// What both kinds of stream are.
pub trait Socket: AsyncRead + AsyncWrite + Unpin + Send + Sync {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + Sync> Socket for T {}

/// Either listener.
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Listens as the variant says; `ready` learns the address.
    pub async fn bind(ready: impl FnOnce(String) + Send) -> Self {
        if !on_unix() {
            return Self::Tcp(listen_tcp(ready).await);
        }
        let path = socket_path();
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        ready(path);
        Self::Unix(listener)
    }

    pub async fn accept(&self) -> Box<dyn Socket> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                Box::new(stream)
            }
            Self::Unix(listener) => Box::new(listener.accept().await.unwrap().0),
        }
    }
}

/// Connects to what [`Listener::bind`] has told.
pub async fn connect(addr: &str) -> Box<dyn Socket> {
    if addr.starts_with('/') {
        return Box::new(UnixStream::connect(addr).await.unwrap());
    }
    let stream = TcpStream::connect(addr).await.unwrap();
    stream.set_nodelay(true).unwrap();
    Box::new(stream)
}
