//! View: what users see of the servers of a client.

use std::{sync::Arc, time::Duration};

use super::{Cluster, now};
use crate::{
    balance::Place,
    client::{Client, ConnectionState},
    discover::Endpoint,
};

/// One server of a client, as [`Client::endpoints`] returns it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EndpointState {
    /// The endpoint, as the resolver found it.
    pub endpoint: Endpoint,
    /// Whether it gets calls.
    pub status: EndpointStatus,
    /// The state of its best connection.
    pub connection: ConnectionState,
    /// Calls of this client that it has now, streams included.
    pub in_flight: u32,
    /// How long its replies take; none before the first one. See [`Backend::latency`](crate::balance::Backend::latency).
    pub latency: Option<Duration>,
    /// The share of calls that have not failed lately, from 0 to 1.
    pub success: f64,
    /// How many calls it was given, and how many of them have failed.
    pub calls: u64,
    /// How many of its calls have failed.
    pub failures: u64,
}

/// Whether a server gets calls, and if not, why.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum EndpointStatus {
    /// It gets calls.
    In,
    /// The resolver gave it the weight 0.
    NoWeight,
    /// It is not connected, for this reason; none while the first attempt runs.
    NotConnected(Option<String>),
    /// It is out as an outlier for a while, for this reason: see [`Outliers`](crate::balance::Outliers).
    Out(String),
    /// It has kept calls waiting for this time, while others reply.
    Hangs(Duration),
}

impl Cluster {
    /// All servers of now, in the resolver's order.
    pub(in crate::client) fn endpoints(&self) -> Vec<EndpointState> {
        let now = now();
        let members = self.lock();
        let places = members.places.iter().map(Some).chain(std::iter::repeat(None));
        let all = members.list.iter().zip(&members.candidates).zip(places);
        all.map(|((member, candidate), place)| {
            let measured = &candidate.measured;
            let (calls, failures) = measured.totals();
            let connection = member.state();
            let not_connected = || {
                let why = member.failure().map(|(_, error)| error.message().to_owned());
                EndpointStatus::NotConnected(why)
            };
            EndpointState {
                endpoint: Endpoint::clone(&candidate.endpoint),
                status: match place {
                    Some(Place::NoWeight) => EndpointStatus::NoWeight,
                    _ if connection != ConnectionState::Ready => not_connected(),
                    Some(Place::Out(why)) => EndpointStatus::Out(why.clone()),
                    Some(Place::Hangs(time)) => EndpointStatus::Hangs(*time),
                    Some(Place::In | Place::NotReady) | None => EndpointStatus::In,
                },
                connection,
                in_flight: measured.in_flight(),
                latency: measured.latency(now),
                success: measured.success(now),
                calls,
                failures,
            }
        })
        .collect()
    }

    /// The client of the server at an address.
    pub(in crate::client) fn client_at(self: &Arc<Self>, address: &str) -> Option<Client> {
        Some(self.member_at(address)?.client().clone())
    }
}
