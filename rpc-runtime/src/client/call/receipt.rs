//! Receipt: what arrived beside a reply.

use std::time::Duration;

use bytes::Bytes;

use crate::{Metadata, conn::ReceivedReply, layer::Answer};

/// What arrived beside a reply: the handler's metadata, and how long the call waited and ran on the server.
///
/// [`UnaryCall::with_receipt`](crate::client::UnaryCall::with_receipt), [`Reply::with_receipt`](crate::Reply::with_receipt) and
/// [`Streaming::receipt`](crate::Streaming::receipt) return it. A call that fails has none: the metadata of a refusal is in
/// [`Error::status`](crate::Error::status).
///
/// ```no_run
/// # use rpc_runtime::{Client, Error, server::Procedure};
/// # static FETCH: Procedure = Procedure::new("kv.v1.Kv/rpc_fetch", 1);
/// # async fn example(client: Client) -> Result<(), Error> {
/// // With a stub: kv.send_recv().fetch("dog").with_receipt().await?;
/// let call = client.call().send_recv::<_, String>(&FETCH, "dog".to_owned());
/// let (value, receipt) = call.with_receipt().await?;
/// println!("{value}, after {:?} in the handler", receipt.ran());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Receipt {
    metadata: Metadata,
    queued: Duration,
    ran: Duration,
}

impl Receipt {
    /// The receipt of `reply`, which keeps its message.
    pub(super) fn take(reply: &mut ReceivedReply) -> Self {
        Self {
            metadata: std::mem::take(&mut reply.metadata),
            queued: Duration::from_micros(reply.queue_us),
            ran: Duration::from_micros(reply.run_us),
        }
    }

    /// The answer with this receipt, and `message`.
    pub(super) fn into_answer(self, message: Bytes) -> Answer {
        Answer::received(message, self.metadata, self.queued, self.ran)
    }

    /// The receipt of an answer.
    pub(super) fn of_answer(answer: &Answer) -> Self {
        Self {
            metadata: answer.metadata().clone(),
            queued: answer.queued(),
            ran: answer.ran(),
        }
    }

    /// Returns the entries that the handler sent beside its reply.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Returns how long the call waited on the server before its handler began.
    pub fn queued(&self) -> Duration {
        self.queued
    }

    /// Returns how long the handler ran.
    pub fn ran(&self) -> Duration {
        self.ran
    }
}
