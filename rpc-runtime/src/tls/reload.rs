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

use super::fault::TlsError;
use crate::net::os::{FileStamp, file_stamp};

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
///
/// No lock is held while files are read: a disk may hang, and a file may be a pipe that nobody writes to.
pub(super) struct Reloading<S: Source> {
    source: S,
    current: RwLock<Arc<S::Config>>,
    seen: Mutex<Seen>,
    /// How often handshakes look for changes; `None` for never.
    every: Option<Duration>,
    look: Mutex<Look>,
}

/// The files as they were when they were last read.
struct Seen {
    stamps: Vec<Option<FileStamp>>,
    /// False if they could not be used: they are read again at the next look, since the reason may have been a passing one.
    is_used: bool,
    /// The readings that have begun.
    begun: u64,
    /// The last reading whose result stands here.
    latest: u64,
}

/// The looks of handshakes at the files.
#[derive(Debug)]
struct Look {
    /// When the last one began.
    at: Instant,
    /// The threads that look, and have not ended.
    threads: usize,
}

impl<S: Source> Reloading<S> {
    /// Reads the files for the first time.
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    pub(super) fn new(source: S, every: Option<Duration>) -> Result<Arc<Self>, TlsError> {
        // Before they are read, so that a change meanwhile is seen later.
        let stamps = stamps(&source);
        let current = source.load()?;
        Ok(Arc::new(Self {
            every: every.filter(|_| !stamps.is_empty()),
            seen: Mutex::new(Seen {
                stamps,
                is_used: true,
                begun: 0,
                latest: 0,
            }),
            current: RwLock::new(Arc::new(current)),
            source,
            look: Mutex::new(Look {
                at: Instant::now(),
                threads: 0,
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
        let number = self.begin();
        self.read(number, stamps(&self.source))
    }

    /// Returns the configuration for a handshake, after a look at the files if one is due.
    ///
    /// One handshake waits for the look, for [`LONGEST_LOOK`] at most; others go on with the configuration in use.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the look to its thread.
    pub(super) async fn fresh(self: &Arc<Self>) -> Arc<S::Config> {
        if self.begin_look() {
            let (done, looked) = oneshot::channel();
            let looking = Looking(Arc::clone(self));
            // A thread of its own: blocking handlers may hold all threads of the runtime's pool.
            let thread = thread::Builder::new().name("rpc-tls-files".to_owned());
            let started = thread.spawn(move || {
                looking.0.look();
                drop(looking);
                // The handshake may be gone.
                let _ = done.send(());
            });
            match started {
                // Late or not: the handshake goes on.
                Ok(_) => {
                    if let Ok(Err(_)) = timeout(LONGEST_LOOK, looked).await {
                        tracing::warn!("looking for changed certificates panicked");
                    }
                }
                Err(error) => tracing::warn!(%error, "cannot look for changed certificates: no thread"),
            }
        }
        self.current()
    }

    /// Returns true if a look at the files is due. The caller has to look then, and the thread is counted.
    fn begin_look(&self) -> bool {
        let Some(every) = self.every else { return false };
        let mut look = self.look_state();
        let since = look.at.elapsed();
        let is_due = match look.threads {
            0 => since >= every,
            1..MOST_THREADS => since >= every.max(HANGS_AFTER),
            _ => false,
        };
        if is_due {
            if look.threads > 0 {
                let files = self.source.files();
                tracing::warn!(
                    ?files,
                    "looking for changed certificates hangs: another thread tries it"
                );
            }
            look.at = Instant::now();
            look.threads += 1;
        }
        is_due
    }

    /// Reads the files again if they have changed, or if they could not be used.
    fn look(&self) {
        let number = self.begin();
        let now = stamps(&self.source);
        let has_changed = {
            let seen = self.seen();
            let has_changed = seen.stamps != now;
            if !has_changed && seen.is_used {
                return;
            }
            has_changed
        };
        let files = self.source.files();
        match self.read(number, now) {
            Ok(()) => tracing::info!(?files, "certificates reloaded"),
            // The log says so once for each change.
            Err(error) if has_changed => {
                tracing::warn!(?files, %error, "changed certificates cannot be used: the old ones stay in use");
            }
            Err(_) => {}
        }
    }

    /// Returns the number of a reading that begins now.
    fn begin(&self) -> u64 {
        let mut seen = self.seen();
        seen.begun += 1;
        seen.begun
    }

    /// Reads the files, which are as `stamps` says, and uses what they say: unless a reading that began later has ended earlier.
    fn read(&self, number: u64, stamps: Vec<Option<FileStamp>>) -> Result<(), TlsError> {
        let loaded = self.source.load();
        let mut seen = self.seen();
        let is_latest = number > seen.latest;
        if is_latest {
            seen.latest = number;
            seen.stamps = stamps;
            seen.is_used = loaded.is_ok();
        }
        let new = Arc::new(loaded?);
        if is_latest {
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        }
        Ok(())
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look_state(&self) -> MutexGuard<'_, Look> {
        self.look.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread that looks. It counts until this is dropped, also by a panic.
struct Looking<S: Source>(Arc<Reloading<S>>);

impl<S: Source> Drop for Looking<S> {
    fn drop(&mut self) {
        self.0.look_state().threads -= 1;
    }
}

impl<S: Source + fmt::Debug> fmt::Debug for Reloading<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

fn stamps(source: &impl Source) -> Vec<Option<FileStamp>> {
    source.files().into_iter().map(file_stamp).collect()
}

/// How often handshakes look for changed files, by default.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How long a handshake waits for the disk.
const LONGEST_LOOK: Duration = Duration::from_secs(1);
/// A look that takes longer than this hangs, and another thread tries it.
const HANGS_AFTER: Duration = Duration::from_secs(60);
/// The most threads that look. When all hang, nobody looks until one has ended.
const MOST_THREADS: usize = 4;

#[cfg(test)]
#[allow(
    clippy::await_holding_lock,
    reason = "only threads that are to hang wait for it"
)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

    use test_support::Logged;

    use super::*;

    /// A source whose files never change, and whose configuration is the number of the load.
    #[derive(Default)]
    struct Counted {
        loads: AtomicUsize,
        before: Option<fn(usize)>,
    }

    impl Source for Counted {
        type Config = usize;

        fn load(&self) -> Result<usize, TlsError> {
            let load = self.loads.fetch_add(1, SeqCst);
            if let Some(before) = self.before {
                before(load);
            }
            match load {
                0 | 4.. => Ok(load),
                _ => Err(TlsError::configuration("too many open files")),
            }
        }

        fn files(&self) -> Vec<&Path> {
            vec![Path::new("/")]
        }
    }

    #[test]
    fn what_could_not_be_read_is_tried_again() {
        let reloading = Reloading::new(Counted::default(), None).unwrap();
        let loads = || reloading.source.loads.load(SeqCst);
        reloading.look();
        assert_eq!((loads(), *reloading.current()), (1, 0), "nothing has changed");
        reloading.reload().unwrap_err();
        reloading.look();
        reloading.look();
        assert_eq!(*reloading.current(), 0);
        reloading.look();
        assert_eq!(*reloading.current(), 4);
        reloading.look();
        assert_eq!(loads(), 5, "it is in use");
    }

    /// A source whose file is another one when it is told so.
    #[derive(Default)]
    struct Moving {
        loads: Counted,
        has_moved: AtomicBool,
    }

    impl Source for Moving {
        type Config = usize;

        fn load(&self) -> Result<usize, TlsError> {
            self.loads.load()
        }

        fn files(&self) -> Vec<&Path> {
            let path = match self.has_moved.load(SeqCst) {
                false => "/",
                true => "/proc",
            };
            vec![Path::new(path)]
        }
    }

    #[test]
    fn a_change_that_cannot_be_used_is_logged_once_and_a_good_one_too() {
        let logged = Logged::here();
        let reloading = Reloading::new(Moving::default(), None).unwrap();
        reloading.look();
        reloading.source.has_moved.store(true, SeqCst);
        for _ in 0..3 {
            reloading.look();
            assert_eq!(*reloading.current(), 0);
        }
        let bad = "changed certificates cannot be used: the old ones stay in use";
        assert_eq!(
            logged.picked(bad, &["files", "error"]),
            [r#"["/proc"] too many open files"#],
            "once for the change"
        );
        assert!(logged.picked("certificates reloaded", &[]).is_empty());
        reloading.look();
        assert_eq!(*reloading.current(), 4);
        assert_eq!(
            logged.picked("certificates reloaded", &["files"]),
            [r#"["/proc"]"#]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_panics_is_not_the_last_one() {
        let source = Counted {
            before: Some(|load| assert_ne!(load, 2, "this panic is part of the test")),
            ..Counted::default()
        };
        let reloading = Reloading::new(source, Some(LOOK_EVERY)).unwrap();
        reloading.reload().unwrap_err();
        while *reloading.fresh().await != 4 {
            tokio::time::advance(LOOK_EVERY).await;
            // The clock is paused, and a thread is not.
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_looks_only_when_a_look_is_due() {
        let reloading = Reloading::new(Counted::default(), Some(LOOK_EVERY)).unwrap();
        let loads = || reloading.source.loads.load(SeqCst);
        // From now on each look reads the files.
        reloading.reload().unwrap_err();
        for due in 1..=2 {
            for _ in 0..3 {
                reloading.fresh().await;
                assert_eq!((loads(), reloading.look_state().threads), (1 + due, 0), "not due");
            }
            tokio::time::advance(LOOK_EVERY).await;
            reloading.fresh().await;
            // The clock is paused, and a thread is not.
            while loads() < 2 + due || reloading.look_state().threads > 0 {
                thread::sleep(Duration::from_millis(1));
            }
        }
        let never = Reloading::new(Counted::default(), None).unwrap();
        tokio::time::advance(100 * LOOK_EVERY).await;
        never.fresh().await;
        assert_eq!(never.look_state().threads, 0);
    }

    static HANGING: Mutex<()> = Mutex::new(());

    #[tokio::test(start_paused = true)]
    async fn looks_that_hang_stop_neither_later_ones_nor_a_reload() {
        let source = Counted {
            // The second load fails, so each look reads the files. The next two hang.
            before: Some(|load| {
                if load == 2 || load == 3 {
                    drop(HANGING.lock());
                }
            }),
            ..Counted::default()
        };
        let reloading = Reloading::new(source, Some(LOOK_EVERY)).unwrap();
        let loads = || reloading.source.loads.load(SeqCst);
        let hanging = HANGING.lock().unwrap();
        reloading.reload().unwrap_err();
        for hung in 1..=2 {
            tokio::time::advance(LOOK_EVERY.max(HANGS_AFTER)).await;
            assert_eq!(*reloading.fresh().await, 0, "the handshake goes on");
            while loads() < 2 + hung {
                thread::sleep(Duration::from_millis(1));
            }
            tokio::time::advance(LOOK_EVERY).await;
            assert_eq!(*reloading.fresh().await, 0, "not due while one hangs");
            assert_eq!(loads(), 2 + hung);
        }
        reloading.reload().unwrap();
        assert_eq!(*reloading.current(), 4);
        drop(hanging);
        while reloading.look_state().threads > 0 {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(*reloading.current(), 4, "what began earlier changes nothing");
        assert!(reloading.seen().is_used);
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_few_threads_hang() {
        static HANGING: Mutex<()> = Mutex::new(());
        let source = Counted {
            before: Some(|load| {
                if load >= 2 {
                    drop(HANGING.lock());
                }
            }),
            ..Counted::default()
        };
        let reloading = Reloading::new(source, Some(LOOK_EVERY)).unwrap();
        let hanging = HANGING.lock().unwrap();
        reloading.reload().unwrap_err();
        for _ in 0..3 * MOST_THREADS {
            tokio::time::advance(HANGS_AFTER).await;
            reloading.fresh().await;
        }
        assert_eq!(reloading.look_state().threads, MOST_THREADS);
        drop(hanging);
    }
}
