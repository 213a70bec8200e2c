//! Header: encodes everything before the payload of a frame, and the payload itself, in place.

use bytes::{BufMut, Bytes};

use super::{
    Flags, Kind, MAX_TEXT, Output, PREFIX_LEN, Payload, cut,
    row::{MAX_ROW, packed_len, put_len},
};
use crate::{
    Metadata,
    api::trace_context::{PARENT_LEN, TraceContext},
};

/// Everything before the payload of a frame to send; the fields are those of [`Frame`](super::Frame).
///
/// The metadata must fit ([`Metadata::fits`]); the status text is cut here.
#[derive(Clone, Copy)]
pub(crate) struct Header<'a> {
    pub(crate) kind: Kind,
    pub(crate) id: u64,
    pub(crate) flags: Flags,
    pub(crate) procedure: u64,
    pub(crate) timeout_us: u64,
    pub(crate) code: u32,
    pub(crate) message: &'a str,
    pub(crate) metadata: Option<&'a Metadata>,
    pub(crate) length: u64,
    pub(crate) encoding: u32,
    pub(crate) queue_us: u64,
    pub(crate) run_us: u64,
    pub(crate) details: &'a [u8],
    pub(crate) depth: u32,
    pub(crate) trace: Option<&'a TraceContext>,
}

