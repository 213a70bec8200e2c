//! Finding the servers of a service: what a [`Resolver`] is, and the ones that are built in; and registering servers.
//!
//! A client of one address follows that address. A client of a *target*, such as `dns:///kv.example.com:5005`, asks a resolver for the
//! endpoints of the service, keeps a connection to each, and [balances](crate::balance) its calls over them.
//!
//! | target | endpoints |
//! |---|---|
//! | `dns:///name:port` | all addresses that the system's resolver has for the name: [`Dns`] |
//! | `file:///path` | the lines of a file, read again when it changes: [`File`] |
//! | any text, with [`ClientBuilder::resolver`](crate::client::ClientBuilder::resolver) | what a [`Resolver`] of yours finds |
//!
//! A server gets into a registry by a [`Registrar`], which [`ServerBuilder::register`](crate::server::ServerBuilder::register) takes.

mod dns;
mod endpoint;
mod file;
mod following;
mod found;
mod registrar;
mod resolver;
mod serving;
mod target;
mod work;

pub use self::{
    dns::Dns, endpoint::Endpoint, file::File, following::Following, found::Found, registrar::Registrar,
    resolver::Resolver, serving::Serving,
};
pub(crate) use self::{
    registrar::DynRegistrar,
    resolver::DynResolver,
    serving::ServingEnd,
    target::resolver_of,
    work::{Pauses, poll_caught},
};
