use bytes::{Buf, Bytes};
use proptest::{collection::vec, prelude::*};
use prost::Message;

use super::encode;
use crate::{
    Metadata,
    api::trace_context::TraceContext,
    wire::frame::{Flags, Frame, Kind, Output, Parts, control::Entry},
};

/// `rpc.wire.v1.Frame` as prost reads and writes it.
#[derive(Clone, PartialEq, Message)]
struct WireFrame {
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
    #[prost(string, tag = "7")]
    message: String,
    #[prost(message, repeated, tag = "8")]
    metadata: Vec<Entry>,
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
    #[prost(message, optional, tag = "16")]
    trace: Option<WireTrace>,
}

#[derive(Clone, PartialEq, Message)]
struct WireTrace {
    #[prost(string, tag = "1")]
    parent: String,
    #[prost(string, tag = "2")]
    state: String,
    #[prost(string, tag = "3")]
    baggage: String,
}

impl From<TraceContext> for WireTrace {
    fn from(trace: TraceContext) -> Self {
        Self {
            parent: trace.traceparent().unwrap_or_default(),
            state: trace.tracestate().to_owned(),
            baggage: trace.baggage().to_owned(),
        }
    }
}

impl From<Frame> for WireFrame {
    fn from(mut frame: Frame) -> Self {
        let metadata = Entry::list(&frame.extra.metadata);
        let parts = frame.extra.take();
        Self {
            kind: frame.kind.number(),
            id: frame.id,
            flags: frame.flags.bits(),
            procedure: frame.procedure,
            timeout_us: frame.timeout_us,
            code: frame.code,
            metadata,
            length: frame.length,
            encoding: frame.encoding,
            queue_us: frame.queue_us,
            run_us: frame.run_us,
            depth: frame.depth,
            payload: frame.payload,
            message: parts.message,
            details: parts.details,
            trace: parts.trace.map(WireTrace::from),
        }
    }
}

/// Numbers of every encoded length, often zero.
fn number() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0_u32..=64).prop_map(|(number, shift)| number.checked_shr(shift).unwrap_or(0))
}

fn small_number() -> impl Strategy<Value = u32> {
    number().prop_map(|number| number as u32)
}

fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..max).prop_map(Bytes::from)
}

fn metadata() -> impl Strategy<Value = Metadata> {
    vec((".{0,8}", bytes(40)), 0..8).prop_map(|entries| entries.into_iter().collect())
}

fn payload() -> impl Strategy<Value = Bytes> {
    // Sometimes one that the output keeps by reference.
    prop_oneof![8 => bytes(300), 1 => (16_000_usize..17_000).prop_map(|len| vec![7; len].into())]
}

/// Often empty: most frames hold only numbers and a payload, and are encoded by another path.
fn parts() -> impl Strategy<Value = Parts> {
    let some = (".{0,200}", metadata(), bytes(40), trace());
    let some = some.prop_map(|(message, metadata, details, trace)| Parts {
        placed: None,
        message,
        metadata,
        details,
        trace,
    });
    prop_oneof![Just(Parts::default()), some]
}

fn trace() -> impl Strategy<Value = Option<TraceContext>> {
    let ids = prop_oneof![Just((0, 0)), (any::<u128>(), any::<u64>())];
    (ids, "(a=[!-+]{0,9})?", "(b=[0-9]{0,300})?").prop_map(|((trace, span), state, baggage)| {
        let parent = format!("00-{trace:032x}-{span:016x}-01");
        TraceContext::parse(&parent, &state, &baggage)
    })
}

