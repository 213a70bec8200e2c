//! FrameCodec: bytes to frames and back, within a limit of length.

mod greeting;
mod spare;
#[cfg(test)]
mod tests;

#[cfg(feature = "sim")]
pub(crate) use self::spare::forget as forget_spare;

use std::{error, fmt, io, mem, ops::Range};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

pub use self::greeting::Greeting;
#[cfg(feature = "_tls")]
pub(crate) use self::greeting::{GRPC_SERVER, HTTP2};
use crate::wire::frame::{Flags, Frame, FrameError, Output, PREFIX_LEN, Placed};

/// Decodes a stream of bytes into frames, and encodes frames: a [`Decoder`] and an [`Encoder`] of tokio-util.
///
/// This is the codec that connections use; it is public for peers and tests that speak the protocol by hand, such as a
/// proxy, a recorder or a load generator. It knows frames only: `docs/reference/wire.md` says which frame may follow which.
///
/// ```
/// use bytes::BytesMut;
/// use rpc_runtime::codec::{Decoder, Encoder, Flags, Frame, FrameCodec, Kind};
///
/// # fn main() -> Result<(), rpc_runtime::codec::CodecError> {
/// let mut codec = FrameCodec::new(144 * 1024);
/// let ping = Frame::new(Kind::Ping, 0).with_payload(&b"12345678"[..]);
/// let call = Frame::new(Kind::Call, 1)
///     .with_flags(Flags::END)
///     .with_procedure(0x5a1c_66d0_17b5_11ee)
///     .with_payload(&b"the request"[..]);
///
/// let mut bytes = BytesMut::new();
/// codec.encode(ping, &mut bytes)?;
/// codec.encode(call.clone(), &mut bytes)?;
///
/// assert_eq!(codec.decode(&mut bytes)?.unwrap().kind(), Kind::Ping);
/// assert_eq!(codec.decode(&mut bytes)?, Some(call));
/// assert_eq!(codec.decode(&mut bytes)?, None, "no further frame has arrived");
/// # Ok(())
/// # }
/// ```
///
/// Over a socket, `tokio_util::codec::Framed::new(socket, FrameCodec::new(max))` is a stream and a sink of frames.
///
/// # Memory
///
/// Decoding never allocates more than the received bytes justify: a length that is only announced reserves nothing.
#[derive(Debug)]
pub struct FrameCodec {
    max_frame: usize,
    /// True until the first frame is read: until then the peer may speak another protocol.
    is_first: bool,
    /// Bytes of whole frames received.
    received: u64,
    /// Length of the long frame, with its prefix, whose beginning is in the buffer.
    wanted: Option<usize>,
    /// The frame that has the buffer to itself.
    own_buffer: Option<OwnBuffer>,
    /// The fragment that is read directly into the buffer of its message, which the connection lent.
    direct: Option<Box<DirectFragment>>,
    /// True if the last frame was a long one.
    is_long: bool,
}

/// An incomplete frame, and the capacity of the buffer that was made for it alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OwnBuffer {
    total: usize,
    capacity: usize,
}

/// A fragment that is read directly into the buffer of its message.
#[derive(Debug)]
struct DirectFragment {
    /// The frame without its payload.
    frame: Frame,
    /// Where the payload begins and ends in the buffer.
    start: usize,
    end: usize,
    /// Length of the frame with its prefix.
    total: usize,
}

impl FrameCodec {
    /// Maximum length of a read buffer when few bytes have come.
    pub(crate) const READ_BUFFER: usize = 64 * 1024;

    /// Read limit after a long frame: more long frames are likely to follow, each with a buffer of its own.
    const READ_FIRST: usize = 4 * 1024;

    /// Minimum length of a long frame. One read brings several shorter ones, and to copy them costs less than a read
    /// for each.
    const LONG: usize = 32 * 1024;

    /// With less room than this, a read is hardly worth its system call.
    const READ_MIN: usize = 2 * 1024;

    /// Creates a codec for a new connection, whose frames have at most `max_frame` bytes without their length prefix.
    ///
    /// A server and a client announce the limit of what they read in their HELLO: 144 KiB by default
    /// ([`Limits::max_frame`](crate::Limits::max_frame)).
    pub const fn new(max_frame: usize) -> Self {
        Self {
            max_frame,
            is_first: true,
            received: 0,
            wanted: None,
            own_buffer: None,
            direct: None,
            is_long: false,
        }
    }

