//! Finding the servers of a service: what a [`Resolver`] is, and the ones that are built in.
//!
//! A client of one address follows that address. A client of a *target*, such as `dns:///kv.example.com:5005`, asks a resolver for the
//! endpoints of the service, keeps a connection to each, and balances its calls over them.
//!
//! | target | endpoints |
//! |---|---|
//! | `dns:///name:port` | all addresses that the system's resolver has for the name |
//! | `file:///path` | the lines of a file, read again when it changes |

mod endpoint;
mod following;
mod found;
mod resolver;

pub(crate) use self::resolver::DynResolver;
pub use self::{endpoint::Endpoint, following::Following, found::Found, resolver::Resolver};