impl Header<'_> {
    /// Makes the header of a frame about call `id`, or about the connection if `id` is 0.
    ///
    /// All other fields are absent.
    pub(crate) const fn new(kind: Kind, id: u64) -> Self {
        Self {
            kind,
            id,
            flags: Flags::NONE,
            procedure: 0,
            timeout_us: 0,
            code: 0,
            message: "",
            metadata: None,
            length: 0,
            encoding: 0,
            queue_us: 0,
            run_us: 0,
            details: &[],
            depth: 0,
            trace: None,
        }
    }

    /// The length of the frame with a payload of `payload_len` bytes, without the length prefix.
    pub(crate) fn frame_len(&self, payload_len: usize) -> usize {
        let metadata = self.metadata.into_iter().flat_map(Metadata::iter);
        varint_field_len(self.kind.number().into())
            + varint_field_len(self.id)
            + varint_field_len(self.flags.bits().into())
            + if self.procedure == 0 { 0 } else { 1 + 8 }
            + varint_field_len(self.timeout_us)
            + varint_field_len(self.code.into())
            + bytes_field_len(cut(self.message, MAX_TEXT).len())
            + metadata
                .map(|(key, value)| message_field_len(entry_len(key, value)))
                .sum::<usize>()
            + varint_field_len(self.length)
            + varint_field_len(self.encoding.into())
            + varint_field_len(self.queue_us)
            + varint_field_len(self.run_us)
            + bytes_field_len(self.details.len())
            + varint_field_len(self.depth.into())
            + self
                .trace
                .map_or(0, |trace| 1 + message_field_len(trace_len(trace)))
            + bytes_field_len(payload_len)
    }

    /// Appends the whole frame with `payload`, which takes `len` bytes ([`Size::sent`](super::Size::sent)).
    ///
    /// An empty message gives a frame without a payload.
    #[inline]
    pub(crate) fn encode<P: Payload>(&self, payload: &P, len: usize, out: &mut Output) {
        let mut frame = UnfinishedFrame::new(out);
        let end = self.put(len, frame.out);
        payload.put(frame.out);
        assert_eq!(frame.out.end(), end, "encoded_len of the message is wrong");
        frame.is_whole = true;
    }

    /// Everything before a row of `len` bytes, and the length of that: the numbers that change when the row becomes longer
    /// have a fixed width ([`patch_row_head`]).
    ///
    /// Only for a header without texts, metadata, details and trace.
    pub(crate) fn row_head(&self, len: usize) -> ([u8; ROW_HEAD_MAX], usize) {
        debug_assert!(self.takes_rows(), "a row stands behind numbers only");
        let mut plain = Plain::new();
        plain.varint_field(1, self.kind.number().into());
        plain.varint_field(2, self.id);
        plain.varint_field(3, self.flags.bits().into());
        if self.procedure != 0 {
            plain.fixed64_field(4, self.procedure);
        }
        plain.varint_field(5, self.timeout_us);
        plain.varint_field(14, self.depth.into());
        plain.byte(15 << 3 | LEN);
        for byte in row_len_bytes(len) {
            plain.byte(byte);
        }
        plain.finish(len);
        let mut head = [0; ROW_HEAD_MAX];
        head[..plain.len].copy_from_slice(&plain.bytes[..plain.len]);
        (head, plain.len)
    }

    /// True if messages may be added to a frame with this header once it is encoded.
    pub(crate) fn takes_rows(&self) -> bool {
        self.length == 0
            && self.encoding == 0
            && self.code == 0
            && (self.queue_us, self.run_us) == (0, 0)
            && self.message.is_empty()
            && self.details.is_empty()
            && self.metadata.is_none_or(Metadata::is_empty)
            && self.trace.is_none()
    }

    /// Appends the whole frame with an encoded `payload`; a long one is kept by reference.
    pub(crate) fn encode_bytes(&self, payload: Bytes, out: &mut Output) {
        self.put(payload.len(), out);
        out.put(payload);
    }

    /// Appends the whole frame with all of `payload`; its long pieces are moved, not copied.
    pub(crate) fn encode_output(&self, payload: &mut Output, out: &mut Output) {
        self.put(payload.len(), out);
        out.append(payload);
    }

    /// Appends the length prefix and everything before the payload; returns the offset where the frame will end.
    #[inline]
    fn put(&self, payload_len: usize, out: &mut Output) -> u64 {
        if self.is_plain() {
            return self.put_plain(payload_len, out);
        }
        match self.metadata {
            Some(metadata) if self.message.is_empty() && self.details.is_empty() && self.trace.is_none() => {
                self.put_with_metadata(metadata, payload_len, out)
            }
            _ => self.put_any(payload_len, out),
        }
    }

    /// True if only numbers stand before the payload, and only those that most frames have.
    #[inline]
    fn is_plain(&self) -> bool {
        self.depth == 0
            && self.message.is_empty()
            && self.details.is_empty()
            && self.metadata.is_none_or(Metadata::is_empty)
            && self.trace.is_none()
    }

    /// The maximum length of a frame that [`Header::is_plain`], without its payload.
    const PLAIN_MAX: usize = Plain::LEN - PREFIX_LEN;

    /// True if the frame with a payload of `payload_len` bytes has at most `max` bytes.
    pub(crate) fn fits(&self, payload_len: usize, max: usize) -> bool {
        (self.is_plain() && payload_len + Self::PLAIN_MAX <= max) || self.frame_len(payload_len) <= max
    }

    fn put_plain(&self, payload_len: usize, out: &mut Output) -> u64 {
        let mut plain = Plain::new();
        plain.varint_field(1, self.kind.number().into());
        plain.varint_field(2, self.id);
        plain.varint_field(3, self.flags.bits().into());
        if self.procedure != 0 {
            plain.fixed64_field(4, self.procedure);
        }
        plain.varint_field(5, self.timeout_us);
        plain.varint_field(6, self.code.into());
        plain.varint_field(9, self.length);
        plain.varint_field(10, self.encoding.into());
        plain.varint_field(11, self.queue_us);
        plain.varint_field(12, self.run_us);
        if payload_len > 0 {
            plain.byte(15 << 3 | LEN);
            plain.varint(payload_len as u64);
        }
        out.put_slice(plain.finish(payload_len));
        out.end() + payload_len as u64
    }

    /// Appends a header that has metadata between its numbers, as most calls of guests have.
    fn put_with_metadata(&self, metadata: &Metadata, payload_len: usize, out: &mut Output) -> u64 {
        let mut front = Plain::new();
        front.varint_field(1, self.kind.number().into());
        front.varint_field(2, self.id);
        front.varint_field(3, self.flags.bits().into());
        if self.procedure != 0 {
            front.fixed64_field(4, self.procedure);
        }
        front.varint_field(5, self.timeout_us);
        front.varint_field(6, self.code.into());
        let mut behind = Plain::new();
        behind.varint_field(9, self.length);
        behind.varint_field(10, self.encoding.into());
        behind.varint_field(11, self.queue_us);
        behind.varint_field(12, self.run_us);
        behind.varint_field(14, self.depth.into());
        if payload_len > 0 {
            behind.byte(15 << 3 | LEN);
            behind.varint(payload_len as u64);
        }
        let behind = &behind.bytes[PREFIX_LEN..behind.len];
        let entries: usize = metadata
            .iter()
            .map(|(key, value)| message_field_len(entry_len(key, value)))
            .sum();
        let end = out.end() + (front.len + entries + behind.len() + payload_len) as u64;
        out.put_slice(front.finish(entries + behind.len() + payload_len));
        for (key, value) in metadata {
            let mut head = Plain::new();
            head.byte(8 << 3 | LEN);
            head.varint(entry_len(key, value) as u64);
            for (field, bytes) in [(1, key.as_bytes()), (2, &value[..])] {
                if !bytes.is_empty() {
                    head.byte(field << 3 | LEN);
                    head.varint(bytes.len() as u64);
                    out.put_slice(&head.bytes[PREFIX_LEN..head.len]);
                    out.put_slice(bytes);
                    head.len = PREFIX_LEN;
                }
            }
            out.put_slice(&head.bytes[PREFIX_LEN..head.len]);
        }
        out.put_slice(behind);
        end
    }

    #[cold]
    fn put_any(&self, payload_len: usize, out: &mut Output) -> u64 {
        let frame_len = self.frame_len(payload_len);
        let end = out.end() + (PREFIX_LEN + frame_len) as u64;
        // The length fits into 32 bits: the largest `max_frame` that a peer may announce is 16 MiB less one byte.
        debug_assert!(frame_len < 1 << 24, "frame of {frame_len} bytes");

        let mut scratch = Scratch::new(out);
        scratch.put(&(frame_len as u32).to_be_bytes());
        scratch.varint_field(1, self.kind.number().into());
        scratch.varint_field(2, self.id);
        scratch.varint_field(3, self.flags.bits().into());
        if self.procedure != 0 {
            scratch.key(4, FIXED64);
            scratch.put(&self.procedure.to_le_bytes());
        }
        scratch.varint_field(5, self.timeout_us);
        scratch.varint_field(6, self.code.into());
        scratch.bytes_field(7, cut(self.message, MAX_TEXT).as_bytes());
        for (key, value) in self.metadata.into_iter().flat_map(Metadata::iter) {
            scratch.key(8, LEN);
            scratch.varint(entry_len(key, value) as u64);
            scratch.bytes_field(1, key.as_bytes());
            scratch.bytes_field(2, value);
        }
        scratch.varint_field(9, self.length);
        scratch.varint_field(10, self.encoding.into());
        scratch.varint_field(11, self.queue_us);
        scratch.varint_field(12, self.run_us);
        scratch.bytes_field(13, self.details);
        scratch.varint_field(14, self.depth.into());
        if let Some(trace) = self.trace {
            scratch.put(&TRACE_KEY);
            scratch.varint(trace_len(trace) as u64);
            if let Some(parent) = trace.traceparent_bytes() {
                scratch.bytes_field(1, &parent);
            }
            scratch.bytes_field(2, trace.tracestate().as_bytes());
            scratch.bytes_field(3, trace.baggage().as_bytes());
        }
        if payload_len > 0 {
            scratch.key(15, LEN);
            scratch.varint(payload_len as u64);
        }
        scratch.flush();
        end
    }
}