    /// Makes room in `buffer` for the next read, and returns the maximum number of bytes to read.
    ///
    /// The room is at most [`Self::READ_BUFFER`] or twice the bytes that the peer has sent. A buffer that was made for
    /// one frame keeps its size, even if little of it is left.
    #[inline]
    pub(crate) fn prepare_read(&mut self, buffer: &mut BytesMut) -> usize {
        if let Some(total) = self.wanted.take() {
            self.make_room(buffer, total);
        }
        if let Some(direct) = &self.direct {
            // The same read brings the beginning of the next frame, which is moved.
            return direct.end + Self::READ_FIRST - buffer.len();
        }
        if buffer.capacity() == 0 {
            *buffer = spare::take();
        }
        let room = buffer.capacity() - buffer.len();
        if room < Self::READ_MIN && (room == 0 || self.own_buffer.is_none()) {
            let additional = Self::READ_BUFFER.saturating_sub(buffer.len());
            buffer.reserve(additional.max(1));
        }
        if self.is_long && self.own_buffer.is_none() {
            Self::READ_FIRST
        } else {
            usize::MAX
        }
    }

    /// Gives an empty buffer back to the thread; a connection holds no buffer between two reads.
    #[inline]
    pub(crate) fn give_back(&self, buffer: &mut BytesMut) {
        // Not while a fragment is read: then the buffer, empty or not, is the one of its message.
        if buffer.is_empty() && self.direct.is_none() {
            spare::put(mem::take(buffer));
        }
    }

    /// Returns the fragment that `buffer` begins with, if it is long and incomplete.
    ///
    /// The caller may then have it read directly into the buffer of its message.
    #[inline]
    pub(crate) fn fragment(&self, buffer: &BytesMut) -> Option<Fragment> {
        self.wanted.and_then(|total| self.begun(buffer, total))
    }

    #[cold]
    fn begun(&self, buffer: &BytesMut, total: usize) -> Option<Fragment> {
        if total < Self::LONG || self.own_buffer.is_some() || total as u64 > self.allowed(buffer) {
            return None;
        }
        let body = buffer.get(PREFIX_LEN..)?;
        let (frame, start) = Frame::begun(body, total - PREFIX_LEN)?;
        Some(Fragment {
            id: frame.id,
            len: total - PREFIX_LEN - start,
            received: self.received,
            frame,
            total,
        })
    }

    /// Returns the length and progress of the incomplete frame in `buffer`, if there is one.
    #[inline]
    pub(crate) fn rest(&self, buffer: &BytesMut) -> Option<Rest> {
        if buffer.is_empty() && self.direct.is_none() {
            return None;
        }
        Some(self.begun_rest(buffer))
    }

    #[cold]
    fn begun_rest(&self, buffer: &BytesMut) -> Rest {
        let prefix = buffer.first_chunk::<PREFIX_LEN>();
        let (len, here) = match &self.direct {
            Some(direct) => (direct.total as u64, direct.total - (direct.end - buffer.len())),
            None => {
                let announced = prefix.map_or(0, |len| u32::from_be_bytes(*len));
                (PREFIX_LEN as u64 + u64::from(announced), buffer.len())
            }
        };
        Rest {
            len,
            here: here as u64,
        }
    }

    /// Reads the rest of a fragment to the end of `message`, which has room for all of it.
    pub(crate) fn place(&mut self, fragment: Fragment, mut message: BytesMut, buffer: &mut BytesMut) {
        let Fragment {
            len, frame, total, ..
        } = fragment;
        let start = message.len();
        message.extend_from_slice(&buffer[total - len..]);
        *buffer = message;
        self.wanted = None;
        self.direct = Some(Box::new(DirectFragment {
            frame,
            start,
            end: start + len,
            total,
        }));
    }

    /// Takes the fragment that was read into its message, once it is complete.
    #[cold]
    fn take_placed(&mut self, buffer: &mut BytesMut) -> Option<Frame> {
        let direct = self.direct.take_if(|direct| buffer.len() >= direct.end)?;
        self.received += direct.total as u64;
        self.is_long = true;
        let mut message = split_rest(buffer, direct.end);
        message.truncate(direct.end);
        let mut frame = direct.frame;
        frame.extra.set_placed(Placed {
            message,
            start: direct.start,
        });
        Some(frame)
    }

    /// Maximum length of the buffer now: [`Self::READ_BUFFER`], or twice the bytes that the peer has sent.
    fn allowed(&self, buffer: &BytesMut) -> u64 {
        let received = self.received.saturating_add(buffer.len() as u64);
        received.saturating_mul(2).max(Self::READ_BUFFER as u64)
    }

