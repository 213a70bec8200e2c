//! Mute: a way to a server whose answers nobody reads.

use std::{io, path::PathBuf};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::{TcpStream, UnixListener, UnixStream},
    task::JoinHandle,
};

/// A relay to a server: what the client says goes through, and of what the server says only the beginning, enough for
/// a handshake. Then the server's output stays where it is, as with a client that never reads.
#[derive(Debug)]
pub(super) struct Mute {
    path: PathBuf,
    relaying: JoinHandle<io::Result<()>>,
}

impl Mute {
    /// Begins to relay one connection to the server at `address`.
    ///
    /// # Errors
    ///
    /// If the socket cannot be made.
    pub(super) fn begin(path: PathBuf, address: &str) -> io::Result<Self> {
        let listener = UnixListener::bind(&path)?;
        let address = address.to_owned();
        let relaying = tokio::spawn(async move {
            let (client, _) = listener.accept().await?;
            // One connection only: whoever comes again finds nobody.
            drop(listener);
            if let Some(host) = address.strip_prefix("tcp://") {
                relay(client, TcpStream::connect(host).await?).await
            } else {
                let path = address.strip_prefix("unix:").unwrap_or(&address);
                relay(client, UnixStream::connect(path).await?).await
            }
        });
        Ok(Self { path, relaying })
    }

    /// Where the client is to connect.
    pub(super) fn address(&self) -> String {
        format!("unix:{}", self.path.display())
    }
}

impl Drop for Mute {
    fn drop(&mut self) {
        self.relaying.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn relay(client: UnixStream, server: impl AsyncRead + AsyncWrite) -> io::Result<()> {
    let (mut from_client, mut to_client) = client.into_split();
    let (from_server, mut to_server) = tokio::io::split(server);
    let mut heard = from_server.take(HEARD);
    let hear = async { tokio::io::copy(&mut heard, &mut to_client).await };
    let tell = async { tokio::io::copy(&mut from_client, &mut to_server).await };
    let (heard, told) = tokio::join!(hear, tell);
    heard.and(told).map(|_| ())
}

/// How much of what the server says comes through: its HELLO, and little more.
const HEARD: u64 = 2048;
