//! Sampling: which traces are taken, and how a subscriber learns of those that are not.

use std::cell::Cell;

use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};
use rpc_runtime::trace::is_declined;
use tracing::{Metadata, Subscriber, level_filters::LevelFilter, subscriber::Interest};
use tracing_subscriber::{
    Layer,
    layer::{Context, Filter},
};

/// Which part of the traces that begin here is taken, and which spans of those.
///
/// As the filter of a layer it keeps spans and events of other traces from that layer, and as a layer from all.
#[derive(Debug)]
pub(crate) struct SampleFilter {
    level: LevelFilter,
    /// Trace ids whose lower half without its last bit is below are taken. None if all are.
    bound: Option<u64>,
}

impl SampleFilter {
    /// Takes spans and events up to `level`, of this part of the traces.
    pub(crate) fn new(level: LevelFilter, ratio: f64) -> Self {
        // As OpenTelemetry's sampler `TraceIdRatioBased` has it. That one decides about spans that no call is around.
        let bound = (ratio < 1.0).then(|| (ratio.max(0.0) * (1_u64 << 63) as f64) as u64);
        Self { level, bound }
    }

    /// Returns whether a trace with this id is taken that begins here.
    pub(crate) fn takes(&self, trace_id: u128) -> bool {
        self.bound.is_none_or(|bound| (trace_id as u64) >> 1 < bound)
    }

    /// Returns whether all traces that begin here are taken.
    pub(crate) fn takes_all(&self) -> bool {
        self.bound.is_none()
    }

    fn interest(&self, about: &Metadata<'_>) -> Interest {
        match self.level >= *about.level() {
            // It is asked each time, since the answer depends on the call around it.
            true => Interest::sometimes(),
            false => Interest::never(),
        }
    }

    fn is_enabled(&self, about: &Metadata<'_>) -> bool {
        self.level >= *about.level() && !is_declined()
    }
}

impl<S> Filter<S> for SampleFilter {
    fn enabled(&self, about: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        self.is_enabled(about)
    }

    fn callsite_enabled(&self, about: &'static Metadata<'static>) -> Interest {
        self.interest(about)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }
}

impl<S: Subscriber> Layer<S> for SampleFilter {
    fn register_callsite(&self, about: &'static Metadata<'static>) -> Interest {
        self.interest(about)
    }

    fn enabled(&self, about: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.is_enabled(about)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }
}

/// Makes the ids of spans. A trace gets the id with which it was decided to take it.
#[derive(Debug, Default)]
pub(crate) struct Ids(RandomIdGenerator);

impl Ids {
    /// Decides whether a trace that begins here is taken. The error is the id of one that is not.
    ///
    /// The id of one that is taken waits for [`Ids::build`].
    pub(crate) fn decide(filter: &SampleFilter) -> Result<(), TraceId> {
        DECIDED.set(None);
        if filter.takes_all() {
            return Ok(());
        }
        let id = RandomIdGenerator::default().new_trace_id();
        match filter.takes(u128::from_be_bytes(id.to_bytes())) {
            true => {
                DECIDED.set(Some(id));
                Ok(())
            }
            false => Err(id),
        }
    }

    /// Runs `f`, which builds the span of a call. If that begins a trace, it gets the id of the last decision.
    pub(crate) fn build<R>(f: impl FnOnce() -> R) -> R {
        NEXT.set(DECIDED.take());
        let result = f();
        NEXT.set(None);
        result
    }
}

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        NEXT.take().unwrap_or_else(|| self.0.new_trace_id())
    }

    fn new_span_id(&self) -> SpanId {
        self.0.new_span_id()
    }
}

thread_local! {
    /// The id of the trace that was decided to be taken last on this thread.
    static DECIDED: Cell<Option<TraceId>> = const { Cell::new(None) };
    /// The id of the next trace, while the span of a call is built.
    static NEXT: Cell<Option<TraceId>> = const { Cell::new(None) };
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::SpanKind;
    use opentelemetry_sdk::trace::{Sampler, SamplingDecision, ShouldSample};

    use super::*;

    #[test]
    fn a_ratio_takes_the_traces_that_the_sampler_takes() {
        let ids = RandomIdGenerator::default();
        for ratio in [-1.0, 0.0, 0.25, 0.5, 0.999, 1.0, 2.0] {
            let filter = SampleFilter::new(LevelFilter::INFO, ratio);
            let edges = [1, u128::MAX, 1 << 63, (1 << 62) - 1, 1 << 62];
            let random = (0..200).map(|_| u128::from_be_bytes(ids.new_trace_id().to_bytes()));
            for id in random.chain(edges) {
                let sampled = Sampler::TraceIdRatioBased(ratio).should_sample(
                    None,
                    TraceId::from_bytes(id.to_be_bytes()),
                    "name",
                    &SpanKind::Client,
                    &[],
                    &[],
                );
                let is_taken = sampled.decision == SamplingDecision::RecordAndSample;
                assert_eq!(filter.takes(id), is_taken, "{ratio} {id:032x}");
            }
        }
    }

    #[test]
    fn a_trace_has_the_id_that_was_decided_about() {
        let filter = SampleFilter::new(LevelFilter::INFO, 0.5);
        for _ in 0..200 {
            let decided = Ids::decide(&filter);
            // A span that no call is around does not get it.
            let other = Ids::default().new_trace_id();
            let id = Ids::build(|| Ids::default().new_trace_id());
            if decided.is_ok() {
                assert!(filter.takes(u128::from_be_bytes(id.to_bytes())));
            }
            assert_ne!(other, id);
            assert_ne!(Ids::default().new_trace_id(), id);
        }
    }
}
