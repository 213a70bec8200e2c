//! Linker: the contexts of OpenTelemetry's spans, as calls carry them.

use std::sync::{Mutex, PoisonError};

use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState},
};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};
use rpc_runtime::{
    Error,
    trace::{Linker, Sampling, TraceContext, set_linker},
};
use tracing::{Span, dispatcher};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::sampling::{Ids, SampleFilter};

/// Makes this the linker of the process, unless it is that already.
///
/// # Errors
///
/// FAILED_PRECONDITION if the process has another one.
pub(crate) fn set() -> Result<(), Error> {
    static IS_SET: Mutex<bool> = Mutex::new(false);
    let mut is_set = IS_SET.lock().unwrap_or_else(PoisonError::into_inner);
    if !*is_set {
        set_linker(OtelLinker)?;
        *is_set = true;
    }
    Ok(())
}

/// Links the spans of whichever layer of this crate a span belongs to.
struct OtelLinker;

impl Linker for OtelLinker {
    fn sample(&self, parent: Option<&TraceContext>) -> Sampling {
        // A thread may have a subscriber of its own.
        dispatcher::get_default(|subscriber| {
            let Some(filter) = subscriber.downcast_ref::<SampleFilter>() else {
                return Sampling::Taken;
            };
            match parent.filter(|parent| parent.trace_id().is_some()) {
                Some(parent) if parent.is_sampled() => Sampling::Taken,
                Some(parent) => Sampling::Declined(parent.clone()),
                None => match Ids::decide(filter) {
                    Ok(()) => Sampling::Taken,
                    Err(id) => Sampling::Declined(not_sampled(id)),
                },
            }
        })
    }

    fn current(&self) -> Option<TraceContext> {
        Context::map_current(|current| from_otel(current.span().span_context()))
    }

    fn set_parent(&self, span: &Span, parent: &TraceContext) {
        if let Some(parent) = to_otel(parent) {
            // It fails for a span that no layer of ours has.
            let _ = span.set_parent(Context::new().with_remote_span_context(parent));
        }
    }

    fn context(&self, span: &Span) -> Option<TraceContext> {
        Ids::build(|| from_otel(span.context().span().span_context()))
    }
}

/// The context of a trace that is not taken.
fn not_sampled(id: TraceId) -> TraceContext {
    let span_id = RandomIdGenerator::default().new_span_id();
    let (id, span_id) = (
        u128::from_be_bytes(id.to_bytes()),
        u64::from_be_bytes(span_id.to_bytes()),
    );
    // One of them is 0 as good as never.
    TraceContext::new(id, span_id, false).unwrap_or_else(|| TraceContext::start(false))
}

fn to_otel(trace: &TraceContext) -> Option<SpanContext> {
    let (trace_id, span_id) = (trace.trace_id()?, trace.span_id()?);
    Some(SpanContext::new(
        TraceId::from_bytes(trace_id.to_be_bytes()),
        SpanId::from_bytes(span_id.to_be_bytes()),
        TraceFlags::default().with_sampled(trace.is_sampled()),
        true,
        trace.tracestate().parse::<TraceState>().unwrap_or_default(),
    ))
}

fn from_otel(span: &SpanContext) -> Option<TraceContext> {
    let trace = TraceContext::new(
        u128::from_be_bytes(span.trace_id().to_bytes()),
        u64::from_be_bytes(span.span_id().to_bytes()),
        span.is_sampled(),
    )?;
    Some(trace.with_tracestate(&span.trace_state().header()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_comes_back_as_it_went() {
        for (state, is_sampled) in [("", true), ("a=1,b=2", false)] {
            let trace = TraceContext::new(7 << 100, 9, is_sampled)
                .unwrap()
                .with_tracestate(state);
            let otel = to_otel(&trace).unwrap();
            assert!(otel.is_remote());
            assert_eq!(from_otel(&otel), Some(trace));
        }
        assert_eq!(from_otel(&SpanContext::empty_context()), None);
    }
}