/// The bytes before a payload when they are only numbers, as in most frames. All of them fit.
struct Plain {
    bytes: [u8; Self::LEN],
    len: usize,
}

impl Plain {
    /// Maximum length of these bytes.
    ///
    /// They are the length prefix, four short numbers of at most 6 bytes with their keys, six long ones of 11 bytes,
    /// the procedure, and the length of the payload.
    const LEN: usize = PREFIX_LEN + 4 * 6 + 6 * 11 + 9 + 11;

    #[inline]
    fn new() -> Self {
        Self {
            bytes: [0; Self::LEN],
            len: PREFIX_LEN,
        }
    }

    #[inline]
    fn byte(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    #[inline]
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }

    #[inline]
    fn varint_field(&mut self, field: u8, value: u64) {
        if value != 0 {
            self.byte(field << 3 | VARINT);
            self.varint(value);
        }
    }

    #[inline]
    fn fixed64_field(&mut self, field: u8, value: u64) {
        self.byte(field << 3 | FIXED64);
        self.bytes[self.len..self.len + 8].copy_from_slice(&value.to_le_bytes());
        self.len += 8;
    }

    /// Returns all bytes, with the length of the whole frame in front.
    #[inline]
    fn finish(&mut self, payload_len: usize) -> &[u8] {
        let frame_len = self.len - PREFIX_LEN + payload_len;
        // The length fits into 32 bits: the largest `max_frame` that a peer may announce is 16 MiB less one byte.
        debug_assert!(frame_len < 1 << 24, "frame of {frame_len} bytes");
        self.bytes[..PREFIX_LEN].copy_from_slice(&(frame_len as u32).to_be_bytes());
        &self.bytes[..self.len]
    }
}

/// The longest that [`Header::row_head`] may be: the length, kind, id, flags, procedure, timeout, depth, and the key and length
/// of the payload.
pub(crate) const ROW_HEAD_MAX: usize = PREFIX_LEN + 6 + 11 + 6 + 9 + 11 + 6 + 4;

