//! Attacks over HTTP/2 on the gRPC side, beside another gRPC caller.

use std::{io::Write, time::Duration};

use bytes::Bytes;
use h2::Reason;
use prost::Message;
use test_support::LONG;
use tokio::time::{Instant, sleep};

use super::{Failure, Outcome, Scene, attacks, outcome};
use crate::{
    http2::{End, Ended, GrpcCaller, Kind, RawHttp2, end, frame, prefixed, request},
    target::v1::LargeRequest,
};

attacks! {
    http2_malformed "frames that RFC 9113 forbids" usual Served
    http2_headers "header lists of 20 KiB and of 300 KiB" usual Served
    http2_continuations "CONTINUATIONs without end" usual Served
    http2_rapid_resets "calls that are reset at once" usual Served
    http2_floods "SETTINGS, PING, PRIORITY, WINDOW_UPDATE and unknown frames without end" usual Served
    http2_empty_data "empty DATA without end" usual Served
    http2_unknown_procedures "a flood of calls of unknown procedures" usual Served
    http2_windows "a window that stays closed, and one of a byte" hasty Served
    http2_slow_bodies "bodies that do not go on, and that do not end" hasty Served
    http2_prefixes "lengths and flags that lie" usual Served
    http2_bombs "a few KiB that decompress to 16 and 64 MiB" usual Served
    http2_half_closed "frames behind the end of a request, and ended requests whose replies are not read" hasty Served
    http2_unread_replies "calls for 4 MiB each, without reading the replies" hasty Refused
    http2_mute "prefaces with nothing after them" usual Served
}

/// The codes of RFC 9113.
const PROTOCOL: u32 = 1;
const CLOSED: u32 = 5;
const CALM: u32 = 11;

/// Runs `attack` beside another gRPC caller, all of whose calls must succeed.
async fn beside(
    scene: &Scene<'_>,
    attack: impl Future<Output = Result<Outcome, Failure>>,
) -> Result<Outcome, Failure> {
    beside_some(scene, &[End::Status(0)], attack).await
}

/// As [`beside`], but calls of the other caller may be refused for lack of memory until the attack is over.
async fn beside_refused(
    scene: &Scene<'_>,
    attack: impl Future<Output = Result<Outcome, Failure>>,
) -> Result<Outcome, Failure> {
    beside_some(scene, &[End::Status(0), End::Status(8)], attack).await
}

/// Runs `attack` beside another gRPC caller, all of whose calls must end in one of these ways, and succeed before and after it.
async fn beside_some(
    scene: &Scene<'_>,
    ends: &[End],
    attack: impl Future<Output = Result<Outcome, Failure>>,
) -> Result<Outcome, Failure> {
    let innocent = GrpcCaller::connect(scene.door(), 64 << 10).await?;
    innocent.echo().await?;
    let calls = async {
        loop {
            match innocent.try_echo().await {
                Ok(end) if ends.contains(&end) => {}
                Ok(end) => return Failure(format!("a legitimate gRPC call ended with {end:?}")),
                Err(error) => return Failure::from(error),
            }
            sleep(Duration::from_millis(2)).await;
        }
    };
    let outcome = tokio::select! {
        outcome = attack => outcome?,
        failure = calls => return Err(failure),
    };
    // The memory that the attack held is given back when the server has noticed that its connections are gone.
    let mut last = innocent.try_echo().await?;
    let limit = Instant::now() + LONG;
    while last != End::Status(0) && ends.contains(&last) && Instant::now() < limit {
        sleep(Duration::from_millis(10)).await;
        last = innocent.try_echo().await?;
    }
    match last {
        End::Status(0) => Ok(outcome),
        end => Err(Failure(format!(
            "after the attack a legitimate gRPC call ended with {end:?}"
        ))),
    }
}

/// Sends `batches` on a new connection, and expects a GOAWAY with one of `codes`. A reset may have destroyed that.
async fn sent_away(
    scene: &Scene<'_>,
    codes: &[u32],
    batches: impl Iterator<Item = Vec<u8>>,
) -> Result<String, Failure> {
    let mut raw = RawHttp2::connect(scene.door(), &[]).await?;
    match raw.end(batches, LONG).await {
        Ended::Goaway(code) if codes.contains(&code) => Ok(format!("GOAWAY({code})")),
        Ended::Cut => Ok("closed".to_owned()),
        other => Err(Failure(format!("expected GOAWAY of {codes:?}, got {other:?}"))),
    }
}

