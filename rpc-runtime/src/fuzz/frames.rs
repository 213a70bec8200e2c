//! Frames: fuzz targets that decode and encode frames.

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;
use tokio_util::codec::Decoder;

use super::dice::Dice;
use crate::{
    Compression, Metadata,
    api::trace_context::TraceContext,
    wire::{
        codec::FrameCodec,
        frame::{
            Encoded, Flags, Frame, Header, Kind, MAX_TEXT, Output, cut,
            row::{Row, longest, packed_len},
        },
    },
};

/// Cuts a stream that comes in pieces into frames.
///
/// The frames are the same as if the stream came at once, and no buffer is longer than the received bytes justify.
pub fn frame(data: &[u8]) {
    let mut dice = Dice::new(data);
    let max_frame = if dice.bool() { 144 << 10 } else { 64 << 10 };
    let piece = usize::from(dice.u8()).pow(2) + 1;
    let stream = dice.rest();
    let whole = read(stream, usize::MAX, max_frame);
    let torn = read(stream, piece, max_frame);
    // If the bytes are not a frame, only a longer piece may show which protocol they are: the error may differ.
    assert_eq!((&torn.0, torn.1.is_some()), (&whole.0, whole.1.is_some()));
    for frame in &whole.0 {
        encode_again(frame);
    }
}

/// Returns the frames of a stream, and its error.
fn read(mut stream: &[u8], piece: usize, max_frame: usize) -> (Vec<Frame>, Option<String>) {
    let mut codec = FrameCodec::new(max_frame);
    let mut buffer = BytesMut::new();
    let mut frames = Vec::new();
    let all = stream.len();
    loop {
        loop {
            match codec.decode(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error.to_string())),
            }
        }
        if stream.is_empty() {
            return (frames, None);
        }
        codec.prepare_read(&mut buffer);
        let received = all - stream.len();
        assert!(buffer.capacity() <= (2 * received).max(FrameCodec::READ_BUFFER));
        let room = buffer.capacity() - buffer.len();
        let len = room.min(piece).min(stream.len());
        buffer.extend_from_slice(&stream[..len]);
        stream = &stream[len..];
    }
}

/// Checks that a frame that was read is the same after it is encoded and read again.
fn encode_again(frame: &Frame) {
    let mut out = Output::new();
    frame.header().encode_bytes(frame.payload.clone(), &mut out);
    let mut bytes = out.copy_to_bytes(out.len());
    let len = bytes.get_u32() as usize;
    assert_eq!(len, bytes.len());
    assert_eq!(frame.header().frame_len(frame.payload.len()), len);
    assert_eq!(Frame::decode(bytes).as_ref(), Ok(frame));
}

/// A frame as prost reads it.
#[derive(Clone, PartialEq, Message)]
struct Envelope {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(uint64, tag = "2")]
    id: u64,
    #[prost(uint32, tag = "3")]
    flags: u32,
    #[prost(fixed64, tag = "4")]
    procedure: u64,
    #[prost(uint64, tag = "5")]
    timeout_us: u64,
    #[prost(uint32, tag = "6")]
    code: u32,
    // Bytes, because a text that is not UTF-8 is not an error here.
    #[prost(bytes = "bytes", tag = "7")]
    message: Bytes,
    #[prost(message, repeated, tag = "8")]
    metadata: Vec<EnvelopeEntry>,
    #[prost(uint64, tag = "9")]
    length: u64,
    #[prost(uint32, tag = "10")]
    encoding: u32,
    #[prost(uint64, tag = "11")]
    queue_us: u64,
    #[prost(uint64, tag = "12")]
    run_us: u64,
    #[prost(bytes = "bytes", tag = "13")]
    details: Bytes,
    #[prost(uint32, tag = "14")]
    depth: u32,
    #[prost(bytes = "bytes", tag = "15")]
    payload: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct EnvelopeEntry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

/// Decodes one frame without its length prefix; if both we and prost accept it, we read the same.
pub fn envelope(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let Ok(ours) = Frame::decode(bytes.clone()) else {
        return;
    };
    encode_again(&ours);
    let Ok(theirs) = Envelope::decode(bytes) else {
        return;
    };
    let header = ours.header();
    assert_eq!(header.kind, Kind::from(theirs.kind));
    assert_eq!(header.id, theirs.id);
    assert_eq!(header.flags, Flags::from_bits(theirs.flags));
    assert_eq!(header.procedure, theirs.procedure);
    assert_eq!(header.timeout_us, theirs.timeout_us);
    assert_eq!(header.code, theirs.code);
    assert_eq!(header.length, theirs.length);
    assert_eq!(header.encoding, theirs.encoding);
    assert_eq!(header.queue_us, theirs.queue_us);
    assert_eq!(header.run_us, theirs.run_us);
    assert_eq!(header.details, &theirs.details[..]);
    assert_eq!(header.depth, theirs.depth);
    assert_eq!(ours.payload, theirs.payload);
    if let Ok(text) = std::str::from_utf8(&theirs.message) {
        assert_eq!(header.message, cut(text, MAX_TEXT));
    }
    let mut ours = header.metadata.into_iter().flat_map(Metadata::iter);
    let theirs = theirs
        .metadata
        .iter()
        .filter(|entry| !Metadata::is_reserved(&entry.key));
    // Upper case becomes lower case.
    let mut theirs = theirs.map(|entry| (entry.key.to_ascii_lowercase(), &entry.value));
    let is_same =
        |(key, value): (&str, &Bytes)| theirs.next().is_some_and(|next| next == (key.to_owned(), value));
    assert!(ours.all(is_same), "the entries of metadata differ");
    assert!(theirs.next().is_none(), "entries of metadata are missing");
}

