use bytes::{Buf as _, Bytes};

use super::hex;
use crate::{
    Metadata,
    api::trace_context::TraceContext,
    wire::frame::{Flags, Frame, FrameError, Header, Kind, MAX_TEXT, Output, Parts, cut},
};

#[test]
fn malformed_frames_fail_with_their_fault() {
    /// Pairs the name of a file with the error that its bytes must give.
    macro_rules! cases {
        ($($name:literal => $error:expr,)*) => {
            [$(($name, include_str!(concat!("../testdata/malformed/", $name, ".hex")), $error),)*]
        };
    }
    use FrameError::{FieldNumber, Group, Metadata, MetadataKey, Nesting, Truncated, Varint, WireType};
    let cases = cases! {
        "field_number_above_29_bits" => FieldNumber { key: 1 << 32 },
        "field_number_zero" => FieldNumber { key: 0 },
        "group_end_without_start" => Group { field: 18 },
        "group_ends_as_another" => Group { field: 17 },
        "group_without_end" => Truncated { len: 4 },
        "groups_nested_too_deeply" => Nesting { max: 32 },
        "kind_as_bytes" => WireType { field: 1, wire_type: 2 },
        "metadata_entry_cut_short" => Truncated { len: 2 },
        "metadata_key_not_utf8" => MetadataKey { entry: 1 },
        "metadata_of_65_entries" => Metadata { entries: 65, len: 0 },
        "payload_as_fixed32" => WireType { field: 15, wire_type: 5 },
        "payload_cut_short" => Truncated { len: 4 },
        "payload_length_without_end" => Truncated { len: 11 },
        "procedure_as_varint" => WireType { field: 4, wire_type: 0 },
        "procedure_cut_short" => Truncated { len: 4 },
        "trace_as_varint" => WireType { field: 16, wire_type: 0 },
        "trace_cut_short" => Truncated { len: 2 },
        "unknown_fixed32_cut_short" => Truncated { len: 4 },
        "varint_above_64_bits" => Varint,
        "varint_cut_short" => Truncated { len: 2 },
        "varint_of_eleven_bytes" => Varint,
        "wire_type_seven" => WireType { field: 16, wire_type: 7 },
        "wire_type_six" => WireType { field: 1, wire_type: 6 },
    };
    for (name, dump, error) in cases {
        assert_eq!(Frame::decode(hex(dump)), Err(error), "{name}");
    }
}

#[test]
fn metadata_above_its_length_is_refused() {
    let metadata: Metadata = [("k", vec![0; Metadata::MAX_LEN])].into_iter().collect();
    let mut out = Output::new();
    let header = Header {
        metadata: Some(&metadata),
        ..Header::new(Kind::Call, 1)
    };
    header.encode_bytes(Bytes::new(), &mut out);
    let body = bytes::Buf::copy_to_bytes(&mut out, header.frame_len(0) + 4).slice(4..);
    let error = Frame::decode(body).unwrap_err();
    assert_eq!(
        error,
        FrameError::Metadata {
            entries: 1,
            len: Metadata::MAX_LEN + 1
        }
    );
    assert_eq!(
        error.to_string(),
        "metadata of 1 entries and 8193 bytes exceeds 64 entries or 8192 bytes"
    );
}

#[test]
fn metadata_at_its_limits_is_accepted() {
    let metadata: Metadata = (0..64)
        .map(|_| ("k", vec![0; Metadata::MAX_LEN / Metadata::MAX_ENTRIES - 1]))
        .collect();
    let frame = Frame {
        extra: Parts {
            metadata,
            ..Parts::default()
        }
        .into(),
        ..Frame::default()
    };
    assert_eq!(Frame::decode(super::encode(&frame).slice(4..)).unwrap(), frame);
}

#[test]
fn empty_frame_has_a_critical_unknown_kind() {
    let frame = Frame::decode(Bytes::new()).unwrap();
    assert_eq!(frame.kind, Kind::Other(0));
    assert!(frame.kind.is_critical());
}

#[test]
fn unknown_kinds_from_64_on_may_be_ignored() {
    assert!(Kind::from(63).is_critical());
    assert!(!Frame::decode(hex("08 40")).unwrap().kind.is_critical());
}

#[test]
fn the_last_of_repeated_fields_wins() {
    let frame = Frame::decode(hex("08 01  7a 01 61  08 02  7a 02 62 63")).unwrap();
    assert_eq!((frame.kind, &frame.payload[..]), (Kind::Call, &b"bc"[..]));
}

#[test]
fn unknown_fields_are_skipped() {
    // Field 20 as bytes, 21 as varint, 17 as fixed64, 18 as fixed32, 19 as a group with a group in it.
    let unknown = "a2 01 01 ff  a8 01 05  89 01 01 02 03 04 05 06 07 08  95 01 01 02 03 04
        9b 01  a3 01  08 07  a4 01  9c 01";
    let frame = Frame::decode(hex(&format!("{unknown} 08 02 {unknown} 10 01"))).unwrap();
    assert_eq!(
        frame,
        Frame {
            kind: Kind::Call,
            id: 1,
            ..Frame::default()
        }
    );
}