async fn http2_malformed(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    let call = |stream| {
        frame(
            Kind::Headers,
            4,
            stream,
            &request("/target.v1.Target/rpc_hang", &[]),
        )
    };
    let cases = [
        frame(Kind::Settings, 0, 0, &[0; 5]),
        frame(Kind::Settings, 1, 0, &[0; 6]),
        frame(Kind::Settings, 0, 1, &[]),
        frame(Kind::Ping, 0, 0, &[0; 7]),
        frame(Kind::Ping, 0, 1, &[0; 8]),
        frame(Kind::WindowUpdate, 0, 0, &[0; 4]),
        frame(Kind::WindowUpdate, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
        frame(Kind::Data, 0, 0, b"data"),
        frame(Kind::Data, 0, 1, b"of an idle stream"),
        frame(Kind::RstStream, 0, 1, &[0; 4]),
        frame(Kind::Headers, 4, 0, &[0x83]),
        call(2),
        [call(3), call(1)].concat(),
        frame(Kind::Headers, 4, 1, &[0xff; 50]),
        // Padding that is longer than the frame.
        frame(Kind::Headers, 4 | 8, 1, &[200, 0x83]),
        frame(Kind::Continuation, 4, 1, &[0x83]),
        [
            frame(Kind::Headers, 0, 1, &[0x83]),
            frame(Kind::Ping, 0, 0, &[0; 8]),
        ]
        .concat(),
        frame(Kind::PushPromise, 4, 1, &[0, 0, 0, 2, 0x83]),
        // A frame that claims to be of 16 MiB.
        b"\xff\xff\xff\0\0\0\0\0\x01".to_vec(),
    ];
    beside(scene, async {
        let (mut sent, mut answer) = (0, String::new());
        while scene.goes_on(sent, 1) {
            for (index, case) in cases.iter().enumerate() {
                // All errors of HTTP/2 that concern the connection.
                let codes: Vec<u32> = (1..=CALM).collect();
                let answered = sent_away(scene, &codes, [case.clone()].into_iter()).await;
                answer = answered.map_err(|failure| Failure(format!("case {index}: {failure}")))?;
                sent += 1;
            }
        }
        outcome(sent, "connections", format!("GOAWAY each, the last {answer}"))
    })
    .await
}

async fn http2_headers(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    beside(scene, async {
        let (mut sent, mut answer) = (0, String::new());
        while scene.goes_on(sent, 4) {
            for len in [20_000, 300_000] {
                let long = "x".repeat(len);
                let block = request("/target.v1.Target/rpc_hang", &[("long", &long)]);
                let parts = block.chunks(16_000).count();
                let frames = block.chunks(16_000).enumerate().map(|(number, part)| {
                    let kind = if number == 0 {
                        Kind::Headers
                    } else {
                        Kind::Continuation
                    };
                    let flags = if number + 1 == parts { 4 } else { 0 };
                    frame(kind, flags, 1, part)
                });
                let mut raw = RawHttp2::connect(scene.door(), &[]).await?;
                // A list that is a little too long is refused, and a much longer one ends the connection.
                // Only the wait for nothing has to be short.
                let patience = if len == 20_000 {
                    Duration::from_millis(300)
                } else {
                    LONG
                };
                answer = match (len, raw.end(frames, patience).await) {
                    (20_000, Ended::Open) => "refused".to_owned(),
                    (300_000, Ended::Goaway(code)) => format!("GOAWAY({code})"),
                    (300_000, Ended::Cut) => "closed".to_owned(),
                    (_, other) => return Err(Failure(format!("headers of {len} bytes: {other:?}"))),
                };
                sent += 1;
            }
        }
        outcome(sent, "header lists", format!("refused, {answer}"))
    })
    .await
}

async fn http2_continuations(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    beside(scene, async {
        let (mut sent, mut answer) = (0, String::new());
        while scene.goes_on(sent, 3) {
            let first = frame(Kind::Headers, 0, 1, &request("/target.v1.Target/rpc_hang", &[]));
            // Empty ones, ones with small headers, and ones with a part of a header that never ends.
            let part: &[u8] = match sent % 3 {
                0 => &[],
                1 => b"\x00\x01a\x01b",
                _ => b"\x00\x01a\x7f\xff\xff\xff\x07",
            };
            let rest = frame(Kind::Continuation, 0, 1, part);
            let frames = std::iter::once(first).chain(std::iter::repeat_n(rest, 100_000));
            answer = sent_away(scene, &[CALM, 1, 9], frames).await?;
            sent += 1;
        }
        outcome(sent, "connections", answer)
    })
    .await
}

async fn http2_rapid_resets(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    beside(scene, async {
        let (mut sent, mut answer) = (0, String::new());
        while scene.goes_on(sent, 2) {
            let block = request("/target.v1.Target/rpc_hang", &[]);
            let batch = |batch: u32| {
                let pair = |number: u32| {
                    let stream = 2 * (batch * 1000 + number) + 1;
                    let call = frame(Kind::Headers, 4, stream, &block);
                    [call, frame(Kind::RstStream, 0, stream, &[0, 0, 0, 8])].concat()
                };
                (0..1000).flat_map(pair).collect()
            };
            // Without end: whether h2 sees a reset before or after its call is accepted, the connection ends.
            answer = sent_away(scene, &[CALM], (0..1000).map(batch)).await?;
            sent += 1;
        }
        let outcome = outcome(sent, "connections", answer)?;
        Ok(outcome.counting("ended_by_excess", sent))
    })
    .await
}

async fn http2_floods(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    let kinds = [
        frame(Kind::Settings, 0, 0, &[]),
        frame(Kind::Ping, 0, 0, &[7; 8]),
        frame(Kind::Ping, 1, 0, &[7; 8]),
        frame(Kind::Priority, 0, 1, &[0, 0, 0, 0, 7]),
        frame(Kind::WindowUpdate, 0, 0, &[0, 0, 0, 1]),
        frame(Kind::Unknown, 0, 0, &[7; 100]),
    ];
    beside(scene, async {
        let (mut sent, mut answer) = (0, String::new());
        while scene.goes_on(sent, 1) {
            for kind in &kinds {
                let batch = kind.repeat(1000);
                let frames = std::iter::repeat_n(batch, 200);
                answer = sent_away(scene, &[CALM], frames).await?;
                sent += 1;
            }
        }
        outcome(sent, "connections", answer)
    })
    .await
}

async fn http2_empty_data(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    beside(scene, async {
        let (mut sent, mut answer) = (0, String::new());
        while scene.goes_on(sent, 2) {
            let call = frame(Kind::Headers, 4, 1, &request("/target.v1.Target/rpc_gather", &[]));
            let empty = frame(Kind::Data, 0, 1, &[]);
            let frames = std::iter::once(call).chain(std::iter::repeat_n(empty, 10_000));
            answer = sent_away(scene, &[CALM], frames).await?;
            sent += 1;
        }
        outcome(sent, "connections", answer)
    })
    .await
}

async fn http2_unknown_procedures(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    beside(scene, async {
        let (mut sent, mut rounds) = (0, 0);
        while scene.goes_on(rounds, 1) {
            rounds += 1;
            let caller = GrpcCaller::connect(scene.door(), 64 << 10).await?;
            // Until the connection drains.
            for _ in 0..5000 {
                let Ok((response, mut stream)) = caller.open("rpc_none", "identity").await else {
                    break;
                };
                // The answer may be there before the body is sent.
                let _ = stream.send_data(prefixed(0, b""), true);
                match end(response, Duration::ZERO).await? {
                    End::Status(12) => sent += 1,
                    End::Reset(_) => {}
                    other => return Err(Failure(format!("expected UNIMPLEMENTED, got {other:?}"))),
                }
            }
            if sent >= 5000 * rounds {
                return Err(Failure(format!(
                    "{sent} calls of unknown procedures are answered"
                )));
            }
        }
        outcome(sent, "calls", "UNIMPLEMENTED, then GOAWAY")
    })
    .await
}

/// A call for `len` bytes.
fn large(len: u32) -> Bytes {
    let message = LargeRequest { len };
    prefixed(0, &message.encode_to_vec())
}

async fn http2_windows(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    beside(scene, async {
        let mut sent = 0;
        while scene.goes_on(sent, 1) {
            for (window, pause) in [(0, Duration::ZERO), (1, Duration::from_millis(20))] {
                let caller = GrpcCaller::connect(scene.door(), window).await?;
                let (response, mut stream) = caller.open("rpc_large", "identity").await?;
                stream
                    .send_data(large(100_000), true)
                    .map_err(std::io::Error::other)?;
                match end(response, pause).await? {
                    End::Reset(Some(Reason::CANCEL)) => sent += 1,
                    other => return Err(Failure(format!("window of {window}: {other:?}"))),
                }
            }
        }
        let outcome = outcome(sent, "calls", "RST_STREAM(CANCEL) when write_stall is over")?;
        Ok(outcome.counting("other_faults", sent))
    })
    .await
}

async fn http2_slow_bodies(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    let whole = prefixed(0, &[10, 3, 1, 2, 3]);
    beside(scene, async {
        let mut sent = 0;
        while scene.goes_on(sent, 1) {
            // Nothing, half a prefix, half a message, and a message without an end of the body.
            for len in [0, 3, 7, whole.len()] {
                let caller = GrpcCaller::connect(scene.door(), 64 << 10).await?;
                let (response, mut stream) = caller.open("rpc_echo", "identity").await?;
                stream
                    .send_data(whole.slice(..len), false)
                    .map_err(std::io::Error::other)?;
                match end(response, Duration::ZERO).await? {
                    End::Status(8) => sent += 1,
                    other => return Err(Failure(format!("{len} bytes of a body: {other:?}"))),
                }
            }
            // A byte now and then.
            let caller = GrpcCaller::connect(scene.door(), 64 << 10).await?;
            let (response, mut stream) = caller.open("rpc_gather", "identity").await?;
            let slow = async {
                let message = prefixed(0, &[7; 1000]);
                for number in 0..message.len() {
                    let byte = message.slice(number..=number);
                    if stream.send_data(byte, false).is_err() {
                        break;
                    }
                    sleep(Duration::from_millis(100)).await;
                }
                std::future::pending::<()>().await;
            };
            let ended = tokio::select! {
                ended = end(response, Duration::ZERO) => ended?,
                () = slow => End::Reset(None),
            };
            match ended {
                End::Status(8) => sent += 1,
                other => return Err(Failure(format!("a byte now and then: {other:?}"))),
            }
        }
        let outcome = outcome(sent, "calls", "RESOURCE_EXHAUSTED when slow_frame is over")?;
        Ok(outcome.counting("other_faults", sent))
    })
    .await
}

async fn http2_prefixes(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    let cases: [(&[u8], u32); 6] = [
        (b"\0\0\0\0\x09short", 13),
        (b"\0\xff\xff\xff\xff", 8),
        (b"\x07\0\0\0\0", 13),
        (b"\x01\0\0\0\x01x", 13),
        (b"\0\0\0\0\0\0\0\0\0\0", 12),
        (b"\0\0\0", 13),
    ];
    beside(scene, async {
        let mut sent = 0;
        while scene.goes_on(sent, 60) {
            let caller = GrpcCaller::connect(scene.door(), 64 << 10).await?;
            for (body, code) in cases {
                match caller
                    .call("rpc_echo", "identity", Bytes::from_static(body))
                    .await?
                {
                    End::Status(status) if status == code => sent += 1,
                    other => return Err(Failure(format!("expected {code} for {body:?}, got {other:?}"))),
                }
            }
            caller.echo().await?;
        }
        outcome(sent, "calls", "INTERNAL, RESOURCE_EXHAUSTED or UNIMPLEMENTED")
    })
    .await
}

async fn http2_bombs(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..16 {
        gzip.write_all(&[0; 1 << 20])?;
    }
    let gzip = prefixed(1, &gzip.finish()?);
    // A frame that does not tell its length: blocks of 128 KiB of one byte.
    let mut zstd = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 7 << 3];
    for number in 0..512_u32 {
        let header = ((128 << 10) << 3) | 2 | u32::from(number == 511);
        zstd.extend_from_slice(&header.to_le_bytes()[..3]);
        zstd.push(7);
    }
    let zstd = prefixed(1, &zstd);
    beside(scene, async {
        let mut sent = 0;
        while scene.goes_on(sent, 20) {
            let caller = GrpcCaller::connect(scene.door(), 64 << 10).await?;
            for (encoding, bomb) in [("gzip", &gzip), ("zstd", &zstd)] {
                match caller.call("rpc_echo", encoding, bomb.clone()).await? {
                    End::Status(8) => sent += 1,
                    other => return Err(Failure(format!("a bomb of {encoding}: {other:?}"))),
                }
            }
        }
        let memory = scene.target.usage()?.memory_kib;
        outcome(
            sent,
            "bombs",
            format!("RESOURCE_EXHAUSTED; {} MiB resident", memory >> 10),
        )
    })
    .await
}

