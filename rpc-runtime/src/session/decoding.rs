//! Decoding: from the bytes of a request to its message, and the statuses of messages that cannot be read or written.

use std::fmt;

use prost::Message;

use crate::{
    Code, Result, Status,
    api::server_limit::ServerLimit,
    conn::RefusalReason,
    message::{
        decode::{DecodeFailure, decode},
        growth::Budget,
        procedure::Procedure,
    },
    wire::frame::Encoded,
};

/// Parses a request of `procedure`.
pub(super) fn parse<Req: Message + Default>(
    payload: Encoded,
    procedure: &Procedure,
    budget: Budget,
) -> Result<Req> {
    decode(payload, budget).map_err(|failure| unreadable(procedure.path(), failure))
}

/// Makes the status of a call of `procedure` whose request cannot be read, and the reason to refuse it.
#[cold]
pub(super) fn refusal_of(procedure: &str, failure: DecodeFailure) -> (Status, RefusalReason) {
    let reason = match failure {
        DecodeFailure::TooLarge(_) => RefusalReason::Over(ServerLimit::DecodeBytes),
        DecodeFailure::TooLong { .. } => RefusalReason::Over(ServerLimit::MaxMessage),
        _ => RefusalReason::BadPayload,
    };
    (unreadable(procedure, failure), reason)
}

/// Makes the status of a request of `procedure`, or a message of its stream, that cannot be read.
#[cold]
pub(super) fn unreadable(procedure: &str, failure: DecodeFailure) -> Status {
    match failure {
        DecodeFailure::TooLarge(budget) => {
            let text = budget.excess(&format!("a request of {procedure}"));
            Status::new(Code::ResourceExhausted, text)
        }
        failure @ DecodeFailure::TooLong { .. } => {
            let text = format!(
                "the request of {procedure} is too long: {failure}: the server's Limits::max_message"
            );
            Status::new(Code::ResourceExhausted, text)
        }
        failure => malformed(procedure, &failure),
    }
}

/// Makes the status of a reply of `procedure`, or a message of its replies, that cannot be encoded.
#[cold]
pub(super) fn unencodable(what: &str, procedure: &Procedure, text: &str) -> Status {
    let text = format!("the {what} of {} cannot be sent: {text}", procedure.path());
    Status::new(Code::Internal, text)
}

/// Makes the status of a request of `procedure` that cannot be parsed.
pub(super) fn malformed(procedure: &str, error: &dyn fmt::Display) -> Status {
    let text = format!("the request of {procedure} is malformed: {error}");
    Status::new(Code::Internal, text)
}
