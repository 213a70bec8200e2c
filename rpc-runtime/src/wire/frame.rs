//! Frames: the units that two peers exchange, encoded and decoded.
//!
//! [`Header`] encodes in place; [`Frame::fill`] decodes by slicing. Nothing here waits, reads a clock or touches a
//! socket.
//! `docs/reference/wire.md` and `proto/rpc/wire/v1/wire.proto` describe the bytes for other implementers.

mod access;
pub(crate) mod control;
mod decode;
mod header;
mod output;
mod payload;
mod plain;
pub(crate) mod row;
#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    fmt,
    ops::{BitOr, Deref},
};

use bytes::{Bytes, BytesMut};

use crate::{Metadata, api::trace_context::TraceContext};

pub use self::decode::FrameError;
pub(crate) use self::{
    header::{Header, ROW_HEAD_MAX, patch_row_head, put_in_row},
    output::Output,
    payload::{Encoded, EncodedSlice, Payload, Size},
};

/// Length of the number that stands before each frame, in bytes.
pub(crate) const PREFIX_LEN: usize = 4;

/// Maximum length of a status text on the wire, in bytes; both sides cut the middle out of a longer one.
pub(crate) const MAX_TEXT: usize = 1024;

/// The purpose of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The first frame of each side: versions and limits.
    Hello,
    /// A request that expects a reply.
    Call,
    /// A one-way request.
    Send,
    /// A further fragment of a message, or one message of a stream.
    Data,
    /// The end of a call: its status and its message.
    Reply,
    /// The caller no longer wants the reply.
    Cancel,
    /// Allows the receiver to send more bytes: on a stream or, with id 0, of one-way requests.
    Credit,
    /// Asks for a [`Kind::Pong`] with the same 8 bytes.
    Ping,
    /// Answers the newest ping and every earlier one, and reports the progress of the one-way requests.
    Pong,
    /// The sender goes away: the receiver must start nothing more on this connection.
    Goaway,
    /// A kind that this version does not know. A frame without a kind has the number 0.
    Other(u32),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hello => "HELLO",
            Self::Call => "CALL",
            Self::Send => "SEND",
            Self::Data => "DATA",
            Self::Reply => "REPLY",
            Self::Cancel => "CANCEL",
            Self::Credit => "CREDIT",
            Self::Ping => "PING",
            Self::Pong => "PONG",
            Self::Goaway => "GOAWAY",
            Self::Other(number) => return write!(f, "kind {number}"),
        })
    }
}

impl Kind {
    /// The number of this kind on the wire.
    pub const fn number(self) -> u32 {
        match self {
            Self::Hello => 1,
            Self::Call => 2,
            Self::Send => 3,
            Self::Data => 4,
            Self::Reply => 5,
            Self::Cancel => 6,
            Self::Credit => 7,
            Self::Ping => 8,
            Self::Pong => 9,
            Self::Goaway => 10,
            Self::Other(number) => number,
        }
    }

    /// Returns true if a peer that does not know this kind must end the connection; it ignores other kinds.
    pub const fn is_critical(self) -> bool {
        self.number() < 64
    }
}

impl From<u32> for Kind {
    fn from(number: u32) -> Self {
        match number {
            1 => Self::Hello,
            2 => Self::Call,
            3 => Self::Send,
            4 => Self::Data,
            5 => Self::Reply,
            6 => Self::Cancel,
            7 => Self::Credit,
            8 => Self::Ping,
            9 => Self::Pong,
            10 => Self::Goaway,
            other => Self::Other(other),
        }
    }
}

impl Default for Kind {
    fn default() -> Self {
        Self::Other(0)
    }
}

/// The flags of a frame; bits that this version does not know are kept and mean nothing.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Flags(u32);

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// Fragments of this frame's message follow.
    pub const MORE: Self = Self(1);
    /// The caller sends no more on this call.
    pub const END: Self = Self(2);
    /// On a reply: the handler never started, and never will.
    pub const NOT_EXECUTED: Self = Self(4);
    /// On a reply: the handler started, and was dropped before its end.
    pub const ABORTED: Self = Self(8);
    /// On a message of a stream or a one-way request: the payload is a row of messages, each behind its length.
    pub const PACKED: Self = Self(16);

    /// Creates flags with these bits.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The bits as they travel.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Returns true if all flags of `other` are set here.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        let mut separator = "";
        for (flag, name) in [
            (Self::MORE, "MORE"),
            (Self::END, "END"),
            (Self::NOT_EXECUTED, "NOT_EXECUTED"),
            (Self::ABORTED, "ABORTED"),
            (Self::PACKED, "PACKED"),
        ] {
            if self.contains(flag) {
                write!(f, "{separator}{name}")?;
                separator = "|";
                rest &= !flag.0;
            }
        }
        match (rest, self.0) {
            (0, 0) => f.write_str("NONE"),
            (0, _) => Ok(()),
            _ => write!(f, "{separator}{rest:#x}"),
        }
    }
}