/// Frames of streams whose request has ended, and streams of which only the reply is missing.
async fn http2_half_closed(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    let block = request("/target.v1.Target/rpc_hang", &[]);
    let headers = |flags, stream| frame(Kind::Headers, flags, stream, &block);
    // The request ends, and the handler does not.
    let ended = |stream| {
        [
            headers(4, stream),
            frame(Kind::Data, 1, stream, &prefixed(0, b"")),
        ]
        .concat()
    };
    let behind = [
        frame(Kind::Data, 0, 1, b"more"),
        frame(Kind::Data, 1, 1, b""),
        headers(4 | 1, 1),
    ];
    beside(scene, async {
        let (mut sent, mut unread, mut rounds) = (0, 0, 0);
        while scene.goes_on(rounds, 1) {
            rounds += 1;
            for more in &behind {
                sent_away(
                    scene,
                    &[PROTOCOL, CLOSED],
                    std::iter::once([ended(1), more.clone()].concat()),
                )
                .await?;
                sent += 1;
            }
            // Headers that end no stream cost only their call, until there are too many.
            let batch = |batch: u32| {
                let pair = |number: u32| {
                    let stream = 2 * (batch * 100 + number) + 1;
                    [ended(stream), headers(4, stream)].concat()
                };
                (0..100).flat_map(pair).collect()
            };
            sent_away(scene, &[CALM], (0..1000).map(batch)).await?;
            sent += 1;

            unread += unread_streams(scene).await?;
        }
        let outcome = outcome(
            sent + unread,
            "streams",
            "GOAWAY; RST_STREAM(CANCEL) when write_stall is over",
        )?;
        Ok(outcome
            .counting("ended_by_protocol", 3 * rounds)
            .counting("ended_by_excess", rounds)
            .counting("other_faults", unread))
    })
    .await
}

