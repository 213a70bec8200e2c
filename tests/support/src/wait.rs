//! Waits that end: a test that would hang fails instead.

use std::time::Duration;

/// Longer than anything in a test takes.
pub const LONG: Duration = Duration::from_secs(60);

/// Awaits `future`, and panics if it takes longer than [`LONG`].
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, future)
        .await
        .expect("the future is still pending after 60 s")
}

/// Lets other tasks run until `done` returns true. A paused clock does not move meanwhile.
pub async fn until(done: impl Fn() -> bool) {
    within(async {
        while !done() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