    /// Makes room for more of a frame of `total` bytes.
    ///
    /// The room is at most [`Self::READ_BUFFER`] or twice the received bytes, never what was merely announced.
    #[cold]
    fn make_room(&mut self, buffer: &mut BytesMut, total: usize) {
        if total < Output::BY_REFERENCE {
            // The buffer at most doubles something shorter than this, so it stays below the limit.
            buffer.reserve(total - buffer.len());
            return;
        }
        let allowed = usize::try_from(self.allowed(buffer)).unwrap_or(usize::MAX);
        if total > allowed {
            if buffer.capacity() < allowed {
                replace(buffer, allowed);
            }
        } else if self.own_buffer.is_none_or(|own| own.total != total) {
            // The buffer is for this frame alone: the frame will be handed out by reference without keeping its
            // neighbours alive. The same read brings the beginning of the next frame, which is moved.
            let capacity = (total + total / 16).min(allowed);
            replace(buffer, capacity);
            self.own_buffer = Some(OwnBuffer { total, capacity });
        }
    }

    /// Takes a frame of `total` bytes that has come. Returns its payload, and true if that has a buffer of its own.
    #[inline]
    fn take(&mut self, buffer: &mut BytesMut, total: usize, payload: Range<usize>) -> (Bytes, bool) {
        self.received += total as u64;
        match self.own_buffer.take() {
            Some(own) => self.take_own(buffer, total, payload, own),
            None => (split_payload(buffer, total, payload), false),
        }
    }

    #[cold]
    fn take_own(
        &mut self,
        buffer: &mut BytesMut,
        total: usize,
        payload: Range<usize>,
        own: OwnBuffer,
    ) -> (Bytes, bool) {
        if own.total != total || own.capacity != buffer.capacity() {
            return (split_payload(buffer, total, payload), false);
        }
        let mut frame = split_rest(buffer, total);
        self.is_long = total >= Self::LONG;
        (split_payload(&mut frame, total, payload), true)
    }

    /// Decodes like [`decode`](Decoder::decode), into an empty frame; returns false if no frame is complete.
    #[inline]
    pub(crate) fn decode_into(
        &mut self,
        buffer: &mut BytesMut,
        frame: &mut Frame,
    ) -> Result<bool, CodecError> {
        if self.is_first {
            if let Some(greeting) = Greeting::read(buffer) {
                return Err(CodecError::Foreign(greeting));
            }
        }
        if self.direct.is_some() {
            let placed = self.take_placed(buffer);
            let is_there = placed.is_some();
            *frame = placed.unwrap_or_default();
            return Ok(is_there);
        }
        let Some(&prefix) = buffer.first_chunk::<PREFIX_LEN>() else {
            return Ok(false);
        };
        let len = u32::from_be_bytes(prefix) as usize;
        if len > self.max_frame {
            if self.is_first && prefix[0] != 0 {
                return Err(CodecError::Noise(prefix));
            }
            return Err(CodecError::TooLong {
                len,
                max: self.max_frame,
            });
        }
        let total = PREFIX_LEN + len;
        if buffer.len() < total {
            // A long frame waits for its head, which says where its payload belongs.
            let has_head = total < Output::BY_REFERENCE || buffer.len() >= HEAD_LEN;
            self.wanted = has_head.then_some(total);
            return Ok(false);
        }
        let payload = match frame.fill_plain(&buffer[PREFIX_LEN..], len) {
            Some(payload) => payload,
            None => match frame.fill(&buffer[PREFIX_LEN..total]) {
                Ok(payload) => payload,
                Err(error) => {
                    drop(self.take(buffer, total, 0..0));
                    return Err(error.into());
                }
            },
        };
        let is_own;
        (frame.payload, is_own) = self.take(buffer, total, payload);
        self.is_first = false;
        // The first fragment of a message may be short; it does not end a run of long frames.
        self.is_long &= is_own || frame.flags.contains(Flags::MORE);
        // A long payload is handed out by reference and would keep the whole read buffer alive. Fragments are copied
        // into their message when it is reassembled.
        if !is_own && frame.payload.len() >= Output::BY_REFERENCE && !frame.is_fragment() {
            frame.payload = Bytes::copy_from_slice(&frame.payload);
        }
        Ok(true)
    }
}

impl Decoder for FrameCodec {
    type Item = Frame;
    type Error = CodecError;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, CodecError> {
        let mut frame = Frame::default();
        let is_there = self.decode_into(buffer, &mut frame)?;
        Ok(is_there.then_some(frame))
    }