/// Makes calls on one connection that reads none of their replies, until each is given up. Returns their number.
async fn unread_streams(scene: &Scene<'_>) -> Result<u64, Failure> {
    let caller = GrpcCaller::connect(scene.door(), 0).await?;
    let (mut open, mut ended) = (Vec::new(), 0);
    for _ in 0..scene.count(50, 200) {
        let (response, mut stream) = caller.open("rpc_large", "identity").await?;
        stream
            .send_data(large(64 << 10), true)
            .map_err(std::io::Error::other)?;
        open.push(response);
    }
    for response in open {
        match end(response, Duration::ZERO).await? {
            End::Reset(Some(Reason::CANCEL)) => ended += 1,
            other => return Err(Failure(format!("a reply that is not read: {other:?}"))),
        }
    }
    Ok(ended)
}

async fn http2_unread_replies(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    beside_refused(scene, unread_replies(scene)).await
}

async fn unread_replies(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    // Windows that let the server send all it has.
    let window = (1 << 31) - 1;
    let (mut sent, mut held) = (0, Vec::new());
    for _ in 0..scene.count(5, 10) {
        let mut raw = RawHttp2::connect(scene.door(), &[(4, window)]).await?;
        let update = (window - 65_535).to_be_bytes();
        raw.write(&frame(Kind::WindowUpdate, 0, 0, &update)).await?;
        for number in 0..100 {
            let stream = 2 * number + 1;
            let block = request("/target.v1.Target/rpc_large", &[]);
            raw.write(&frame(Kind::Headers, 4, stream, &block)).await?;
            raw.write(&frame(Kind::Data, 1, stream, &large(4 << 20))).await?;
            sent += 1;
        }
        held.push(raw);
    }
    let (wait, patience) = if scene.time.is_some() { (35, 45) } else { (4, 15) };
    sleep(Duration::from_secs(wait)).await;
    let mut cut = 0;
    for raw in &mut held {
        // One whose calls were all refused for lack of memory stays open.
        let ended = raw.end(std::iter::empty(), Duration::from_secs(patience)).await;
        cut += usize::from(ended != Ended::Open);
    }
    if cut < 2 {
        return Err(Failure(format!(
            "{cut} connections that do not read were cut, expected 2 or more"
        )));
    }
    outcome(
        sent,
        "calls",
        format!("{cut} of {} connections cut; others refused", held.len()),
    )
}

async fn http2_mute(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    let count = scene.count(200, 1000);
    beside(scene, async {
        let mut held = Vec::new();
        for _ in 0..count {
            held.push(RawHttp2::connect(scene.door(), &[]).await?);
        }
        let memory = scene.target.usage()?.memory_kib;
        outcome(
            count as u64,
            "connections",
            format!("they wait; {} MiB resident", memory >> 10),
        )
    })
    .await
}
