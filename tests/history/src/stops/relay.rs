//! Relay: a way to a server, for a client that is bad at listening.

use std::{io, path::PathBuf, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy, split},
    net::{TcpStream, UnixListener, UnixStream},
    task::JoinHandle,
    time::sleep,
};

use super::plan::Ear;

/// A relay of one connection: what the client says goes through at once; what the server says, as the ear has it.
#[derive(Debug)]
pub(super) struct Relay {
    path: PathBuf,
    relaying: JoinHandle<io::Result<()>>,
}

impl Relay {
    /// Begins to relay, from a socket at `path` to the server at `address`.
    ///
    /// # Errors
    ///
    /// If the socket cannot be created.
    pub(super) fn begin(ear: Ear, path: PathBuf, address: &str) -> io::Result<Self> {
        let listener = UnixListener::bind(&path)?;
        let address = address.to_owned();
        let relaying = tokio::spawn(async move {
            let (client, _) = listener.accept().await?;
            // The relay accepts one connection only.
            drop(listener);
            if let Some(host) = address.strip_prefix("tcp://") {
                relay(ear, client, TcpStream::connect(host).await?).await
            } else {
                let path = address.strip_prefix("unix:").unwrap_or(&address);
                relay(ear, client, UnixStream::connect(path).await?).await
            }
        });
        Ok(Self { path, relaying })
    }

    /// Returns the address for the client.
    pub(super) fn address(&self) -> String {
        format!("unix:{}", self.path.display())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.relaying.abort();
    }
}

async fn relay(ear: Ear, client: UnixStream, server: impl AsyncRead + AsyncWrite) -> io::Result<()> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = split(server);
    let tell = async {
        copy(&mut from_client, &mut to_server).await?;
        to_server.shutdown().await
    };
    let hear = async {
        match ear {
            // Enough for a handshake. Then the server's output stays where it is.
            Ear::Deaf => copy(&mut from_server.take(HEARD), &mut to_client)
                .await
                .map(|_| ()),
            Ear::Slow => {
                let mut buf = vec![0; BITE];
                loop {
                    let len = from_server.read(&mut buf).await?;
                    if len == 0 {
                        return to_client.shutdown().await;
                    }
                    to_client.write_all(&buf[..len]).await?;
                    sleep(PAUSE).await;
                }
            }
        }
    };
    // Both sockets stay open until both directions are done.
    let (heard, told) = tokio::join!(hear, tell);
    heard.and(told)
}

/// The number of bytes that a deaf client reads: the HELLO and little more.
const HEARD: u64 = 2048;
/// The number of bytes that a slow client reads at once, and its pause: it reads 6 MB in a tenth of a second.
const BITE: usize = 64 * 1024;
const PAUSE: Duration = Duration::from_millis(1);