    fn decode_eof(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, CodecError> {
        match self.decode(buffer)? {
            None if !buffer.is_empty() => Err(CodecError::Truncated { len: buffer.len() }),
            frame => Ok(frame),
        }
    }
}

/// Appends frames to a buffer; a payload is copied.
impl Encoder<Frame> for FrameCodec {
    type Error = CodecError;

    /// Fails if the frame is longer than the codec's limit, or has more metadata than may travel; nothing is appended then.
    fn encode(&mut self, frame: Frame, buffer: &mut BytesMut) -> Result<(), CodecError> {
        let metadata = frame.metadata();
        if !metadata.fits() {
            return Err(CodecError::Frame(FrameError::Metadata {
                entries: metadata.len(),
                len: metadata.byte_len(),
            }));
        }
        let header = frame.header();
        let len = header.frame_len(frame.payload.len());
        if len > self.max_frame {
            return Err(CodecError::TooLong {
                len,
                max: self.max_frame,
            });
        }
        let mut out = Output::new();
        header.encode_bytes(frame.payload.clone(), &mut out);
        buffer.reserve(out.len());
        buffer.put(out);
        Ok(())
    }
}

/// A frame of which the beginning has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rest {
    /// Length with the prefix, as far as the received bytes show it.
    pub(crate) len: u64,
    /// How many bytes of it have come.
    pub(crate) here: u64,
}

/// The beginning of a fragment.
#[derive(Debug)]
pub(crate) struct Fragment {
    /// The id of its call.
    pub(crate) id: u64,
    /// Length of its payload in bytes.
    pub(crate) len: usize,
    /// Bytes of whole frames that the peer has sent before it.
    pub(crate) received: u64,
    frame: Frame,
    total: usize,
}

/// Maximum length of a fragment's head: length prefix, kind, id, flags, length of the payload.
const HEAD_LEN: usize = PREFIX_LEN + 2 + 11 + 2 + 5;

/// The reason why a stream of bytes cannot be decoded further, or a frame cannot be encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CodecError {
    /// A frame is longer than the limit.
    TooLong {
        /// The length of the frame, in bytes.
        len: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// The peer speaks another protocol.
    Foreign(Greeting),
    /// The stream begins like neither a frame nor a known protocol; these are its first bytes.
    Noise([u8; 4]),
    /// The bytes of a frame cannot be decoded.
    Frame(FrameError),
    /// The stream ends within a frame.
    Truncated {
        /// The number of bytes of the frame that have arrived.
        len: usize,
    },
    /// Reading or writing failed: only where tokio-util does that.
    Io(io::ErrorKind),
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { len, max } => write!(
                f,
                "frame of {len} bytes exceeds limit of {max}: the reader's Limits::max_frame"
            ),
            Self::Foreign(greeting) => greeting.fmt(f),
            Self::Noise(prefix) => write!(
                f,
                "first bytes {:08x} are not a frame: the peer speaks another protocol, or the stream is damaged",
                u32::from_be_bytes(*prefix)
            ),
            Self::Frame(error) => write!(f, "invalid frame: {error}"),
            Self::Truncated { len } => write!(f, "stream ends after {len} bytes of a frame"),
            Self::Io(kind) => write!(f, "stream failed: {kind}"),
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

/// Takes a frame of `total` bytes off `buffer`, and returns its payload, without copying it.
#[inline(always)]
fn split_payload(buffer: &mut BytesMut, total: usize, payload: Range<usize>) -> Bytes {
    if payload.is_empty() {
        buffer.advance(total);
        return Bytes::new();
    }
    let mut bytes = buffer.split_to(PREFIX_LEN + payload.end).freeze();
    bytes.advance(PREFIX_LEN + payload.start);
    let behind = total - PREFIX_LEN - payload.end;
    if behind > 0 {
        buffer.advance(behind);
    }
    bytes
}

/// Takes the first `len` bytes, and moves the rest so that it does not keep them alive.
fn split_rest(buffer: &mut BytesMut, len: usize) -> BytesMut {
    let rest = match buffer.len() - len {
        0 => BytesMut::new(),
        _ => BytesMut::from(&buffer[len..]),
    };
    let mut first = mem::replace(buffer, rest);
    first.truncate(len);
    first
}

/// Moves the content of `buffer` to one of exactly `capacity` bytes; `reserve` might double it beyond the limit.
fn replace(buffer: &mut BytesMut, capacity: usize) {
    let mut larger = BytesMut::with_capacity(capacity);
    larger.extend_from_slice(buffer);
    *buffer = larger;
}
