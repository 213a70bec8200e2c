//! Attacks with frames that no client sends.

use std::time::Duration;

use test_support::{
    LONG,
    wire::{CALL, CREDIT, DATA, END, Entry, Frame, GOAWAY, MORE, PACKED, PING, REPLY, encode, framed, hello},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};

use super::{
    Answer, EXCESS, Failure, Outcome, PROTOCOL, REJECTED, Scene, TIMEOUT, accepts_beside, answer, attacks,
    call, connect, outcome, send, sent_away,
};
use crate::procedure::{ECHO, GATHER, NOTE, TREE};

attacks! {
    claims "connections that claim frames of 144 KiB and send five bytes of each" usual Served
    longer_claims "frames that are longer than the server takes, and 4 GiB" usual Served
    truncated "connections that end within a frame" usual Served
    empty_frames "a flood of CREDITs of 0 bytes" usual Served
    ignorable_kinds "a flood of frames of a kind that may be ignored" usual Served
    critical_kinds "a frame of a kind that may not be ignored" usual Served
    malformed_envelopes "frames that cannot be parsed" usual Served
    malformed_payloads "a flood of calls whose messages cannot be parsed" usual Served
    lying_rows "packed frames whose lengths do not match, and rows of 65,536 empty messages" usual Served
    deep_nesting "messages nested ten thousand deep" usual Served
    metadata_bombs "65 entries, and entries of more than 8 KiB" usual Served
    tiny_sends "a flood of one-way calls of a byte, beyond the credit" usual Served
    hoarded_parts "messages that begin and never end" hasty Served
    held_parts "messages of half a MiB on many connections, of which the other half never comes" usual Served
    slow_frames "a frame that arrives byte by byte, slowly" hasty Served
    repeated_ids "a call with the id of another call" usual Served
    foreign_protocols "TLS, HTTP/1, SSH, and noise" usual Served
    pings "a flood of PINGs, without reading the PONGs" usual Served
    goaways "a flood of GOAWAYs" usual Served
}

async fn claims(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    let count = scene.count(200, 2000);
    let mut held = Vec::new();
    for _ in 0..count {
        let mut raw = connect(scene).await?;
        // The length announces 144 KiB.
        raw.write(&[0, 2, 0x40, 0, 8]).await?;
        held.push(raw);
    }
    let memory = scene.target.usage()?.memory_kib;
    outcome(
        count as u64,
        "connections",
        format!("they wait; {} MiB resident", memory >> 10),
    )
}

async fn longer_claims(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    let (mut sent, mut answer) = (0, String::new());
    while scene.goes_on(sent, 20) {
        for claim in [[0_u8, 0xff, 0xff, 0xff], [0xff; 4]] {
            let mut raw = connect(scene).await?;
            raw.write(&claim).await?;
            answer = sent_away(&mut raw, PROTOCOL).await?;
            sent += 1;
        }
    }
    outcome(sent, "connections", answer)
}

async fn truncated(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    let whole = [encode(&hello()), encode(&call(1, ECHO, vec![10, 3, 1, 2, 3]))].concat();
    let mut sent = 0;
    while scene.goes_on(sent, 2 * whole.len() as u64) {
        let mut raw = scene.door().raw().await?;
        raw.write(&whole[..sent as usize % whole.len()]).await?;
        sent += 1;
    }
    outcome(sent, "connections", "closed")
}

/// Sends at most `most` frames of `next`, and expects a GOAWAY for `reason`.
///
/// It reads meanwhile: unread replies would leave no room for the GOAWAY, and the server waits for a second only until it resets.
pub(super) async fn flood(
    scene: &Scene<'_>,
    reason: u32,
    most: u64,
    next: impl Fn(u64) -> Vec<u8>,
) -> Result<Outcome, Failure> {
    let (mut sent, mut answer, mut rounds) = (0, String::new(), 0);
    while scene.goes_on(rounds, 2) {
        rounds += 1;
        let (mut reader, mut writer) = connect(scene).await?.reading();
        let writing = async {
            for number in 0..most {
                let write = async {
                    writer.write_all(&next(number)).await?;
                    writer.flush().await
                };
                if !matches!(timeout(LONG, write).await, Ok(Ok(()))) {
                    // The server has closed the connection.
                    break;
                }
                sent += 1;
            }
        };
        let ((), ended) = tokio::join!(writing, sent_away(&mut reader, reason));
        answer = ended?;
    }
    outcome(sent, "frames", answer)
}

async fn empty_frames(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    flood(scene, EXCESS, 5000, |_| encode(&Frame::new(CREDIT, 0))).await
}

async fn ignorable_kinds(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    flood(scene, EXCESS, 5000, |_| encode(&Frame::new(100, 0))).await
}

