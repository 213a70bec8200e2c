use bytes::{Buf, Bytes};
use prost::Message;

use super::{encode, hex};
use crate::{
    Metadata,
    api::trace_context::TraceContext,
    wire::frame::{
        Flags, Frame, Header, Kind, Output, Parts,
        control::{DropReason, Dropped, Entry, Goaway, Hello, Pong, Progress, Reason},
        row::Row,
    },
};

/// The text of a golden frame's file.
macro_rules! golden {
    ($name:literal) => {
        include_str!(concat!("../testdata/", $name, ".hex"))
    };
}

const FETCH: u64 = 0x9e04_8e27_5189_a000;
const UPDATE: u64 = 0xdfb2_ceb7_792d_bc14;

/// Checks that `frame` encodes to the bytes of `dump`, and that they decode to `frame`.
#[track_caller]
fn check(dump: &str, frame: Frame) {
    let bytes = hex(dump);
    assert_eq!(encode(&frame), bytes, "encoded");
    assert_eq!(
        frame.header().frame_len(frame.payload.len()),
        bytes.len() - 4,
        "frame_len"
    );
    assert_eq!(Frame::decode(bytes.slice(4..)).unwrap(), frame, "decoded");
}

fn frame(kind: Kind, id: u64) -> Frame {
    Frame {
        kind,
        id,
        ..Frame::default()
    }
}

fn hello(software: &str, instance_id: &'static [u8], metadata: &Metadata) -> Hello {
    Hello {
        magic: Hello::MAGIC,
        version_min: 1,
        version_max: 1,
        max_frame: 144 * 1024,
        max_message: 4 << 20,
        max_calls: 1024,
        call_bytes: 16 << 20,
        send_bytes: 4 << 20,
        stream_window: 64 * 1024,
        encodings: Vec::new(),
        features: 0,
        instance_id: Bytes::from_static(instance_id),
        software: software.to_owned(),
        metadata: Entry::list(metadata),
        ping_floor_ms: 10_000,
        challenge: Bytes::new(),
    }
}

#[test]
fn hello_is_these_bytes() {
    let metadata: Metadata = [("zone", "b")].into_iter().collect();
    let client = hello("demo/1", &[1, 2, 3, 4], &metadata);
    let server = hello("kv/1", &[5, 6, 7, 8], &Metadata::new());
    for (dump, hello) in [
        (golden!("hello_client"), client),
        (golden!("hello_server"), server),
    ] {
        let payload = Bytes::from(hello.encode_to_vec());
        check(
            dump,
            Frame {
                payload: payload.clone(),
                ..frame(Kind::Hello, 0)
            },
        );
        assert_eq!(Hello::decode(payload).unwrap(), hello);
    }
}

#[test]
fn call_is_these_bytes() {
    check(
        golden!("call"),
        Frame {
            flags: Flags::END,
            procedure: FETCH,
            timeout_us: 30_000_000,
            extra: Parts {
                placed: None,
                metadata: [("trace", vec![0x2a])].into_iter().collect(),
                ..Parts::default()
            }
            .into(),
            payload: Bytes::from_static(b"\x0a\x03dog"),
            ..frame(Kind::Call, 1)
        },
    );
}

#[test]
fn call_inside_of_a_call_is_these_bytes() {
    check(
        golden!("call_nested"),
        Frame {
            flags: Flags::END,
            procedure: FETCH,
            depth: 1,
            payload: Bytes::from_static(b"\x0a\x03dog"),
            ..frame(Kind::Call, 9)
        },
    );
}

#[test]
fn call_of_a_trace_is_these_bytes() {
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    check(
        golden!("call_traced"),
        Frame {
            flags: Flags::END,
            procedure: FETCH,
            extra: Parts {
                trace: TraceContext::parse(parent, "rojo=00f0", "tenant=acme"),
                ..Parts::default()
            }
            .into(),
            payload: Bytes::from_static(b"\x0a\x03dog"),
            ..frame(Kind::Call, 11)
        },
    );
}

