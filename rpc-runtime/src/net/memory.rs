//! Memory transport: names inside this process, and the streams that connect to them.

use std::{
    collections::HashMap,
    io,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    io::DuplexStream,
    sync::{Mutex as AsyncMutex, mpsc},
};

/// Capacity of each direction of a memory stream, in bytes.
pub(super) const BUFFER_LEN: usize = 64 * 1024;

/// A listener on a name in this process; the name is free again once it is dropped.
#[derive(Debug)]
pub(super) struct MemoryListener {
    /// Dropped with the listener, which frees the name.
    name: Name,
    // Only the accept loop locks it, so it never waits.
    arrivals: AsyncMutex<mpsc::Receiver<DuplexStream>>,
}

impl MemoryListener {
    /// Takes `name`.
    ///
    /// # Errors
    ///
    /// `AddrInUse` if another listener has the name.
    pub(super) fn bind(name: &str) -> io::Result<Self> {
        let mut names = names();
        if names.contains_key(name) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let (sender, receiver) = mpsc::channel(BACKLOG);
        names.insert(name.to_owned(), sender);
        Ok(Self {
            name: Name(name.to_owned()),
            arrivals: AsyncMutex::new(receiver),
        })
    }

    /// Waits for the next client.
    pub(super) async fn accept(&self) -> io::Result<DuplexStream> {
        // The registry holds a sender while this listener lives.
        self.arrivals
            .lock()
            .await
            .recv()
            .await
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Frees the name, and returns the clients that were not accepted.
    pub(super) async fn close(self) -> Vec<DuplexStream> {
        drop(self.name);
        let mut arrivals = self.arrivals.into_inner();
        arrivals.close();
        let mut left = Vec::new();
        // This loop ends, because the closed channel refuses further clients.
        while let Some(stream) = arrivals.recv().await {
            left.push(stream);
        }
        left
    }
}

/// A name that is taken until this is dropped.
#[derive(Debug)]
struct Name(String);

impl Drop for Name {
    fn drop(&mut self) {
        names().remove(&self.0);
    }
}

/// Connects to the listener of `name`.
///
/// # Errors
///
/// `ConnectionRefused` if nothing listens there.
pub(super) async fn connect(name: &str) -> io::Result<DuplexStream> {
    let sender = names().get(name).cloned();
    let sender = sender.ok_or(io::ErrorKind::ConnectionRefused)?;
    let (ours, theirs) = tokio::io::duplex(BUFFER_LEN);
    sender
        .send(theirs)
        .await
        .map_err(|_| io::ErrorKind::ConnectionRefused)?;
    Ok(ours)
}

fn names() -> MutexGuard<'static, HashMap<String, mpsc::Sender<DuplexStream>>> {
    static NAMES: LazyLock<Mutex<HashMap<String, mpsc::Sender<DuplexStream>>>> =
        LazyLock::new(Mutex::default);
    // Nothing panics while it holds the lock, and the map is complete at every step.
    NAMES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Maximum number of clients that wait to be accepted.
const BACKLOG: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_is_free_again_after_its_listener() {
        let listener = MemoryListener::bind("memory-test-free").unwrap();
        assert_eq!(
            MemoryListener::bind("memory-test-free").unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
        let _client = connect("memory-test-free").await.unwrap();
        listener.accept().await.unwrap();
        drop(listener);
        let refused = connect("memory-test-free").await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        MemoryListener::bind("memory-test-free").unwrap();
    }
}
