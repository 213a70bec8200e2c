//! Mix: the actions of a load's users, with their weights.

use std::{ops::Range, time::Duration};

use tokio::time::Instant;

use super::request::{Procedure, Request, Tries};
use crate::{
    api::v1::Ending,
    script::Script,
    talk::{Talk, Way},
};

/// The actions of a load's users, with their weights.
///
/// The default has each kind of call. Weights are relative to their sum, percentages to 100.
#[derive(Clone, Debug)]
pub struct Mix {
    /// The weight of `echo`.
    pub echo: u32,
    /// The weight of `refuse`.
    pub refuse: u32,
    /// The weight of `sleep`.
    pub sleep: u32,
    /// The weight of `refuse_late`.
    pub refuse_late: u32,
    /// The weight of `hang`.
    pub hang: u32,
    /// The weight of `crash`.
    pub crash: u32,
    /// The weight of `compute`.
    pub compute: u32,
    /// The weight of `block`.
    pub block: u32,
    /// The weight of `spin`.
    pub spin: u32,
    /// The percentage of calls with streams.
    pub streams: u32,
    /// The maximum number of messages of a stream.
    pub messages: u32,
    /// The time that handlers wait, in microseconds.
    pub pause: Range<u32>,
    /// The time that handlers keep their thread busy, in microseconds.
    pub busy: Range<u32>,
    /// The maximum timeout of a hanging call; without one, that of the client.
    pub hang_limit: Option<Duration>,
    /// The percentage of payloads with some KiB, and of these with some hundred KiB.
    pub large: u32,
    /// The maximum number of calls at once.
    pub burst: usize,
    /// The percentage of calls that are dropped at some point.
    pub cancelled: u32,
    /// The percentage of calls with a deadline that may pass.
    pub hurried: u32,
    /// The percentage of turns with one-way calls.
    pub sends: u32,
    /// The percentage of turns with a ping.
    pub pings: u32,
    /// The percentage of calls without streams that may run twice. Half of these have a limit for each try.
    pub repeatable: u32,
    /// True if some accounts of one-way calls are awaited until all of them have ended.
    pub settles: bool,
    /// The beginning of virtual time. With it each call must end by its deadline.
    pub since: Option<Instant>,
}

impl Default for Mix {
    fn default() -> Self {
        Self {
            echo: 70,
            refuse: 5,
            sleep: 10,
            refuse_late: 3,
            hang: 2,
            crash: 3,
            compute: 3,
            block: 3,
            spin: 1,
            streams: 15,
            messages: 20,
            pause: 0..3000,
            busy: 0..200,
            hang_limit: Some(Duration::from_millis(10)),
            large: 5,
            burst: 32,
            cancelled: 5,
            hurried: 5,
            sends: 30,
            pings: 3,
            repeatable: 0,
            settles: false,
            since: None,
        }
    }
}

impl Mix {
    /// Quick calls only; none is dropped.
    pub fn quick() -> Self {
        Self {
            sleep: 0,
            refuse_late: 0,
            hang: 0,
            compute: 0,
            block: 0,
            spin: 0,
            cancelled: 0,
            hurried: 0,
            streams: 0,
            ..Self::default()
        }
    }

