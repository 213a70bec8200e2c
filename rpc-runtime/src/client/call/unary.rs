//! UnaryCall: a call with one request and one reply, as its caller awaits it.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
};

use prost::Message;

use super::{in_flight::InFlightCall, receipt::Receipt};
use crate::{Error, client::errors, conn::ReceivedReply, message::decode::decode, wire::frame::Encoded};

/// A call with one request and one reply: a future of the reply. The call begins when it is first polled.
///
/// Stubs return it, and so does [`Call::send_recv`](crate::Call::send_recv).
///
/// ```
/// # use rpc_runtime::{Client, Error, server::Procedure};
/// # static FETCH: Procedure = Procedure::new("kv.v1.Kv/rpc_fetch", 1);
/// # async fn example(client: Client) -> Result<(), Error> {
/// // With a stub: kv.send_recv().fetch("dog")
/// let call = client.call().send_recv::<_, String>(&FETCH, "dog".to_owned());
/// let value = call.await?;
/// # Ok(())
/// # }
/// ```
// Written by hand, because an `async fn` moves its arguments about twice more.
#[must_use = "a call does nothing until it is awaited"]
pub struct UnaryCall<'a, Req, Rep, T = Rep> {
    call: InFlightCall<'a>,
    stage: UnaryStage,
    request: Req,
    /// Makes of the reply what the caller gets.
    map: fn(Rep) -> T,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum UnaryStage {
    New,
    Begun,
    Over,
}

impl<'a, Req, Rep, T> UnaryCall<'a, Req, Rep, T> {
    /// A call that has not begun.
    #[inline]
    pub(super) fn new(call: InFlightCall<'a>, request: Req, map: fn(Rep) -> T) -> Self {
        Self {
            call,
            stage: UnaryStage::New,
            request,
            map,
        }
    }
}

impl<Req: Message + 'static, Rep: Message + Default, T> UnaryCall<'_, Req, Rep, T> {
    /// Returns a [`Receipt`] beside the reply: the handler's metadata, and the times that the server measured.
    ///
    /// # Errors
    ///
    /// As of the call itself. The metadata of a refusal is in [`Error::status`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up this call only.
    pub async fn with_receipt(mut self) -> Result<(T, Receipt), Error> {
        let mut reply = poll_fn(|cx| self.poll_reply(cx)).await?;
        let receipt = Receipt::take(&mut reply);
        Ok((self.read(reply.payload)?, receipt))
    }

    #[inline]
    fn poll_reply(&mut self, cx: &mut Context<'_>) -> Poll<Result<ReceivedReply, Error>> {
        if self.stage != UnaryStage::Begun {
            assert!(self.stage == UnaryStage::New, "polled after its end");
            self.stage = UnaryStage::Over;
            self.call.begin()?;
            self.stage = UnaryStage::Begun;
        }
        let reply = ready!(self.call.poll_call(&self.request, cx));
        self.stage = UnaryStage::Over;
        Poll::Ready(reply)
    }

    #[inline]
    fn read(&self, payload: Encoded) -> Result<T, Error> {
        match decode(payload, self.call.budget()) {
            Ok(reply) => Ok((self.map)(reply)),
            Err(failure) => Err(self.call.locate(errors::unreadable_reply(failure))),
        }
    }
}

/// Nothing in it is ever pinned.
impl<Req, Rep, T> Unpin for UnaryCall<'_, Req, Rep, T> {}

impl<Req: Message + 'static, Rep: Message + Default, T> Future for UnaryCall<'_, Req, Rep, T> {
    type Output = Result<T, Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let reply = ready!(this.poll_reply(cx))?;
        Poll::Ready(this.read(reply.payload))
    }
}

/// Shows which call it is, and not its request.
impl<Req, Rep, T> fmt::Debug for UnaryCall<'_, Req, Rep, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnaryCall")
            .field("procedure", &self.call.procedure().path())
            .finish_non_exhaustive()
    }
}
