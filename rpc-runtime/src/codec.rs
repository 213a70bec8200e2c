//! FrameCodec: bytes to frames, within the limit of length.

use std::{error, fmt, io, mem};

use bytes::{Buf, Bytes, BytesMut};
use tokio_util::codec::Decoder;

use crate::frame::{Frame, FrameError, Output, PREFIX_LEN};

/// Cuts a stream of bytes into frames.
///
/// Whoever feeds it reads into the spare capacity of the buffer and reserves no more than
/// [`FrameCodec::READ_BUFFER`]: when a frame needs more, [`decode`](Decoder::decode) has made the room, and never
/// more than what has come justifies.
#[derive(Debug)]
pub(crate) struct FrameCodec {
    max_frame: usize,
    /// No frame was read yet, so the peer may speak something else altogether.
    is_first: bool,
    /// The buffer was made for one frame, of this length with its prefix.
    own: Option<usize>,
}

impl FrameCodec {
    /// How large a read buffer may be without regard to how much has come.
    pub(crate) const READ_BUFFER: usize = 64 * 1024;

    /// A codec for a fresh connection that reads frames of at most `max_frame` bytes.
    pub(crate) const fn new(max_frame: usize) -> Self {
        Self {
            max_frame,
            is_first: true,
            own: None,
        }
    }

    /// Sets how long the frames from now on may be.
    pub(crate) const fn set_max_frame(&mut self, max_frame: usize) {
        self.max_frame = max_frame;
    }

    /// Makes room for more of a frame that takes `total` bytes: at most [`Self::READ_BUFFER`], or twice of what is
    /// there, and never what was merely announced.
    fn make_room(&mut self, buffer: &mut BytesMut, total: usize) {
        if total < Output::BY_REFERENCE {
            // What the buffer grows to by itself stays below the limit, for it doubles something shorter than this.
            buffer.reserve(total - buffer.len());
            return;
        }
        let allowed = (2 * buffer.len()).max(Self::READ_BUFFER);
        if total <= allowed && self.own != Some(total) {
            // Exactly for this frame: it will be handed out by reference, without pinning its neighbours.
            replace(buffer, total);
            self.own = Some(total);
        } else if total > allowed && buffer.capacity() < allowed {
            replace(buffer, allowed);
        }
    }

    /// Takes `total` bytes, which are there; says whether they have a buffer of their own.
    fn take(&mut self, buffer: &mut BytesMut, total: usize) -> (Bytes, bool) {
        let is_own = self.own.take() == Some(total) && buffer.len() == total && buffer.capacity() == total;
        if is_own {
            // All of it, so that the empty buffer does not pin what is handed out.
            (mem::take(buffer).freeze(), true)
        } else {
            (buffer.split_to(total).freeze(), false)
        }
    }
}

impl Decoder for FrameCodec {
    type Item = Frame;
    type Error = CodecError;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, CodecError> {
        if self.is_first {
            if let Some(protocol) = foreign(buffer) {
                return Err(CodecError::Foreign(protocol));
            }
        }
        let Some(&prefix) = buffer.first_chunk::<PREFIX_LEN>() else {
            return Ok(None);
        };
        let len = u32::from_be_bytes(prefix) as usize;
        if len > self.max_frame {
            return Err(CodecError::TooLong {
                len,
                max: self.max_frame,
            });
        }
        let total = PREFIX_LEN + len;
        if buffer.len() < total {
            self.make_room(buffer, total);
            return Ok(None);
        }
        let (mut body, is_own) = self.take(buffer, total);
        body.advance(PREFIX_LEN);
        let mut frame = Frame::decode(body)?;
        self.is_first = false;
        // A long payload is handed out by reference and would pin the whole read buffer. Fragments are copied into
        // their message by whoever reassembles them.
        if !is_own && frame.payload.len() >= Output::BY_REFERENCE && !frame.is_fragment() {
            frame.payload = Bytes::copy_from_slice(&frame.payload);
        }
        Ok(Some(frame))
    }

    fn decode_eof(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, CodecError> {
        match self.decode(buffer)? {
            None if !buffer.is_empty() => Err(CodecError::Truncated { len: buffer.len() }),
            frame => Ok(frame),
        }
    }
}

/// Why a stream of bytes cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) enum CodecError {
    /// A frame is longer than was announced to the peer.
    TooLong {
        /// How long it is.
        len: usize,
        /// How long it may be.
        max: usize,
    },
    /// The peer speaks another protocol, which this names.
    Foreign(&'static str),
    /// The bytes of a frame are none.
    Frame(FrameError),
    /// The stream ends within a frame.
    Truncated {
        /// How many bytes of it have come.
        len: usize,
    },
    /// Reading failed; only where tokio-util reads for us.
    Io(io::ErrorKind),
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { len, max } => write!(f, "frame of {len} bytes exceeds limit of {max}"),
            Self::Foreign(protocol) => write!(f, "peer speaks {protocol} instead of this protocol"),
            Self::Frame(error) => write!(f, "invalid frame: {error}"),
            Self::Truncated { len } => write!(f, "stream ends after {len} bytes of a frame"),
            Self::Io(kind) => write!(f, "read failed: {kind}"),
        }
    }
}

impl error::Error for CodecError {}

impl From<FrameError> for CodecError {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

impl From<io::Error> for CodecError {
    fn from(error: io::Error) -> Self {
        Self::Io(error.kind())
    }
}

/// Moves what is in `buffer` to one of exactly `capacity`; `reserve` might double it beyond the limit.
fn replace(buffer: &mut BytesMut, capacity: usize) {
    let mut larger = BytesMut::with_capacity(capacity);
    larger.extend_from_slice(buffer);
    *buffer = larger;
}

/// Names the protocol of a peer that speaks another one; its first bytes are never those of a frame.
fn foreign(bytes: &[u8]) -> Option<&'static str> {
    const HTTP_1: [&[u8]; 10] = [
        b"GET ", b"HEAD", b"POST", b"PUT ", b"DELE", b"CONN", b"OPTI", b"TRAC", b"PATC", b"HTTP",
    ];
    match bytes {
        // A handshake, or the alert of a TLS server that has read our HELLO; then the version.
        [0x16 | 0x15, 0x03, ..] => Some("TLS"),
        [b'P', b'R', b'I', b' ', ..] => Some("HTTP/2"),
        // The SETTINGS that an HTTP/2 server begins with: a length, type 4, flags and stream 0. A frame of ours
        // would have the key of a field where the flags are, and no key is 0.
        [0, _, _, 4, 0, 0, 0, 0, 0, ..] => Some("HTTP/2"),
        [a, b, c, d, ..] if HTTP_1.contains(&&[*a, *b, *c, *d][..]) => Some("HTTP/1"),
        _ => None,
    }
}
