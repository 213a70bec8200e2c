//! Linker: what links the spans of this process to those of others.

use std::sync::OnceLock;

use tracing::Span;

use crate::{Code, Error, api::trace_context::TraceContext};

/// What links the spans of this process to those of others: an exporter of spans, which knows the ids of each.
///
/// [`set_linker`] sets it. It is asked only about calls whose spans a subscriber may want.
///
/// ```
/// use rpc_runtime::trace::{Linker, TraceContext, set_linker};
/// use tracing::Span;
///
/// /// An exporter keeps the ids of a span by its `Span::id`.
/// struct Exporter;
///
/// impl Linker for Exporter {
///     fn set_parent(&self, span: &Span, parent: &TraceContext) {
///         # let _ = (span, parent);
///         // Note that `span` belongs to the trace of `parent`.
///     }
///
///     fn context(&self, span: &Span) -> Option<TraceContext> {
///         # let _ = span;
///         // The ids of `span`.
///         TraceContext::new(1, 2, true)
///     }
/// }
///
/// set_linker(Exporter).expect("it is the only one");
/// ```
pub trait Linker: Send + Sync + 'static {
    /// Decides about the spans of a call, before one is built. Default: it takes them all.
    ///
    /// `parent` is the trace that the call belongs to; with none, or with one that has no ids, it begins a trace. Within a call that is
    /// declined it is not asked about calls that are made there: they are declined, too, unless they were given another trace.
    fn sample(&self, parent: Option<&TraceContext>) -> Sampling {
        let _ = parent;
        Sampling::Taken
    }

    /// Returns the context of the span of the exporter that is entered on this thread; none if there is none. Default: none.
    ///
    /// A call that is made here belongs to its trace, so it is the parent for [`Linker::sample`].
    fn current(&self) -> Option<TraceContext> {
        None
    }

    /// Makes `parent` the parent of `span`, which was just made and never entered.
    fn set_parent(&self, span: &Span, parent: &TraceContext);

    /// Returns the context that calls within `span` carry; none if the exporter does not know the span.
    ///
    /// If it has no baggage, calls carry that of the call around them.
    fn context(&self, span: &Span) -> Option<TraceContext>;
}

/// What a [`Linker`] decides about the spans of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sampling {
    /// The exporter wants them.
    Taken,
    /// The exporter leaves them out, and those that are made within the call: [`is_declined`](super::is_declined) tells it. Other subscribers
    /// still get them.
    ///
    /// The call goes on with this context, so that the next process need not decide again: the parent, or a
    /// [new trace](TraceContext::start) that is not sampled.
    Declined(TraceContext),
}

/// Sets the linker of this process, for all servers and clients.
///
/// # Errors
///
/// FAILED_PRECONDITION if there is one already: it stays.
pub fn set_linker(linker: impl Linker) -> Result<(), Error> {
    LINKER.set(Box::new(linker)).map_err(|_| {
        let text = "this process has a linker of spans already: set one, before the first call";
        Error::local(Code::FailedPrecondition, text)
    })
}

/// The linker of this process, if there is one.
pub(super) fn linker() -> Option<&'static dyn Linker> {
    LINKER.get().map(|linker| &**linker)
}

static LINKER: OnceLock<Box<dyn Linker>> = OnceLock::new();
