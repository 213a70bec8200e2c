//! Linker: the contexts of OpenTelemetry's spans, as calls carry them.

use std::sync::{Mutex, PoisonError};

use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState},
};
use rpc_runtime::{
    Error,
    trace::{Linker, TraceContext, set_linker},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

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
    fn set_parent(&self, span: &Span, parent: &TraceContext) {
        if let Some(parent) = to_otel(parent) {
            // It fails for a span that no layer of ours has.
            let _ = span.set_parent(Context::new().with_remote_span_context(parent));
        }
    }

    fn context(&self, span: &Span) -> Option<TraceContext> {
        from_otel(span.context().span().span_context())
    }
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
