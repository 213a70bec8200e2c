//! Fate: when and how a connection is cut, drawn when it is accepted.

use std::time::Duration;

/// The probabilities of a relay's cuts and stalls.
#[derive(Clone, Debug)]
pub struct Cuts {
    /// The percentage of connections that are cut.
    pub cut: u32,
    /// The percentage of the cuts that come within the first KiB, about the handshake.
    pub early: u32,
    /// The maximum number of bytes before the other cuts; each order of magnitude is equally likely.
    pub most: u64,
    /// The percentage of connections that stall for a while in one direction.
    pub stalled: u32,
    /// The maximum duration of a stall.
    pub stall: Duration,
}

impl Cuts {
    /// Makes a relay that cuts nothing.
    pub fn none() -> Self {
        Self {
            cut: 0,
            early: 0,
            most: 0,
            stalled: 0,
            stall: Duration::ZERO,
        }
    }

    /// Makes a relay that cuts most connections.
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

    /// Draws a number of bytes from some KiB on; each order of magnitude is equally likely.
    fn scaled(&self, random: &mut fastrand::Rng) -> u64 {
        let most = self.most.max(LEAST + 1);
        let doublings = (most as f64 / LEAST as f64).log2() * random.f64();
        (LEAST as f64 * doublings.exp2()) as u64
    }
}

/// When and how a connection is cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fate {
    pub(super) cut: Cut,
    /// The number of bytes from client to server before the cut.
    pub(super) after_upwards: Option<u64>,
    /// The number of bytes from server to client before the cut.
    pub(super) after_downwards: Option<u64>,
    pub(super) stall_upwards: Option<Stall>,
    pub(super) stall_downwards: Option<Stall>,
    /// The time that the other direction goes on after a half-close.
    pub(super) patience: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Both ends are closed.
    Close,
    /// Both ends are reset, so unread bytes are lost.
    Reset,
    /// One direction ends, the other goes on for a while.
    HalfClose,
}

/// A stall of one direction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stall {
    pub(super) after: u64,
    pub(super) time: Duration,
}

fn pick<'a, T>(random: &mut fastrand::Rng, one: &'a mut T, other: &'a mut T) -> &'a mut T {
    if random.bool() { one } else { other }
}

const LEAST: u64 = 4096;
