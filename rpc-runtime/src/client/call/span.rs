//! Span: the span around a call, on the side that makes it.

use std::{
    future::{Future, poll_fn},
    pin::pin,
};

use super::options::ExtraOptions;
use crate::{
    Procedure,
    client::channel::Channel,
    trace::{Called, ClientSpan},
};

/// Begins the span of a call, if somebody wants it, and stores the trace context to send.
#[cold]
pub(super) fn begin_span(
    channel: &Channel,
    procedure: &'static Procedure,
    more: &mut Option<Box<ExtraOptions>>,
) -> Option<Box<ClientSpan>> {
    let options = more.as_deref();
    let called = Called {
        procedure,
        address: channel.address(),
        trace: options.and_then(|options| options.trace.as_ref()),
        is_given: options.is_some_and(|options| options.is_trace_given),
    };
    let span = ClientSpan::begin(&called)?;
    if let Some(context) = span.context() {
        more.get_or_insert_default().trace = Some(context.clone());
    }
    Some(Box::new(span))
}

/// Runs `future` within a span.
pub(super) async fn run_within<F: Future>(span: &ClientSpan, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| {
        let _entered = span.enter();
        future.as_mut().poll(cx)
    })
    .await
}