#[test]
fn fragments_are_these_bytes() {
    check(
        golden!("call_first_fragment"),
        Frame {
            flags: Flags::MORE | Flags::END,
            procedure: UPDATE,
            length: 12,
            payload: Bytes::from_static(b"\x0a\x03dog\x12\x05b"),
            ..frame(Kind::Call, 3)
        },
    );
    check(
        golden!("data_last_fragment"),
        Frame {
            payload: Bytes::from_static(b"rown"),
            ..frame(Kind::Data, 3)
        },
    );
}

#[test]
fn send_is_these_bytes() {
    check(
        golden!("send"),
        Frame {
            flags: Flags::END,
            procedure: UPDATE,
            payload: Bytes::from_static(b"\x0a\x03dog\x12\x05brown"),
            ..frame(Kind::Send, 5)
        },
    );
}

#[test]
fn compressed_message_is_these_bytes() {
    check(
        golden!("send_compressed"),
        Frame {
            flags: Flags::END,
            procedure: UPDATE,
            length: 47,
            encoding: 2,
            payload: Bytes::from_static(b"\x8f\x0a\x03dog\x12\x28o\x01\x00\x0f\x50ooooo"),
            ..frame(Kind::Send, 7)
        },
    );
}

#[test]
fn reply_is_these_bytes() {
    check(
        golden!("reply_ok"),
        Frame {
            queue_us: 40,
            run_us: 300,
            payload: Bytes::from_static(b"\x0a\x05brown"),
            ..frame(Kind::Reply, 1)
        },
    );
    check(
        golden!("reply_error"),
        Frame {
            flags: Flags::NOT_EXECUTED,
            code: 8,
            extra: Parts {
                placed: None,
                message: "too many calls".to_owned(),
                metadata: [("retry", "1s")].into_iter().collect(),
                details: Bytes::from_static(b"\x08\x01"),
                trace: None,
            }
            .into(),
            ..frame(Kind::Reply, 1)
        },
    );
}

#[test]
fn cancel_is_these_bytes() {
    check(golden!("cancel"), frame(Kind::Cancel, 1));
}

#[test]
fn credit_is_these_bytes() {
    check(
        golden!("credit"),
        Frame {
            length: 2 << 20,
            ..frame(Kind::Credit, 0)
        },
    );
}

#[test]
fn a_stream_is_these_bytes() {
    check(
        golden!("call_of_a_stream"),
        Frame {
            procedure: 0x532783255ede3be5,
            ..frame(Kind::Call, 5)
        },
    );
    check(
        golden!("data_message"),
        Frame {
            payload: Bytes::from_static(b"\x0a\x03dog\x12\x05brown"),
            ..frame(Kind::Data, 5)
        },
    );
    check(
        golden!("data_end"),
        Frame {
            flags: Flags::END,
            ..frame(Kind::Data, 5)
        },
    );
    check(
        golden!("credit_of_a_stream"),
        Frame {
            length: 32768,
            ..frame(Kind::Credit, 5)
        },
    );
}

#[test]
fn a_packed_frame_is_these_bytes() {
    let row = b"\x0c\x0a\x03dog\x12\x05brown\x0a\x0a\x03cat\x12\x03red";
    let mut header = Header::new(Kind::Data, 5);
    header.flags = Flags::PACKED;
    let (head, head_len) = header.row_head(row.len());
    let bytes = hex(golden!("data_packed"));
    assert_eq!(bytes, [&head[..head_len], row].concat());
    let frame = Frame {
        flags: Flags::PACKED,
        payload: Bytes::from_static(row),
        ..frame(Kind::Data, 5)
    };
    assert_eq!(Frame::decode(bytes.slice(4..)), Ok(frame));
    let mut row = Row::new(Bytes::from_static(row));
    assert_eq!(
        row.take(),
        Ok(Some(Bytes::from_static(b"\x0a\x03dog\x12\x05brown")))
    );
    assert_eq!(
        row.take(),
        Ok(Some(Bytes::from_static(b"\x0a\x03cat\x12\x03red")))
    );
    assert!(row.is_empty());
}