/// Encodes a frame of drawn values: it has the announced length, and is read back unchanged, whole and in pieces.
pub fn agree(data: &[u8]) {
    let mut dice = Dice::new(data);
    let mut metadata = Metadata::new();
    for _ in 0..dice.u8() % 8 {
        let len = usize::from(dice.u8());
        let key: String = dice
            .bytes(len % 20)
            .iter()
            .map(|byte| char::from(b'a' + byte % 26))
            .collect();
        let value = Bytes::copy_from_slice(dice.bytes(len));
        metadata.append(key, value);
    }
    if !metadata.fits() {
        return;
    }
    let text = String::from_utf8_lossy(dice.bytes(40)).repeat(usize::from(dice.u8() % 40));
    let details = dice.bytes(20);
    let mut header = Header {
        kind: Kind::from(dice.number() as u32),
        id: dice.number(),
        flags: Flags::from_bits(dice.number() as u32),
        procedure: dice.number(),
        timeout_us: dice.number(),
        code: dice.number() as u32,
        message: &text,
        metadata: Some(&metadata),
        length: dice.number(),
        encoding: dice.number() as u32,
        queue_us: dice.number(),
        run_us: dice.number(),
        details,
        depth: dice.number() as u32,
        trace: None,
    };
    let repeat = usize::from(dice.u8() % 32);
    let parent = if dice.bool() { PARENT } else { "" };
    let baggage = format!("a={}", String::from_utf8_lossy(dice.bytes(9)));
    let trace = TraceContext::parse(parent, "b=1", &baggage);
    header.trace = trace.as_ref();
    let payload = Bytes::from(dice.rest().repeat(repeat));
    let mut out = Output::new();
    header.encode_bytes(payload.clone(), &mut out);
    let bytes = out.copy_to_bytes(out.len());
    assert_eq!(bytes.len(), 4 + header.frame_len(payload.len()));
    let (frames, error) = read(&bytes, usize::MAX, (16 << 20) - 1);
    assert_eq!(error, None);
    assert_eq!(read(&bytes, 7, (16 << 20) - 1).0, frames);
    let [frame] = &frames[..] else {
        panic!("one frame became {}", frames.len());
    };
    assert_eq!(frame.payload, payload);
    let read = frame.header();
    assert_eq!(
        (read.kind, read.id, read.flags),
        (header.kind, header.id, header.flags)
    );
    assert_eq!(
        (read.procedure, read.timeout_us),
        (header.procedure, header.timeout_us)
    );
    assert_eq!(
        (read.code, read.length, read.encoding),
        (header.code, header.length, header.encoding)
    );
    assert_eq!((read.queue_us, read.run_us), (header.queue_us, header.run_us));
    assert_eq!((read.depth, read.trace), (header.depth, header.trace));
    assert_eq!(read.details, details);
    assert_eq!(read.message, cut(&text, MAX_TEXT));
    assert!(
        read.metadata
            .into_iter()
            .flat_map(Metadata::iter)
            .eq(metadata.iter())
    );
}

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Reads bytes as a row: its messages and their lengths are all of it, or it is refused.
fn read_row(bytes: &Bytes) {
    let (mut row, mut len, mut most) = (Row::new(bytes.clone()), 0, 0);
    let (mut count, counted) = (0, row.count());
    let last = loop {
        match row.read(<[u8]>::len) {
            Ok(Some(message)) => {
                count += 1;
                len += packed_len(message);
                most = most.max(message);
            }
            last => break last,
        }
    };
    match longest(bytes) {
        // A length may take more bytes than it needs.
        Ok(longest) => assert!(last == Ok(None) && longest == most && len <= bytes.len()),
        Err(bad) => assert!(last == Err(bad) || bytes.is_empty()),
    }
    assert_eq!(
        counted,
        longest(bytes).map(|_| count),
        "how many messages the row has"
    );
}

/// Decompresses and parses a payload.
///
/// A decompressed payload has exactly the announced length, compressed bytes decompress to the original, and prost
/// never panics on the result.
pub fn payload(data: &[u8]) {
    let mut dice = Dice::new(data);
    let len = dice.number() % (1 << 20);
    let encoding = u32::from(dice.u8() % 4);
    let bytes = Bytes::copy_from_slice(dice.rest());
    read_row(&bytes);
    for compression in Compression::ALL {
        if let Ok(decompressed) = compression.decompress(&bytes, len as usize) {
            assert_eq!(decompressed.len(), len as usize);
        }
        if let Some(compressed) = compression.compress(&bytes) {
            assert_eq!(
                compression.decompress(&compressed, bytes.len()).ok().as_deref(),
                Some(&bytes[..])
            );
        }
    }
    if let Ok(message) = Encoded::new(bytes.clone(), encoding, len).decompress() {
        assert!(encoding == 0 || message.len() as u64 == len);
    }
    // Messages that contain themselves, messages of any shape, times at their limits.
    drop(prost_types::Value::decode(bytes.clone()));
    drop(prost_types::FileDescriptorSet::decode(bytes.clone()));
    drop(Envelope::decode(bytes.clone()));
    if let Ok(mut time) = prost_types::Timestamp::decode(bytes.clone()) {
        time.normalize();
        drop(std::time::SystemTime::try_from(time));
    }
    if let Ok(mut time) = prost_types::Duration::decode(bytes) {
        time.normalize();
        drop(std::time::Duration::try_from(time));
    }
}