fn frames() -> impl Strategy<Value = Frame> {
    let numbers = (
        small_number(),
        number(),
        small_number(),
        number(),
        number(),
        small_number(),
    );
    let more_numbers = (number(), small_number(), number(), number(), small_number());
    (numbers, parts(), more_numbers, payload()).prop_map(|(numbers, parts, more_numbers, payload)| {
        let (kind, id, flags, procedure, timeout_us, code) = numbers;
        let (length, encoding, queue_us, run_us, depth) = more_numbers;
        let (kind, flags) = (Kind::from(kind), Flags::from_bits(flags));
        Frame {
            kind,
            id,
            flags,
            procedure,
            timeout_us,
            code,
            extra: parts.into(),
            length,
            encoding,
            queue_us,
            run_us,
            depth,
            payload,
        }
    })
}

/// Frames with the numbers that plain ones have; some of them are too large.
fn plain_frames() -> impl Strategy<Value = Frame> {
    let numbers = (
        0..12_u32,
        number(),
        0..32_u32,
        number(),
        number(),
        number(),
        number(),
    );
    (numbers, bytes(200)).prop_map(|(numbers, payload)| {
        let (kind, id, flags, procedure, timeout_us, queue_us, run_us) = numbers;
        Frame {
            kind: Kind::from(kind),
            id,
            flags: Flags::from_bits(flags),
            procedure,
            timeout_us,
            queue_us,
            run_us,
            payload,
            ..Frame::default()
        }
    })
}

/// The bytes of a frame that is plain, or nearly so.
fn plain_bytes() -> impl Strategy<Value = Bytes> {
    let damage = vec((any::<usize>(), any::<u8>()), 0..3);
    (plain_frames(), damage, 0..3_usize).prop_map(|(frame, damage, lost)| {
        let mut bytes = encode(&frame).slice(4..).to_vec();
        for (at, byte) in damage {
            let at = at % bytes.len().clamp(1, 40);
            if let Some(old) = bytes.get_mut(at) {
                *old = byte;
            }
        }
        bytes.truncate(bytes.len().saturating_sub(lost));
        bytes.into()
    })
}

/// The fields of `frame`, each encoded alone; the entries of metadata stay together because their order matters.
fn fields(frame: Frame) -> Vec<Vec<u8>> {
    let whole = WireFrame::from(frame);
    let none = WireFrame::default;
    [
        WireFrame {
            kind: whole.kind,
            ..none()
        },
        WireFrame {
            id: whole.id,
            ..none()
        },
        WireFrame {
            flags: whole.flags,
            ..none()
        },
        WireFrame {
            procedure: whole.procedure,
            ..none()
        },
        WireFrame {
            timeout_us: whole.timeout_us,
            ..none()
        },
        WireFrame {
            code: whole.code,
            ..none()
        },
        WireFrame {
            message: whole.message,
            ..none()
        },
        WireFrame {
            metadata: whole.metadata,
            ..none()
        },
        WireFrame {
            length: whole.length,
            ..none()
        },
        WireFrame {
            encoding: whole.encoding,
            ..none()
        },
        WireFrame {
            queue_us: whole.queue_us,
            ..none()
        },
        WireFrame {
            run_us: whole.run_us,
            ..none()
        },
        WireFrame {
            details: whole.details,
            ..none()
        },
        WireFrame {
            depth: whole.depth,
            ..none()
        },
        WireFrame {
            payload: whole.payload,
            ..none()
        },
        WireFrame {
            trace: whole.trace,
            ..none()
        },
    ]
    .map(|field| field.encode_to_vec())
    .to_vec()
}

/// A frame, and its fields in any order with unknown fields between them.
fn frame_in_any_order() -> impl Strategy<Value = (Frame, Vec<Vec<u8>>)> {
    frames().prop_flat_map(|frame| {
        let mut fields = fields(frame.clone());
        fields.push(vec![0x8a, 1, 2, 8, 1]);
        fields.push(vec![0x8b, 1, 0x08, 9, 0x8c, 1]);
        (Just(frame), Just(fields).prop_shuffle())
    })
}

