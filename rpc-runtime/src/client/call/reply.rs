//! Reply: the one reply of a call whose requests are a stream.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use super::{receipt::Receipt, stream_call::StreamCall};
use crate::{Code, Error, Executed, wire::frame::Encoded};

/// The one reply of a call whose requests are a stream: a future.
///
/// It may come before all requests are sent; what is sent after that is for nobody. Dropping it cancels the call.
///
/// It fails as any call does: [`Error::status`] is `Some` if the handler failed. Wait for it after [`Sender::finish`]: most
/// handlers reply when they have read the end of the requests.
///
/// [`Sender::finish`]: crate::Sender::finish
#[must_use = "dropping the reply cancels the call"]
pub struct Reply<T> {
    call: Arc<StreamCall>,
    /// None once the reply was given.
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
