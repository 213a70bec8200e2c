//! Peer: frames that a peer may send, valid and invalid ones.

use bytes::{Buf, Bytes};
use prost::Message;

use super::dice::Dice;
use crate::{
    Metadata,
    wire::frame::{
        Flags, Header, Kind, Output,
        control::{Goaway, Hello, Pong, Progress},
        row::put_len,
    },
};

/// All numbers of kinds are below this.
const KINDS: u8 = 12;
/// The two known procedures; `CONTROL` belongs to the control service.
pub(super) const ECHO: u64 = 7;
pub(super) const CONTROL: u64 = 99;

/// Makes a HELLO that is accepted, with drawn limits.
pub(super) fn hello(dice: &mut Dice<'_>) -> Vec<u8> {
    let limit = |dice: &mut Dice<'_>, least: u64| least.saturating_add(dice.number());
    let hello = Hello {
        magic: Hello::MAGIC,
        version_min: 1,
        version_max: 1,
        max_frame: limit(dice, 64 << 10) as u32,
        max_message: dice.number() << 8,
        max_calls: limit(dice, 16) as u32,
        call_bytes: limit(dice, 64 << 10),
        send_bytes: limit(dice, 64 << 10),
        stream_window: dice.number(),
        encodings: vec![1, 2],
        ping_floor_ms: dice.u16().into(),
        ..Hello::default()
    };
    encode(&Header::new(Kind::Hello, 0), &hello.encode_to_vec())
}

/// Makes a frame of a known kind with a recent id; `odd` is 1 if the peer's ids are odd, else 0.
pub(super) fn frame(dice: &mut Dice<'_>, next_id: &mut u64, odd: u64) -> Vec<u8> {
    let die = dice.u8();
    let kind = Kind::from(u32::from(die % KINDS));
    let id = match kind {
        Kind::Ping | Kind::Pong | Kind::Goaway | Kind::Hello => 0,
        Kind::Call | Kind::Send if dice.u8() > 10 => {
            *next_id += 2 * (1 + u64::from(dice.u8() / 250));
            *next_id
        }
        // An id of either side, up to a few back.
        _ if dice.bool() => (*next_id).saturating_sub(2 * (u64::from(dice.u8() % 8))),
        _ => 2 * u64::from(dice.u8() % 16) + (1 - odd),
    };
    let mut metadata = Metadata::new();
    if dice.u8() > 240 {
        metadata.insert("key", Bytes::copy_from_slice(dice.bytes(9)));
    }
    let header = Header {
        flags: Flags::from_bits(u32::from(match dice.u8() {
            common @ 0..=31 => common,
            32..=120 => 0,
            121..=180 => 1,
            _ => 2,
        })),
        procedure: match dice.u8() {
            0..=5 => dice.number(),
            6..=20 => CONTROL,
            _ => ECHO,
        },
        timeout_us: if dice.bool() { 0 } else { dice.number() },
        code: if dice.u8() > 60 {
            0
        } else {
            u32::from(dice.u8() % 20)
        },
        message: if dice.bool() { "" } else { "why" },
        metadata: (!metadata.is_empty()).then_some(&metadata),
        length: if dice.bool() { 0 } else { dice.number() },
        encoding: u32::from(dice.u8() / 252),
        depth: u32::from(die / KINDS),
        ..Header::new(kind, id)
    };
    let payload = match kind {
        Kind::Pong => Pong {
            ping: u64::from(dice.u8() % 8).to_le_bytes().to_vec().into(),
            progress: Some(Progress {
                last_id: dice.number(),
                received: dice.number(),
                handled: dice.number(),
                ..Progress::default()
            }),
        }
        .encode_to_vec(),
        Kind::Goaway => Goaway {
            reason: u32::from(dice.u8() % 8),
            last_id: if dice.bool() { (1 << 63) - 1 } else { dice.number() },
            drain_ms: dice.number(),
            account: dice.bool().then(|| Progress {
                last_id: dice.number(),
                received: dice.number(),
                handled: dice.number(),
                ..Progress::default()
            }),
            ..Goaway::default()
        }
        .encode_to_vec(),
        Kind::Ping => vec![dice.u8(); 8],
        _ => {
            let len = match dice.u8() {
                short @ 0..=200 => usize::from(short),
                201..=245 => usize::from(dice.u16()),
                _ => usize::from(dice.u16()) * 2,
            };
            match header.flags.contains(Flags::PACKED) {
                true => row(dice, len),
                false => vec![dice.u8(); len],
            }
        }
    };
    encode(&header, &payload)
}

/// Makes a row of about `len` bytes; most are whole.
fn row(dice: &mut Dice<'_>, len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < len && !dice.is_over() {
        let message = match dice.u8() {
            0..=40 => Vec::new(),
            short @ 41..=240 => vec![1; usize::from(short)],
            _ => vec![2; dice.u16().into()],
        };
        put_len(&mut bytes, message.len());
        bytes.extend_from_slice(&message);
    }
    let cut = bytes.len() - usize::from(dice.u8() / 200).min(bytes.len());
    bytes.truncate(cut);
    bytes
}

fn encode(header: &Header<'_>, payload: &[u8]) -> Vec<u8> {
    let mut out = Output::new();
    header.encode_bytes(Bytes::copy_from_slice(payload), &mut out);
    out.copy_to_bytes(out.len()).to_vec()
}
