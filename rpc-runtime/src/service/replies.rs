//! Replies: from a handler's stream to the messages of its call.

use std::{fmt, future::poll_fn, marker::PhantomData, pin::pin, sync::Arc};

use futures_core::Stream;
use prost::Message;
use tokio::task::coop;

use crate::{
    Code, Result, Status,
    compression::Outgoing,
    conn::{CallId, Unsent},
    server::Served,
};

/// Where the stream of a handler goes; generated code holds one.
#[must_use = "nothing is sent until a stream is forwarded"]
pub struct Replies<T> {
    served: Arc<Served>,
    id: CallId,
    procedure: &'static str,
    message: PhantomData<fn(T)>,
}

impl<T: Message> Replies<T> {
    pub(super) fn new(served: Arc<Served>, id: CallId, procedure: &'static str) -> Self {
        Self {
            served,
            id,
            procedure,
            message: PhantomData,
        }
    }

    /// Sends the messages of `stream` to the caller, until its end or its first error.
    ///
    /// It runs in the handler's own future, so the stream may borrow what that owns. It takes a message from the stream
    /// only when the one before is on its way.
    ///
    /// # Errors
    ///
    /// The error that the stream gave; RESOURCE_EXHAUSTED for a message that is longer than the caller takes; CANCELLED if
    /// the caller is gone.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the stream; what was taken from it before is on its way.
    pub async fn forward(self, stream: impl Stream<Item = Result<T>>) -> Result<()> {
        let mut stream = pin!(stream);
        while let Some(message) = poll_fn(|cx| stream.as_mut().poll_next(cx)).await {
            self.send(&message?).await?;
        }
        Ok(())
    }

    async fn send(&self, message: &T) -> Result<()> {
        // A stream that always has more would not let others have their turn.
        coop::consume_budget().await;
        let message = Outgoing::new(message, self.served.compression());
        let sent = poll_fn(|cx| {
            self.served
                .with(|conn, now| conn.poll_data(self.id, &message, now, cx))
        });
        sent.await.map_err(|unsent| match unsent {
            Unsent::TooLong { len, max } => Status::new(
                Code::ResourceExhausted,
                format!(
                    "message of {len} bytes of {} exceeds the caller's limit of {max}",
                    self.procedure
                ),
            ),
            Unsent::Over(_) => Status::new(Code::Cancelled, "the call is over"),
        })
    }
}

impl<T> fmt::Debug for Replies<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replies")
            .field("procedure", &self.procedure)
            .finish_non_exhaustive()
    }
}
