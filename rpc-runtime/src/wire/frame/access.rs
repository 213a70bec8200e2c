//! Frames as peers and tests outside of this crate build and read them.

use std::time::Duration;

use bytes::Bytes;

use super::{Flags, Frame, Kind};
use crate::{Metadata, Status, api::trace_context::TraceContext};

/// Builds a frame.
impl Frame {
    /// Creates a frame about call `id`, or about the connection if `id` is 0; all other fields are absent.
    pub fn new(kind: Kind, id: u64) -> Self {
        Self {
            kind,
            id,
            ..Self::default()
        }
    }

    /// Sets the flags.
    pub fn with_flags(mut self, flags: Flags) -> Self {
        self.flags = flags;
        self
    }

    /// Sets the procedure of a CALL or a SEND: [`Procedure::id`](crate::server::Procedure::id).
    pub fn with_procedure(mut self, id: u64) -> Self {
        self.procedure = id;
        self
    }

    /// Sets the time that is left to a CALL or a SEND, rounded up to 1 us. Without it, there is no limit.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        let micros = timeout.as_nanos().div_ceil(1000).max(1);
        self.timeout_us = u64::try_from(micros).unwrap_or(u64::MAX);
        self
    }

    /// Sets code, text, details and metadata of a REPLY.
    pub fn with_status(mut self, status: &Status) -> Self {
        self.code = status.code() as u32;
        let parts = self.extra.get_mut();
        parts.message = status.message().to_owned();
        parts.details = status.details().clone();
        parts.metadata = status.metadata().clone();
        self
    }

    /// Sets the metadata.
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.extra.get_mut().metadata = metadata;
        self
    }

    /// Sets the length of the whole message, in bytes; of a CREDIT, the bytes that it grants.
    pub fn with_length(mut self, length: u64) -> Self {
        self.length = length;
        self
    }

    /// Sets how the payload is compressed: 0 not at all, 1 zstd, 2 LZ4.
    pub fn with_encoding(mut self, encoding: u32) -> Self {
        self.encoding = encoding;
        self
    }

    /// Sets how many calls of handlers a CALL or a SEND is nested in.
    pub fn with_depth(mut self, depth: u32) -> Self {
        self.depth = depth;
        self
    }

    /// Sets the trace that a CALL or a SEND belongs to.
    pub fn with_trace(mut self, trace: TraceContext) -> Self {
        self.extra.get_mut().trace = Some(trace);
        self
    }

    /// Sets the payload: a message, or a fragment of one.
    pub fn with_payload(mut self, payload: impl Into<Bytes>) -> Self {
        self.payload = payload.into();
        self
    }
}

/// Reads a frame.
impl Frame {
    /// What the frame is about.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The call; 0 is the connection.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The flags.
    pub fn flags(&self) -> Flags {
        self.flags
    }

    /// The procedure that is called, by its id; 0 if there is none.
    pub fn procedure(&self) -> u64 {
        self.procedure
    }

    /// The time that is left to a call; `None` for no limit.
    pub fn timeout(&self) -> Option<Duration> {
        (self.timeout_us > 0).then(|| Duration::from_micros(self.timeout_us))
    }

    /// The status code of a REPLY, as a number; 0 is success.
    pub fn code(&self) -> u32 {
        self.code
    }

    /// The text of a REPLY's status.
    pub fn message(&self) -> &str {
        &self.extra.message
    }

    /// The details of a REPLY's status.
    pub fn details(&self) -> &Bytes {
        &self.extra.details
    }

    /// The entries beside the message.
    pub fn metadata(&self) -> &Metadata {
        &self.extra.metadata
    }

    /// The length of the whole message, if this frame is not all of it; of a CREDIT, the bytes that it grants.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// How the payload is compressed: 0 not at all, 1 zstd, 2 LZ4.
    pub fn encoding(&self) -> u32 {
        self.encoding
    }

    /// The time that the call of a REPLY waited for its handler.
    pub fn queue_time(&self) -> Duration {
        Duration::from_micros(self.queue_us)
    }

    /// The time that the handler of a REPLY ran.
    pub fn run_time(&self) -> Duration {
        Duration::from_micros(self.run_us)
    }

    /// How many calls of handlers the call is nested in.
    pub fn depth(&self) -> u32 {
        self.depth
    }

    /// The trace that the call belongs to; none if it belongs to none, and if what was sent is invalid.
    pub fn trace(&self) -> Option<&TraceContext> {
        self.extra.trace.as_ref()
    }

    /// The payload: a message, or a fragment of one.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_reads_as_it_was_built() {
        let status = Status::not_found("no").with_details_bytes("more");
        let frame = Frame::new(Kind::Reply, 7)
            .with_flags(Flags::END)
            .with_procedure(9)
            .with_timeout(Duration::from_nanos(1001))
            .with_status(&status)
            .with_metadata(Metadata::from([("key", "value")]))
            .with_length(5)
            .with_encoding(2)
            .with_depth(3)
            .with_trace(TraceContext::start(true))
            .with_payload("hello");
        assert_eq!(
            (frame.kind(), frame.id(), frame.flags()),
            (Kind::Reply, 7, Flags::END)
        );
        assert_eq!((frame.procedure(), frame.depth()), (9, 3));
        assert!(frame.trace().is_some_and(TraceContext::is_sampled));
        assert_eq!(frame.timeout(), Some(Duration::from_micros(2)));
        assert_eq!((frame.code(), frame.message()), (5, "no"));
        assert_eq!((frame.length(), frame.encoding()), (5, 2));
        assert_eq!(
            (&frame.details()[..], &frame.payload()[..]),
            (&b"more"[..], &b"hello"[..])
        );
        assert_eq!(frame.metadata().get_str("key"), Some("value"));
        assert_eq!(
            (frame.queue_time(), frame.run_time()),
            (Duration::ZERO, Duration::ZERO)
        );
        let empty = Frame::new(Kind::Call, 1);
        assert_eq!((empty.timeout(), empty.message(), empty.code()), (None, "", 0));
        assert_eq!(
            empty.with_timeout(Duration::ZERO).timeout(),
            Some(Duration::from_micros(1))
        );
    }
}
