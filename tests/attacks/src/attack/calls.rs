//! Calls that are too many, too large, or not meant.

use std::time::Duration;

use rpc_runtime::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{EXCESS, Failure, Scene, Told, attacks, sent_away, told};
use crate::{
    raw::{
        Answer, Frame, Raw, kind,
        procedure::{ECHO, HANG, LARGE, TREE},
    },
    target::v1::TargetClient,
};

attacks! {
    too_many_calls "calls that hang, twice as many as were announced" usual Served
    cancels "a flood of calls, each cancelled at once" usual Served
    unknown_procedures "a flood of calls of procedures that are not there" usual Served
    amplification "two bytes that become a message of 200, two million times" usual Served
    unread_replies "calls for 4 MiB each, from who does not read" hasty Refused
    one_way_overload "one-way requests, faster than they are handled" usual Served
    vanishing_callers "callers that are gone before their handlers end" usual Served
}

async fn too_many_calls(scene: &Scene<'_>) -> Result<Told, Failure> {
    let (mut sent, mut refused, mut rounds) = (0, 0, 0);
    while scene.goes_on(rounds, 1) {
        rounds += 1;
        let mut raw = Raw::connect(scene.address()).await?;
        // 900 refusals are not yet too many.
        for number in 0..1024 + 900 {
            raw.write(&Frame::call(2 * number + 1, HANG, Vec::new()).bytes())
                .await?;
            sent += 1;
        }
        for _ in 0..900 {
            match raw.frame().await? {
                Some(reply) if reply.kind == kind::REPLY && reply.code == 8 && reply.flags & 4 != 0 => {
                    refused += 1
                }
                other => return Err(Failure(format!("not refused but {other:?}"))),
            }
        }
    }
    told(
        sent,
        "calls",
        format!("{refused} RESOURCE_EXHAUSTED, not executed"),
    )
}

async fn cancels(scene: &Scene<'_>) -> Result<Told, Failure> {
    let raw = Raw::connect(scene.address()).await?;
    let (mut reader, mut writer) = raw.split();
    // The replies are read, so that the server need not wait.
    let reading = tokio::spawn(async move {
        let mut bytes = vec![0; 64 << 10];
        while reader.read(&mut bytes).await.is_ok_and(|n| n > 0) {}
    });
    let mut sent = 0_u64;
    while scene.goes_on(sent, 20_000) {
        let mut batch = Vec::new();
        for _ in 0..500 {
            let id = 2 * sent + 1;
            batch.extend_from_slice(&Frame::call(id, HANG, Vec::new()).bytes());
            batch.extend_from_slice(&Frame::new(kind::CANCEL, id).bytes());
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
    told(sent, "calls", "CANCELLED, each; the connection goes on")
}

async fn unknown_procedures(scene: &Scene<'_>) -> Result<Told, Failure> {
    let (mut sent, mut answer, mut rounds) = (0, String::new(), 0);
    while scene.goes_on(rounds, 2) {
        rounds += 1;
        let mut raw = Raw::connect(scene.address()).await?;
        for number in 0..3000 {
            if raw
                .write(&Frame::call(2 * number + 1, 12_345, Vec::new()).bytes())
                .await
                .is_err()
            {
                break;
            }
            sent += 1;
        }
        answer = sent_away(&mut raw, EXCESS).await?;
    }
    told(sent, "calls", format!("UNIMPLEMENTED, then {answer}"))
}

async fn amplification(scene: &Scene<'_>) -> Result<Told, Failure> {
    let message = [10, 0].repeat(1_900_000);
    let mut raw = Raw::connect(scene.address()).await?;
    let mut sent = 0;
    while scene.goes_on(sent, 2) && sent < 500 {
        let id = 2 * sent + 1;
        let parts = message.chunks(100_000).count();
        for (number, part) in message.chunks(100_000).enumerate() {
            let more = u32::from(number + 1 < parts);
            let frame = if number == 0 {
                Frame {
                    flags: more | 2,
                    length: message.len() as u64,
                    ..Frame::call(id, TREE, part.to_vec())
                }
            } else {
                Frame {
                    flags: more,
                    payload: part.to_vec(),
                    ..Frame::new(kind::DATA, id)
                }
            };
            raw.write(&frame.bytes()).await?;
        }
        match raw.frame().await? {
            Some(reply) if reply.kind == kind::REPLY && reply.code == 8 => {}
            other => return Err(Failure(format!("not refused but {other:?}"))),
        }
        sent += 1;
    }
    told(sent, "calls", "RESOURCE_EXHAUSTED, not executed")
}

async fn unread_replies(scene: &Scene<'_>) -> Result<Told, Failure> {
    let mut sent = 0;
    let mut held = Vec::new();
    for _ in 0..scene.count(5, 10) {
        let mut raw = Raw::connect(scene.address()).await?;
        for number in 0..200 {
            // len: 4 MiB.
            raw.write(&Frame::call(2 * number + 1, LARGE, vec![8, 0x80, 0x80, 0x80, 2]).bytes())
                .await?;
            sent += 1;
        }
        held.push(raw);
    }
    // What was written is read until the cut, which comes without a word: there is no room for one.
    let patience = if scene.time.is_some() { 45 } else { 15 };
    tokio::time::sleep(Duration::from_secs(if scene.time.is_some() { 35 } else { 4 })).await;
    let mut cut = 0;
    for raw in &mut held {
        // One whose calls were all refused, for want of memory, has nothing to read.
        cut += usize::from(raw.answer(Duration::from_secs(patience)).await != Answer::Open);
    }
    if cut < 2 {
        return Err(Failure(format!("{cut} of those who do not read were cut off")));
    }
    told(
        sent,
        "calls",
        format!("{cut} of {} connections cut off; others refused", held.len()),
    )
}

async fn one_way_overload(scene: &Scene<'_>) -> Result<Told, Failure> {
    let client: Client = Client::builder(scene.address()).timeout(None).connect().await?;
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
        return Err(Failure(format!("{sent} were sent: {account}")));
    }
    told(sent, "one-ways", format!("backpressure; {account}"))
}

async fn vanishing_callers(scene: &Scene<'_>) -> Result<Told, Failure> {
    let mut sent = 0;
    while scene.goes_on(sent, 2000) {
        let mut raw = Raw::connect(scene.address()).await?;
        for number in 0..100 {
            let procedure = if number % 2 == 0 { HANG } else { ECHO };
            raw.write(&Frame::call(2 * number + 1, procedure, Vec::new()).bytes())
                .await?;
            sent += 1;
        }
        // Half of them leave replies unread, so that the OS resets.
    }
    told(sent, "calls", "their handlers are dropped")
}
