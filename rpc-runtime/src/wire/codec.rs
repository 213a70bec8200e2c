//! FrameCodec: bytes to frames and back, within a limit of length.

mod greeting;
mod spare;

#[cfg(feature = "sim")]
pub(crate) use self::spare::forget as forget_spare;

use std::{error, fmt, io, mem};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

pub use self::greeting::Greeting;
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
            Some(direct) => (direct.total, direct.total - (direct.end - buffer.len())),
            None => (
                prefix.map_or(PREFIX_LEN, |len| PREFIX_LEN + u32::from_be_bytes(*len) as usize),
                buffer.len(),
            ),
        };
        Rest {
            len: len as u64,
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

    /// Takes `total` bytes that have come, and returns true if they have a buffer of their own.
    #[inline]
    fn take(&mut self, buffer: &mut BytesMut, total: usize) -> (Bytes, bool) {
        self.received += total as u64;
        match self.own_buffer.take() {
            Some(own) => self.take_own(buffer, total, own),
            None => (buffer.split_to(total).freeze(), false),
        }
    }

    #[cold]
    fn take_own(&mut self, buffer: &mut BytesMut, total: usize, own: OwnBuffer) -> (Bytes, bool) {
        if own.total != total || own.capacity != buffer.capacity() {
            return (buffer.split_to(total).freeze(), false);
        }
        let frame = split_rest(buffer, total);
        self.is_long = total >= Self::LONG;
        (frame.freeze(), true)
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
        let (mut body, is_own) = self.take(buffer, total);
        body.advance(PREFIX_LEN);
        frame.fill(body)?;
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
            Self::TooLong { len, max } => write!(f, "frame of {len} bytes exceeds limit of {max}"),
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

#[cfg(test)]
mod tests {
    use std::slice;

    use bytes::BufMut;
    use proptest::{collection::vec, prelude::*};
    use tokio_util::codec::LengthDelimitedCodec;

    use super::*;
    use crate::{Metadata, Status, wire::frame::Kind};

    const MAX_FRAME: usize = 144 * 1024;

    fn frame(id: u64, payload: &[u8]) -> Frame {
        let payload = Bytes::copy_from_slice(payload);
        Frame {
            kind: Kind::Call,
            id,
            flags: Flags::END,
            payload,
            ..Frame::default()
        }
    }

    fn encode(frames: &[Frame]) -> Vec<u8> {
        let mut out = Output::new();
        for frame in frames {
            frame.header().encode_bytes(frame.payload.clone(), &mut out);
        }
        out.copy_to_bytes(out.len()).to_vec()
    }

    /// Reads `stream` as a connection does: into the spare capacity, at most `max` bytes at a time. Checks the bound of
    /// the buffer.
    fn read(codec: &mut FrameCodec, mut stream: &[u8], max: usize) -> Result<Vec<Frame>, CodecError> {
        let mut buffer = BytesMut::new();
        let mut frames = Vec::new();
        let all = stream.len();
        loop {
            while let Some(frame) = codec.decode(&mut buffer)? {
                frames.push(frame);
            }
            let received = all - stream.len();
            assert!(buffer.capacity() <= (2 * received).max(FrameCodec::READ_BUFFER));
            if stream.is_empty() {
                return Ok(frames);
            }
            codec.prepare_read(&mut buffer);
            assert!(buffer.capacity() <= (2 * received).max(FrameCodec::READ_BUFFER));
            let count = (buffer.capacity() - buffer.len()).min(max).min(stream.len());
            buffer.put_slice(&stream[..count]);
            stream = &stream[count..];
        }
    }

    #[test]
    fn single_bytes_give_the_same_frames() {
        let frames = [
            frame(1, b"first"),
            frame(3, b""),
            frame(5, &[7; 300]),
            Frame::default(),
        ];
        let stream = encode(&frames);
        for max in [1, 2, 3, 7, stream.len()] {
            assert_eq!(
                read(&mut FrameCodec::new(MAX_FRAME), &stream, max).unwrap(),
                frames
            );
        }
    }

    #[test]
    fn frames_are_those_of_tokio_utils_length_delimited_codec() {
        let frames = [frame(1, b"first"), frame(3, &[7; 70_000])];
        let mut theirs = BytesMut::new();
        let mut codec = LengthDelimitedCodec::builder()
            .big_endian()
            .length_field_length(4)
            .new_codec();
        for frame in &frames {
            codec
                .encode(&encode(slice::from_ref(frame))[4..], &mut theirs)
                .unwrap();
        }
        assert_eq!(theirs, encode(&frames));
    }

    #[test]
    fn what_is_encoded_is_what_connections_write_and_is_decoded_as_it_was() {
        let status = Status::not_found("no").with_details_bytes("more");
        let frames = [
            frame(1, b"first"),
            frame(3, &[7; 20_000]),
            Frame::new(Kind::Reply, 1)
                .with_status(&status.with_metadata(Metadata::from([("key", "value")])))
                .with_length(5),
        ];
        let mut codec = FrameCodec::new(MAX_FRAME);
        let mut bytes = BytesMut::new();
        for frame in &frames {
            codec.encode(frame.clone(), &mut bytes).unwrap();
        }
        assert_eq!(bytes, encode(&frames));
        for frame in frames {
            assert_eq!(codec.decode(&mut bytes), Ok(Some(frame)));
        }
    }

    #[test]
    fn a_frame_that_may_not_travel_is_not_encoded() {
        let mut bytes = BytesMut::new();
        let long = frame(1, &[7; 100]);
        let len = encode(slice::from_ref(&long)).len() - PREFIX_LEN;
        let error = FrameCodec::new(len - 1).encode(long.clone(), &mut bytes);
        assert_eq!(error, Err(CodecError::TooLong { len, max: len - 1 }));
        let entries = (0..65).map(|n| (format!("k{n}"), "v"));
        let many = frame(1, b"").with_metadata(entries.collect());
        let error = FrameCodec::new(MAX_FRAME).encode(many, &mut bytes);
        let excess = FrameError::Metadata {
            entries: 65,
            len: 250,
        };
        assert_eq!(error, Err(CodecError::Frame(excess)));
        assert!(bytes.is_empty());
        assert_eq!(FrameCodec::new(len).encode(long, &mut bytes), Ok(()));
    }

    #[test]
    fn announced_length_reserves_nothing() {
        let mut codec = FrameCodec::new((1 << 24) - 1);
        let mut buffer = BytesMut::from(&b"\0\xff\xff\xff\x08"[..]);
        assert_eq!(codec.decode(&mut buffer), Ok(None));
        assert!(buffer.capacity() <= FrameCodec::READ_BUFFER);
    }

    #[test]
    fn buffer_grows_with_what_has_come() {
        let long = frame(1, &vec![7; 3 << 20]);
        for max in [1000, 1 << 16, usize::MAX] {
            let frames = read(
                &mut FrameCodec::new(1 << 23),
                &encode(slice::from_ref(&long)),
                max,
            )
            .unwrap();
            assert_eq!(frames, slice::from_ref(&long));
        }
    }

    #[test]
    fn long_payload_that_came_in_pieces_is_not_copied_again() {
        let stream = encode(&[frame(1, &[7; 20_000]), frame(3, b"next")]);
        let total = encode(&[frame(1, &[7; 20_000])]).len();
        let mut codec = FrameCodec::new(MAX_FRAME);
        let mut buffer = BytesMut::from(&stream[..100]);
        assert_eq!(codec.decode(&mut buffer), Ok(None));
        codec.prepare_read(&mut buffer);
        let capacity = buffer.capacity();
        assert!((total..total + 2000).contains(&capacity));
        buffer.put_slice(&stream[100..total - 100]);
        codec.prepare_read(&mut buffer);
        assert_eq!(buffer.capacity(), capacity, "not enlarged for the last bytes");
        buffer.put_slice(&stream[total - 100..]);
        let own = buffer.as_ptr()..buffer.as_ptr().wrapping_add(capacity);
        let payload = codec.decode(&mut buffer).unwrap().unwrap().payload;
        assert!(own.contains(&payload.as_ptr()));
        assert!(!own.contains(&buffer.as_ptr()), "nothing else pins it");
        assert_eq!(codec.decode(&mut buffer), Ok(Some(frame(3, b"next"))));
    }

    #[test]
    fn long_payloads_in_a_row_are_hardly_copied() {
        let long = encode(&[frame(1, &[7; 64 * 1024])]);
        let mut codec = FrameCodec::new(MAX_FRAME);
        let mut buffer = BytesMut::new();
        let mut copied = 0;
        let mut next = 0;
        for round in 0..100 {
            let beginning = buffer.len();
            let mut frame = None;
            while frame.is_none() {
                codec.prepare_read(&mut buffer);
                while buffer.len() < buffer.capacity() {
                    buffer.put_u8(long[next % long.len()]);
                    next += 1;
                }
                frame = codec.decode(&mut buffer).unwrap();
            }
            if round > 1 {
                copied += beginning;
            }
        }
        assert!(copied < 100 * 5000, "{copied}");
    }

    #[test]
    fn connections_of_one_thread_read_into_one_buffer() {
        let (mut one, mut other) = (FrameCodec::new(MAX_FRAME), FrameCodec::new(MAX_FRAME));
        let stream = encode(&[frame(1, b"first")]);
        let (mut buffer, mut second) = (BytesMut::new(), BytesMut::new());
        one.prepare_read(&mut buffer);
        assert_eq!(buffer.capacity(), FrameCodec::READ_BUFFER);
        let lent = buffer.as_ptr()..buffer.as_ptr().wrapping_add(buffer.capacity());
        buffer.put_slice(&stream);
        let first = one.decode(&mut buffer).unwrap().unwrap();
        one.give_back(&mut buffer);
        assert_eq!(buffer.capacity(), 0);
        other.prepare_read(&mut second);
        assert!(lent.contains(&second.as_ptr()));
        second.put_slice(&stream[..5]);
        other.give_back(&mut second);
        assert_eq!(second, stream[..5], "what has come is kept");
        one.prepare_read(&mut buffer);
        assert!(!lent.contains(&buffer.as_ptr()));
        assert_eq!(first, frame(1, b"first"));
    }

    #[test]
    fn long_payload_does_not_pin_the_read_buffer() {
        let stream = encode(&[frame(1, &[7; 20_000]), frame(3, b"next")]);
        let mut buffer = BytesMut::from(&stream[..]);
        let shared = buffer.as_ptr()..buffer.as_ptr().wrapping_add(stream.len());
        let mut codec = FrameCodec::new(MAX_FRAME);
        let payload = codec.decode(&mut buffer).unwrap().unwrap().payload;
        assert_eq!(payload.len(), 20_000);
        assert!(!shared.contains(&payload.as_ptr()));
    }

    #[test]
    fn fragments_stay_slices_until_they_are_reassembled() {
        let fragment = Frame {
            flags: Flags::MORE,
            ..frame(1, &[7; 20_000])
        };
        let stream = encode(&[fragment, frame(3, b"next")]);
        let mut buffer = BytesMut::from(&stream[..]);
        let shared = buffer.as_ptr()..buffer.as_ptr().wrapping_add(stream.len());
        let payload = FrameCodec::new(MAX_FRAME)
            .decode(&mut buffer)
            .unwrap()
            .unwrap()
            .payload;
        assert!(shared.contains(&payload.as_ptr()));
    }

    #[test]
    fn buffer_that_someone_enlarged_is_shared_again() {
        let stream = encode(&[frame(1, &[7; 20_000]), frame(3, b"next")]);
        let mut codec = FrameCodec::new(MAX_FRAME);
        let mut buffer = BytesMut::from(&stream[..100]);
        assert_eq!(codec.decode(&mut buffer), Ok(None));
        codec.prepare_read(&mut buffer);
        buffer.reserve(64 * 1024);
        buffer.put_slice(&stream[100..]);
        assert_eq!(codec.decode(&mut buffer), Ok(Some(frame(1, &[7; 20_000]))));
        assert_eq!(codec.decode(&mut buffer), Ok(Some(frame(3, b"next"))));
    }

    #[test]
    fn frame_above_the_limit_is_refused_by_its_length_alone() {
        let mut codec = FrameCodec::new(65_536);
        let error = codec
            .decode(&mut BytesMut::from(&b"\0\x01\0\x01"[..]))
            .unwrap_err();
        assert_eq!(
            error,
            CodecError::TooLong {
                len: 65_537,
                max: 65_536
            }
        );
        assert_eq!(error.to_string(), "frame of 65537 bytes exceeds limit of 65536");
        let mut codec = FrameCodec::new(65_537);
        assert_eq!(codec.decode(&mut BytesMut::from(&b"\0\x01\0\x01"[..])), Ok(None));
    }

    #[test]
    fn frame_at_the_limit_is_read() {
        let whole = frame(1, &[7; 100]);
        let stream = encode(slice::from_ref(&whole));
        let mut codec = FrameCodec::new(stream.len() - 4);
        assert_eq!(read(&mut codec, &stream, usize::MAX), Ok(vec![whole]));
    }

    #[test]
    fn a_greeting_of_another_protocol_is_named() {
        let error = FrameCodec::new(MAX_FRAME)
            .decode(&mut BytesMut::from(&b"<html>\n<body>"[..]))
            .unwrap_err();
        assert!(matches!(error, CodecError::Foreign(_)));
        assert_eq!(
            error.to_string(),
            "peer speaks HTML instead of this protocol: \"<html>\""
        );
    }

    #[test]
    fn first_bytes_that_nobody_knows_are_no_frame() {
        let error = FrameCodec::new(MAX_FRAME)
            .decode(&mut BytesMut::from(&b"\xa5\xa5\xa5\xa5\xa5 and more"[..]))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "first bytes a5a5a5a5 are not a frame: the peer speaks another protocol, or the stream is damaged"
        );
    }

    #[test]
    fn after_the_first_frame_nothing_is_foreign() {
        let mut stream = encode(&[frame(1, b"first")]);
        stream.extend(b"GET / HTTP/1.1");
        let error = read(&mut FrameCodec::new(MAX_FRAME), &stream, usize::MAX).unwrap_err();
        assert_eq!(
            error,
            CodecError::TooLong {
                len: 0x4745_5420,
                max: MAX_FRAME
            }
        );
    }

    #[test]
    fn damaged_frame_fails_with_its_fault() {
        let error = FrameCodec::new(MAX_FRAME)
            .decode(&mut BytesMut::from(&b"\0\0\0\x01\x08"[..]))
            .unwrap_err();
        assert_eq!(error, CodecError::Frame(FrameError::Truncated { len: 1 }));
        assert_eq!(
            error.to_string(),
            "invalid frame: value reaches past the end of 1 bytes"
        );
    }

    #[test]
    fn stream_that_ends_within_a_frame_is_truncated() {
        let mut codec = FrameCodec::new(MAX_FRAME);
        assert_eq!(codec.decode_eof(&mut BytesMut::new()), Ok(None));
        let mut buffer = BytesMut::from(&b"\0\0\0\x02\x08"[..]);
        assert_eq!(
            codec.decode_eof(&mut buffer),
            Err(CodecError::Truncated { len: 5 })
        );
    }

    proptest! {
        #[test]
        fn any_cut_of_the_stream_gives_the_same_frames(
            lens in vec(prop_oneof![4 => 0_usize..200, 1 => 0_usize..140_000], 1..6),
            max in 1_usize..100_000,
        ) {
            let frames: Vec<Frame> =
                lens.iter().enumerate().map(|(id, &len)| frame(id as u64, &vec![id as u8; len])).collect();
            prop_assert_eq!(read(&mut FrameCodec::new(MAX_FRAME), &encode(&frames), max), Ok(frames));
        }

        #[test]
        fn any_bytes_are_frames_or_an_error(bytes in vec(any::<u8>(), 0..300), max in 1_usize..50) {
            drop(read(&mut FrameCodec::new(MAX_FRAME), &bytes, max));
            let mut framed = vec![0, 0, 0, bytes.len() as u8];
            framed.extend(bytes);
            drop(read(&mut FrameCodec::new(MAX_FRAME), &framed, max));
        }
    }
}
