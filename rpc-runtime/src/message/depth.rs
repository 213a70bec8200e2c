//! Depth: how many calls a call is inside of, so that handlers that call each other come to an end.
//!
//! It travels in a field of the frame, where no user sees it or passes it on by mistake.

use crate::{Code, Error, Status};

/// Calls may be nested so deep; one that is made outside of a handler has depth 0.
pub(crate) const MAX: u8 = 16;

/// The error of a call that is too deep to be sent.
pub(crate) fn too_deep() -> Error {
    Error::local(Code::ResourceExhausted, text())
}

/// What the caller of a call that is too deep is told.
pub(crate) fn refusal() -> Status {
    Status::new(Code::ResourceExhausted, text())
}

fn text() -> String {
    format!("calls inside of calls are {MAX} deep: does a handler call itself?")
}
