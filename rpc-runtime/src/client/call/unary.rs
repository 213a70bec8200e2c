//! Unary: a call with one request and one reply, as its caller awaits it.

use std::{
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
};

use prost::Message;

use super::{decode, in_flight::InFlightCall};
use crate::Error;

/// A call with one request and one reply. It begins when it is polled first.
///
/// Written by hand, for what an `async fn` is given is moved about twice more.
pub(super) struct Unary<'a, Req, Rep> {
    call: InFlightCall<'a>,
    stage: UnaryStage,
    request: Req,
    reply: PhantomData<fn() -> Rep>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum UnaryStage {
    New,
    Begun,
    Over,
}

impl<'a, Req, Rep> Unary<'a, Req, Rep> {
    /// A call that has not begun.
    #[inline]
    pub(super) fn new(call: InFlightCall<'a>, request: Req) -> Self {
        Self {
            call,
            stage: UnaryStage::New,
            request,
            reply: PhantomData,
        }
    }
}

/// Nothing in it is ever pinned.
impl<Req, Rep> Unpin for Unary<'_, Req, Rep> {}

impl<Req: Message + 'static, Rep: Message + Default> Future for Unary<'_, Req, Rep> {
    type Output = Result<Rep, Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.stage != UnaryStage::Begun {
            assert!(this.stage == UnaryStage::New, "polled after its end");
            this.stage = UnaryStage::Over;
            this.call.begin()?;
            this.stage = UnaryStage::Begun;
        }
        let reply = ready!(this.call.poll_call(&this.request, cx));
        this.stage = UnaryStage::Over;
        Poll::Ready(match reply {
            Ok(reply) => decode(reply.payload, this.call.budget()).map_err(|error| this.call.locate(error)),
            Err(error) => Err(error),
        })
    }
}
