//! Depth: how many calls a call is inside of, so that handlers that call each other come to an end.

use bytes::Bytes;

use crate::{Code, Error, Metadata, Status};

/// Calls may be nested so deep; one that is made outside of a handler has depth 0.
pub(crate) const MAX: u8 = 16;

/// The metadata key under which a call that a handler makes tells its depth, in one byte.
const KEY: &str = "rpc-depth";

/// Adds to the metadata of a call how deep it is.
pub(crate) fn mark(metadata: &mut Metadata, depth: u8) {
    metadata.insert(KEY, Bytes::copy_from_slice(&[depth]));
}

/// How deep the call with this metadata is.
pub(crate) fn of(metadata: &Metadata) -> u8 {
    match metadata.get(KEY).map(|value| &value[..]) {
        Some(&[depth]) => depth,
        _ => 0,
    }
}

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
