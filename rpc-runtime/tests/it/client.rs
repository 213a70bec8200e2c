//! What a client promises to its callers.

mod calls;
mod cancel_safety;
mod close;
mod connect;
mod connection_age;
mod connections;
mod deadlines;
mod default_metadata;
mod failover;
mod one_way;
mod receipts;
mod runtimes;
