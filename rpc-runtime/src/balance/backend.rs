//! Backend: one of the servers among which a balancer picks.

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::Measured;
use crate::discover::Endpoint;

/// One of the servers among which a [`Balancer`](super::Balancer) picks, and what the client has measured of it.
#[derive(Clone)]
pub struct Backend {
    endpoint: Arc<Endpoint>,
    weight: f64,
    measured: Arc<Measured>,
    /// Its index among all servers of the client.
    index: usize,
}

impl Backend {
    pub(super) fn new(endpoint: Arc<Endpoint>, weight: f64, measured: Arc<Measured>, index: usize) -> Self {
        Self {
            endpoint,
            weight,
            measured,
            index,
        }
    }

    /// Returns the endpoint, as the resolver found it.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Returns how many calls it should get beside the others, above 0. It is the endpoint's weight; less while the server is new beside
    /// others, for 10 s.
    pub fn weight(&self) -> f64 {
        self.weight
    }

    /// Returns how many calls of this client it has now, streams included.
    pub fn in_flight(&self) -> u32 {
        self.measured.in_flight()
    }

    /// Returns how long its replies take; none before the first one.
    ///
    /// It is a moving average that follows a longer time at once, and a shorter one with a time constant of 10 s. It is at least the time for
    /// which calls have waited without a reply.
    pub fn latency(&self) -> Option<Duration> {
        self.measured.latency(Instant::now())
    }

    /// Returns the share of calls that have not failed lately, from 0 to 1.
    ///
    /// Failures are UNAVAILABLE, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, INTERNAL, UNKNOWN and DATA_LOSS. The last ten calls or so count, and
    /// what is older than 10 s counts little.
    pub fn success(&self) -> f64 {
        self.measured.success(Instant::now())
    }

    /// Its index among all servers of the client, of which the selection was made.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    pub(super) fn measured(&self) -> &Arc<Measured> {
        &self.measured
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend")
            .field("endpoint", &self.endpoint)
            .field("weight", &self.weight)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}
