//! Meters: what one connection counts, and where.

use std::{ptr, sync::OnceLock};

use super::{
    calls::CallCounts,
    labels::{Protocol, Side},
    procedures::{ProcedureCounts, ServedProcedures},
    shard::Shard,
    traffic::{QueueAges, SendCounts, Traffic},
};
use crate::api::status::Code;

/// What one connection counts, and where. By default it counts nothing.
#[derive(Debug, Default)]
pub(crate) struct ConnectionMeters {
    /// The calls that this side serves.
    pub(crate) served: ServedMeter,
    /// The one-way calls that this side sends.
    pub(crate) sends: Option<&'static SendCounts>,
    /// The bytes.
    pub(crate) traffic: Option<&'static Traffic>,
}

impl ConnectionMeters {
    /// Those of a connection of a server that speaks our own protocol.
    pub(crate) fn of_server() -> Self {
        let shard = Shard::next();
        Self {
            served: ServedMeter::new(Protocol::Native, shard),
            sends: Some(SendCounts::of(Protocol::Native)),
            traffic: Some(Traffic::of(Side::Server, Protocol::Native, shard)),
        }
    }

    /// Those of the connection by which a guest's client calls its server: the guest counts the bytes of its peer.
    pub(crate) fn of_guest() -> Self {
        Self {
            served: ServedMeter::new(Protocol::Grpc, Shard::next()),
            ..Self::default()
        }
    }

    /// Those of a connection of a client. A bridge counts the bytes of its server itself.
    pub(crate) fn of_client(protocol: Protocol) -> Self {
        let shard = Shard::next();
        let is_native = protocol == Protocol::Native;
        Self {
            served: ServedMeter::new(protocol, shard),
            sends: Some(SendCounts::of(protocol)),
            traffic: is_native.then(|| Traffic::of(Side::Client, protocol, shard)),
        }
    }
}

/// Counts the calls that a connection serves.
#[derive(Debug, Default)]
pub(crate) struct ServedMeter {
    /// None if they are not counted.
    place: Option<Place>,
    queue_ages: Option<&'static QueueAges>,
    /// The procedure that was called last, and its counters. Most connections call the same one again.
    last_id: u64,
    last: Option<&'static CallCounts>,
}

/// Where a connection counts.
#[derive(Clone, Copy, Debug)]
struct Place {
    protocol: Protocol,
    shard: Shard,
}

impl ServedMeter {
    fn new(protocol: Protocol, shard: Shard) -> Self {
        Self {
            place: Some(Place { protocol, shard }),
            queue_ages: Some(QueueAges::of(protocol, shard)),
            ..Self::default()
        }
    }

    /// Returns the counters of a procedure of the server; none if calls are not counted.
    #[inline]
    pub(crate) fn find(&mut self, id: u64, served: &ServedProcedures) -> Option<&'static CallCounts> {
        if id != self.last_id {
            self.look_up(id, served);
        }
        self.last
    }

    #[inline(never)]
    fn look_up(&mut self, id: u64, served: &ServedProcedures) {
        if let Some(Place { protocol, shard }) = self.place {
            self.last_id = id;
            self.last = Some(served.find(id).counts(Side::Server, protocol, shard));
        }
    }

    /// Counts the end of a call whose handler was polled: it waited for `queue_us` microseconds, and ran for `run_us`.
    #[inline]
    pub(crate) fn ran(
        &self,
        counts: Option<&'static CallCounts>,
        code: Code,
        (queue_us, run_us): (u64, u64),
    ) {
        if let (Some(counts), Some(ages)) = (counts, self.queue_ages) {
            ages.record(queue_us);
            counts.end(code, queue_us.saturating_add(run_us));
        }
    }
}

/// Finds where the calls of a client are counted.
#[derive(Debug)]
pub(crate) struct CalledMeter {
    protocol: Protocol,
    shard: Shard,
    /// The procedures that were called first, each at the place that its id says. Others are looked up for each call.
    known: [OnceLock<(&'static str, &'static CallCounts)>; 8],
}

impl CalledMeter {
    /// That of a client that speaks `protocol`.
    pub(crate) fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            shard: Shard::next(),
            known: [const { OnceLock::new() }; 8],
        }
    }

    /// The protocol that the client speaks.
    pub(crate) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Returns the counters of the procedure `path`, whose id is `id`.
    #[inline]
    pub(crate) fn find(&self, id: u64, path: &'static str) -> &'static CallCounts {
        match self.known[id as usize % 8].get() {
            // Most often it is the very same text.
            Some((known, counts)) if ptr::eq(*known, path) => counts,
            _ => self.look_up(id, path),
        }
    }

    #[inline(never)]
    fn look_up(&self, id: u64, path: &'static str) -> &'static CallCounts {
        let counts = ProcedureCounts::of(id, path).counts(Side::Client, self.protocol, self.shard);
        let _ = self.known[id as usize % 8].set((path, counts));
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meter_that_is_not_set_counts_nothing() {
        let served = ServedProcedures::new([(1, "test.Unset/a")]);
        assert!(ServedMeter::default().find(1, &served).is_none());
        assert!(ConnectionMeters::default().traffic.is_none());
    }

    #[test]
    fn a_meter_finds_one_procedure_after_the_other() {
        let served = ServedProcedures::new([(21, "test.Meter/a"), (22, "test.Meter/b")]);
        let mut meter = ServedMeter::new(Protocol::Native, Shard::default());
        for (id, started) in [(21, 1), (22, 1), (21, 2), (21, 3), (23, 0)] {
            if let Some(counts) = meter.find(id, &served) {
                counts.begin();
                meter.ran(Some(counts), Code::Ok, (1, 2));
            }
            let totals = served.find(id).totals(Side::Server, Protocol::Native);
            let totals = totals.unwrap();
            // Calls of unknown procedures are counted together, also those of other tests.
            assert!(id == 23 || (totals.started, totals.ended[0]) == (started, started));
        }
        assert!(ptr::eq(served.find(23), ProcedureCounts::other()));
    }

    #[test]
    fn a_client_finds_procedures_that_share_a_place() {
        let meter = CalledMeter::new(Protocol::Native);
        for (id, path, started) in [
            (8, "test.Called/a", 1),
            (16, "test.Called/b", 1),
            (8, "test.Called/a", 2),
            (16, "test.Called/b", 2),
        ] {
            meter.find(id, path).begin();
            let totals = ProcedureCounts::of(id, path).totals(Side::Client, Protocol::Native);
            assert_eq!(totals.unwrap().started, started);
        }
    }
}