async fn critical_kinds(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    flood(scene, PROTOCOL, 1, |_| encode(&Frame::new(50, 0))).await
}

async fn malformed_envelopes(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    flood(scene, PROTOCOL, 1, |_| framed(&[0xff; 100])).await
}

async fn malformed_payloads(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    flood(scene, EXCESS, 5000, |number| {
        encode(&call(2 * number + 1, ECHO, vec![10, 200, 1]))
    })
    .await
}

async fn lying_rows(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    // Each row, and the code of its answer.
    let rows = [
        (PACKED, Vec::new(), 13),
        (PACKED, b"\x04dog".to_vec(), 13),
        (PACKED, b"\x03dog\x80".to_vec(), 13),
        (PACKED, b"\xff\xff\xff\xff\x0f".to_vec(), 13),
        (PACKED, vec![0; (64 << 10) + 1], 8),
        (PACKED | MORE, b"\x03dog".to_vec(), 13),
        (PACKED, vec![0; 64 << 10], 0),
    ];
    let mut sent = 0_u64;
    while scene.goes_on(sent, 350) {
        // So many lies do not end a connection.
        let mut raw = connect(scene).await?;
        for round in 0..50 {
            for (index, (flags, payload, code)) in rows.iter().enumerate() {
                let id = 2 * (round * rows.len() + index) as u64 + 1;
                raw.send(&Frame {
                    procedure: GATHER,
                    ..Frame::new(CALL, id)
                })
                .await?;
                raw.send(&Frame {
                    flags: *flags,
                    payload: payload.clone(),
                    ..Frame::new(DATA, id)
                })
                .await?;
                raw.send(&Frame {
                    flags: END,
                    ..Frame::new(DATA, id)
                })
                .await?;
                sent += 1;
                let reply = loop {
                    match raw.next().await? {
                        Some(frame) if frame.kind == REPLY => break frame,
                        Some(frame) if frame.kind == CREDIT => {}
                        other => return Err(Failure(format!("expected a reply, got {other:?}"))),
                    }
                };
                // All empty messages were read: field 1 is 65,536.
                let count: &[u8] = if *code == 0 { &[8, 0x80, 0x80, 4] } else { &[] };
                if (reply.id, reply.code, &reply.payload[..]) != (id, *code, count) {
                    return Err(Failure(format!(
                        "expected code {code} for row {index}, got {reply:?}"
                    )));
                }
            }
        }
    }
    outcome(
        sent,
        "packed frames",
        "each lie fails its own call; empty messages are read",
    )
}

async fn deep_nesting(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    let mut message = Vec::new();
    for _ in 0..10_000 {
        let mut outer = vec![10];
        prost::encode_length_delimiter(message.len(), &mut outer)
            .map_err(|error| Failure(error.to_string()))?;
        outer.extend_from_slice(&message);
        message = outer;
    }
    let mut raw = connect(scene).await?;
    let mut sent = 0;
    while scene.goes_on(sent, 100) {
        let frame = call(2 * sent + 1, TREE, message.clone());
        raw.send(&frame).await?;
        match raw.next().await? {
            Some(reply) if reply.kind == REPLY && reply.code == 13 => {}
            // The server accepts a thousand such calls of one peer.
            Some(goaway) if goaway.kind == GOAWAY && sent > 900 => {
                return outcome(sent, "calls", "INTERNAL, then GOAWAY(EXCESS)");
            }
            other => return Err(Failure(format!("expected a refusal, got {other:?}"))),
        }
        sent += 1;
    }
    drop(raw);
    outcome(sent, "calls", "INTERNAL")
}

async fn metadata_bombs(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    let entry = |len| Entry {
        key: "key".to_owned(),
        value: vec![7; len],
    };
    let (mut sent, mut answer) = (0, String::new());
    while scene.goes_on(sent, 4) {
        for metadata in [vec![entry(1); 65], vec![entry(9000)]] {
            let mut raw = connect(scene).await?;
            let frame = Frame {
                metadata,
                ..call(1, ECHO, Vec::new())
            };
            raw.send(&frame).await?;
            answer = sent_away(&mut raw, PROTOCOL).await?;
            sent += 1;
        }
    }
    outcome(sent, "calls", answer)
}

async fn tiny_sends(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    flood(scene, EXCESS, 60_000, |number| {
        encode(&send(2 * number + 1, NOTE, vec![10, 1, 7]))
    })
    .await
}

