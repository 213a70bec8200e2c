//! AnyCall: what the calls of both sides have in common.

use std::{error::Error as StdError, sync::Arc, time::Duration};

use super::Tries;
use crate::{Error, Executed, Metadata, Status};

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
    /// How a call fails: by a [`Status`] on a server, by an [`Error`] on a client.
    type Error: StdError + From<Status> + CallError + Send + 'static;

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
pub trait Sealed {
    /// The tries that were made of the call; none on a server, where a handler runs at most once.
    fn tries(&self) -> Option<&Arc<Tries>>;
}

/// An error of a call of one side.
#[allow(unnameable_types, reason = "as for `Sealed`")]
pub trait CallError: Sized {
    /// The error, or one that says that the call may have run if this one says that it did not.
    fn doubted(self) -> Self;
}

impl CallError for Status {
    fn doubted(self) -> Self {
        self
    }
}

impl CallError for Error {
    fn doubted(self) -> Self {
        match self.executed() {
            Executed::No => self.with_executed(Executed::Maybe),
            _ => self,
        }
    }
}
