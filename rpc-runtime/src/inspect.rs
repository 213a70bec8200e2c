//! What the servers and clients of this process do now: connections, calls, limits.
//!
//! [`connections`], [`calls`] and [`limits`] look at all servers and clients of the process that are alive. Nothing is counted for it while
//! nobody asks: each function looks at one connection after the other, under the lock of that connection alone. So two entries of a list
//! are of two moments, a few microseconds apart.
//!
//! Lists have a bound, and say how many entries were left out. [`ConnectionQuery`] and [`CallQuery`] select.
//!
//! No view has a payload, a metadata value or a secret.
//!
//! ```
//! use rpc_runtime::inspect;
//!
//! for connection in inspect::connections() {
//!     println!("{connection}");
//! }
//! for call in inspect::calls() {
//!     println!("{call}");
//! }
//! for limit in inspect::limits() {
//!     println!("{limit}");
//! }
//! ```
//!
//! The service `rpc.inspect.v1.Inspect` of the crate rpc-services shows the same to callers that may terminate the server.

mod call_view;
mod connection_view;
mod limit_view;
mod listing;
mod query;
mod registry;
mod stream_traffic;
mod walk;

pub(crate) use self::registry::{
    BlockedHandler, ConnectionFacts, InspectedConnection, Listed, Owner, OwnerLimit, list,
};
pub(crate) use self::stream_traffic::StreamTraffic;
pub use self::{
    call_view::CallView,
    connection_view::{ConnectionStage, ConnectionView},
    limit_view::{LimitSource, LimitView},
    listing::Listing,
    query::{CallQuery, ConnectionQuery},
};
pub use crate::api::{
    call_state::{CallState, CancelledBy},
    limit_value::LimitValue,
    limits::LimitInForce,
};
#[doc(no_inline)]
pub use crate::metrics::Side;

/// Lists the connections of all servers and clients of this process, in the order of their numbers, at most 1,000.
///
/// A connection is listed until nothing of it is left, handlers of one-way calls included.
pub fn connections() -> Listing<ConnectionView> {
    ConnectionQuery::new().run()
}

/// Lists the calls in flight of all servers and clients of this process, the oldest first, at most 1,000.
///
/// Calls that wait for a connection, and those that wait for credit or a slot before they are sent, are not listed:
/// [`ConnectionView::waiting`] counts the latter.
pub fn calls() -> Listing<CallView> {
    CallQuery::new().run()
}

/// Lists the limits in force of all servers and clients of this process, at most 10,000.
pub fn limits() -> Listing<LimitView> {
    walk::limits()
}