/// Appends a message of `len` bytes to the row at the end of the output, where [`Output::extend_tail`] has made room for it. If the
/// message panics, nothing is appended.
#[inline]
pub(crate) fn put_in_row<P: Payload>(message: &P, len: usize, out: &mut Output) {
    out.put_in_tail(packed_len(len), |room| {
        put_len(room, len);
        message.put(room);
    });
}

/// Changes the head of a frame with a row, which is the first `head_len` bytes of it: the row is `len` bytes long now.
#[inline]
pub(crate) fn patch_row_head(frame: &mut [u8], head_len: usize, len: usize) {
    let frame_len = (head_len - PREFIX_LEN + len) as u32;
    frame[..PREFIX_LEN].copy_from_slice(&frame_len.to_be_bytes());
    frame[head_len - 3..head_len].copy_from_slice(&row_len_bytes(len));
}

/// The length of a row as a varint of three bytes, so that it can be changed in place. Longer ones than needed are valid.
#[inline]
fn row_len_bytes(len: usize) -> [u8; 3] {
    debug_assert!(len <= MAX_ROW, "row of {len} bytes");
    [len as u8 | 0x80, (len >> 7) as u8 | 0x80, (len >> 14) as u8]
}

/// Removes what was appended to the output if encoding a message panics; that code may be a user's.
struct UnfinishedFrame<'a> {
    out: &'a mut Output,
    start: u64,
    is_whole: bool,
}

impl<'a> UnfinishedFrame<'a> {
    fn new(out: &'a mut Output) -> Self {
        Self {
            start: out.end(),
            out,
            is_whole: false,
        }
    }
}

impl Drop for UnfinishedFrame<'_> {
    fn drop(&mut self) {
        if !self.is_whole {
            self.out.truncate(self.start);
        }
    }
}

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LEN: u8 = 2;

/// The key of field 16, the only one of two bytes.
const TRACE_KEY: [u8; 2] = [(16 << 3 | LEN as u16) as u8 | 0x80, 1];

/// Enough for nearly all values of a header with a small payload, in bytes.
const SCRATCH_LEN: usize = 64;

/// Gathers the small values of a header.
///
/// The output then makes room once and not for each byte.
struct Scratch<'a> {
    out: &'a mut Output,
    bytes: [u8; SCRATCH_LEN],
    len: usize,
}

impl<'a> Scratch<'a> {
    fn new(out: &'a mut Output) -> Self {
        Self {
            out,
            bytes: [0; SCRATCH_LEN],
            len: 0,
        }
    }

    fn key(&mut self, field: u8, wire_type: u8) {
        self.put(&[field << 3 | wire_type]);
    }

    fn varint(&mut self, mut value: u64) {
        let mut bytes = [0; 10];
        let mut len = 0;
        while value >= 0x80 {
            bytes[len] = value as u8 | 0x80;
            value >>= 7;
            len += 1;
        }
        bytes[len] = value as u8;
        self.put(&bytes[..=len]);
    }

    fn varint_field(&mut self, field: u8, value: u64) {
        if value != 0 {
            self.key(field, VARINT);
            self.varint(value);
        }
    }

    fn bytes_field(&mut self, field: u8, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.key(field, LEN);
            self.varint(bytes.len() as u64);
            self.put(bytes);
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        if bytes.len() > SCRATCH_LEN - self.len {
            self.flush();
        }
        if bytes.len() > SCRATCH_LEN {
            return self.out.put_slice(bytes);
        }
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn flush(&mut self) {
        self.out.put_slice(&self.bytes[..self.len]);
        self.len = 0;
    }
}

/// The length of the message of a trace context.
fn trace_len(trace: &TraceContext) -> usize {
    let parent_len = trace.trace_id().map_or(0, |_| PARENT_LEN);
    bytes_field_len(parent_len)
        + bytes_field_len(trace.tracestate().len())
        + bytes_field_len(trace.baggage().len())
}

fn entry_len(key: &str, value: &[u8]) -> usize {
    bytes_field_len(key.len()) + bytes_field_len(value.len())
}

/// The length of a number field. Each key but that of the trace takes one byte, and a zero is not written.
fn varint_field_len(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + varint_len(value) }
}

/// The length of a bytes field; empty bytes are not written.
fn bytes_field_len(len: usize) -> usize {
    if len == 0 { 0 } else { message_field_len(len) }
}

/// The length of a message field, which is written even if it is empty.
fn message_field_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}
