//! ClientSpan: the span of a call that is made here.

use tracing::{Span, field, span::Entered};

use super::{GRPC, OURS, TARGET, end, linker};
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
    span: Span,
    is_ended: bool,
}

impl ClientSpan {
    /// Begins the span of a call, and returns the trace context to send. None if no subscriber wants the span.
    #[cold]
    pub(crate) fn begin(call: &Called<'_>) -> Option<(Self, Option<TraceContext>)> {
        let is_root = Span::current().is_none();
        let span = call.span();
        if span.is_disabled() {
            return None;
        }
        let linker = linker::linker();
        if let (Some(linker), Some(parent)) = (linker, call.trace) {
            if is_root || call.is_given {
                linker.set_parent(&span, parent);
            }
        }
        let own = linker.and_then(|linker| linker.context(&span));
        let context = TraceContext::within(own, call.trace.cloned());
        let is_ended = false;
        Some((Self { span, is_ended }, context))
    }

    /// Enters the span until the guard is dropped.
    pub(crate) fn enter(&self) -> Entered<'_> {
        self.span.enter()
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
    let (host, port) = host_and_port(peer);
    span.record("network.peer.address", host);
    if let Some(port) = port {
        span.record("network.peer.port", port);
    }
    span.record("rpc.call.id", id);
}

impl Called<'_> {
    fn span(&self) -> Span {
        // Of several addresses, the first is the one that the user prefers.
        let address = self.address.split(", ").next().unwrap_or_default();
        let (host, port) = host_and_port(address);
        let method = self.procedure.path();
        tracing::info_span!(
            target: TARGET,
            NAME,
            "otel.name" = method,
            "otel.kind" = "client",
            "rpc.system.name" = if address.starts_with(GRPC) { GRPC } else { OURS },
            "rpc.method" = method,
            "server.address" = host,
            "server.port" = port,
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

/// The host and the port of an address such as `tcp://[::1]:5005`; of a Unix socket the path, and no port.
fn host_and_port(address: &str) -> (&str, Option<u64>) {
    let Some((scheme, place)) = address.split_once(':') else {
        return (address, None);
    };
    let place = place.strip_prefix("//").unwrap_or(place);
    if scheme.ends_with("unix") {
        return (place, None);
    }
    match place.rsplit_once(':') {
        Some((host, port)) => match port.parse::<u16>() {
            Ok(port) => {
                let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
                (bare.unwrap_or(host), Some(port.into()))
            }
            Err(_) => (place, None),
        },
        None => (place, None),
    }
}

/// The name of the span.
const NAME: &str = "rpc.client";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_perhaps_a_port() {
        for (address, host, port) in [
            ("tcp://127.0.0.1:5005", "127.0.0.1", Some(5005)),
            ("tls://kv.example:443", "kv.example", Some(443)),
            ("tcp://[::1]:80", "::1", Some(80)),
            ("grpc://kv:50051", "kv", Some(50051)),
            ("unix:/run/kv:5", "/run/kv:5", None),
            ("grpc+unix:///run/kv", "/run/kv", None),
            ("mem:kv", "kv", None),
            ("in-process", "in-process", None),
            ("", "", None),
        ] {
            assert_eq!(host_and_port(address), (host, port), "{address}");
        }
    }
}
