//! Progress: where the time of a slow run goes, on the standard error.

use std::{
    io::{self, Write as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Prints what a run does, once a second, if the run takes longer than two seconds.
#[derive(Debug)]
pub(crate) struct Progress {
    started: Instant,
    steps: Arc<Mutex<Steps>>,
    /// The thread that prints, and what ends it when it is dropped; none if the system has no more threads.
    printer: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Starts the clock with the first step, such as "reads the files".
    pub(crate) fn start(step: &'static str) -> Self {
        let started = Instant::now();
        let steps = Arc::new(Mutex::new(Steps::new(step)));
        let (end, ended) = mpsc::channel();
        let printed = Arc::clone(&steps);
        let print_all = move || {
            loop {
                let wait = lock(&printed).next_at().saturating_sub(started.elapsed());
                match ended.recv_timeout(wait) {
                    Err(mpsc::RecvTimeoutError::Timeout) => print(lock(&printed).tick(started.elapsed())),
                    _ => break,
                }
            }
        };
        let thread = thread::Builder::new()
            .name("rpc-codegen-progress".to_owned())
            .spawn(print_all);
        Self {
            started,
            steps,
            printer: thread.ok().map(|thread| (end, thread)),
        }
    }

    /// Begins the next step.
    pub(crate) fn begin(&self, step: &'static str) {
        lock(&self.steps).begin(step, self.started.elapsed());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.printer.take() {
            drop(end);
            let _ = thread.join();
        }
        print(lock(&self.steps).summary(self.started.elapsed()));
    }
}

/// The steps of a run. Times are since the run began.
#[derive(Debug)]
struct Steps {
    /// Each step with the time when it began.
    list: Vec<(&'static str, Duration)>,
    next_at: Duration,
}

impl Steps {
    fn new(step: &'static str) -> Self {
        Self {
            list: vec![(step, Duration::ZERO)],
            next_at: SLOW,
        }
    }

    fn begin(&mut self, step: &'static str, now: Duration) {
        self.list.push((step, now));
    }

    /// The time of the next line.
    fn next_at(&self) -> Duration {
        self.next_at
    }

    /// The line to print now, if it is time for one.
    fn tick(&mut self, now: Duration) -> Option<String> {
        if now < self.next_at {
            return None;
        }
        self.next_at = now + INTERVAL;
        let (step, _) = self.list.last()?;
        Some(format!("{} s: {step}", now.as_secs()))
    }

    /// The line at the end: the time of each step, if the run was slow.
    fn summary(&self, now: Duration) -> Option<String> {
        if now < SLOW {
            return None;
        }
        let ends = self.list.iter().skip(1).map(|(_, began)| *began).chain([now]);
        let steps = self.list.iter().zip(ends).map(|((step, began), end)| {
            let took = end.saturating_sub(*began);
            format!("{step} {:.1} s", took.as_secs_f64())
        });
        let steps: Vec<String> = steps.collect();
        Some(format!("{:.1} s in all: {}", now.as_secs_f64(), steps.join(", ")))
    }
}

/// A panic between two steps leaves the steps as they are.
fn lock(steps: &Mutex<Steps>) -> MutexGuard<'_, Steps> {
    steps.lock().unwrap_or_else(PoisonError::into_inner)
}

fn print(line: Option<String>) {
    if let Some(line) = line {
        // `eprintln!` would panic if nobody reads.
        let _ = writeln!(io::stderr(), "rpc-codegen: {line}");
    }
}

/// A run that takes longer than this says what it does.
const SLOW: Duration = Duration::from_secs(2);

/// The time between two lines.
const INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_run_of_less_than_two_seconds_is_silent() {
        let mut steps = Steps::new("reading");
        steps.begin("linking", ms(900));
        assert_eq!(steps.tick(ms(1999)), None);
        assert_eq!(steps.summary(ms(1999)), None);
    }

    #[test]
    fn a_slow_run_says_once_a_second_what_it_does() {
        let mut steps = Steps::new("reading");
        assert_eq!(steps.next_at(), ms(2000));
        assert_eq!(steps.tick(ms(2000)).as_deref(), Some("2 s: reading"));
        steps.begin("linking", ms(2500));
        assert_eq!(steps.tick(ms(2999)), None);
        assert_eq!(steps.next_at(), ms(3000));
        // A thread that wakes late does not catch up.
        assert_eq!(steps.tick(ms(5250)).as_deref(), Some("5 s: linking"));
        assert_eq!(steps.tick(ms(6000)), None);
        assert_eq!(
            steps.summary(ms(6250)).as_deref(),
            Some("6.2 s in all: reading 2.5 s, linking 3.8 s")
        );
    }

    #[test]
    fn the_thread_ends_with_the_run() {
        let progress = Progress::start("reading");
        progress.begin("linking");
        let steps = Arc::downgrade(&progress.steps);
        drop(progress);
        assert_eq!(steps.strong_count(), 0);
    }
}
