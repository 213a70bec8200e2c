//! Admission: how many connections and handshakes a server has at once.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::sleep,
};

use crate::server::until::until;

/// The limits of connections and handshakes, shared by all listeners of a server.
pub(crate) struct AdmissionLimits {
    connections: Arc<Semaphore>,
    handshakes: Handshakes,
}

impl AdmissionLimits {
    pub(crate) fn new(max_connections: usize, max_handshakes: usize) -> Self {
        Self {
            connections: Arc::new(Semaphore::new(max_connections.clamp(1, Semaphore::MAX_PERMITS))),
            handshakes: Handshakes {
                slots: Arc::new(Semaphore::new(max_handshakes.clamp(1, Semaphore::MAX_PERMITS))),
                open: Mutex::default(),
            },
        }
    }

    /// Returns whether a further connection has to wait for the end of another one.
    pub(super) fn is_full(&self) -> bool {
        self.connections.available_permits() == 0
    }

    /// Waits for a place among the connections, and then for one among the handshakes.
    pub(super) async fn admit(&self) -> Option<Admission> {
        // The semaphore is never closed.
        let connection = Arc::clone(&self.connections).acquire_owned().await.ok()?;
        let handshake = self.handshakes.begin().await?;
        Some(Admission {
            connection,
            handshake,
        })
    }
}

/// A place among the connections, and one among the handshakes.
pub(crate) struct Admission {
    pub(super) connection: OwnedSemaphorePermit,
    pub(super) handshake: Handshake,
}

/// A handshake in progress.
pub(super) struct Handshake {
    /// Ready when the place is needed for another peer.
    pub(super) evicted: oneshot::Receiver<()>,
    _slot: OwnedSemaphorePermit,
}

/// All handshakes in progress.
struct Handshakes {
    slots: Arc<Semaphore>,
    open: Mutex<VecDeque<oneshot::Sender<()>>>,
}

impl Handshakes {
    /// Waits for a place. When none becomes free for [`PATIENCE`], all peers that hold one lose it.
    ///
    /// A crowd of honest peers passes in a moment, and mute peers cannot keep others out.
    async fn begin(&self) -> Option<Handshake> {
        let slots = Arc::clone(&self.slots);
        let slot = match until(sleep(PATIENCE), Arc::clone(&slots).acquire_owned()).await {
            Some(slot) => slot,
            None => {
                // The tasks of these peers learn it by the drop of the senders.
                self.open().clear();
                slots.acquire_owned().await
            }
        };
        let (sender, evicted) = oneshot::channel();
        let mut open = self.open();
        open.retain(|sender| !sender.is_closed());
        open.push_back(sender);
        // The semaphore is never closed.
        Some(Handshake {
            evicted,
            _slot: slot.ok()?,
        })
    }

    fn open(&self) -> MutexGuard<'_, VecDeque<oneshot::Sender<()>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a newcomer waits before mute peers lose their handshakes to it.
const PATIENCE: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn mute_peers_give_their_handshakes_up_to_a_newcomer() {
        let limits = AdmissionLimits::new(10, 2);
        let first = limits.handshakes.begin().await.unwrap();
        let second = limits.handshakes.begin().await.unwrap();
        let tasks = [first, second].map(|handshake| {
            tokio::spawn(async move {
                let Handshake { evicted, _slot } = handshake;
                evicted.await.is_err()
            })
        });
        let third = limits.handshakes.begin().await.unwrap();
        for task in tasks {
            assert!(task.await.unwrap());
        }
        drop(third);
    }
}
