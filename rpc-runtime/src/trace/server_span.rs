//! CallTrace: the span of a call that is served, and the trace that it belongs to.

use std::borrow::Cow;

use tracing::{Span, field, span::Entered};

use super::{
    GRPC, OTHER, OURS, TARGET,
    address::host_and_port,
    current::{self, CurrentTrace},
    end, is_wanted,
    linker::{self, Sampling},
};
use crate::{Code, Peer, Procedure, api::trace_context::TraceContext, message::control};

/// A call that has arrived, as its span shows it.
pub(crate) struct Served<'a> {
    pub(crate) method: Method<'a>,
    /// The id of the call on its connection; none if it got none.
    pub(crate) id: Option<u64>,
    pub(crate) peer: &'a Peer,
    /// True if the call came by gRPC.
    pub(crate) is_grpc: bool,
    /// True for a server that only hands calls on: then the call has a span elsewhere.
    pub(crate) is_hidden: bool,
}

/// What a caller has called.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Method<'a> {
    Procedure(&'static Procedure),
    /// The id of a procedure that the server does not have.
    UnknownId(u64),
    /// The path of one.
    UnknownPath(&'a str),
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
        let is_control =
            matches!(call.method, Method::Procedure(known) if known.service() == control::SERVICE);
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
        let method = self.method.name();
        // What is written below is computed only if a subscriber wants the span.
        let socket = || self.peer.socket_addr();
        let server = || self.peer.listener().map(host_and_port);
        tracing::info_span!(
            target: TARGET,
            // Whatever task serves the connection: the call comes from elsewhere.
            parent: None,
            "rpc.server",
            "otel.name" = if method == OTHER { system } else { method },
            "otel.kind" = "server",
            "rpc.system.name" = system,
            "rpc.method" = method,
            "rpc.method_original" = self.method.original().map(field::display),
            "server.address" = server().map(|(host, _)| host),
            "server.port" = server().and_then(|(_, port)| port),
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

impl<'a> Method<'a> {
    fn name(self) -> &'static str {
        match self {
            Self::Procedure(procedure) => procedure.path(),
            Self::UnknownId(_) | Self::UnknownPath(_) => OTHER,
        }
    }

    /// What the caller has called, if the server does not have it: a path is shortened, since the caller chooses it.
    fn original(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Procedure(_) => None,
            Self::UnknownId(id) => Some(format!("{id:#018x}").into()),
            Self::UnknownPath(path) => {
                let mut ends = (0..=path.len().min(MAX_ORIGINAL)).rev();
                let end = ends.find(|&end| path.is_char_boundary(end));
                Some(path[..end.unwrap_or_default()].into())
            }
        }
    }
}

/// The most bytes of the path of a procedure that the server does not have, in a span.
const MAX_ORIGINAL: usize = 256;