/// One unit of the protocol, as [`FrameCodec`](crate::codec::FrameCodec) reads and writes it.
///
/// On the wire a frame is a protobuf message behind its length, a big-endian `u32`. `docs/reference/wire.md` and
/// `proto/rpc/wire/v1/wire.proto` describe the fields and which kinds use them. A field that is absent has its zero value:
/// an empty message and no message are the same bytes. `Debug` shows the lengths of what belongs to users, never the bytes.
#[derive(Clone, Default, PartialEq)]
#[must_use]
pub struct Frame {
    /// 1: what the frame is about.
    pub(crate) kind: Kind,
    /// 2: the id of the call; 0 is the connection.
    pub(crate) id: u64,
    /// 3: boolean facts.
    pub(crate) flags: Flags,
    /// 4: CALL, SEND: the id of the procedure.
    pub(crate) procedure: u64,
    /// 5: CALL, SEND: the time left, in microseconds; 0 means no limit.
    pub(crate) timeout_us: u64,
    /// 6: REPLY: the status code; 0 is success.
    pub(crate) code: u32,
    /// 7, 8, 13 and 16: rare fields.
    pub(crate) extra: Extra,
    /// 9: the length of the whole message, if this frame carries only a part of it; CREDIT: the bytes granted.
    pub(crate) length: u64,
    /// 10: the compression of the payload.
    pub(crate) encoding: u32,
    /// 11: REPLY: how long the call waited, in microseconds.
    pub(crate) queue_us: u64,
    /// 12: REPLY: how long the handler ran, in microseconds.
    pub(crate) run_us: u64,
    /// 14: CALL, SEND: the number of calls that this one is nested in.
    pub(crate) depth: u32,
    /// 15: the message; a slice of the frame's bytes.
    pub(crate) payload: Bytes,
}

/// The parts of a frame that most frames do not have: out of the way of the others, which are moved about much.
#[derive(Clone, Default)]
pub(crate) struct Extra(Option<Box<Parts>>);

/// The content of an [`Extra`]. An absent part is empty.
#[derive(Clone, Default, PartialEq)]
#[cfg_attr(test, derive(Debug))]
pub(crate) struct Parts {
    /// 7: REPLY: the status text, at most [`MAX_TEXT`] bytes.
    pub(crate) message: String,
    /// 8: metadata entries, within the limits of [`Metadata`].
    pub(crate) metadata: Metadata,
    /// 13: REPLY: the typed error.
    pub(crate) details: Bytes,
    /// 16: CALL, SEND: the trace that the call belongs to.
    pub(crate) trace: Option<TraceContext>,
    /// Replaces the payload: a fragment that was read directly into the buffer of its message.
    pub(crate) placed: Option<Placed>,
}

/// A fragment of a message, at the end of everything that was read of that message before.
#[derive(Clone, PartialEq)]
pub(crate) struct Placed {
    /// The message so far, with this fragment at its end.
    pub(crate) message: BytesMut,
    /// Where the fragment begins in `message`.
    pub(crate) start: usize,
}

/// Shows positions and lengths, never the bytes.
impl fmt::Debug for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}..{}]", self.start, self.message.len())
    }
}

impl Extra {
    /// Takes all parts out.
    pub(crate) fn take(&mut self) -> Parts {
        self.0.take().map_or_else(Parts::default, |parts| *parts)
    }

    /// Takes the metadata out.
    pub(crate) fn take_metadata(&mut self) -> Metadata {
        self.0
            .as_mut()
            .map_or_else(Metadata::new, |parts| std::mem::take(&mut parts.metadata))
    }

    /// Takes the metadata and the trace context out.
    #[inline]
    pub(crate) fn take_beside(&mut self) -> (Metadata, Option<TraceContext>) {
        let Some(parts) = &mut self.0 else {
            return (Metadata::new(), None);
        };
        (std::mem::take(&mut parts.metadata), parts.trace.take())
    }

    /// The memory that the metadata and the trace context take, about, in bytes.
    #[inline]
    pub(crate) fn beside_len(&self) -> u64 {
        let len_of = |parts: &Parts| {
            let trace = parts.trace.as_ref().map_or(0, TraceContext::held_len);
            parts.metadata.held_len() + trace
        };
        self.0.as_deref().map_or(0, len_of)
    }

    /// Takes out a fragment that was read directly into the buffer of its message.
    pub(crate) fn take_placed(&mut self) -> Option<Placed> {
        self.0.as_mut()?.placed.take()
    }

    /// Adds a fragment that was read directly into the buffer of its message.
    pub(crate) fn set_placed(&mut self, placed: Placed) {
        self.get_mut().placed = Some(placed);
    }