async fn hoarded_parts(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    let mut sent = 0;
    let mut held = Vec::new();
    for _ in 0..scene.count(10, 100) {
        let mut raw = connect(scene).await?;
        for number in 0..100 {
            let frame = Frame {
                flags: MORE | END,
                length: 100_000,
                ..call(2 * number + 1, ECHO, vec![7; 1000])
            };
            raw.send(&frame).await?;
            sent += 1;
        }
        held.push(raw);
    }
    let memory = scene.target.usage()?.memory_kib;
    let mut answer = String::new();
    for raw in &mut held {
        answer = sent_away(raw, TIMEOUT).await?;
    }
    outcome(
        sent,
        "unfinished messages",
        format!("{answer}; {} MiB resident", memory >> 10),
    )
}

async fn held_parts(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    // More than the memory of the target, if all were kept.
    let count = scene.count(400, 2000);
    let half = 5;
    let mut held = Vec::new();
    for _ in 0..count {
        let mut raw = connect(scene).await?;
        let first = Frame {
            flags: MORE | END,
            length: 2 * half * PART as u64,
            ..call(1, ECHO, vec![7; PART])
        };
        raw.send(&first).await?;
        for _ in 1..half {
            let next = Frame {
                flags: MORE,
                payload: vec![7; PART],
                ..Frame::new(DATA, 1)
            };
            raw.send(&next).await?;
        }
        held.push(raw);
    }
    accepts_beside(scene, count).await
}

/// The bytes in each frame of a message in parts.
const PART: usize = 100_000;

async fn slow_frames(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    let mut raw = connect(scene).await?;
    let frame = encode(&call(1, ECHO, vec![0; 100_000]));
    let mut sent = 0;
    for byte in frame.chunks(1) {
        if raw.write(byte).await.is_err() {
            break;
        }
        sent += 1;
        if let Answer::Goaway(reason, text) = answer(&mut raw, Duration::from_millis(1)).await {
            if reason == TIMEOUT {
                return outcome(sent, "bytes", format!("GOAWAY(TIMEOUT): {text}"));
            }
            return Err(Failure(format!(
                "expected GOAWAY(TIMEOUT), got reason {reason}: {text}"
            )));
        }
        sleep(Duration::from_millis(100)).await;
        if sent > 1000 {
            break;
        }
    }
    Err(Failure(format!("no GOAWAY after {sent} bytes")))
}

async fn repeated_ids(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    flood(scene, PROTOCOL, 2, |_| encode(&call(1, ECHO, Vec::new()))).await
}

async fn foreign_protocols(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    let spoken: [&[u8]; 4] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        HTTP1,
        b"SSH-2.0-OpenSSH_9.2\r\n",
        &[0xa5; 3000],
    ];
    let (mut sent, mut answer) = (0, String::new());
    while scene.goes_on(sent, 10) {
        for bytes in spoken {
            sent += 1;
            // Over TLS our own protocol was agreed on before.
            if bytes == HTTP1 && scene.door().certificates().is_none() {
                refuse_http1(scene).await?;
                continue;
            }
            let mut raw = scene.door().raw().await?;
            raw.write(bytes).await?;
            answer = sent_away(&mut raw, REJECTED).await?;
        }
    }
    outcome(sent, "connections", answer)
}

/// Expects the guest's answer to a request of HTTP/1.
async fn refuse_http1(scene: &Scene<'_>) -> Result<(), Failure> {
    let mut socket = scene.door().socket().await?;
    socket.write_all(HTTP1).await?;
    let mut answer = String::new();
    match timeout(LONG, socket.read_to_string(&mut answer)).await {
        Ok(Ok(_)) if answer.starts_with("HTTP/1.1 426 ") => Ok(()),
        end => Err(Failure(format!("expected 426, got {end:?}: {answer:?}"))),
    }
}

/// A request of HTTP/1.
const HTTP1: &[u8] = b"GET / HTTP/1.1\r\nHost: target\r\n\r\n";

async fn pings(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    let ping = Frame {
        payload: vec![7; 8],
        ..Frame::new(PING, 0)
    };
    let (mut sent, mut answer, mut rounds) = (0, String::new(), 0);
    while scene.goes_on(rounds, 2) {
        rounds += 1;
        let mut raw = connect(scene).await?;
        // The server answers few of them, so its GOAWAY has room, and can still be read when it has closed the connection.
        for _ in 0..50_000 {
            if raw.send(&ping).await.is_err() {
                break;
            }
            sent += 1;
        }
        answer = sent_away(&mut raw, EXCESS).await?;
    }
    outcome(sent, "frames", answer)
}

async fn goaways(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    // Reason 1 and the highest last id.
    let goaway = Frame {
        payload: vec![8, 1, 16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        ..Frame::new(GOAWAY, 0)
    };
    flood(scene, EXCESS, 5000, |_| encode(&goaway)).await
}
