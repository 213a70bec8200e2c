//! ProcedureCalls: what was counted of the calls of one procedure.

use super::{
    calls::CallTotals,
    histogram::Histogram,
    labels::{FATES, Protocol, Side},
};
use crate::api::status::Code;

/// What was counted of the calls of one procedure, on one side and by one protocol: a part of a [`Snapshot`](super::Snapshot).
///
/// ```
/// use rpc_runtime::{Code, metrics};
///
/// for procedure in metrics::snapshot().procedures() {
///     let failed = procedure.handled() - procedure.ended(Code::Ok);
///     println!("{} of {}: {failed} failed, {} in flight", procedure.side(), procedure.path(), procedure.in_flight());
/// }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct ProcedureCalls {
    pub(super) path: &'static str,
    pub(super) side: Side,
    pub(super) protocol: Protocol,
    pub(super) totals: CallTotals,
    /// How many calls are in flight.
    pub(super) in_flight: u64,
}

impl ProcedureCalls {
    pub(super) fn new(path: &'static str, side: Side, protocol: Protocol, totals: CallTotals) -> Self {
        Self {
            path,
            side,
            protocol,
            in_flight: totals.in_flight(),
            totals,
        }
    }

    /// True if `other` counts the same calls.
    pub(super) fn is_of_same(&self, other: &Self) -> bool {
        (self.path, self.side, self.protocol) == (other.path, other.side, other.protocol)
    }

    /// What was counted since `earlier`.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        Self {
            totals: self.totals.since(&earlier.totals),
            ..*self
        }
    }

    /// Returns the path, `package.Service/method`. It is `_other/_other` for all procedures together that a server does not have.
    pub fn path(&self) -> &'static str {
        self.path
    }

    /// Returns the part of the path before the slash.
    pub fn service(&self) -> &'static str {
        self.path.split_once('/').map_or("", |(service, _)| service)
    }

    /// Returns the part of the path behind the slash.
    pub fn method(&self) -> &'static str {
        self.path.split_once('/').map_or(self.path, |(_, method)| method)
    }

    /// Returns whether this process serves the calls or makes them.
    pub fn side(&self) -> Side {
        self.side
    }

    /// Returns the protocol by which they travel.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Returns how many calls have begun. One-way calls are not among them.
    pub fn started(&self) -> u64 {
        self.totals.started
    }

    /// Returns how many calls have ended.
    pub fn handled(&self) -> u64 {
        self.totals.ended.iter().sum()
    }

    /// Returns how many calls have ended with this code.
    pub fn ended(&self, code: Code) -> u64 {
        self.totals.ended[code as usize]
    }

    /// Returns each code with which calls have ended, and how many.
    pub fn codes(&self) -> impl Iterator<Item = (Code, u64)> {
        let counts = self.totals.ended.iter().zip(0..);
        counts
            .filter(|(count, _)| **count > 0)
            .map(|(&count, number)| (Code::from_number(number), count))
    }

    /// Returns how many calls had begun and not ended when the snapshot was taken.
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Returns how long calls took that have ended.
    ///
    /// On a server from the last byte of the request until the end of the handler, on a client from the beginning of the call to its
    /// outcome.
    pub fn latency(&self) -> &Histogram {
        &self.totals.latency
    }

    /// Returns how many times a handler blocked its thread for more than 2 ms.
    pub fn blocked(&self) -> u64 {
        self.totals.blocked
    }

    /// Returns what became of one-way calls, and of how many. There are only those that a server has received.
    ///
    /// The words are `handled`, `failed`, `expired`, and why a call was dropped: `unknown_procedure`, `bad_payload`, `overload`, `draining`,
    /// `aborted`, `refused`.
    pub fn one_ways(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let fates = FATES.into_iter().zip(self.totals.fates);
        fates.filter(|(_, count)| *count > 0)
    }
}
