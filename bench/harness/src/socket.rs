//! The listener and the streams of peers that bring none: TCP on 127.0.0.1 without delay, with TLS or without, or a Unix socket.

use crate::tls::{self, ServerIdentity};
use std::sync::OnceLock;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{Mutex, mpsc},
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

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

/// Any listener.
pub enum Listener {
    Tcp(TcpListener),
    /// The streams whose handshake has ended.
    Tls(Mutex<mpsc::Receiver<Box<dyn Socket>>>),
    Unix(UnixListener),
}

impl Listener {
    /// Listens as the variant says; `ready` learns the address.
    pub async fn bind(ready: impl FnOnce(String) + Send) -> Self {
        if tls::on_tls() {
            return Self::tls(ready).await;
        }
        if !on_unix() {
            return Self::Tcp(listen_tcp(ready).await);
        }
        let path = socket_path();
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        ready(path);
        Self::Unix(listener)
    }

    /// Each handshake has a task, so that none waits for another one.
    async fn tls(ready: impl FnOnce(String) + Send) -> Self {
        let identity = ServerIdentity::new();
        let acceptor = identity.acceptor();
        let listener = listen_tcp(|address| ready(format!("{address},{}", identity.ca))).await;
        let (sender, accepted) = mpsc::channel(64);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let (acceptor, sender) = (acceptor.clone(), sender.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        let _ = sender.send(Box::new(stream) as Box<dyn Socket>).await;
                    }
                });
            }
        });
        Self::Tls(Mutex::new(accepted))
    }

    pub async fn accept(&self) -> Box<dyn Socket> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                Box::new(stream)
            }
            Self::Tls(accepted) => accepted.lock().await.recv().await.unwrap(),
            Self::Unix(listener) => Box::new(listener.accept().await.unwrap().0),
        }
    }
}

/// Connects to what [`Listener::bind`] has told.
pub async fn connect(addr: &str) -> Box<dyn Socket> {
    if addr.starts_with('/') {
        return Box::new(UnixStream::connect(addr).await.unwrap());
    }
    let address = addr.split(',').next().unwrap_or(addr);
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    if !tls::on_tls() {
        return Box::new(stream);
    }
    // One for all connections: it keeps the sessions that can be resumed.
    static CONNECTOR: OnceLock<TlsConnector> = OnceLock::new();
    let connector = CONNECTOR.get_or_init(|| tls::connector(tls::address(addr).1));
    let name = ServerName::try_from("127.0.0.1").unwrap();
    Box::new(connector.connect(name, stream).await.unwrap())
}
