//! Plan: how one stop goes, all of it drawn from a seed.

use std::{fmt, time::Duration};

use fastrand::Rng;

/// The plan of a stop. It follows from a seed and an index.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Names the plan together with the seed.
    pub index: u64,
    /// The seed of the load.
    pub load_seed: u64,
    /// The transport of the server.
    pub transport: Transport,
    /// The number of clients.
    pub connections: usize,
    /// The number of tasks per client.
    pub users: usize,
    /// The behaviour of slow calls.
    pub slow: Slow,
    /// One more client, which asks for long replies and reads badly.
    pub ear: Option<Ear>,
    /// The number of ended calls before the stop.
    pub calls_before: u64,
    /// The kind of the stop.
    pub stop: Stop,
    /// A second signal, this long after the stop.
    pub second: Option<Duration>,
    /// The server's drain timeout.
    pub drain_timeout: Duration,
}

/// The transport of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// On a loopback address.
    Tcp,
    /// On a socket in the run's own folder.
    Unix,
}

/// The way in which a client reads badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ear {
    /// It never reads.
    Deaf,
    /// It reads slowly.
    Slow,
}

/// The behaviour of slow calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slow {
    /// There are none.
    None,
    /// They sleep, some for longer than the drain.
    Sleep,
    /// They never end.
    Hang,
    /// They block their threads, as the .proto says.
    Block,
    /// One blocks its thread without a declaration; others sleep and hang.
    Mixed,
}

/// The kind of the stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// An operator's signal.
    Signal(Signal),
    /// A client's terminate.
    Terminate,
    /// Both at once.
    TerminateAnd(Signal),
}

/// A signal that drains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// `kill -TERM`.
    Term,
    /// Ctrl-C.
    Int,
}

impl Slow {
    /// True if handlers block their threads.
    pub fn blocks(self) -> bool {
        matches!(self, Self::Block | Self::Mixed)
    }
}

impl Stop {
    /// True if a client terminates the server.
    pub fn is_terminate(self) -> bool {
        !matches!(self, Self::Signal(_))
    }
}

impl Signal {
    /// Its name for `kill`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Term => "TERM",
            Self::Int => "INT",
        }
    }
}

impl Plan {
    /// The plan of one stop; three that follow each other are by SIGTERM, by SIGINT, and by a terminate.
    pub fn new(seed: u64, index: u64) -> Self {
        // Mixed, so that neighbours have nothing in common.
        let mut random = Rng::with_seed(seed ^ index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let drain_timeout = Duration::from_millis(random.u64(50..600));
        let signal = |random: &mut Rng| if random.bool() { Signal::Term } else { Signal::Int };
        let stop = match index % 3 {
            0 => Stop::Signal(Signal::Term),
            1 => Stop::Signal(Signal::Int),
            _ if one_in(&mut random, 3) => Stop::TerminateAnd(signal(&mut random)),
            _ => Stop::Terminate,
        };
        let slow = [Slow::None, Slow::Sleep, Slow::Hang, Slow::Block, Slow::Mixed];
        Self {
            index,
            load_seed: random.u64(..),
            transport: if random.bool() {
                Transport::Tcp
            } else {
                Transport::Unix
            },
            connections: random.usize(1..=4),
            users: random.usize(1..=6),
            slow: slow[random.usize(..slow.len())],
            ear: match random.u32(..8) {
                0 | 1 => Some(Ear::Deaf),
                2 => Some(Ear::Slow),
                _ => None,
            },
            // Now and then in the middle of the handshakes.
            calls_before: if one_in(&mut random, 8) {
                0
            } else {
                random.u64(1..400)
            },
            stop,
            second: one_in(&mut random, 5).then(|| drain_timeout.mul_f64(random.f64())),
            drain_timeout,
        }
    }
}

/// One line, which says how to repeat the stop.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            index,
            transport,
            connections,
            users,
            slow,
            calls_before,
            stop,
            drain_timeout,
            ..
        } = self;
        write!(
            f,
            "stop {index}: {stop:?} after {calls_before} calls over {transport:?} from {connections} clients of {users} \
             users, slow calls: {slow:?}, drain {drain_timeout:?}"
        )?;
        match self.ear {
            Some(Ear::Deaf) => f.write_str(", one more client that never reads")?,
            Some(Ear::Slow) => f.write_str(", one more client that reads slowly")?,
            None => {}
        }
        match self.second {
            Some(after) => write!(f, ", a second signal after {after:?}"),
            None => Ok(()),
        }
    }
}

fn one_in(random: &mut Rng, count: u32) -> bool {
    random.u32(..count) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_an_index_give_one_plan() {
        for index in 0..50 {
            assert_eq!(
                format!("{:?}", Plan::new(7, index)),
                format!("{:?}", Plan::new(7, index))
            );
        }
        assert_ne!(format!("{:?}", Plan::new(7, 0)), format!("{:?}", Plan::new(8, 0)));
    }

    #[test]
    fn sixty_plans_cover_every_option() {
        let plans: Vec<_> = (0..60).map(|index| Plan::new(7, index)).collect();
        let count = |what: fn(&&Plan) -> bool| plans.iter().filter(what).count();
        assert_eq!(count(|plan| plan.stop == Stop::Signal(Signal::Term)), 20);
        assert_eq!(count(|plan| plan.stop == Stop::Signal(Signal::Int)), 20);
        assert!(count(|plan| matches!(plan.stop, Stop::TerminateAnd(_))) > 1);
        assert!(count(|plan| plan.ear == Some(Ear::Deaf)) > 1);
        assert!(count(|plan| plan.ear == Some(Ear::Slow)) > 1 && count(|plan| plan.second.is_some()) > 1);
        assert!(count(|plan| plan.calls_before == 0) > 1);
        for slow in [Slow::None, Slow::Sleep, Slow::Hang, Slow::Block, Slow::Mixed] {
            assert!(plans.iter().any(|plan| plan.slow == slow), "{slow:?}");
        }
    }
}
