//! Admission: how many connections and handshakes a server has at once.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, sleep, sleep_until},
};

use crate::{conn::Cut, server::until::until};

/// The limits of connections and handshakes, shared by all listeners of a server.
pub(crate) struct AdmissionLimits {
    connections: Arc<Semaphore>,
    max_connections: usize,
    handshakes: Handshakes,
    max_handshakes: usize,
}

/// How many places there are, and how many are taken.
pub(crate) struct Places {
    pub(crate) max: usize,
    pub(crate) used: usize,
}

impl AdmissionLimits {
    /// The default of handshakes.
    pub(crate) const MAX_HANDSHAKES: usize = 256;

    pub(crate) fn new(max_connections: usize, max_handshakes: usize) -> Self {
        let max_connections = max_connections.clamp(1, Semaphore::MAX_PERMITS);
        let max_handshakes = max_handshakes.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            connections: Arc::new(Semaphore::new(max_connections)),
            max_connections,
            handshakes: Handshakes {
                slots: Arc::new(Semaphore::new(max_handshakes)),
                open: Mutex::default(),
            },
            max_handshakes,
        }
    }

    /// How many places there are for connections and for handshakes, and how many are taken.
    pub(crate) fn used(&self) -> (Places, Places) {
        let places = |max: usize, left: &Semaphore| Places {
            max,
            used: max.saturating_sub(left.available_permits()),
        };
        (
            places(self.max_connections, &self.connections),
            places(self.max_handshakes, &self.handshakes.slots),
        )
    }

    /// Returns whether a further connection has to wait for the end of another one.
    pub(super) fn is_full(&self) -> bool {
        self.connections.available_permits() == 0
    }

    /// Waits for a place among the connections, and then for one among the handshakes, where nobody takes the place before
    /// `grace` is over.
    pub(super) async fn admit(&self, grace: Duration) -> Option<Admission> {
        // The semaphore is never closed.
        let connection = Arc::clone(&self.connections).acquire_owned().await.ok()?;
        let handshake = self.handshakes.begin(grace).await?;
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
    /// When the peer got its place.
    pub(super) begun: Instant,
    _slot: OwnedSemaphorePermit,
}

impl Handshake {
    /// Waits until the peer must leave: its `time` is over, or its place is needed for another peer.
    pub(super) async fn cut(&mut self, time: Duration) -> Cut {
        let left = time.saturating_sub(self.begun.elapsed());
        match until(sleep(left), &mut self.evicted).await {
            Some(_) => Cut::HandshakeEvicted,
            None => Cut::HandshakeTimeout,
        }
    }
}

/// All handshakes in progress.
struct Handshakes {
    slots: Arc<Semaphore>,
    /// In the order in which they began.
    open: Mutex<VecDeque<OpenHandshake>>,
}

struct OpenHandshake {
    /// Its peer loses its place if this is dropped.
    place: oneshot::Sender<()>,
    /// From then on, a newcomer may take the place.
    due: Instant,
}

impl Handshakes {
    /// Waits for a place. If none becomes free, the peer that has had its time for the longest loses its place.
    ///
    /// So mute peers cannot keep others out, and a crowd of mute peers leaves honest ones their time.
    async fn begin(&self, grace: Duration) -> Option<Handshake> {
        let mut evict_at = self.first_due();
        let slot = loop {
            let slots = Arc::clone(&self.slots);
            if let Some(slot) = until(sleep_until(evict_at), slots.acquire_owned()).await {
                // The semaphore is never closed.
                break slot.ok()?;
            }
            self.evict_one();
            // Its task gives the place back. Another one loses its own only if that takes long.
            evict_at = self.first_due().max(Instant::now() + GRACE);
        };
        let (place, evicted) = oneshot::channel();
        let begun = Instant::now();
        let due = begun + grace;
        let mut open = self.open();
        open.retain(|one| !one.place.is_closed());
        open.push_back(OpenHandshake { place, due });
        Some(Handshake {
            evicted,
            begun,
            _slot: slot,
        })
    }

    /// Returns when the first peer may lose its place.
    fn first_due(&self) -> Instant {
        let mut open = self.open();
        open.retain(|one| !one.place.is_closed());
        // Without one, the places are about to become free.
        let none = || Instant::now() + GRACE;
        open.iter().map(|one| one.due).min().unwrap_or_else(none)
    }

    /// Takes the place of the peer that has had its time for the longest.
    fn evict_one(&self) {
        let mut open = self.open();
        open.retain(|one| !one.place.is_closed());
        let first = (0..open.len()).min_by_key(|&at| open[at].due);
        if let Some(at) = first.filter(|&at| open[at].due <= Instant::now()) {
            // Its task learns it by the drop of the sender.
            open.remove(at);
        }
    }

    fn open(&self) -> MutexGuard<'_, VecDeque<OpenHandshake>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a peer has lost its place among the handshakes.
pub(super) const EVICTED: &str =
    "handshake given up: too many peers are in theirs: ServerBuilder::max_handshakes";
/// How long a peer keeps its place among the handshakes, even if others wait for it: its HELLO comes right behind its connect.
pub(super) const GRACE: Duration = Duration::from_millis(250);
/// The same over TLS, whose handshake takes a round trip: enough for a peer behind a satellite.
pub(super) const TLS_GRACE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use tokio::task::JoinHandle;

    use super::*;

    /// Holds a place until it is evicted; returns how long it had it.
    fn hold(handshake: Handshake) -> JoinHandle<Duration> {
        let begun = Instant::now();
        tokio::spawn(async move {
            let Handshake { evicted, _slot, .. } = handshake;
            evicted.await.unwrap_err();
            begun.elapsed()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_newcomer_takes_the_place_of_the_oldest_peer_after_its_grace() {
        let limits = AdmissionLimits::new(10, 2);
        let begin = async || hold(limits.handshakes.begin(GRACE).await.unwrap());
        let first = begin().await;
        sleep(GRACE / 2).await;
        let second = begin().await;
        let third = begin().await;
        assert!(first.await.unwrap() >= GRACE);
        assert!(!second.is_finished(), "only one loses its place");
        let fourth = begin().await;
        assert!(second.await.unwrap() >= GRACE);
        assert!(!third.is_finished() && !fourth.is_finished());
    }

    #[allow(
        clippy::async_yields_async,
        reason = "the crowd is let in before any of it is waited for"
    )]
    #[tokio::test(start_paused = true)]
    async fn in_a_crowd_of_mute_peers_each_has_its_grace() {
        let limits = Arc::new(AdmissionLimits::new(1000, 4));
        for grace in [GRACE, TLS_GRACE] {
            // Several listeners take peers at the same time.
            let crowd: Vec<_> = (0..40)
                .map(|_| {
                    let limits = Arc::clone(&limits);
                    tokio::spawn(async move { hold(limits.handshakes.begin(grace).await.unwrap()) })
                })
                .collect();
            let mut held = Vec::new();
            for peer in crowd {
                held.push(peer.await.unwrap());
            }
            // The last ones keep their places.
            for peer in &mut held[..36] {
                assert!(peer.await.unwrap() >= grace);
            }
            for peer in held {
                peer.abort();
            }
        }
    }
}
