//! UnaryCall: a call with one request and one reply, as its caller awaits it.

use std::{
    fmt,
    future::{Future, poll_fn},
    mem,
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
    trace::ClientSpan,
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

/// What is around a call: its middleware, and its span. Boxed, because a call without them must stay small.
#[derive(Default)]
enum LayeredUnary {
    /// Nothing.
    #[default]
    None,
    New(Arc<Chain<ClientCall>>),
    Running(Box<LayeredCall>),
    /// The call may have a span.
    Traced(Box<TracedUnary>),
}

/// A call that may have a span.
#[derive(Default)]
struct TracedUnary {
    /// None before the call begins, and if nobody wants it.
    span: Option<Box<ClientSpan>>,
    /// True once the span knows the connection of the call.
    is_noted: bool,
    /// The middleware within; none while it is polled.
    layered: LayeredUnary,
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
        is_traced: bool,
    ) -> Self {
        let layered = chain.map_or(LayeredUnary::None, |chain| LayeredUnary::New(Arc::clone(chain)));
        Self {
            call,
            stage: UnaryStage::New,
            request,
            map,
            layered: match is_traced {
                false => layered,
                true => traced(layered),
            },
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
        let result = poll_fn(|cx| self.poll_whole(cx)).await;
        self.count_end(&result);
        result
    }

    /// Waits for the reply of a call with whatever is around it.
    fn poll_whole(&mut self, cx: &mut Context<'_>) -> Poll<Result<(T, Receipt), Error>> {
        let (payload, receipt) = match self.layered {
            LayeredUnary::None => {
                let mut reply = ready!(self.poll_reply(cx))?;
                let receipt = Receipt::take(&mut reply);
                (reply.payload, receipt)
            }
            LayeredUnary::New(_) | LayeredUnary::Running(_) => ready!(self.poll_layered(cx))?,
            LayeredUnary::Traced(_) => return self.poll_traced(cx),
        };
        Poll::Ready(self.read(payload).map(|reply| (reply, receipt)))
    }

    /// Waits for the reply within the span of the call.
    #[cold]
    fn poll_traced(&mut self, cx: &mut Context<'_>) -> Poll<Result<(T, Receipt), Error>> {
        let LayeredUnary::Traced(mut traced) = mem::take(&mut self.layered) else {
            unreachable!("the caller has looked")
        };
        if self.stage == UnaryStage::New {
            traced.span = self.call.begin_span();
        }
        self.layered = mem::take(&mut traced.layered);
        let polled = {
            let _entered = traced.span.as_deref().map(ClientSpan::enter);
            self.poll_whole(cx)
        };
        if let (Some(span), false, Some((on, id))) = (&traced.span, traced.is_noted, self.call.on()) {
            span.note_call(&on.peer, id.0);
            traced.is_noted = true;
        }
        match &polled {
            Poll::Ready(ended) => {
                if let Some(span) = traced.span {
                    span.end(ended.as_ref());
                }
            }
            Poll::Pending => {
                traced.layered = mem::take(&mut self.layered);
                self.layered = LayeredUnary::Traced(traced);
            }
        }
        polled
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

    #[inline(always)]
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

/// A call that may have a span, with `layered` within.
#[cold]
fn traced(layered: LayeredUnary) -> LayeredUnary {
    LayeredUnary::Traced(Box::new(TracedUnary {
        layered,
        ..TracedUnary::default()
    }))
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
            ready!(this.poll_whole(cx)).map(|(reply, _)| reply)
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
