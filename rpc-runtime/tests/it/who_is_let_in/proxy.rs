//! A proxy: passes on what callers and a server say. It may change the proofs that pass.

use std::{fs, io, os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc};

use prost::Message;
use test_support::{
    lab::{TERMINATE, TerminateRequest},
    wire::{Frame, encode, framed},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy, copy_bidirectional, split},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    select,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::{TlsAcceptor, TlsConnector, rustls::pki_types::ServerName};

use crate::tls::certs::SERVER;

/// Returns what becomes of a proof; `None` cuts the connection.
pub(super) type Spoil = Arc<dyn Fn(Vec<u8>) -> Option<Vec<u8>> + Send + Sync>;

/// How callers come to the proxy.
pub(super) enum Inward {
    Tcp,
    Unix(PathBuf),
    Tls(TlsAcceptor),
}

/// How the proxy comes to the server.
#[derive(Clone)]
pub(super) enum Outward {
    Tcp(String),
    Unix(PathBuf),
    Tls(String, TlsConnector),
}

/// Listens until it is dropped.
pub(super) struct Proxy {
    /// Where callers come to it, as `host:port`, or as a path.
    pub(super) place: String,
    passing: JoinHandle<()>,
    socket: Option<PathBuf>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

enum Listener {
    Tcp(TcpListener, Option<TlsAcceptor>),
    Unix(UnixListener),
}

impl Proxy {
    pub(super) async fn open(inward: Inward, outward: Outward, spoil: Option<Spoil>) -> Self {
        let (listener, place, socket) = match inward {
            Inward::Unix(path) => {
                let listener = UnixListener::bind(&path).unwrap();
                // Each user of the machine may come.
                fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
                let place = path.display().to_string();
                (Listener::Unix(listener), place, Some(path))
            }
            tcp => {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let place = listener.local_addr().unwrap().to_string();
                let acceptor = match tcp {
                    Inward::Tls(acceptor) => Some(acceptor),
                    _ => None,
                };
                (Listener::Tcp(listener, acceptor), place, None)
            }
        };
        Self {
            place,
            passing: tokio::spawn(listener.serve(outward, spoil)),
            socket,
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.passing.abort();
        if let Some(socket) = &self.socket {
            let _ = fs::remove_file(socket);
        }
    }
}

impl Listener {
    async fn serve(self, outward: Outward, spoil: Option<Spoil>) {
        let mut connections = JoinSet::new();
        loop {
            let near = self.accept().await;
            let (outward, spoil) = (outward.clone(), spoil.clone());
            connections.spawn(async move {
                // If one side refuses the other, the caller or the server says so.
                if let (Ok(near), Ok(far)) = (near, outward.connect().await) {
                    let _ = pass(near, far, spoil).await;
                }
            });
        }
    }

    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Unix(listener) => Ok(Box::new(listener.accept().await?.0)),
            Self::Tcp(listener, None) => Ok(Box::new(listener.accept().await?.0)),
            Self::Tcp(listener, Some(acceptor)) => {
                Ok(Box::new(acceptor.accept(listener.accept().await?.0).await?))
            }
        }
    }
}

impl Outward {
    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Tcp(server) => Ok(Box::new(TcpStream::connect(server).await?)),
            Self::Unix(server) => Ok(Box::new(UnixStream::connect(server).await?)),
            Self::Tls(server, connector) => {
                let stream = TcpStream::connect(server).await?;
                let name = ServerName::try_from(SERVER).unwrap();
                Ok(Box::new(connector.connect(name, stream).await?))
            }
        }
    }
}

/// Passes on what both sides say.
async fn pass(mut near: Box<dyn Stream>, mut far: Box<dyn Stream>, spoil: Option<Spoil>) -> io::Result<()> {
    let Some(spoil) = spoil else {
        return copy_bidirectional(&mut near, &mut far).await.map(drop);
    };
    let (near, mut to_near) = split(near);
    let (mut from_far, far) = split(far);
    // A cut of either direction cuts both.
    select! {
        passed = pass_spoilt(near, far, &spoil) => passed,
        copied = copy(&mut from_far, &mut to_near) => copied.map(drop),
    }
}

/// Passes on the frames of a caller.
async fn pass_spoilt(
    mut near: impl AsyncRead + Unpin,
    mut far: impl AsyncWrite + Unpin,
    spoil: &Spoil,
) -> io::Result<()> {
    loop {
        let len = near.read_u32().await?;
        let mut body = vec![0; len as usize];
        near.read_exact(&mut body).await?;
        let Some(frame) = spoilt(&body, spoil) else {
            return Ok(());
        };
        far.write_all(&frame).await?;
        far.flush().await?;
    }
}

/// Returns the frame that goes on in place of `body`; `None` cuts the connection.
fn spoilt(body: &[u8], spoil: &Spoil) -> Option<Vec<u8>> {
    let mut frame = Frame::decode(body).unwrap();
    if frame.procedure != TERMINATE.id() {
        return Some(framed(body));
    }
    let mut request = TerminateRequest::decode(&frame.payload[..]).unwrap();
    request.proof = spoil(request.proof.to_vec())?.into();
    frame.payload = request.encode_to_vec();
    Some(encode(&frame))
}
