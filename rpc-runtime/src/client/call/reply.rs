//! Reply: the one reply of a call with a stream of requests.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use super::{
    layered::{self, LayeredStreams},
    receipt::Receipt,
    stream_call::StreamCall,
    stream_meter::StreamMeter,
};
use crate::{Code, Error, Executed, layer::Answer, trace::ClientSpan, wire::frame::Encoded};

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
    /// None without middleware.
    layered: Option<Box<LayeredStreams>>,
    meter: StreamMeter,
    /// None if nobody wants it.
    span: Option<Box<ClientSpan>>,
}

type ParseReply<T> = Box<dyn FnOnce(Encoded) -> Result<T, Error> + Send>;

impl<T> Reply<T> {
    pub(super) fn new(
        call: Arc<StreamCall>,
        parse: ParseReply<T>,
        layered: Option<Box<LayeredStreams>>,
        meter: StreamMeter,
        span: Option<Box<ClientSpan>>,
    ) -> Self {
        if let Some(span) = &span {
            span.note_call(&call.on.peer, call.id.0);
        }
        Self {
            call,
            parse: Some(parse),
            layered,
            meter,
            span,
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
        let Some(span) = self.span.take() else {
            let reply = ready!(self.poll_reply(cx));
            return Poll::Ready(self.count_end(reply));
        };
        let polled = {
            let _entered = span.enter();
            self.poll_reply(cx)
        };
        match polled {
            Poll::Ready(ended) => {
                span.end(ended.as_ref());
                Poll::Ready(self.count_end(ended))
            }
            Poll::Pending => {
                self.span = Some(span);
                Poll::Pending
            }
        }
    }

    /// Counts the end of the call.
    fn count_end<R>(&mut self, end: Result<R, Error>) -> Result<R, Error> {
        self.meter.end(end.as_ref().err().map_or(Code::Ok, Error::code));
        end
    }

    fn poll_reply(&mut self, cx: &mut Context<'_>) -> Poll<Result<(T, Receipt), Error>> {
        let this = self;
        if this.parse.is_none() {
            let error =
                Error::local(Code::Internal, "the reply was taken already").with_executed(Executed::Maybe);
            return Poll::Ready(Err(this.call.locate(error)));
        }
        if let Some(layered) = &mut this.layered {
            let answer = ready!(poll_layered(layered, &this.call, cx));
            let Some(parse) = this.parse.take() else {
                return Poll::Pending;
            };
            let (payload, receipt) = match answer {
                Ok(answer) => layered::reply(answer),
                Err(error) => {
                    this.call.leave();
                    return Poll::Ready(Err(error));
                }
            };
            let reply = parse(payload).map_err(|error| this.call.locate(error));
            return Poll::Ready(reply.map(|reply| (reply, receipt)));
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

/// Waits for the reply, while middleware may end the call, and has the last word about its end.
#[cold]
fn poll_layered(
    layered: &mut LayeredStreams,
    call: &StreamCall,
    cx: &mut Context<'_>,
) -> Poll<Result<Answer, Error>> {
    loop {
        let is_told = layered.is_told();
        if let Poll::Ready(ended) = layered.poll(cx) {
            return Poll::Ready(ended);
        }
        if is_told {
            return Poll::Pending;
        }
        layered.tell(match ready!(call.poll_outcome(cx)) {
            Ok(reply) => {
                call.replied();
                layered::answer(reply).map_err(|error| call.locate(error))
            }
            Err(failure) => Err(call.error_of_reply(failure)),
        });
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
