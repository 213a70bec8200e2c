//! Reload: a configuration that is read again when its files change.

use std::{
    fmt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    thread,
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use super::{
    fault::TlsError,
    pem::{Stamp, stamp},
};

/// What a configuration is made of.
pub(super) trait Source: Send + Sync + 'static {
    /// The configuration.
    type Config: Send + Sync + 'static;

    /// Reads the files and makes the configuration.
    ///
    /// # Errors
    ///
    /// What is wrong with the files.
    fn load(&self) -> Result<Self::Config, TlsError>;

    /// Returns the files that it reads.
    fn files(&self) -> Vec<&Path>;
}

/// A configuration that is read again when its files change. The old one stays if the new one cannot be used.
pub(super) struct Reloading<S: Source> {
    source: S,
    current: RwLock<Arc<S::Config>>,
    /// The files as they were when they were last read. Its lock is held while they are read.
    seen: Mutex<Vec<Option<Stamp>>>,
    /// How often handshakes look for changes; `None` for never.
    every: Option<Duration>,
    look: Mutex<Look>,
}

/// The last look at the files.
#[derive(Debug)]
struct Look {
    at: Instant,
    is_running: bool,
}

impl<S: Source> Reloading<S> {
    /// Reads the files for the first time.
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    pub(super) fn new(source: S, every: Option<Duration>) -> Result<Arc<Self>, TlsError> {
        // Before they are read, so that a change meanwhile is seen later.
        let seen = stamps(&source);
        let current = source.load()?;
        Ok(Arc::new(Self {
            every: every.filter(|_| !seen.is_empty()),
            seen: Mutex::new(seen),
            current: RwLock::new(Arc::new(current)),
            source,
            look: Mutex::new(Look {
                at: Instant::now(),
                is_running: false,
            }),
        }))
    }

    /// Returns the configuration in use.
    pub(super) fn current(&self) -> Arc<S::Config> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&current)
    }

    /// Reads the files again, changed or not.
    ///
    /// # Errors
    ///
    /// What is wrong with them. The old configuration stays in use.
    pub(super) fn reload(&self) -> Result<(), TlsError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = stamps(&self.source);
        self.load()
    }

    /// Returns the configuration for a handshake, after a look at the files if one is due.
    ///
    /// One handshake waits for the look, for [`LONGEST_LOOK`] at most; others go on with the configuration in use.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the look to its thread.
    pub(super) async fn fresh(self: &Arc<Self>) -> Arc<S::Config> {
        if self.is_due() {
            let (done, looked) = oneshot::channel();
            let this = Arc::clone(self);
            // A thread of its own: blocking handlers may hold all threads of the runtime's pool.
            let thread = thread::Builder::new().name("rpc-tls-files".to_owned());
            let started = thread.spawn(move || {
                this.look();
                this.look_state().is_running = false;
                // The handshake may be gone.
                let _ = done.send(());
            });
            match started {
                Ok(_) => {
                    // Late or not: the handshake goes on.
                    let _ = timeout(LONGEST_LOOK, looked).await;
                }
                Err(error) => {
                    self.look_state().is_running = false;
                    tracing::warn!(%error, "cannot look for changed certificates: no thread");
                }
            }
        }
        self.current()
    }

    /// True if a look at the files is due; the caller has to look then.
    fn is_due(&self) -> bool {
        let Some(every) = self.every else { return false };
        let mut look = self.look_state();
        if look.is_running || look.at.elapsed() < every {
            return false;
        }
        *look = Look {
            at: Instant::now(),
            is_running: true,
        };
        true
    }

    /// Reads the files again if they have changed.
    fn look(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamps(&self.source);
        if *seen == now {
            return;
        }
        // Also if they cannot be used: the next change is looked at, and the log is not flooded.
        *seen = now;
        let files = self.source.files();
        match self.load() {
            Ok(()) => tracing::info!(?files, "certificates reloaded"),
            Err(error) => {
                tracing::warn!(?files, %error, "changed certificates cannot be used: the old ones stay in use");
            }
        }
    }

    fn load(&self) -> Result<(), TlsError> {
        let new = Arc::new(self.source.load()?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    fn look_state(&self) -> MutexGuard<'_, Look> {
        self.look.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Source + fmt::Debug> fmt::Debug for Reloading<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

fn stamps(source: &impl Source) -> Vec<Option<Stamp>> {
    source.files().into_iter().map(stamp).collect()
}

/// How often handshakes look for changed files, by default.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How long a handshake waits for the disk.
const LONGEST_LOOK: Duration = Duration::from_secs(1);
