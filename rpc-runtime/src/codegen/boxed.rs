//! Futures and streams in boxes, for traits that are used as `dyn`.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
};

use futures_core::Stream;

use crate::{Result, session::Out};

/// The future of a handler.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// The replies of a handler.
pub type BoxStream<'a, T> = Pin<Box<dyn Stream<Item = Result<T>> + Send + 'a>>;

/// Sends the messages of `replies` to `out`, until their end or their first error.
pub async fn forward<T>(mut replies: BoxStream<'_, T>, out: Out<T>) -> Result<()> {
    while let Some(message) = poll_fn(|cx| replies.as_mut().poll_next(cx)).await {
        out.send(message?).await;
    }
    Ok(())
}
