//! Unary: a call with one request and one reply, as its caller awaits it.

use std::{
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
};

use prost::Message;

use super::{call::decode, exchange::Exchange};
use crate::Error;

/// A call with one request and one reply. It begins when it is polled first.
///
/// Written by hand, for what an `async fn` is given is moved about twice more.
pub(super) struct Unary<'a, Req, Rep> {
    exchange: Exchange<'a>,
    stage: Stage,
    request: Req,
    reply: PhantomData<fn() -> Rep>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    New,
    Begun,
    Over,
}

impl<'a, Req, Rep> Unary<'a, Req, Rep> {
    /// A call that has not begun.
    #[inline]
    pub(super) fn new(exchange: Exchange<'a>, request: Req) -> Self {
        Self {
            exchange,
            stage: Stage::New,
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
        if this.stage != Stage::Begun {
            assert!(this.stage == Stage::New, "polled after its end");
            this.stage = Stage::Over;
            this.exchange.begin()?;
            this.stage = Stage::Begun;
        }
        let reply = ready!(this.exchange.poll_call(&this.request, cx));
        this.stage = Stage::Over;
        Poll::Ready(match reply {
            Ok(reply) => {
                decode(reply.payload, this.exchange.budget()).map_err(|error| this.exchange.locate(error))
            }
            Err(error) => Err(error),
        })
    }
}
