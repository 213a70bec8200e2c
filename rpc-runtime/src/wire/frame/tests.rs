//! Tests of the wire format, byte for byte: `testdata/` holds a frame of each kind, `testdata/malformed/` invalid ones.

mod golden;
mod malformed;
mod property;

use bytes::{Buf, Bytes};

use super::{Frame, Output};

/// The bytes of a hex dump; `#` begins a comment.
pub(crate) fn hex(dump: &str) -> Bytes {
    let codes = dump
        .lines()
        .flat_map(|line| line.split('#').next().unwrap().split_whitespace());
    codes.map(|code| u8::from_str_radix(code, 16).unwrap()).collect()
}

/// The bytes of `frame`, with the length prefix.
pub(crate) fn encode(frame: &Frame) -> Bytes {
    let mut out = Output::new();
    frame.header().encode_bytes(frame.payload.clone(), &mut out);
    out.copy_to_bytes(out.len())
}
