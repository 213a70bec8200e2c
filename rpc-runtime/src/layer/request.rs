//! Request: what middleware may do with the request of a call, on either side.

use prost::Message;

use super::RawMessage;
use crate::{Procedure, Result, Status, message::nesting};

/// Checks that middleware may read or replace the request.
///
/// # Errors
///
/// FAILED_PRECONDITION if the caller sends a stream: middleware wraps the whole call, and sees no message of it.
pub(crate) fn check_no_stream(procedure: &Procedure) -> Result<()> {
    if !procedure.has_request_stream() {
        return Ok(());
    }
    let path = procedure.path();
    Err(Status::failed_precondition(format!(
        "{path} takes a stream of requests: middleware sees no message of it"
    )))
}

/// Encodes a request that replaces the one of a call.
///
/// # Errors
///
/// FAILED_PRECONDITION if the caller sends a stream; INVALID_ARGUMENT if messages are nested too deep in it.
pub(crate) fn replacement<T: Message + 'static>(
    procedure: &'static Procedure,
    message: &T,
) -> Result<RawMessage> {
    check_no_stream(procedure)?;
    nesting::check(procedure.request_nesting(), message).map_err(Status::invalid_argument)?;
    Ok(RawMessage::of(message))
}