    /// Draws the next call with streams, if there is one.
    pub(super) fn talk(&self, random: &mut fastrand::Rng) -> Option<Talk> {
        if random.u32(..100) >= self.streams {
            return None;
        }
        let way = [Way::List, Way::Gather, Way::Relay][random.usize(..3)];
        let is_large = random.u32(..100) < self.large;
        let messages = random.u32(..=if is_large { 4 } else { self.messages });
        let mut len = || {
            let most = if is_large { 200_000 } else { 300 };
            random.u32(..most)
        };
        let lens = [len(), len()];
        let ending = match random.u32(..20) {
            0 => Ending::Crash,
            1 | 2 => Ending::Refuse,
            3 => Ending::Hang,
            _ => Ending::Ok,
        };
        // Most handlers read all messages.
        let count = match way {
            Way::List => messages,
            Way::Gather | Way::Relay if random.u32(..4) > 0 => u32::MAX,
            Way::Gather | Way::Relay => random.u32(..=messages + 1),
        };
        // A task of its own that hangs would never end.
        let apart = ending != Ending::Hang && random.bool();
        let mut now_and_then = |most: u32| {
            let is_slow = random.u32(..10) == 0;
            if is_slow { random.u32(..most.max(1)) } else { 0 }
        };
        let script = Script {
            token: 0,
            count,
            len: lens[0],
            micros: now_and_then(self.pause.end),
            ending,
            apart,
        };
        let micros = now_and_then(self.pause.end);
        let (timeout, idle) = match (ending, self.hang_limit) {
            (Ending::Hang, Some(limit)) => {
                let limit = Duration::from_micros(random.u64(1..=micros_of(limit)));
                if random.bool() {
                    (Some(limit), None)
                } else {
                    (None, Some(limit))
                }
            }
            _ if random.u32(..100) < self.hurried => (Some(Duration::from_micros(random.u64(1..5000))), None),
            _ => (None, None),
        };
        Some(Talk {
            way,
            script,
            messages,
            len: lens[1],
            abandons: random.u32(..100) < self.cancelled,
            leaves: (random.u32(..100) < self.cancelled).then(|| random.u32(..=messages)),
            micros,
            timeout,
            idle,
        })
    }

    /// Draws the next call.
    pub(super) fn request(&self, random: &mut fastrand::Rng) -> Request {
        let procedure = self.procedure(random);
        let deadline = match (procedure, self.hang_limit) {
            (Procedure::Hang, Some(limit)) => Some(random.u64(1..=micros_of(limit))),
            _ if random.u32(..100) < self.hurried => Some(random.u64(1..5000)),
            _ => None,
        };
        Request {
            procedure,
            len: self.len(random),
            micros: match procedure {
                Procedure::Sleep | Procedure::RefuseLate => random.u32(self.pause.clone()),
                Procedure::Compute | Procedure::Block | Procedure::Spin => random.u32(self.busy.clone()),
                _ => 0,
            },
            timeout: deadline.map(Duration::from_micros),
            tries: self.tries(random),
        }
    }

    /// Draws whether the next call may run twice, and how long each try may take.
    fn tries(&self, random: &mut fastrand::Rng) -> Tries {
        if self.repeatable == 0 || random.u32(..100) >= self.repeatable {
            return Tries::Once;
        }
        match (random.bool(), self.hang_limit) {
            (true, Some(limit)) => {
                Tries::Several(Some(Duration::from_micros(random.u64(1..=micros_of(limit)))))
            }
            _ => Tries::Several(None),
        }
    }

    fn procedure(&self, random: &mut fastrand::Rng) -> Procedure {
        let weights = [
            (self.echo, Procedure::Echo),
            (self.refuse, Procedure::Refuse),
            (self.sleep, Procedure::Sleep),
            (self.refuse_late, Procedure::RefuseLate),
            (self.hang, Procedure::Hang),
            (self.crash, Procedure::Crash),
            (self.compute, Procedure::Compute),
            (self.block, Procedure::Block),
            (self.spin, Procedure::Spin),
        ];
        let sum: u32 = weights.iter().map(|(weight, _)| weight).sum();
        let mut left = random.u32(..sum.max(1));
        for (weight, procedure) in weights {
            if left < weight {
                return procedure;
            }
            left -= weight;
        }
        Procedure::Echo
    }

    fn len(&self, random: &mut fastrand::Rng) -> usize {
        if random.u32(..100) >= self.large {
            random.usize(..150)
        } else if random.u32(..100) < self.large {
            // Up to four fragments.
            random.usize(..400_000)
        } else {
            random.usize(..20_000)
        }
    }
}

fn micros_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).max(1)
}
