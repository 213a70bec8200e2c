//! Trial: whether more bytes arrive at a task that looks at its socket before it sleeps.

use crate::conn::Time;

/// A comparison of windows in which a task looks at its socket before it sleeps, with windows in which it does not, in turn.
pub(super) struct Trial {
    window: u8,
    /// The wakes in this window.
    wakes: u8,
    without: Sum,
    with: Sum,
}

/// What arrived in windows of one kind, and how long that took.
#[derive(Default)]
struct Sum {
    bytes: u64,
    time: Time,
}

impl Trial {
    /// A trial that begins with a window without looks.
    pub(super) fn new() -> Self {
        Self {
            window: 0,
            wakes: 0,
            without: Sum::default(),
            with: Sum::default(),
        }
    }

    /// True if the task looks in this window.
    pub(super) fn looks(&self) -> bool {
        self.window % 2 == 1
    }

    /// Notes that so many bytes have arrived.
    pub(super) fn note_read(&mut self, bytes: usize) {
        self.sum().bytes += bytes as u64;
    }

    /// Notes a wake after `wait`. Returns whether the task is to look, at the end of the trial.
    pub(super) fn note_wake(&mut self, wait: Time) -> Option<bool> {
        // A long wait says nothing of looks.
        self.sum().time += wait.min(LONGEST);
        self.wakes += 1;
        if self.wakes < WAKES {
            return None;
        }
        self.wakes = 0;
        self.window += 1;
        (self.window == WINDOWS).then(|| self.pays())
    }

    fn sum(&mut self) -> &mut Sum {
        if self.looks() {
            &mut self.with
        } else {
            &mut self.without
        }
    }

    /// True if clearly more arrived with looks, in the same time.
    fn pays(&self) -> bool {
        let rate = |bytes: u64, time: Time| u128::from(bytes) * time.as_nanos();
        // with.bytes / with.time against without.bytes / without.time
        8 * rate(self.with.bytes, self.without.time) > 9 * rate(self.without.bytes, self.with.time)
    }
}

/// The wakes of a window, and the windows of a trial.
const WAKES: u8 = 32;
const WINDOWS: u8 = 6;
/// The longest part of a wait that counts.
const LONGEST: Time = Time::from_millis(1);
