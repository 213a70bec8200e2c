//! Relay: a TCP relay that counts bytes, so that tests see what compression saves.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinHandle,
};

/// A relay to a server.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    bytes: Arc<[AtomicU64; 2]>,
    task: JoinHandle<()>,
}

impl Relay {
    /// Relays all connections to `target`.
    ///
    /// # Errors
    ///
    /// The error of the OS.
    pub async fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let bytes: Arc<[AtomicU64; 2]> = Arc::default();
        let counted = Arc::clone(&bytes);
        let task = tokio::spawn(async move {
            while let Ok((caller, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(target).await else {
                    return;
                };
                let ((from_caller, to_caller), (from_server, to_server)) =
                    (caller.into_split(), server.into_split());
                tokio::spawn(pass(from_caller, to_server, Arc::clone(&counted), 0));
                tokio::spawn(pass(from_server, to_caller, Arc::clone(&counted), 1));
            }
        });
        Ok(Self { address, bytes, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many bytes went to the server and to the callers since it was asked last.
    pub fn take_bytes(&self) -> (u64, u64) {
        (self.bytes[0].swap(0, Relaxed), self.bytes[1].swap(0, Relaxed))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Passes bytes on until one side ends.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, bytes: Arc<[AtomicU64; 2]>, which: usize) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(len @ 1..) = from.read(&mut buffer).await {
        bytes[which].fetch_add(len as u64, Relaxed);
        if to.write_all(&buffer[..len]).await.is_err() {
            return;
        }
    }
}
