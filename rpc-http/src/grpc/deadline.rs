//! The deadline of a call, where the call inside of the server cannot keep it.

use std::future::Future;

use rpc_runtime::{Code, Status};
use tokio::time::{Instant, timeout_at};

/// Runs `future`, not longer than until `deadline`.
///
/// # Errors
///
/// As of `future`; DEADLINE_EXCEEDED.
pub(super) async fn within<T, E: From<Status>>(
    deadline: Option<Instant>,
    future: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    match deadline {
        None => future.await,
        Some(at) => timeout_at(at, future)
            .await
            .unwrap_or_else(|_| Err(exceeded().into())),
    }
}

/// The status of a call whose deadline has passed.
pub(super) fn exceeded() -> Status {
    Status::new(
        Code::DeadlineExceeded,
        "the deadline has passed: the caller's timeout (grpc-timeout)",
    )
}
