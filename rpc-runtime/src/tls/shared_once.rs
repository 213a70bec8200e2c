//! SharedOnce: a value that one thread makes, and that everybody who needs it waits for.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tokio::{sync::watch, time::timeout};

use super::fault::{TlsError, TlsFault};

/// A value that is made once, on a thread of its own, because that may block on the disk. All who need it wait for the same one.
///
/// If it cannot be made, those who wait now get the error, and the next one tries again.
pub(super) struct SharedOnce<T: 'static> {
    /// How errors name the value.
    what: &'static str,
    state: Mutex<State<T>>,
}

enum State<T> {
    Missing,
    /// Its sender is dropped if the thread panics.
    Making(watch::Receiver<Option<Result<T, TlsError>>>),
    Made(T),
}

impl<T: Clone + Send + Sync + 'static> SharedOnce<T> {
    pub(super) const fn new(what: &'static str) -> Self {
        Self {
            what,
            state: Mutex::new(State::Missing),
        }
    }

    /// Returns the value. If there is none, `make` makes it.
    ///
    /// # Errors
    ///
    /// The error of `make`. [`TlsFault::Other`] if it panics, if it takes longer than [`LONGEST`], or without a thread.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the work to its thread.
    pub(super) async fn get(&'static self, make: fn() -> Result<T, TlsError>) -> Result<T, TlsError> {
        let mut making = {
            let mut state = self.state();
            match &*state {
                State::Made(made) => return Ok(made.clone()),
                // One thread at a time, even if it hangs for ever.
                State::Making(making) if making.has_changed().is_ok() => making.clone(),
                State::Making(_) | State::Missing => {
                    let making = self.start(make)?;
                    *state = State::Making(making.clone());
                    making
                }
            }
        };
        let what = self.what;
        let other = |text: String| Err(TlsError::new(TlsFault::Other, text));
        match timeout(LONGEST, making.wait_for(Option::is_some)).await {
            Ok(Ok(made)) => match &*made {
                Some(result) => result.clone(),
                None => other(format!("{what} cannot be read")),
            },
            Ok(Err(_)) => other(format!(
                "{what} cannot be read: the thread that read them panicked"
            )),
            Err(_) => other(format!(
                "reading {what} takes longer than {LONGEST:?}: see whether the disk hangs"
            )),
        }
    }

    /// Starts the thread that makes the value.
    fn start(
        &'static self,
        make: fn() -> Result<T, TlsError>,
    ) -> Result<watch::Receiver<Option<Result<T, TlsError>>>, TlsError> {
        let (sender, making) = watch::channel(None);
        let thread = thread::Builder::new().name("rpc-tls-files".to_owned());
        let started = thread.spawn(move || {
            let made = make();
            *self.state() = match &made {
                Ok(made) => State::Made(made.clone()),
                Err(_) => State::Missing,
            };
            sender.send_replace(Some(made));
        });
        started.map_err(|error| {
            let text = format!("{} cannot be read: no thread: {error}", self.what);
            TlsError::new(TlsFault::Other, text)
        })?;
        Ok(making)
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long somebody waits for the value. It is less than an attempt to connect may take, so that the error says what hangs.
const LONGEST: Duration = Duration::from_secs(5);

#[cfg(test)]
#[allow(
    clippy::await_holding_lock,
    reason = "only threads that are to hang wait for it"
)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn it_is_made_once_for_all_who_ask_at_the_same_time() {
        static CALLS: AtomicUsize = AtomicUsize::new(0);
        static ONCE: SharedOnce<usize> = SharedOnce::new("the number");
        let make = || Ok(CALLS.fetch_add(1, SeqCst));
        let mut asking = JoinSet::new();
        for _ in 0..20 {
            asking.spawn(ONCE.get(make));
        }
        assert!(asking.join_all().await.into_iter().all(|made| made == Ok(0)));
        assert_eq!(ONCE.get(make).await, Ok(0));
    }

    #[tokio::test]
    async fn an_error_and_a_panic_are_told_and_tried_again() {
        static CALLS: AtomicUsize = AtomicUsize::new(0);
        static ONCE: SharedOnce<usize> = SharedOnce::new("the number");
        let make = || match CALLS.fetch_add(1, SeqCst) {
            0 => Err(TlsError::configuration("no files")),
            1 => panic!("this panic is part of the test"),
            call => Ok(call),
        };
        assert_eq!(ONCE.get(make).await.unwrap_err().to_string(), "no files");
        let error = ONCE.get(make).await.unwrap_err();
        assert!(error.to_string().ends_with("panicked"), "{error}");
        assert_eq!(ONCE.get(make).await, Ok(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_hangs_costs_one_thread_and_a_bounded_wait() {
        static CALLS: AtomicUsize = AtomicUsize::new(0);
        static GATE: Mutex<()> = Mutex::new(());
        static ONCE: SharedOnce<usize> = SharedOnce::new("the number");
        let make = || {
            let call = CALLS.fetch_add(1, SeqCst);
            drop(GATE.lock());
            Ok(call)
        };
        let hanging = GATE.lock().unwrap();
        for _ in 0..3 {
            let error = ONCE.get(make).await.unwrap_err();
            assert_eq!(error.fault(), TlsFault::Other);
            assert!(error.to_string().contains("takes longer than 5s"), "{error}");
        }
        drop(hanging);
        // The clock is paused, and jumps while a thread works. So one wait may be too short.
        while ONCE.get(make).await != Ok(0) {}
        assert_eq!(CALLS.load(SeqCst), 1);
    }
}
