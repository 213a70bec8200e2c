//! Sends: what can be said of our one-way requests when nothing comes back for them.

use std::collections::VecDeque;

use super::{Uncovered, calls::Reach};

/// Our one-way requests that no PONG has covered yet.
#[derive(Debug, Default)]
pub(super) struct Sends {
    started: u64,
    covered: u64,
    /// Where those end that are in the output and not yet with the OS.
    unwritten: VecDeque<u64>,
    /// Their ids, as runs of neighbours; the oldest are forgotten when there are too many runs.
    runs: VecDeque<Run>,
    /// Those that never reach a handler, as far as is known.
    never: u64,
    /// The last ping: how many had started before it, and the last id.
    at_ping: (u64, u64, u64),
}

#[derive(Clone, Copy, Debug)]
struct Run {
    first: u64,
    last: u64,
}

impl Sends {
    const MAX_RUNS: usize = 4096;

    /// A one-way request starts.
    pub(super) fn start(&mut self, id: u64) {
        self.started += 1;
        match self.runs.back_mut() {
            Some(run) if run.last + 2 == id => run.last = id,
            _ => {
                if self.runs.len() == Self::MAX_RUNS {
                    self.runs.pop_front();
                }
                self.runs.push_back(Run { first: id, last: id });
            }
        }
    }

    /// The last byte of a one-way request is in the output, up to `end`.
    pub(super) fn finish(&mut self, end: u64) {
        self.unwritten.push_back(end);
    }

    /// The OS has taken everything up to `taken`.
    pub(super) fn taken(&mut self, taken: u64) {
        while self.unwritten.front().is_some_and(|&end| end <= taken) {
            self.unwritten.pop_front();
        }
    }

    /// A ping goes out behind all that have started, of which `unfinished` still have fragments to come.
    pub(super) fn ping(&mut self, ping: u64, last_id: u64, unfinished: usize) {
        // A ping that overtakes the fragments of one covers nothing: simpler than finding out which.
        if unfinished == 0 {
            self.at_ping = (ping, self.started, last_id);
        }
    }

    /// A ping is answered: what started before it was read.
    pub(super) fn pong(&mut self, ping: u64) {
        let (number, started, last_id) = self.at_ping;
        if ping < number {
            return;
        }
        self.covered = self.covered.max(started);
        while self.runs.front().is_some_and(|run| run.last <= last_id) {
            self.runs.pop_front();
        }
        if let Some(run) = self.runs.front_mut().filter(|run| run.first <= last_id) {
            run.first = last_id + 2;
        }
    }

    /// The peer takes none above `last_id`.
    pub(super) fn cut_above(&mut self, last_id: u64) {
        let above = self
            .runs
            .iter()
            .map(|run| match run.last.checked_sub(last_id.max(run.first - 1)) {
                Some(span) => span.div_ceil(2),
                None => 0,
            });
        self.never = self.never.max(above.sum());
    }

    /// Whether the peer did not take some, and said so.
    pub(super) fn is_cut(&self) -> bool {
        self.never > 0
    }

    /// The connection is over: what is `reach`ed may still be written, and `unfinished` have fragments to come.
    pub(super) fn lost(&mut self, reach: Reach, unfinished: usize) {
        let never = match reach {
            Reach::Taken => (self.unwritten.len() + unfinished) as u64,
            Reach::Output => unfinished as u64,
            Reach::Nothing => self.started - self.covered,
        };
        self.never = self.never.max(never);
    }

    /// Whether a ping would tell anything new.
    pub(super) fn is_uncovered(&self) -> bool {
        self.covered < self.started
    }

    /// What is not covered.
    pub(super) fn uncovered(&self) -> Uncovered {
        let uncovered = self.started - self.covered;
        Uncovered {
            no: self.never,
            maybe: uncovered.saturating_sub(self.never),
        }
    }
}
