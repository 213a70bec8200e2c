//! End: how a call ended, as its span records it.

use tracing::Span;

use crate::Code;

/// Records on the span of a server how its call ended; `text` is that of the status.
pub(super) fn record_on_server(span: &Span, code: Code, text: &str) {
    // As OpenTelemetry has it for gRPC: the other codes blame the caller.
    let is_failure = matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    );
    record(span, code, text, is_failure);
}

/// Records on the span of a client how its call ended; `text` is that of the error.
pub(super) fn record_on_client(span: &Span, code: Code, text: &str) {
    record(span, code, text, code != Code::Ok);
}

fn record(span: &Span, code: Code, text: &str, is_failure: bool) {
    if span.is_disabled() {
        return;
    }
    span.record("rpc.status_code", code.name());
    if is_failure {
        span.record("error.type", code.name());
        span.record("otel.status_code", "error");
        span.record("otel.status_description", text);
    }
}
