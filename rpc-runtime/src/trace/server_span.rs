//! CallTrace: the span of a call that is served, and the trace that it belongs to.

use tracing::{Span, field, span::Entered};

use super::{
    GRPC, OTHER, OURS, TARGET,
    current::{self, CurrentTrace},
    end, is_wanted,
    linker::{self, Sampling},
};
use crate::{Code, Peer, Procedure, api::trace_context::TraceContext, message::control};

/// A call that has arrived, as its span shows it.
pub(crate) struct Served<'a> {
    /// None if the server has none with that id.
    pub(crate) procedure: Option<&'static Procedure>,
    /// The id of the call on its connection.
    pub(crate) id: u64,
    pub(crate) peer: &'a Peer,
    /// True if the call came by gRPC.
    pub(crate) is_grpc: bool,
    /// True for a server that only hands calls on: then the call has a span elsewhere.
    pub(crate) is_hidden: bool,
}

/// The span of a call that is served, and the trace that its handler goes on with.
#[derive(Debug)]
pub(crate) struct CallTrace {
    /// Disabled if no subscriber wants it.
    span: Span,
    context: Option<TraceContext>,
    /// True if the linker leaves out what is within the call.
    is_declined: bool,
}

impl CallTrace {
    /// Begins the span of a call, with what its caller has sent. None if there is neither.
    #[cold]
    pub(crate) fn begin(call: &Served<'_>, sent: Option<TraceContext>) -> Option<Self> {
        let is_control = call
            .procedure
            .is_some_and(|procedure| procedure.service() == control::SERVICE);
        if is_control || call.is_hidden || !is_wanted() {
            return Self::without_span(sent);
        }
        let linker = linker::linker();
        if let Some(Sampling::Declined(own)) = linker.map(|linker| linker.sample(sent.as_ref())) {
            return Some(Self::declined(call, TraceContext::within(Some(own), sent)));
        }
        let span = {
            // The call comes from elsewhere, whatever runs here.
            let _taken = current::enter(None, false);
            call.span()
        };
        if span.is_disabled() {
            return Self::without_span(sent);
        }
        if let (Some(linker), Some(sent)) = (linker, &sent) {
            linker.set_parent(&span, sent);
        }
        let own = linker.and_then(|linker| linker.context(&span));
        Some(Self {
            span,
            context: TraceContext::within(own, sent),
            is_declined: false,
        })
    }

    /// One that has only what the caller has sent.
    fn without_span(sent: Option<TraceContext>) -> Option<Self> {
        sent.map(|sent| Self {
            span: Span::none(),
            context: Some(sent),
            is_declined: false,
        })
    }

    /// One that the linker leaves out. Another subscriber may want its span.
    fn declined(call: &Served<'_>, context: Option<TraceContext>) -> Self {
        let _declined = current::enter(None, true);
        Self {
            span: call.span(),
            context,
            is_declined: true,
        }
    }

    /// The trace that the handler and its calls go on with.
    pub(crate) fn context(&self) -> Option<&TraceContext> {
        self.context.as_ref()
    }

    /// Enters the span, and makes the trace current, until the guard is dropped.
    pub(crate) fn enter(&self) -> CallTraceScope<'_> {
        CallTraceScope {
            _current: self
                .context
                .clone()
                .map(|context| current::enter(Some(context), self.is_declined)),
            _span: self.span.enter(),
        }
    }

    /// Runs `f` within the span and the trace. Cold, because most calls have neither.
    #[cold]
    pub(crate) fn within<R>(&self, f: impl FnOnce() -> R) -> R {
        let _entered = self.enter();
        f()
    }

    /// Records how the call ended; `text` is that of its status.
    pub(crate) fn end(&self, code: Code, text: &str) {
        end::record_on_server(&self.span, code, text);
    }
}

/// The time in which code of a traced call runs.
pub(crate) struct CallTraceScope<'a> {
    _current: Option<CurrentTrace>,
    _span: Entered<'a>,
}

impl Served<'_> {
    fn span(&self) -> Span {
        let system = if self.is_grpc { GRPC } else { OURS };
        let method = self.procedure.map_or(OTHER, Procedure::path);
        // What is written below is computed only if a subscriber wants the span.
        let socket = || self.peer.socket_addr();
        tracing::info_span!(
            target: TARGET,
            // Whatever task serves the connection: the call comes from elsewhere.
            parent: None,
            "rpc.server",
            "otel.name" = if method == OTHER { system } else { method },
            "otel.kind" = "server",
            "rpc.system.name" = system,
            "rpc.method" = method,
            "network.peer.address" = socket().map(|socket| field::display(socket.ip())),
            "network.peer.port" = socket().map(|socket| u64::from(socket.port())),
            "rpc.call.id" = self.id,
            "rpc.status_code" = field::Empty,
            "error.type" = field::Empty,
            "otel.status_code" = field::Empty,
            "otel.status_description" = field::Empty,
        )
    }
}