proptest! {
    #[test]
    fn prost_and_we_write_the_same_bytes(frame in frames()) {
        let ours = encode(&frame);
        // The payload is last, whatever its number is.
        let mut rest = WireFrame::from(frame.clone());
        let last = WireFrame { payload: std::mem::take(&mut rest.payload), ..WireFrame::default() };
        let prosts = [rest.encode_to_vec(), last.encode_to_vec()].concat();
        prop_assert_eq!(&ours[..4], &(prosts.len() as u32).to_be_bytes()[..]);
        prop_assert_eq!(&ours[4..], &prosts[..]);
        prop_assert_eq!(frame.header().frame_len(frame.payload.len()), prosts.len());
    }

    #[test]
    fn prost_reads_our_frames(frame in frames()) {
        let read = WireFrame::decode(encode(&frame).slice(4..)).unwrap();
        prop_assert_eq!(read, WireFrame::from(frame));
    }

    #[test]
    fn we_read_frames_written_by_prost((frame, fields) in frame_in_any_order()) {
        prop_assert_eq!(Frame::decode(fields.concat().into()).unwrap(), frame);
    }

    #[test]
    fn a_plain_frame_is_read_as_any_other(frame in plain_frames(), behind in bytes(100)) {
        let encoded = encode(&frame).slice(4..);
        let mut read = Frame::default();
        let bytes = [&encoded[..], &behind].concat();
        if let Some(payload) = read.fill_plain(&bytes, encoded.len()) {
            read.payload = encoded.slice(payload);
            prop_assert_eq!(read, frame);
        } else {
            prop_assert_eq!(read, Frame::default());
            let is_short = bytes.len() < 48;
            let is_long = [frame.id, frame.timeout_us, frame.queue_us, frame.run_us].iter().any(|number| *number >= 1 << 28);
            prop_assert!(is_short || is_long, "{frame:?} is plain");
        }
    }

    #[test]
    fn what_is_read_as_plain_is_what_it_is(body in plain_bytes(), behind in bytes(100)) {
        let mut read = Frame::default();
        if let Some(payload) = read.fill_plain(&[&body[..], &behind].concat(), body.len()) {
            read.payload = body.slice(payload);
            prop_assert_eq!(read, Frame::decode(body).unwrap());
        }
    }

    #[test]
    fn message_in_place_is_the_message_encoded(frame in frames(), value in bytes(40_000)) {
        let message = Entry { key: frame.extra.message.clone(), value };
        let header = frame.header();
        let mut in_place = Output::new();
        header.encode(&message, message.encoded_len(), &mut in_place);
        let mut by_bytes = Output::new();
        header.encode_bytes(message.encode_to_vec().into(), &mut by_bytes);
        let mut payload = Output::new();
        message.encode(&mut payload).unwrap();
        let mut by_output = Output::new();
        header.encode_output(&mut payload, &mut by_output);

        let in_place = in_place.copy_to_bytes(in_place.len());
        prop_assert_eq!(&in_place, &by_bytes.copy_to_bytes(by_bytes.len()));
        prop_assert_eq!(&in_place, &by_output.copy_to_bytes(by_output.len()));
    }

    #[test]
    fn any_bytes_are_a_frame_or_an_error(bytes in bytes(200)) {
        // We refuse what prost refuses, except a status text that is not UTF-8.
        let prosts = WireFrame::decode(bytes.clone());
        if let (Err(error), Ok(_)) = (Frame::decode(bytes), prosts) {
            prop_assert!(matches!(error, crate::wire::frame::FrameError::Metadata { .. }), "{}", error);
        }
    }

    #[test]
    fn damaged_frames_are_frames_or_errors(frame in frames(), damage in vec((any::<usize>(), any::<u8>()), 1..4)) {
        let mut bytes = encode(&frame).slice(4..).to_vec();
        for (at, byte) in damage {
            if !bytes.is_empty() {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
        }
        drop(Frame::decode(bytes.clone().into()));
        bytes.truncate(bytes.len() / 2);
        drop(Frame::decode(bytes.into()));
    }
}
