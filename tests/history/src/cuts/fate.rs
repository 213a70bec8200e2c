//! Fate: what will happen to a connection, decided when it comes.

use std::time::Duration;

/// How often a relay does what.
#[derive(Clone, Debug)]
pub struct Cuts {
    /// How many connections in a hundred are cut.
    pub cut: u32,
    /// How many of the cut ones in a hundred are cut within the first KiB, which is about the handshake.
    pub early: u32,
    /// After how many bytes the others are cut at most; less is as likely at every scale.
    pub most: u64,
    /// How many connections in a hundred are held up for a while in one direction.
    pub stalled: u32,
    /// For how long, at most.
    pub stall: Duration,
}

impl Cuts {
    /// Passes everything on.
    pub fn none() -> Self {
        Self {
            cut: 0,
            early: 0,
            most: 0,
            stalled: 0,
            stall: Duration::ZERO,
        }
    }

    /// Cuts most connections.
    pub fn many() -> Self {
        Self {
            cut: 85,
            early: 15,
            most: 1 << 20,
            stalled: 10,
            stall: Duration::from_millis(50),
        }
    }

    pub(super) fn fate(&self, random: &mut fastrand::Rng) -> Fate {
        let mut fate = Fate {
            cut: random
                .choice([Cut::Close, Cut::Reset, Cut::HalfClose])
                .unwrap_or(Cut::Close),
            after_upwards: None,
            after_downwards: None,
            stall_upwards: None,
            stall_downwards: None,
            patience: Duration::from_millis(random.u64(..100)),
        };
        if random.u32(..100) < self.cut {
            let after = if random.u32(..100) < self.early {
                random.u64(..1024)
            } else {
                self.scaled(random)
            };
            *pick(random, &mut fate.after_upwards, &mut fate.after_downwards) = Some(after);
        }
        if random.u32(..100) < self.stalled {
            let stall = Stall {
                after: self.scaled(random),
                time: self.stall.mul_f64(random.f64()),
            };
            *pick(random, &mut fate.stall_upwards, &mut fate.stall_downwards) = Some(stall);
        }
        fate
    }

    /// A number of bytes of any magnitude from some KiB on.
    fn scaled(&self, random: &mut fastrand::Rng) -> u64 {
        let most = self.most.max(LEAST + 1);
        let doublings = (most as f64 / LEAST as f64).log2() * random.f64();
        (LEAST as f64 * doublings.exp2()) as u64
    }
}

/// What will happen to one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fate {
    pub(super) cut: Cut,
    /// After how many bytes from client to server it is cut.
    pub(super) after_upwards: Option<u64>,
    /// After how many bytes from server to client it is cut.
    pub(super) after_downwards: Option<u64>,
    pub(super) stall_upwards: Option<Stall>,
    pub(super) stall_downwards: Option<Stall>,
    /// How long the other direction goes on after a half-close.
    pub(super) patience: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Both ends are closed.
    Close,
    /// Both ends are reset: what they have not read is lost.
    Reset,
    /// One direction ends, the other goes on for a while.
    HalfClose,
}

/// A time in which nothing passes in one direction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stall {
    pub(super) after: u64,
    pub(super) time: Duration,
}

fn pick<'a, T>(random: &mut fastrand::Rng, one: &'a mut T, other: &'a mut T) -> &'a mut T {
    if random.bool() { one } else { other }
}

const LEAST: u64 = 4096;