#[test]
fn a_packed_send_is_these_bytes() {
    let row = b"\x0c\x0a\x03dog\x12\x05brown\x0a\x0a\x03cat\x12\x03red";
    let mut header = Header::new(Kind::Send, 9);
    header.flags = Flags::END | Flags::PACKED;
    header.procedure = UPDATE;
    let (head, head_len) = header.row_head(row.len());
    let bytes = hex(golden!("send_packed"));
    assert_eq!(bytes, [&head[..head_len], row].concat());
    let frame = Frame {
        flags: header.flags,
        procedure: UPDATE,
        payload: Bytes::from_static(row),
        ..frame(Kind::Send, 9)
    };
    assert_eq!(Frame::decode(bytes.slice(4..)), Ok(frame));
}

#[test]
fn ping_is_these_bytes() {
    let payload = Bytes::from_static(&[1, 2, 3, 4, 5, 6, 7, 8]);
    check(
        golden!("ping"),
        Frame {
            payload,
            ..frame(Kind::Ping, 0)
        },
    );
}

#[test]
fn pong_is_these_bytes() {
    let pong = Pong {
        ping: Bytes::from_static(&[1, 2, 3, 4, 5, 6, 7, 8]),
        progress: Some(Progress {
            last_id: 5,
            received: 3,
            handled: 1,
            failed: 1,
            expired: 0,
            dropped: vec![Dropped {
                reason: DropReason::UnknownProcedure.number(),
                count: 1,
            }],
        }),
    };
    check(
        golden!("pong"),
        Frame {
            payload: pong.encode_to_vec().into(),
            ..frame(Kind::Pong, 0)
        },
    );
}

#[test]
fn goaway_is_these_bytes() {
    let goaway = Goaway {
        reason: Reason::Drain.number(),
        last_id: (1 << 63) - 1,
        text: "deploy".to_owned(),
        drain_ms: 30_000,
        resume_in_ms: 5_000,
        account: None,
    };
    let last = Goaway {
        last_id: 7,
        resume_in_ms: 0,
        account: Some(Progress {
            last_id: 5,
            received: 3,
            handled: 2,
            dropped: vec![Dropped {
                reason: DropReason::Draining.number(),
                count: 1,
            }],
            ..Progress::default()
        }),
        ..goaway.clone()
    };
    for (dump, goaway) in [(golden!("goaway"), goaway), (golden!("goaway_last"), last)] {
        check(
            dump,
            Frame {
                payload: goaway.encode_to_vec().into(),
                ..frame(Kind::Goaway, 0)
            },
        );
    }
}

#[test]
fn message_is_encoded_in_place() {
    let pong = Pong {
        ping: Bytes::from_static(&[1, 2, 3, 4, 5, 6, 7, 8]),
        progress: None,
    };
    let mut in_place = Output::new();
    Header::new(Kind::Pong, 0).encode(&pong, pong.encoded_len(), &mut in_place);
    let mut encoded = Output::new();
    Header::new(Kind::Pong, 0).encode_bytes(pong.encode_to_vec().into(), &mut encoded);
    assert_eq!(in_place.chunk(), encoded.chunk());
}

#[test]
fn empty_message_is_a_frame_without_payload() {
    let mut out = Output::new();
    Header {
        flags: Flags::END,
        ..Header::new(Kind::Call, 1)
    }
    .encode(&(), 0, &mut out);
    assert_eq!(out.chunk(), hex("00 00 00 06  08 02  10 01  18 02"));
    assert_eq!(
        Frame::decode(hex("08 02  10 01  18 02")).unwrap().payload,
        Bytes::new()
    );
}

#[test]
fn document_shows_the_golden_bytes() {
    let document = include_str!("../../../../../docs/reference/wire.md");
    for dump in [
        golden!("hello_client"),
        golden!("hello_server"),
        golden!("call"),
        golden!("call_nested"),
        golden!("call_traced"),
        golden!("call_first_fragment"),
        golden!("data_last_fragment"),
        golden!("send"),
        golden!("send_packed"),
        golden!("send_compressed"),
        golden!("reply_ok"),
        golden!("reply_error"),
        golden!("cancel"),
        golden!("call_of_a_stream"),
        golden!("data_message"),
        golden!("data_packed"),
        golden!("data_end"),
        golden!("credit_of_a_stream"),
        golden!("credit"),
        golden!("ping"),
        golden!("pong"),
        golden!("goaway"),
        golden!("goaway_last"),
    ] {
        assert!(
            document.contains(dump),
            "docs/reference/wire.md lacks this frame:\n{dump}"
        );
    }
}
