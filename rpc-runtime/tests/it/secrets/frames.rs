//! Frames, as those see them who speak the protocol by hand: `Debug` and errors show lengths, and no bytes of users.

use bytes::BytesMut;
use rpc_runtime::{
    Bytes, Code, Metadata, Status,
    codec::{Decoder, Encoder, Flags, Frame, FrameCodec, Kind},
};
use test_support::Logged;

use super::{CANARY, Shown, hello_with};

#[test]
fn no_secret_of_a_frame_is_shown() {
    let (logged, shown) = (Logged::here(), Shown::default());
    let secret: Metadata = [("x-secret", CANARY)].into_iter().collect();
    let status = Status::new(Code::DataLoss, "a text for the caller")
        .with_details_bytes(Bytes::from(CANARY))
        .with_metadata(secret.clone());
    let row = [&[CANARY.len() as u8], CANARY.as_bytes()].concat().repeat(3);
    for frame in [
        Frame::new(Kind::Hello, 0).with_payload(hello_with("authorization", CANARY)),
        Frame::new(Kind::Call, 1)
            .with_procedure(7)
            .with_metadata(secret)
            .with_payload(CANARY),
        Frame::new(Kind::Call, 1)
            .with_flags(Flags::MORE)
            .with_length(1000)
            .with_payload(CANARY),
        Frame::new(Kind::Data, 1).with_payload(CANARY),
        Frame::new(Kind::Send, 3)
            .with_flags(Flags::PACKED)
            .with_payload(row),
        Frame::new(Kind::Reply, 1)
            .with_status(&status)
            .with_payload(CANARY),
        Frame::new(Kind::Goaway, 0).with_payload(CANARY),
        Frame::new(Kind::Other(77), 0).with_payload(CANARY),
    ] {
        let mut bytes = BytesMut::new();
        let mut codec = FrameCodec::new(144 * 1024);
        codec.encode(frame.clone(), &mut bytes).unwrap();
        let canaries = bytes
            .windows(CANARY.len())
            .filter(|part| part == &CANARY.as_bytes());
        assert!(canaries.count() > 0, "{frame:?}");
        shown.debug("a frame", &frame);

        // All of it, and all but its end.
        let mut cut = BytesMut::from(&bytes[..bytes.len() - 1]);
        let read = codec.decode(&mut bytes).unwrap().unwrap();
        assert_eq!(read, frame);
        shown.debug("a frame that was read", &read);
        shown.debug("its metadata", read.metadata());
        let mut codec = FrameCodec::new(144 * 1024);
        assert_eq!(codec.decode(&mut cut), Ok(None));
        shown.debug("a codec within a frame", &codec);
        shown.error("the end within a frame", &codec.decode_eof(&mut cut).unwrap_err());
    }
    for bytes in [
        [&[0, 0, 0, 30, 0xff, 0xff], CANARY.as_bytes(), &[0xff; 20]].concat(),
        [&[0, 0xff, 0xff, 0xff], CANARY.as_bytes()].concat(),
        [&[0xff; 4], CANARY.as_bytes()].concat(),
    ] {
        let mut codec = FrameCodec::new(144 * 1024);
        let error = codec.decode(&mut BytesMut::from(&bytes[..])).unwrap_err();
        shown.error("a frame that cannot be read", &error);
        shown.debug("its codec", &codec);
    }
    shown.check(&logged);
}
