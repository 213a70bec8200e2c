//! until and unless: wait for a future, but no longer than until another one is ready.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

/// Returns the result of `wanted`, or none if `end` is ready before. `wanted` is polled first.
pub(crate) async fn until<T>(end: impl Future, wanted: impl Future<Output = T>) -> Option<T> {
    unless(end, wanted).await.ok()
}

/// Returns the result of `wanted`, or that of `end` as the error if it is ready before. `wanted` is polled first.
pub(crate) async fn unless<T, E>(
    end: impl Future<Output = E>,
    wanted: impl Future<Output = T>,
) -> Result<T, E> {
    let mut end = pin!(end);
    let mut wanted = pin!(wanted);
    poll_fn(|cx| {
        if let Poll::Ready(result) = wanted.as_mut().poll(cx) {
            return Poll::Ready(Ok(result));
        }
        end.as_mut().poll(cx).map(Err)
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn the_first_to_be_ready_counts() {
        assert_eq!(until(pending::<()>(), ready(1)).await, Some(1));
        assert_eq!(until(ready(()), pending::<u8>()).await, None);
        assert_eq!(until(ready(()), ready(1)).await, Some(1));
        assert_eq!(unless(ready("end"), pending::<u8>()).await, Err("end"));
        assert_eq!(unless(ready("end"), ready(1)).await, Ok(1));
    }
}
