//! Finding the servers of a service: what a [`Resolver`] is, and the ones that are built in.
//!
//! A client of one address follows that address. A client of a *target*, such as `dns:///kv.example.com:5005`, asks a resolver for the
//! endpoints of the service, keeps a connection to each, and [balances](crate::balance) its calls over them.
//!
//! | target | endpoints |
//! |---|---|
//! | `dns:///name:port` | all addresses that the system's resolver has for the name: [`Dns`] |
//! | `file:///path` | the lines of a file, read again when it changes: [`File`] |
//! | any text, with [`ClientBuilder::resolver`](crate::client::ClientBuilder::resolver) | what a [`Resolver`] of yours finds |

mod dns;
mod endpoint;
mod file;
mod following;
mod found;
mod resolver;
mod target;

pub use self::{
    dns::Dns, endpoint::Endpoint, file::File, following::Following, found::Found, resolver::Resolver,
};
pub(crate) use self::{resolver::DynResolver, target::resolver_of};
