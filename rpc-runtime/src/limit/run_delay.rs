//! RunDelay: how long a task of the runtime waits for its turn.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{runtime::Handle, task::yield_now, time::Instant};

/// How long a task of the runtime waits for its turn, measured now and then by a task.
///
/// It is the time that a request waits in its socket before anybody reads it. No other clock of a server sees that: if handlers
/// compute, requests of many connections wait there and nowhere else.
#[derive(Debug, Default)]
pub(super) struct RunDelay(Arc<Mutex<Measured>>);

#[derive(Debug, Default)]
struct Measured {
    latest: Duration,
    /// When the latest task was started.
    started: Option<Instant>,
    /// True while it runs.
    is_running: bool,
}

impl RunDelay {
    /// Returns the delay, as measured at most `age` ago or by a task that still waits.
    ///
    /// If the latest measurement is older than that, it starts another one, and returns the old result.
    pub(super) fn get(&self, age: Duration, now: Instant) -> Duration {
        let mut measured = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = measured
            .started
            .map(|started| now.saturating_duration_since(started));
        match since {
            Some(since) if measured.is_running && since < LOST => measured.latest.max(since),
            Some(since) if since < age => measured.latest,
            _ => {
                let latest = measured.latest;
                // Without a runtime there is no delay of one.
                if let Ok(runtime) = Handle::try_current() {
                    measured.started = Some(now);
                    measured.is_running = true;
                    let measuring = Measuring {
                        measured: Arc::clone(&self.0),
                        started: now,
                    };
                    drop(measured);
                    runtime.spawn(async move {
                        let _measuring = measuring;
                        // The task comes back after the runtime has looked at its sockets, as a request does.
                        yield_now().await;
                    });
                }
                latest
            }
        }
    }
}

/// A measurement; it ends when this is dropped, also if the runtime ends.
struct Measuring {
    measured: Arc<Mutex<Measured>>,
    started: Instant,
}

impl Drop for Measuring {
    fn drop(&mut self) {
        let mut measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        if measured.started == Some(self.started) {
            measured.is_running = false;
            measured.latest = self.started.elapsed();
        }
    }
}

/// After this time another measurement begins: the runtime of the first one is not driven.
const LOST: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const FRESH: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn it_sees_a_task_that_keeps_the_thread() {
        let delay = RunDelay::default();
        assert_eq!(delay.get(FRESH, Instant::now()), Duration::ZERO);
        let blocked = Duration::from_millis(20);
        thread::sleep(blocked);
        assert!(delay.get(FRESH, Instant::now()) >= blocked, "it still waits");
        while delay.0.lock().unwrap().is_running {
            yield_now().await;
        }
        let measured = delay.get(FRESH, Instant::now());
        assert!(measured >= blocked);
        assert_eq!(delay.get(FRESH, Instant::now()), measured, "no other was started");
        assert_eq!(delay.get(Duration::ZERO, Instant::now()), measured);
        assert!(delay.0.lock().unwrap().is_running, "another was started");
    }

    #[tokio::test(start_paused = true)]
    async fn a_runtime_that_is_not_driven_holds_up_no_measurement() {
        let idle = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let delay = RunDelay::default();
        let begun = Instant::now();
        {
            let _entered = idle.enter();
            delay.get(FRESH, begun);
        }
        let short = begun + Duration::from_secs(9);
        assert!(
            delay.get(FRESH, short) >= Duration::from_secs(8),
            "it may still end"
        );
        delay.get(Duration::from_secs(1), begun + Duration::from_secs(11));
        yield_now().await;
        yield_now().await;
        assert!(!delay.0.lock().unwrap().is_running, "another one has ended");
        idle.shutdown_background();
    }

    #[test]
    fn a_runtime_that_ends_leaves_no_measurement_behind() {
        let delay = RunDelay::default();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { delay.get(FRESH, Instant::now()) });
        drop(runtime);
        assert!(!delay.0.lock().unwrap().is_running);
        assert_eq!(
            delay.get(Duration::ZERO, Instant::now()),
            delay.0.lock().unwrap().latest
        );
    }
}
