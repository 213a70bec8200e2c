//! Attacks with calls: too many, too large, or abandoned.

use std::time::Duration;

use rpc_runtime::Client;
use test_support::wire::{CANCEL, DATA, END, Frame, MORE, NOT_EXECUTED, REPLY, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    Answer, EXCESS, Failure, Outcome, Scene, answer, attacks, call, connect, frames::flood, outcome,
};
use crate::{
    procedure::{ECHO, HANG, LARGE, TREE},
    target::v1::TargetClient,
};

attacks! {
    too_many_calls "calls that hang, twice as many as the server accepts" usual Served
    cancels "a flood of calls, each cancelled at once" usual Served
    unknown_procedures "a flood of calls of unknown procedures" usual Served
    amplification "two bytes that decode to 200 bytes, two million times" usual Served
    unread_replies "calls for 4 MiB each, without reading the replies" hasty Refused
    one_way_overload "one-way calls, faster than they are handled" usual Served
    vanishing_callers "callers that disconnect before their handlers end" usual Served
}

async fn too_many_calls(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    let (mut sent, mut refused, mut rounds) = (0, 0, 0);
    while scene.goes_on(rounds, 1) {
        rounds += 1;
        let mut raw = connect(scene).await?;
        // 900 refusals are not yet too many.
        for number in 0..1024 + 900 {
            raw.send(&call(2 * number + 1, HANG, Vec::new())).await?;
            sent += 1;
        }
        for _ in 0..900 {
            match raw.next().await? {
                Some(reply) if reply.kind == REPLY && reply.code == 8 && reply.flags & NOT_EXECUTED != 0 => {
                    refused += 1
                }
                other => return Err(Failure(format!("expected a refusal, got {other:?}"))),
            }
        }
    }
    outcome(
        sent,
        "calls",
        format!("{refused} RESOURCE_EXHAUSTED, not executed"),
    )
}

async fn cancels(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    let raw = connect(scene).await?;
    let (mut reader, mut writer) = raw.split();
    // The replies are read, so that the server can write them.
    let reading = tokio::spawn(async move {
        let mut bytes = vec![0; 64 << 10];
        while reader.read(&mut bytes).await.is_ok_and(|n| n > 0) {}
    });
    let mut sent = 0_u64;
    while scene.goes_on(sent, 20_000) {
        let mut batch = Vec::new();
        for _ in 0..500 {
            let id = 2 * sent + 1;
            batch.extend_from_slice(&encode(&call(id, HANG, Vec::new())));
            batch.extend_from_slice(&encode(&Frame::new(CANCEL, id)));
            sent += 1;
        }
        writer.write_all(&batch).await?;
    }
    let is_open = !reading.is_finished();
    drop(writer);
    reading.abort();
    if !is_open {
        return Err(Failure("the connection was cut".to_owned()));
    }
    outcome(sent, "calls", "each CANCELLED; the connection stays open")
}

async fn unknown_procedures(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    let next = |number| encode(&call(2 * number + 1, 12_345, Vec::new()));
    let Outcome { sent, answer, .. } = flood(scene, EXCESS, 3000, next).await?;
    outcome(sent, "calls", format!("UNIMPLEMENTED, then {answer}"))
}

async fn amplification(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    let message = [10, 0].repeat(1_900_000);
    let mut raw = connect(scene).await?;
    let mut sent = 0;
    while scene.goes_on(sent, 2) && sent < 500 {
        let id = 2 * sent + 1;
        let parts = message.chunks(100_000).count();
        for (number, part) in message.chunks(100_000).enumerate() {
            let more = if number + 1 < parts { MORE } else { 0 };
            let frame = if number == 0 {
                Frame {
                    flags: more | END,
                    length: message.len() as u64,
                    ..call(id, TREE, part.to_vec())
                }
            } else {
                Frame {
                    flags: more,
                    payload: part.to_vec(),
                    ..Frame::new(DATA, id)
                }
            };
            raw.send(&frame).await?;
        }
        match raw.next().await? {
            Some(reply) if reply.kind == REPLY && reply.code == 8 => {}
            other => return Err(Failure(format!("expected a refusal, got {other:?}"))),
        }
        sent += 1;
    }
    outcome(sent, "calls", "RESOURCE_EXHAUSTED, not executed")
}

async fn unread_replies(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    let mut sent = 0;
    let mut held = Vec::new();
    for _ in 0..scene.count(5, 10) {
        let mut raw = connect(scene).await?;
        for number in 0..200 {
            // len: 4 MiB.
            raw.send(&call(2 * number + 1, LARGE, vec![8, 0x80, 0x80, 0x80, 2]))
                .await?;
            sent += 1;
        }
        held.push(raw);
    }
    // The output has no room for a GOAWAY, so the connection ends without one.
    let patience = if scene.time.is_some() { 45 } else { 15 };
    tokio::time::sleep(Duration::from_secs(if scene.time.is_some() { 35 } else { 4 })).await;
    let mut cut = 0;
    for raw in &mut held {
        // A connection stays open if all its calls were refused for lack of memory.
        cut += usize::from(answer(raw, Duration::from_secs(patience)).await != Answer::Open);
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

async fn one_way_overload(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    let client: Client = scene.door().client().timeout(None).connect().await?;
    let client = TargetClient::new(client);
    let mut sent = 0;
    while scene.goes_on(sent, 20_000) {
        client.send().note(vec![7; 64]).await?;
        sent += 1;
    }
    let account = loop {
        let account = client.barrier().await?;
        let dropped: u64 = account.dropped().map(|(_, count)| count).sum();
        if account.handled() + account.failed() + dropped + account.expired() >= sent {
            break account;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    if account.handled() != sent {
        return Err(Failure(format!(
            "of {sent} one-way calls not all were handled: {account}"
        )));
    }
    outcome(sent, "one-ways", format!("backpressure; {account}"))
}

async fn vanishing_callers(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    let mut sent = 0;
    while scene.goes_on(sent, 2000) {
        let mut raw = connect(scene).await?;
        for number in 0..100 {
            let procedure = if number % 2 == 0 { HANG } else { ECHO };
            raw.send(&call(2 * number + 1, procedure, Vec::new())).await?;
            sent += 1;
        }
        // The replies to ECHO stay unread, so that the OS resets the connection.
    }
    outcome(sent, "calls", "their handlers are dropped")
}
