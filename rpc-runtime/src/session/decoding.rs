//! Decoding: from the bytes of a request to its message, and the statuses of messages that cannot be read or written.

use std::fmt;

use prost::Message;

use crate::{
    Code, Result, Status,
    message::{growth::Budget, procedure::Procedure},
    wire::frame::Encoded,
};

/// Parses a request of `procedure`, or a message of its stream.
pub(super) fn parse<Req: Message + Default>(
    payload: Encoded,
    procedure: &Procedure,
    budget: Budget,
) -> Result<Req> {
    let procedure = procedure.path();
    let payload = payload.unpack().map_err(|error| malformed(procedure, &error))?;
    if !budget.admits(&payload) {
        let text = budget.excess(&format!("a request of {procedure}"));
        return Err(Status::new(Code::ResourceExhausted, text));
    }
    // A slice of a small payload would keep the whole read buffer alive: its `bytes` fields are copied instead.
    let request = if payload.len() < BY_REFERENCE {
        Req::decode(&payload[..])
    } else {
        Req::decode(payload)
    };
    request.map_err(|error| malformed(procedure, &error))
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

/// Payloads of this length and more have a buffer of their own, and are handed out by reference.
const BY_REFERENCE: usize = 16 * 1024;