    fn get_mut(&mut self) -> &mut Parts {
        self.0.get_or_insert_default()
    }
}

/// No parts and empty parts are the same.
impl PartialEq for Extra {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Deref for Extra {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        static NONE: Parts = Parts {
            message: String::new(),
            metadata: Metadata::new(),
            details: Bytes::new(),
            trace: None,
            placed: None,
        };
        self.0.as_deref().unwrap_or(&NONE)
    }
}

#[cfg(test)]
impl From<Parts> for Extra {
    fn from(parts: Parts) -> Self {
        Self((parts != Parts::default()).then(|| Box::new(parts)))
    }
}

impl Frame {
    /// The frame without its payload, to encode it again.
    pub(crate) fn header(&self) -> Header<'_> {
        Header {
            kind: self.kind,
            id: self.id,
            flags: self.flags,
            procedure: self.procedure,
            timeout_us: self.timeout_us,
            code: self.code,
            message: &self.extra.message,
            metadata: Some(&self.extra.metadata),
            length: self.length,
            encoding: self.encoding,
            queue_us: self.queue_us,
            run_us: self.run_us,
            details: &self.extra.details,
            depth: self.depth,
            trace: self.extra.trace.as_ref(),
        }
    }

    /// Makes the frame empty, so that another one can be decoded into it. It costs less than to drop it and to make a new one.
    #[inline]
    pub(crate) fn clear(&mut self) {
        let Self {
            kind,
            id,
            flags,
            procedure,
            timeout_us,
            code,
            extra,
            length,
            encoding,
            queue_us,
            run_us,
            depth,
            payload,
        } = self;
        *kind = Kind::default();
        *flags = Flags::NONE;
        (*id, *procedure, *timeout_us) = (0, 0, 0);
        (*length, *queue_us, *run_us) = (0, 0, 0);
        (*code, *encoding, *depth) = (0, 0, 0);
        if extra.0.is_some() {
            extra.0 = None;
        }
        if !payload.is_empty() {
            *payload = Bytes::new();
        }
    }

    /// The uncompressed length of the message that this frame carries or begins. Limits count this length.
    pub(crate) fn message_len(&self) -> u64 {
        if self.flags.contains(Flags::MORE) || self.encoding != 0 {
            self.length
        } else {
            self.payload_len() as u64
        }
    }

    /// The length of the payload, in the frame or in the buffer of its message.
    #[inline]
    pub(crate) fn payload_len(&self) -> usize {
        let placed = self.extra.0.as_ref().and_then(|parts| parts.placed.as_ref());
        placed.map_or(self.payload.len(), |placed| placed.message.len() - placed.start)
    }

    /// True if the payload may be a part of a message; the receiver then copies it into the whole message.
    pub(crate) fn is_fragment(&self) -> bool {
        self.kind == Kind::Data || self.flags.contains(Flags::MORE)
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Frame");
        out.field("kind", &self.kind)
            .field("id", &self.id)
            .field("flags", &self.flags);
        if self.procedure != 0 {
            out.field("procedure", &format_args!("{:#018x}", self.procedure));
        }
        for (name, value) in [
            ("timeout_us", self.timeout_us),
            ("code", u64::from(self.code)),
            ("length", self.length),
            ("encoding", u64::from(self.encoding)),
            ("queue_us", self.queue_us),
            ("run_us", self.run_us),
            ("depth", u64::from(self.depth)),
        ] {
            if value != 0 {
                out.field(name, &value);
            }
        }
        let Parts {
            message,
            metadata,
            details,
            trace,
            placed,
        } = &*self.extra;
        if !message.is_empty() {
            out.field("message", message);
        }
        if !metadata.is_empty() {
            out.field("metadata", metadata);
        }
        if let Some(trace) = trace {
            out.field("trace", trace);
        }
        if let Some(placed) = placed {
            out.field("placed", placed);
        }
        for (name, bytes) in [("details", details), ("payload", &self.payload)] {
            if !bytes.is_empty() {
                out.field(name, &format_args!("[{} bytes]", bytes.len()));
            }
        }
        out.finish()
    }
}

/// Returns `text`, shortened to `max` bytes by an ellipsis in place of its middle.
///
/// The beginning of an error text says what went wrong; its end often says why.
#[inline]
pub(crate) fn cut(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(without_middle(text, max))
    }
}

#[cold]
fn without_middle(text: &str, max: usize) -> String {
    const ELLIPSIS: &str = "\u{2026}";
    let room = max.saturating_sub(ELLIPSIS.len());
    let (mut end, mut start) = (room.div_ceil(2), text.len() - room / 2);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    while !text.is_char_boundary(start) {
        start += 1;
    }
    [&text[..end], ELLIPSIS, &text[start..]].concat()
}
