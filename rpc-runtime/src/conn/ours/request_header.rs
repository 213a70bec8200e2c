//! Request header: what stands before the message of a request of ours.

use super::credit::RequestKind;
use crate::{
    Metadata,
    conn::{Request, Time},
    wire::frame::{Flags, Header, Kind},
};

/// The header of a request of ours.
#[inline(always)]
pub(in crate::conn) fn request_header<'a>(
    kind: RequestKind,
    id: u64,
    request: &Request<'a>,
    now: Time,
) -> Header<'a> {
    let mut header = Header::new(
        match kind {
            RequestKind::Send => Kind::Send,
            RequestKind::Call | RequestKind::Control => Kind::Call,
        },
        id,
    );
    if !request.shape.has_request_stream() {
        header.flags = Flags::END;
    }
    header.procedure = request.procedure;
    header.depth = request.depth.into();
    header.metadata = request.metadata.filter(|metadata| !Metadata::is_empty(metadata));
    header.trace = request.trace;
    let left = request.deadline.map(|deadline| deadline.saturating_sub(now));
    header.timeout_us = timeout_us(left);
    header
}

/// The time that a request has left, as it travels: in microseconds, 0 for no limit.
#[inline(always)]
pub(in crate::conn) fn timeout_us(left: Option<Time>) -> u64 {
    // Rounded up: a call that has not expired has at least a microsecond.
    left.map_or(0, |left| {
        let micros = left.as_secs().saturating_mul(1_000_000);
        micros
            .saturating_add(left.subsec_nanos().div_ceil(1000).into())
            .max(1)
    })
}
