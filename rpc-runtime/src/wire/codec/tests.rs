//! The codec against whole, cut and hostile streams of bytes.

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
fn encoded_frames_equal_written_frames_and_decode_unchanged() {
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
fn an_enlarged_buffer_is_shared_again() {
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
    assert_eq!(
        error.to_string(),
        "frame of 65537 bytes exceeds limit of 65536: the reader's Limits::max_frame"
    );
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
fn unknown_first_bytes_are_no_frame() {
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

#[test]
fn the_length_of_a_frame_that_was_only_announced_does_not_wrap_around() {
    let rest = FrameCodec::new(MAX_FRAME).rest(&BytesMut::from(&[0xff; PREFIX_LEN][..]));
    let rest = rest.unwrap();
    assert_eq!((rest.len, rest.here), (4 + u64::from(u32::MAX), 4));
}
