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
    /// Its lock is held while the files are read.
    seen: Mutex<Seen>,
    /// How often handshakes look for changes; `None` for never.
    every: Option<Duration>,
    look: Mutex<Look>,
}

/// The files as they were when they were last read.
struct Seen {
    stamps: Vec<Option<Stamp>>,
    /// False if they could not be used: they are read again at the next look, since the reason may have been a passing one.
    is_used: bool,
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
            seen: Mutex::new(Seen {
                stamps: seen,
                is_used: true,
            }),
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
        seen.stamps = stamps(&self.source);
        let loaded = self.load();
        seen.is_used = loaded.is_ok();
        loaded
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

    /// Reads the files again if they have changed, or if they could not be used.
    fn look(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamps(&self.source);
        let has_changed = seen.stamps != now;
        if !has_changed && seen.is_used {
            return;
        }
        seen.stamps = now;
        let files = self.source.files();
        let loaded = self.load();
        seen.is_used = loaded.is_ok();
        match loaded {
            Ok(()) => tracing::info!(?files, "certificates reloaded"),
            // The log says so once for each change.
            Err(error) if has_changed => {
                tracing::warn!(?files, %error, "changed certificates cannot be used: the old ones stay in use");
            }
            Err(_) => {}
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;

    /// A source whose files never change, and whose second to fourth load fails.
    #[derive(Default)]
    struct Flaky(AtomicUsize);

    impl Source for Flaky {
        type Config = usize;

        fn load(&self) -> Result<usize, TlsError> {
            match self.0.fetch_add(1, SeqCst) {
                load @ (0 | 4..) => Ok(load),
                _ => Err(TlsError::configuration("too many open files")),
            }
        }

        fn files(&self) -> Vec<&Path> {
            vec![Path::new("/")]
        }
    }

    #[test]
    fn what_could_not_be_read_is_tried_again() {
        let reloading = Reloading::new(Flaky::default(), None).unwrap();
        reloading.look();
        assert_eq!(
            (reloading.source.0.load(SeqCst), *reloading.current()),
            (1, 0),
            "nothing has changed"
        );
        reloading.reload().unwrap_err();
        reloading.look();
        reloading.look();
        assert_eq!(*reloading.current(), 0);
        reloading.look();
        assert_eq!(*reloading.current(), 4);
        reloading.look();
        assert_eq!(reloading.source.0.load(SeqCst), 5, "it is in use");
    }
}
