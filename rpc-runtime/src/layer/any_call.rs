//! AnyCall: what the calls of both sides have in common.

use std::{error::Error as StdError, time::Duration};

use crate::{Metadata, Status};

/// A call as a [`Middleware`](crate::middleware::Middleware) gets it: a [`ServerCall`](crate::middleware::ServerCall) or a
/// [`ClientCall`](crate::middleware::ClientCall).
///
/// Middleware for one side needs nothing of this trait, since each type has these methods itself. Middleware for both
/// sides is generic:
///
/// ```
/// use std::time::Instant;
///
/// use rpc_runtime::middleware::{Answer, AnyCall, Middleware, Next};
///
/// struct Time;
///
/// impl<C: AnyCall> Middleware<C> for Time {
///     async fn handle(&self, call: C, next: Next<C>) -> Result<Answer, C::Error> {
///         let (procedure, begun) = (call.procedure(), Instant::now());
///         let result = next.run(call).await;
///         println!("{procedure} took {:?}, and ended well: {}", begun.elapsed(), result.is_ok());
///         result
///     }
/// }
/// ```
pub trait AnyCall: Sealed + Send + 'static {
    /// How a call fails: by a [`Status`] on a server, by an [`Error`](crate::Error) on a client.
    type Error: StdError + From<Status> + Send + 'static;

    /// Returns the path of the procedure: `package.Service/Name`.
    fn procedure(&self) -> &'static str;

    /// Returns whether the call has no reply.
    fn is_one_way(&self) -> bool;

    /// Returns the time until the deadline: zero once it has passed, none without a deadline.
    fn remaining(&self) -> Option<Duration>;

    /// Returns the entries that travel beside the request.
    fn metadata(&self) -> &Metadata;

    /// Returns the entries that travel beside the request, to change them.
    fn metadata_mut(&mut self) -> &mut Metadata;
}

/// Keeps [`AnyCall`] to the two types that have it.
#[allow(unnameable_types, reason = "who cannot name it cannot implement it")]
pub trait Sealed {}
