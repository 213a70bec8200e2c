//! Balancing calls over the servers of a service: what a [`Balancer`] is, and the ones that are built in.
//!
//! A client of a [target](crate::discover) keeps a connection to each endpoint. For each call it picks one of those that are connected,
//! are not out as [outliers](Outliers), and do not hang:
//!
//! | balancer | picks |
//! |---|---|
//! | [`LeastLoaded`], the default | the better one of two random backends, by latency, failures and calls in flight |
//! | [`RoundRobin`] | one after the other |
//! | [`First`] | the first one in the resolver's order, as long as it is there |
//! | [`RingHash`] | the same one for the same key, as long as it is there |
//!
//! All of them respect [weights](crate::discover::Endpoint::with_weight) and [zones](crate::client::ClientBuilder::zone), except that
//! [`First`] has no use for weights.

mod backend;
mod balancer;
mod first;
mod hash;
mod least_loaded;
mod measured;
mod outliers;
mod ring_hash;
mod round_robin;
mod selection;

pub use self::{
    backend::Backend,
    balancer::{Balancer, Pick, Picker},
    first::First,
    least_loaded::LeastLoaded,
    outliers::Outliers,
    ring_hash::RingHash,
    round_robin::RoundRobin,
};
pub(crate) use self::{
    hash::{hash, hash_of_field},
    measured::{Ended, Measured},
    selection::{Candidate, Place, Selection},
};
