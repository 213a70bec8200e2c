//! Depth: how many calls a call is nested in, so that handlers that call each other come to an end.
//!
//! It travels in a field of the frame, where users neither see it nor copy it by mistake.

use crate::{Code, Error, Status};

/// The deepest nesting of calls; a call that is made outside of a handler has depth 0.
pub(crate) const MAX: u8 = 16;

/// The error of a call that is nested too deep to be sent.
pub(crate) fn too_deep() -> Error {
    Error::local(Code::ResourceExhausted, text())
}

/// The status for the caller of a call that is nested too deep.
pub(crate) fn refusal() -> Status {
    Status::new(Code::ResourceExhausted, text())
}

fn text() -> String {
    format!("calls are nested more than {MAX} deep: does a handler call itself?")
}
