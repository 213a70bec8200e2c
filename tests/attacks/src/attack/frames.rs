//! Frames that nobody would send.

use std::time::Duration;

use tokio::time::sleep;

use super::{EXCESS, Failure, PROTOCOL, REJECTED, Scene, TIMEOUT, Told, attacks, sent_away, told};
use crate::raw::{
    Answer, END, Entry, Frame, MORE, Raw, framed, hello, kind,
    procedure::{ECHO, NOTE, TREE},
};

attacks! {
    claims "connections that claim frames of 144 KiB and send five bytes of each" usual Served
    longer_claims "frames that are longer than the server takes, and 4 GiB" usual Served
    truncated "connections that end amid a frame" usual Served
    empty_frames "a flood of CREDITs of nothing" usual Served
    ignorable_kinds "a flood of frames of a kind that may be ignored" usual Served
    critical_kinds "a frame of a kind that may not" usual Served
    malformed_envelopes "frames that are no frames" usual Served
    malformed_payloads "a flood of calls whose messages are none" usual Served
    deep_nesting "messages in messages, ten thousand deep" usual Served
    metadata_bombs "65 entries, and entries of more than 8 KiB" usual Served
    tiny_sends "a flood of one-way requests of a byte, beyond the credit" usual Served
    hoarded_parts "beginnings of messages whose rest never comes" hasty Served
    slow_frames "a byte of a frame now and then" hasty Served
    repeated_ids "a call with the id of another" usual Served
    foreign_protocols "TLS, HTTP/1, HTTP/2, SSH, and noise" usual Served
    pings "a flood of PINGs from who does not read" usual Served
    goaways "a flood of GOAWAYs" usual Served
}

async fn claims(scene: &Scene<'_>) -> Result<Told, Failure> {
    let count = scene.count(200, 2000);
    let mut held = Vec::new();
    for _ in 0..count {
        let mut raw = Raw::connect(scene.address()).await?;
        // 144 KiB are to follow.
        raw.write(&[0, 2, 0x40, 0, 8]).await?;
        held.push(raw);
    }
    let memory = scene.target.usage()?.memory_kib;
    told(
        count as u64,
        "connections",
        format!("they wait; {} MiB resident meanwhile", memory >> 10),
    )
}

async fn longer_claims(scene: &Scene<'_>) -> Result<Told, Failure> {
    let (mut sent, mut answer) = (0, String::new());
    while scene.goes_on(sent, 20) {
        for claim in [[0_u8, 0xff, 0xff, 0xff], [0xff; 4]] {
            let mut raw = Raw::connect(scene.address()).await?;
            raw.write(&claim).await?;
            answer = sent_away(&mut raw, PROTOCOL).await?;
            sent += 1;
        }
    }
    told(sent, "connections", answer)
}

async fn truncated(scene: &Scene<'_>) -> Result<Told, Failure> {
    let whole = [hello(), Frame::call(1, ECHO, vec![10, 3, 1, 2, 3]).bytes()].concat();
    let mut sent = 0;
    while scene.goes_on(sent, 2 * whole.len() as u64) {
        let mut raw = Raw::mute(scene.address()).await?;
        raw.write(&whole[..sent as usize % whole.len()]).await?;
        sent += 1;
    }
    told(sent, "connections", "closed")
}

/// Sends the frames of `next`, and is to be sent away for `reason` within `most`.
async fn flood(
    scene: &Scene<'_>,
    reason: u32,
    most: u64,
    next: impl Fn(u64) -> Vec<u8>,
) -> Result<Told, Failure> {
    let (mut sent, mut answer, mut rounds) = (0, String::new(), 0);
    while scene.goes_on(rounds, 2) {
        rounds += 1;
        let mut raw = Raw::connect(scene.address()).await?;
        for number in 0..most {
            if raw.write(&next(number)).await.is_err() {
                // It is gone: what it said stands to be read.
                break;
            }
            sent += 1;
        }
        answer = sent_away(&mut raw, reason).await?;
    }
    told(sent, "frames", answer)
}

async fn empty_frames(scene: &Scene<'_>) -> Result<Told, Failure> {
    flood(scene, EXCESS, 5000, |_| Frame::new(kind::CREDIT, 0).bytes()).await
}

async fn ignorable_kinds(scene: &Scene<'_>) -> Result<Told, Failure> {
    flood(scene, EXCESS, 5000, |_| Frame::new(100, 0).bytes()).await
}

async fn critical_kinds(scene: &Scene<'_>) -> Result<Told, Failure> {
    flood(scene, PROTOCOL, 1, |_| Frame::new(50, 0).bytes()).await
}

async fn malformed_envelopes(scene: &Scene<'_>) -> Result<Told, Failure> {
    flood(scene, PROTOCOL, 1, |_| framed(&[0xff; 100])).await
}

async fn malformed_payloads(scene: &Scene<'_>) -> Result<Told, Failure> {
    flood(scene, EXCESS, 5000, |number| {
        Frame::call(2 * number + 1, ECHO, vec![10, 200, 1]).bytes()
    })
    .await
}

