//! ClientSpan: the span of a call that is made here.

use tracing::{Span, field, span::Entered};

use super::{
    GRPC, OURS, TARGET,
    address::host_and_port,
    current::{self, CurrentTrace},
    end, is_declined, is_wanted,
    linker::{self, Linker, Sampling},
};
use crate::{Code, Error, Procedure, api::trace_context::TraceContext};

/// A call that is about to be made, as its span shows it.
pub(crate) struct Called<'a> {
    pub(crate) procedure: &'static Procedure,
    /// The addresses of the client, as the user has written them.
    pub(crate) address: &'a str,
    /// The trace that the call inherits, or that it was given.
    pub(crate) trace: Option<&'a TraceContext>,
    /// True if it was given the trace: then the span belongs to that, whatever span is around it.
    pub(crate) is_given: bool,
}

/// The span of a call that is made here, from its first poll until its end. If it is dropped before, the call was given up.
#[derive(Debug)]
pub(crate) struct ClientSpan {
    /// Disabled if the linker leaves the call out, and no other subscriber wants it.
    span: Span,
    /// The trace of the call.
    context: Option<TraceContext>,
    /// True if the linker leaves out what is within the call.
    is_declined: bool,
    is_ended: bool,
}

impl ClientSpan {
    /// Begins the span of a call. None if no subscriber wants the span.
    #[cold]
    pub(crate) fn begin(call: &Called<'_>) -> Option<Self> {
        if !is_wanted() {
            return None;
        }
        let linker = linker::linker();
        let is_root = Span::current().is_none();
        if let Some(Sampling::Declined(own)) = linker.map(|linker| call.sample(linker, is_root)) {
            let _declined = current::enter(None, true);
            let context = TraceContext::within(Some(own), call.trace.cloned());
            return Some(Self::new(call.span(), context, true));
        }
        let span = {
            // A call that was given a trace is taken even within one that is declined.
            let _taken = current::enter(None, false);
            call.span()
        };
        if span.is_disabled() {
            return None;
        }
        if let (Some(linker), Some(parent)) = (linker, call.trace) {
            if is_root || call.is_given {
                linker.set_parent(&span, parent);
            }
        }
        let own = linker.and_then(|linker| linker.context(&span));
        let context = TraceContext::within(own, call.trace.cloned());
        Some(Self::new(span, context, false))
    }

    fn new(span: Span, context: Option<TraceContext>, is_declined: bool) -> Self {
        Self {
            span,
            context,
            is_declined,
            is_ended: false,
        }
    }

    /// The trace context to send.
    pub(crate) fn context(&self) -> Option<&TraceContext> {
        self.context.as_ref()
    }

    /// Enters the span, and makes its trace current, until the guard is dropped.
    pub(crate) fn enter(&self) -> ClientSpanScope<'_> {
        ClientSpanScope {
            _current: self
                .context
                .clone()
                .map(|context| current::enter(Some(context), self.is_declined)),
            _span: self.span.enter(),
        }
    }

    /// Records the connection of the call, and its id there.
    pub(crate) fn note_call(&self, peer: &str, id: u64) {
        note(&self.span, peer, id);
    }

    /// Records how the call ended, and ends the span.
    pub(crate) fn end<T>(mut self, result: Result<&T, &Error>) {
        match result {
            Ok(_) => self.record(Code::Ok, ""),
            Err(error) => self.record(error.code(), error.message()),
        }
    }

    /// As [`ClientSpan::end`], for a call that has failed.
    pub(crate) fn fail(self, error: Error) -> Error {
        self.end(Err::<&(), _>(&error));
        error
    }

    fn record(&mut self, code: Code, text: &str) {
        self.is_ended = true;
        end::record_on_client(&self.span, code, text);
    }
}

impl Drop for ClientSpan {
    fn drop(&mut self) {
        if !self.is_ended {
            self.record(Code::Cancelled, "the caller gave the call up");
        }
    }
}

/// The time in which a call with a span is polled.
pub(crate) struct ClientSpanScope<'a> {
    _current: Option<CurrentTrace>,
    _span: Entered<'a>,
}

/// Records the connection of the call whose span is entered here, and the id of the call there.
#[cold]
pub(crate) fn note_call(peer: &str, id: u64) {
    let span = Span::current();
    // Middleware may have entered a span of its own.
    if span
        .metadata()
        .is_some_and(|about| about.name() == NAME && about.target() == TARGET)
    {
        note(&span, peer, id);
    }
}

fn note(span: &Span, peer: &str, id: u64) {
    // That of a call that the linker leaves out.
    if span.is_disabled() {
        return;
    }
    let (host, port) = host_and_port(peer);
    span.record("network.peer.address", host);
    if let Some(port) = port {
        span.record("network.peer.port", port);
    }
    span.record("rpc.call.id", id);
}

impl Called<'_> {
    /// Asks the linker about the spans of the call. `is_root` is true if no span is around it.
    fn sample(&self, linker: &dyn Linker, is_root: bool) -> Sampling {
        if self.is_given {
            return linker.sample(self.trace);
        }
        if is_declined() {
            if let Some(current) = current::current() {
                return Sampling::Declined(current);
            }
        }
        if is_root && self.trace.is_some() {
            return linker.sample(self.trace);
        }
        // The exporter takes the span that is around the call as its parent.
        let around = linker.current();
        linker.sample(around.as_ref().or(self.trace))
    }

    fn span(&self) -> Span {
        let method = self.procedure.path();
        // What is written below is computed only if a subscriber wants the span. Of several addresses, the first is the one that the user
        // prefers.
        let address = || self.address.split(", ").next().unwrap_or_default();
        let server = || host_and_port(address());
        tracing::info_span!(
            target: TARGET,
            NAME,
            "otel.name" = method,
            "otel.kind" = "client",
            "rpc.system.name" = if address().starts_with(GRPC) { GRPC } else { OURS },
            "rpc.method" = method,
            "server.address" = server().0,
            "server.port" = server().1,
            "network.peer.address" = field::Empty,
            "network.peer.port" = field::Empty,
            "rpc.call.id" = field::Empty,
            "rpc.status_code" = field::Empty,
            "error.type" = field::Empty,
            "otel.status_code" = field::Empty,
            "otel.status_description" = field::Empty,
        )
    }
}

/// The name of the span.
const NAME: &str = "rpc.client";
