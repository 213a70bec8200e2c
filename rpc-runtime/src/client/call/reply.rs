//! Reply: the one reply of a call with a stream of requests.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use super::{receipt::Receipt, stream_call::StreamCall};
use crate::{Code, Error, Executed, wire::frame::Encoded};

/// The one reply of a call with a stream of requests: a future.
///
/// It may arrive before all requests are sent; later requests are discarded. Dropping it cancels the call.
///
/// It fails as any call does: [`Error::status`] is `Some` if the handler failed. Await it after
/// [`Sender::finish`](crate::Sender::finish), because most handlers reply when they have read the end of the requests.
///
/// ```no_run
/// # use rpc_runtime::{Client, Error, server::Procedure};
/// # static COUNT: Procedure = Procedure::new("kv.v1.Kv/rpc_count", 1).with_request_stream();
/// # async fn example(client: Client) -> Result<(), Error> {
/// // With a stub: let (mut sender, count) = kv.send_recv().count().await?;
/// let (mut sender, count) = client.call().request_stream(&COUNT, Ok::<u64, Error>).await?;
/// sender.send("dog".to_owned()).await?;
/// sender.finish();
/// let (count, receipt) = count.with_receipt().await?;
/// println!("{count}, after {:?} in the handler", receipt.ran());
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping the reply cancels the call"]
pub struct Reply<T> {
    call: Arc<StreamCall>,
    /// None once the reply was returned.
    parse: Option<ParseReply<T>>,
}

type ParseReply<T> = Box<dyn FnOnce(Encoded) -> Result<T, Error> + Send>;

impl<T> Reply<T> {
    pub(super) fn new(call: Arc<StreamCall>, parse: ParseReply<T>) -> Self {
        Self {
            call,
            parse: Some(parse),
        }
    }

    /// Returns a [`Receipt`] beside the reply: the handler's metadata, and the times that the server measured.
    ///
    /// # Errors
    ///
    /// As of the reply itself. The metadata of a refusal is in [`Error::status`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call.
    pub async fn with_receipt(mut self) -> Result<(T, Receipt), Error> {
        poll_fn(|cx| self.poll_with_receipt(cx)).await
    }
}

impl<T> Future for Reply<T> {
    type Output = Result<T, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let reply = ready!(self.get_mut().poll_with_receipt(cx));
        Poll::Ready(reply.map(|(reply, _)| reply))
    }
}

impl<T> Reply<T> {
    fn poll_with_receipt(&mut self, cx: &mut Context<'_>) -> Poll<Result<(T, Receipt), Error>> {
        let this = self;
        if this.parse.is_none() {
            let error =
                Error::local(Code::Internal, "the reply was taken already").with_executed(Executed::Maybe);
            return Poll::Ready(Err(this.call.locate(error)));
        }
        let outcome = ready!(this.call.poll_outcome(cx));
        let Some(parse) = this.parse.take() else {
            return Poll::Pending;
        };
        Poll::Ready(match outcome {
            Ok(mut reply) => {
                this.call.replied();
                let receipt = Receipt::take(&mut reply);
                match parse(reply.payload) {
                    Ok(reply) => Ok((reply, receipt)),
                    Err(error) => Err(this.call.locate(error)),
                }
            }
            Err(failure) => Err(this.call.error_of_reply(failure)),
        })
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if self.parse.is_some() {
            self.call.leave();
        }
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reply").field(&self.call).finish()
    }
}