async fn deep_nesting(scene: &Scene<'_>) -> Result<Told, Failure> {
    let mut message = Vec::new();
    for _ in 0..10_000 {
        let mut outer = vec![10];
        prost::encode_length_delimiter(message.len(), &mut outer)
            .map_err(|error| Failure(error.to_string()))?;
        outer.extend_from_slice(&message);
        message = outer;
    }
    let mut raw = Raw::connect(scene.address()).await?;
    let mut sent = 0;
    while scene.goes_on(sent, 100) {
        let frame = Frame::call(2 * sent + 1, TREE, message.clone());
        raw.write(&frame.bytes()).await?;
        match raw.frame().await? {
            Some(reply) if reply.kind == kind::REPLY && reply.code == 13 => {}
            // The thousandth of such calls is one too many.
            Some(goaway) if goaway.kind == kind::GOAWAY && sent > 900 => {
                return told(sent, "calls", "INTERNAL, then GOAWAY(EXCESS)");
            }
            other => return Err(Failure(format!("not refused but {other:?}"))),
        }
        sent += 1;
    }
    drop(raw);
    told(sent, "calls", "INTERNAL")
}

async fn metadata_bombs(scene: &Scene<'_>) -> Result<Told, Failure> {
    let entry = |len| Entry {
        key: "key".to_owned(),
        value: vec![7; len],
    };
    let (mut sent, mut answer) = (0, String::new());
    while scene.goes_on(sent, 4) {
        for metadata in [vec![entry(1); 65], vec![entry(9000)]] {
            let mut raw = Raw::connect(scene.address()).await?;
            let frame = Frame {
                metadata,
                ..Frame::call(1, ECHO, Vec::new())
            };
            raw.write(&frame.bytes()).await?;
            answer = sent_away(&mut raw, PROTOCOL).await?;
            sent += 1;
        }
    }
    told(sent, "calls", answer)
}

async fn tiny_sends(scene: &Scene<'_>) -> Result<Told, Failure> {
    flood(scene, EXCESS, 60_000, |number| {
        Frame::send(2 * number + 1, NOTE, vec![10, 1, 7]).bytes()
    })
    .await
}

async fn hoarded_parts(scene: &Scene<'_>) -> Result<Told, Failure> {
    let mut sent = 0;
    let mut held = Vec::new();
    for _ in 0..scene.count(10, 100) {
        let mut raw = Raw::connect(scene.address()).await?;
        for number in 0..100 {
            let frame = Frame {
                flags: MORE | END,
                length: 100_000,
                ..Frame::call(2 * number + 1, ECHO, vec![7; 1000])
            };
            raw.write(&frame.bytes()).await?;
            sent += 1;
        }
        held.push(raw);
    }
    let memory = scene.target.usage()?.memory_kib;
    let mut answer = String::new();
    for raw in &mut held {
        answer = sent_away(raw, TIMEOUT).await?;
    }
    told(
        sent,
        "beginnings",
        format!("{answer}; {} MiB resident meanwhile", memory >> 10),
    )
}

async fn slow_frames(scene: &Scene<'_>) -> Result<Told, Failure> {
    let mut raw = Raw::connect(scene.address()).await?;
    let frame = Frame::call(1, ECHO, vec![0; 100_000]).bytes();
    let mut sent = 0;
    for byte in frame.chunks(1) {
        if raw.write(byte).await.is_err() {
            break;
        }
        sent += 1;
        if let Answer::Goaway(reason, text) = raw.answer(Duration::from_millis(1)).await {
            if reason == TIMEOUT {
                return told(sent, "bytes", format!("GOAWAY(TIMEOUT): {text}"));
            }
            return Err(Failure(format!("sent away for {reason}: {text}")));
        }
        sleep(Duration::from_millis(100)).await;
        if sent > 1000 {
            break;
        }
    }
    Err(Failure(format!("not sent away after {sent} bytes")))
}

async fn repeated_ids(scene: &Scene<'_>) -> Result<Told, Failure> {
    flood(scene, PROTOCOL, 2, |_| Frame::call(1, ECHO, Vec::new()).bytes()).await
}

async fn foreign_protocols(scene: &Scene<'_>) -> Result<Told, Failure> {
    let spoken: [&[u8]; 5] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nHost: target\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        &[0xa5; 3000],
    ];
    let (mut sent, mut answer) = (0, String::new());
    while scene.goes_on(sent, 10) {
        for bytes in spoken {
            let mut raw = Raw::mute(scene.address()).await?;
            raw.write(bytes).await?;
            answer = sent_away(&mut raw, REJECTED).await?;
            sent += 1;
        }
    }
    told(sent, "connections", answer)
}

async fn pings(scene: &Scene<'_>) -> Result<Told, Failure> {
    let ping = Frame {
        payload: vec![7; 8],
        ..Frame::new(kind::PING, 0)
    };
    flood(scene, EXCESS, 50_000, |_| ping.bytes()).await
}

async fn goaways(scene: &Scene<'_>) -> Result<Told, Failure> {
    // Reason 1, the last id as high as it goes.
    let goaway = Frame {
        payload: vec![8, 1, 16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        ..Frame::new(kind::GOAWAY, 0)
    };
    flood(scene, EXCESS, 5000, |_| goaway.bytes()).await
}
