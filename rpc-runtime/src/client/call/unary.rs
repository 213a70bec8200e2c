//! UnaryCall: a call with one request and one reply, as its caller awaits it.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use prost::Message;

use super::{
    client_call::{CallKind, ClientCall},
    in_flight::InFlightCall,
    layered::{self, LayeredCall},
    receipt::Receipt,
};
use crate::{
    Code, Error,
    client::errors,
    conn::ReceivedReply,
    layer::{Chain, RawMessage, Tries},
    message::{decode::decode, nesting},
    wire::frame::Encoded,
};

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
    layered: LayeredUnary,
}

/// The middleware of a call.
enum LayeredUnary {
    /// The call has none.
    None,
    New(Arc<Chain<ClientCall>>),
    /// Boxed, because a call without middleware must stay small.
    Running(Box<LayeredCall>),
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
    pub(super) fn new(
        call: InFlightCall<'a>,
        request: Req,
        map: fn(Rep) -> T,
        chain: Option<&Arc<Chain<ClientCall>>>,
    ) -> Self {
        Self {
            call,
            stage: UnaryStage::New,
            request,
            map,
            layered: chain.map_or(LayeredUnary::None, |chain| LayeredUnary::New(Arc::clone(chain))),
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
        let result = self.receive().await;
        self.count_end(&result);
        result
    }

    async fn receive(&mut self) -> Result<(T, Receipt), Error> {
        let (payload, receipt) = match self.layered {
            LayeredUnary::None => {
                let mut reply = poll_fn(|cx| self.poll_reply(cx)).await?;
                let receipt = Receipt::take(&mut reply);
                (reply.payload, receipt)
            }
            LayeredUnary::New(_) | LayeredUnary::Running(_) => poll_fn(|cx| self.poll_layered(cx)).await?,
        };
        Ok((self.read(payload)?, receipt))
    }

    /// Waits for the reply as middleware gives it.
    #[cold]
    fn poll_layered(&mut self, cx: &mut Context<'_>) -> Poll<Result<(Encoded, Receipt), Error>> {
        self.begin()?;
        let procedure = self.call.procedure();
        if let LayeredUnary::New(chain) = &self.layered {
            if let Err(text) = nesting::check(procedure.request_nesting(), &self.request) {
                self.stage = UnaryStage::Over;
                return Poll::Ready(Err(self.call.locate(errors::too_deep(&text))));
            }
            let message = RawMessage::of(&self.request);
            let call = LayeredCall::new(Arc::clone(chain), call_of(&mut self.call, message));
            self.layered = LayeredUnary::Running(Box::new(call));
        }
        let LayeredUnary::Running(running) = &mut self.layered else {
            unreachable!("the caller has looked")
        };
        let answer = ready!(Pin::new(&mut **running).poll(cx));
        self.stage = UnaryStage::Over;
        Poll::Ready(answer.map(layered::reply))
    }

    /// Begins the call when it is polled for the first time.
    #[inline(always)]
    fn begin(&mut self) -> Result<(), Error> {
        match self.stage {
            UnaryStage::Begun => Ok(()),
            UnaryStage::New | UnaryStage::Over => self.begin_now(),
        }
    }

    fn begin_now(&mut self) -> Result<(), Error> {
        assert!(self.stage == UnaryStage::New, "polled after its end");
        self.stage = UnaryStage::Over;
        self.call.begin()?;
        self.stage = UnaryStage::Begun;
        Ok(())
    }

    #[inline]
    fn poll_reply(&mut self, cx: &mut Context<'_>) -> Poll<Result<ReceivedReply, Error>> {
        self.begin()?;
        let reply = ready!(self.call.poll_call(&self.request, cx));
        self.stage = UnaryStage::Over;
        Poll::Ready(reply)
    }

    /// Counts the end of the call.
    #[inline]
    fn count_end<R>(&mut self, result: &Result<R, Error>) {
        self.call.count_end(match result {
            Ok(_) => Code::Ok,
            Err(error) => error.code(),
        });
    }

    #[inline]
    fn read(&self, payload: Encoded) -> Result<T, Error> {
        match decode(payload, self.call.budget()) {
            Ok(reply) => Ok((self.map)(reply)),
            Err(failure) => Err(self.call.locate(errors::unreadable_reply(failure))),
        }
    }
}

/// Makes the call that middleware gets in place of `call`.
fn call_of(call: &mut InFlightCall<'_>, message: RawMessage) -> ClientCall {
    let procedure = call.procedure();
    let (channel, more, deadline, options) = call.parts();
    ClientCall {
        channel,
        procedure,
        message,
        more,
        deadline,
        options,
        kind: CallKind::Reply,
        tries: Arc::new(Tries::default()),
    }
}

/// Nothing in it is ever pinned.
impl<Req, Rep, T> Unpin for UnaryCall<'_, Req, Rep, T> {}

impl<Req: Message + 'static, Rep: Message + Default, T> Future for UnaryCall<'_, Req, Rep, T> {
    type Output = Result<T, Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let result = if matches!(this.layered, LayeredUnary::None) {
            let reply = ready!(this.poll_reply(cx));
            reply.and_then(|reply| this.read(reply.payload))
        } else {
            let answer = ready!(this.poll_layered(cx));
            answer.and_then(|(payload, _)| this.read(payload))
        };
        this.count_end(&result);
        Poll::Ready(result)
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