#[test]
fn entries_with_a_key_of_the_runtime_are_dropped_and_count_all_the_same() {
    // "rpc-depth": 1 byte, "a": "b", "RPC-x": 1 byte, "rpc": "c".
    let entries = "42 0e  0a 09 72 70 63 2d 64 65 70 74 68  12 01 01  42 06  0a 01 61  12 01 62
        42 0a  0a 05 52 50 43 2d 78  12 01 01  42 08  0a 03 72 70 63  12 01 63";
    let frame = Frame::decode(hex(entries)).unwrap();
    let kept: Metadata = [("a", "b"), ("rpc", "c")].into_iter().collect();
    assert_eq!(frame.extra.metadata, kept);
    let many = "42 06  0a 04 72 70 63 2d ".repeat(Metadata::MAX_ENTRIES + 1);
    assert!(matches!(
        Frame::decode(hex(&many)),
        Err(FrameError::Metadata { entries: 65, .. })
    ));
}

#[test]
fn unknown_fields_of_an_entry_are_skipped() {
    let frame = Frame::decode(hex("42 08  18 01  12 01 62  0a 01 61")).unwrap();
    assert_eq!(frame.extra.metadata, [("a", "b")].into_iter().collect());
}

#[test]
fn unknown_flags_are_kept() {
    let flags = Frame::decode(hex("18 22")).unwrap().flags;
    assert!(flags.contains(Flags::END));
    assert!(!flags.contains(Flags::MORE));
    assert_eq!(format!("{flags:?}"), "END|0x20");
}

#[test]
fn payload_is_a_slice_of_the_frame_and_details_are_copied() {
    let body = hex("6a 02 01 02  7a 03 04 05 06");
    let frame = Frame::decode(body.clone()).unwrap();
    assert_eq!(frame.extra.details, body[2..4]);
    assert!(!body.as_ptr_range().contains(&frame.extra.details.as_ptr()));
    assert_eq!(frame.payload.as_ptr(), body[6..].as_ptr());
}

#[test]
fn status_text_is_never_a_reason_to_fail() {
    let message = |bytes: &[u8]| {
        let mut body = vec![0x3a, bytes.len() as u8 & 0x7f | 0x80, (bytes.len() >> 7) as u8];
        body.extend_from_slice(bytes);
        Frame::decode(body.into()).unwrap().extra.take().message
    };
    assert_eq!(message(b"a\xffb"), "a\u{fffd}b");
    assert_eq!(message(&[b'a'; MAX_TEXT]), "a".repeat(MAX_TEXT));
    // The replacement character is longer than the byte that it replaces.
    let replaced = "\u{fffd}".repeat(170);
    assert_eq!(message(&[0xff; 1500]), format!("{replaced}\u{2026}{replaced}"));
}

#[test]
fn status_text_that_is_too_long_keeps_both_its_ends() {
    let received = |text: &str| {
        let mut body = vec![0x3a];
        prost::encode_length_delimiter(text.len(), &mut body).unwrap();
        body.extend_from_slice(text.as_bytes());
        Frame::decode(body.into()).unwrap().extra.take().message
    };
    let sent = |text: &str| {
        let mut out = Output::new();
        let header = Header {
            message: text,
            ..Header::new(Kind::Reply, 1)
        };
        header.encode_bytes(Bytes::new(), &mut out);
        let frame = out.copy_to_bytes(out.len()).slice(4..);
        assert_eq!(frame.len(), header.frame_len(0));
        Frame::decode(frame).unwrap().extra.take().message
    };
    let both = |text: &str| {
        let cut = cut(text, MAX_TEXT).into_owned();
        assert_eq!((received(text), sent(text)), (cut.clone(), cut.clone()));
        cut
    };
    let whole = "a".repeat(MAX_TEXT);
    assert_eq!(both(&whole), whole);
    let path = "Tree.left: ".repeat(100) + "recursion limit reached";
    let cut = both(&path);
    assert!(cut.starts_with("Tree.left: Tree.left") && cut.ends_with(": recursion limit reached"));
    assert_eq!((cut.len(), cut.matches('\u{2026}').count()), (MAX_TEXT, 1));
    // Characters of three bytes, at every position relative to the cuts: none is torn.
    for len in [400, 700, 5_000] {
        for before in ["", "a", "aa"] {
            for after in ["", "b", "bb"] {
                let cut = both(&format!("{before}{}{after}", "\u{20ac}".repeat(len)));
                assert!(cut.len() <= MAX_TEXT && cut.len() > MAX_TEXT - 6, "{}", cut.len());
                assert!(cut.starts_with(before) && cut.ends_with(after) && !cut.contains('\u{fffd}'));
            }
        }
    }
}

#[test]
fn debug_hides_user_data() {
    let frame = Frame {
        kind: Kind::Call,
        id: 7,
        flags: Flags::END | Flags::MORE,
        procedure: 0xab,
        extra: Parts {
            metadata: [("authorization", "secret")].into_iter().collect(),
            details: Bytes::from_static(b"secret"),
            trace: TraceContext::parse("", "", "user=secret"),
            ..Parts::default()
        }
        .into(),
        payload: Bytes::from_static(b"secret"),
        ..Frame::default()
    };
    assert_eq!(
        format!("{frame:?}"),
        "Frame { kind: Call, id: 7, flags: MORE|END, procedure: 0x00000000000000ab, \
         metadata: {\"authorization\": [6 bytes]}, \
         trace: TraceContext { traceparent: \"\", tracestate: [0 bytes], baggage: [11 bytes] }, details: [6 bytes], payload: [6 bytes] }"
    );
}
