//! OneWayCall: a call without a reply, as its caller awaits it.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use prost::Message;

use super::{Call, CallClass, client_call::CallKind, in_flight::InFlightCall, layered::LayeredCall};
use crate::{
    Error, Procedure,
    trace::{self, ClientSpan},
};

/// A one-way call: a future that resolves when the request is in the connection's queue. The call begins when it is first polled.
///
/// Stubs return it, and so does [`Call::send`].
///
/// ```
/// # use rpc_runtime::{Client, Error, server::Procedure};
/// # static NOTE: Procedure = Procedure::new("kv.v1.Kv/rpc_note", 1);
/// # async fn example(client: Client) -> Result<(), Error> {
/// // With a stub: kv.send().note("dog")
/// let call = client.call().send(&NOTE, "dog".to_owned());
/// call.await?;
/// # Ok(())
/// # }
/// ```
// Written by hand, because an `async fn` moves its arguments about twice more.
#[must_use = "a call does nothing until it is awaited"]
pub struct OneWayCall<'a, Req> {
    /// None once the call has begun.
    call: Option<Call<'a>>,
    procedure: &'static Procedure,
    request: Req,
    /// The call once it waits for its turn. Most calls do not: they join the frame of the call before them.
    waiting: Option<Box<WaitingSend<'a>>>,
    /// None if nobody wants it.
    span: Option<Box<ClientSpan>>,
}

/// A one-way call that did not join a frame.
enum WaitingSend<'a> {
    Plain(InFlightCall<'a>),
    Layered(LayeredCall),
}

impl<'a, Req: Message + 'static> OneWayCall<'a, Req> {
    #[inline(always)]
    pub(super) fn new(call: Call<'a>, procedure: &'static Procedure, request: Req) -> Self {
        Self {
            call: Some(call),
            procedure,
            request,
            waiting: None,
            span: None,
        }
    }

    #[inline]
    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let joins = |call: &Call<'_>| call.joins(self.procedure, &self.request);
        if self.call.as_ref().is_some_and(joins) {
            self.call = None;
            return Poll::Ready(Ok(()));
        }
        self.poll_waiting(cx)
    }

    /// Sends the request within the span of the call.
    #[cold]
    fn poll_traced(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let (None, Some(call)) = (&self.span, &mut self.call) {
            self.span = call.begin_span(self.procedure);
        }
        let Some(span) = self.span.take() else {
            return self.poll_sent(cx);
        };
        let polled = {
            let _entered = span.enter();
            self.poll_sent(cx)
        };
        match &polled {
            Poll::Ready(ended) => span.end(ended.as_ref()),
            Poll::Pending => self.span = Some(span),
        }
        polled
    }

    /// Sends the request in a frame of its own, or by middleware.
    #[inline(never)]
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let waiting = match &mut self.waiting {
            Some(waiting) => waiting,
            none => {
                let call = self.call.take().expect("a call is not polled after its end");
                none.insert(Box::new(begin(call, self.procedure, &self.request)?))
            }
        };
        let sent = ready!(match &mut **waiting {
            WaitingSend::Plain(call) => call.poll_send(&self.request, cx),
            WaitingSend::Layered(answer) => Pin::new(answer).poll(cx).map_ok(drop),
        });
        self.waiting = None;
        Poll::Ready(sent)
    }
}

/// Begins a call, which takes its deadline now.
fn begin<'a, Req: Message + 'static>(
    call: Call<'a>,
    procedure: &'static Procedure,
    request: &Req,
) -> Result<WaitingSend<'a>, Error> {
    let deadline = call.usual_deadline();
    call.check(procedure, &deadline)?;
    let Some(chain) = call.client.chain() else {
        return Ok(WaitingSend::Plain(call.in_flight(
            procedure,
            CallClass::User,
            deadline,
        )));
    };
    let message = call.raw(procedure, request)?;
    let channel = Arc::clone(call.client.channel());
    let call = call.layered(channel, procedure, message, deadline, CallKind::OneWay);
    Ok(WaitingSend::Layered(LayeredCall::new(Arc::clone(chain), call)))
}

/// Nothing in it is ever pinned.
impl<Req> Unpin for OneWayCall<'_, Req> {}

impl<Req: Message + 'static> Future for OneWayCall<'_, Req> {
    type Output = Result<(), Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        match this.span.is_some() || trace::is_on() {
            false => this.poll_sent(cx),
            true => this.poll_traced(cx),
        }
    }
}

/// Shows which call it is, and not its request.
impl<Req> fmt::Debug for OneWayCall<'_, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OneWayCall")
            .field("procedure", &self.procedure.path())
            .finish_non_exhaustive()
    }
}
