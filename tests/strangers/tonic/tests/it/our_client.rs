//! Our client at tonic's server.

use std::{net::SocketAddr, time::Duration};

use prost::Message;
use rpc_http::Grpc;
use rpc_runtime::{Code, Executed, client::ClientBuilder};
use tokio::task::JoinSet;
use tonic::codec::CompressionEncoding;
use tonic_stranger::{
    FIELD, REFUSAL, WHY,
    ours::ledger::v1::{Ask, Entry, LedgerClient, ListRequest},
    relay::Relay,
    theirs::TheirServer,
};
use tonic_types::pb::{BadRequest, Status};

fn builder(address: SocketAddr) -> ClientBuilder<LedgerClient> {
    LedgerClient::builder(format!("grpc://{address}")).protocol(Grpc::new())
}

async fn connect(address: SocketAddr) -> LedgerClient {
    builder(address).connect().await.unwrap()
}

fn entry(id: u64, text: impl Into<String>) -> Entry {
    Entry {
        id,
        text: text.into(),
        ..Entry::default()
    }
}

fn asking(id: u64, ask: Ask) -> Entry {
    Entry {
        id,
        ask: ask.into(),
        ..Entry::default()
    }
}

#[tokio::test]
async fn calls_of_all_kinds() {
    let server = TheirServer::start().await;
    let ledger = connect(server.address()).await;
    let noted = ledger.send_recv().add(entry(1, "größe")).await.unwrap();
    assert_eq!((noted.entries, noted.text.as_str()), (1, "größe"));

    let request = ListRequest {
        id: 2,
        count: 1000,
        hangs: false,
    };
    let mut listed = ledger.send_recv().list(request).await.unwrap();
    for id in 1..=1000 {
        assert_eq!(listed.message().await.unwrap().unwrap().id, id);
    }
    assert!(listed.message().await.unwrap().is_none());

    let (mut entries, noted) = ledger.send_recv().load().await.unwrap();
    for number in 0..1000 {
        entries.send(entry(3, number.to_string())).await.unwrap();
    }
    entries.finish();
    let noted = noted.await.unwrap();
    assert_eq!((noted.entries, noted.text.as_str()), (1000, "999"));

    let (mut entries, mut answers) = ledger.send_recv().talk().await.unwrap();
    for turn in 0..100 {
        // Each entry waits for the answer to the one before.
        entries.send(entry(4, turn.to_string())).await.unwrap();
        assert_eq!(answers.message().await.unwrap().unwrap().text, turn.to_string());
    }
    entries.finish();
    assert!(answers.message().await.unwrap().is_none());

    // One-way calls are calls whose reply is dropped.
    for id in 5..100 {
        ledger.send().add(entry(id, "")).await.unwrap();
    }
    let account = ledger.settled().await.unwrap();
    assert_eq!((account.received(), account.handled()), (95, 95), "{account}");

    for (id, run) in server.journal.entries() {
        assert_eq!((run.begun, run.ended, run.dropped), (1, 1, 0), "call {id}");
        assert!(run.agent.starts_with("grpc-rust-rpc-http/"), "{}", run.agent);
    }
    assert_eq!(server.journal.entries().len(), 99);
    drop((ledger, answers, listed));
    server.drain().await;
}

#[tokio::test]
async fn a_deadline_reaches_the_handler_and_ends_it() {
    let server = TheirServer::start().await;
    let ledger = connect(server.address()).await;
    let unlimited = ledger.send_recv().timeout(None).add(entry(1, "")).await.unwrap();
    assert_eq!(unlimited.left_millis, None);
    let limited = ledger
        .send_recv()
        .timeout(Duration::from_secs(300))
        .add(entry(2, ""))
        .await
        .unwrap();
    let left = limited.left_millis;
    assert!((1..=300_000).contains(&left.unwrap()), "{left:?}");

    let error = ledger
        .send_recv()
        .timeout(Duration::from_millis(100))
        .add(asking(3, Ask::Hang))
        .await
        .unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert_eq!(error.executed(), Executed::Maybe);
    server.journal.wait_for(3, |run| run.dropped == 1).await;

    let request = ListRequest {
        id: 4,
        count: 1,
        hangs: true,
    };
    let late = ledger.send_recv().timeout(Duration::from_millis(500));
    let mut listed = late.list(request).await.unwrap();
    assert!(listed.message().await.unwrap().is_some());
    let error = listed.message().await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    server.journal.wait_for(4, |run| run.dropped == 1).await;
    drop((ledger, listed));
    server.drain().await;
}

#[tokio::test]
async fn a_call_that_is_dropped_ends_its_handler() {
    let server = TheirServer::start().await;
    let ledger = connect(server.address()).await;
    let hanging = {
        let ledger = ledger.clone();
        tokio::spawn(async move { ledger.send_recv().timeout(None).add(asking(1, Ask::Hang)).await })
    };
    server.journal.wait_for(1, |run| run.begun == 1).await;
    hanging.abort();
    server.journal.wait_for(1, |run| run.dropped == 1).await;

    let request = ListRequest {
        id: 2,
        count: 1,
        hangs: true,
    };
    let mut listed = ledger.send_recv().timeout(None).list(request).await.unwrap();
    assert!(listed.message().await.unwrap().is_some());
    drop(listed);
    server.journal.wait_for(2, |run| run.dropped == 1).await;
    // The connection goes on.
    ledger.send_recv().add(entry(3, "")).await.unwrap();
    drop(ledger);
    server.drain().await;
}

#[tokio::test]
async fn metadata_goes_both_ways() {
    let server = TheirServer::start().await;
    let ledger = connect(server.address()).await;
    let blob = || vec![0, 255, 7];
    let check = |metadata: &rpc_runtime::Metadata| {
        let tenants: Vec<_> = metadata.get_all("x-tenant").collect();
        assert_eq!(tenants, ["acme", "other"]);
        assert_eq!(
            metadata.get("x-blob-bin").map(|blob| &blob[..]),
            Some(&[0, 255, 7][..])
        );
    };
    let call = || {
        let call = ledger.send_recv().metadata("x-tenant", "acme");
        call.metadata("x-tenant", "other").metadata("x-blob-bin", blob())
    };
    let (_, receipt) = call().add(entry(1, "")).with_receipt().await.unwrap();
    check(receipt.metadata());

    let request = ListRequest {
        id: 2,
        count: 1,
        hangs: false,
    };
    let mut listed = call().list(request).await.unwrap();
    while listed.message().await.unwrap().is_some() {}
    check(listed.metadata().unwrap());

    check(call().add(asking(3, Ask::Refuse)).await.unwrap_err().metadata());
    drop((ledger, listed));
    server.drain().await;
}

#[tokio::test]
async fn a_refusal_has_its_code_text_and_details() {
    let server = TheirServer::start().await;
    let ledger = connect(server.address()).await;
    let error = ledger.send_recv().add(asking(1, Ask::Refuse)).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::InvalidArgument, REFUSAL));
    assert_eq!(error.executed(), Executed::Yes);
    let status: Status = error.details_as().unwrap().unwrap();
    let violations = BadRequest::decode(&status.details[0].value[..])
        .unwrap()
        .field_violations;
    assert_eq!(
        (violations[0].field.as_str(), violations[0].description.as_str()),
        (FIELD, WHY)
    );
    drop(ledger);
    server.drain().await;
}

#[tokio::test]
async fn gzip_and_zstd_make_messages_short_both_ways() {
    let text = "text".repeat(25_000);
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let server = TheirServer::compressing(encoding).await;
        let relay = Relay::start(server.address()).await.unwrap();
        let ledger: LedgerClient = LedgerClient::builder(format!("grpc://{}", relay.address()))
            .protocol(Grpc::new().gzip())
            .connect()
            .await
            .unwrap();
        let noted = ledger.send_recv().add(entry(1, text.clone())).await.unwrap();
        assert_eq!(noted.text, text);
        let (sent, received) = relay.take_bytes();
        assert!(
            sent < 10_000 && received < 10_000,
            "{encoding:?}: {sent}, {received}"
        );
        drop(ledger);
        server.drain().await;
    }
}

#[tokio::test]
async fn a_server_that_takes_no_gzip_refuses_it() {
    let server = TheirServer::start().await;
    let ledger: LedgerClient = LedgerClient::builder(format!("grpc://{}", server.address()))
        .protocol(Grpc::new().gzip())
        .connect_lazy();
    let text = "text".repeat(25_000);
    let error = ledger.send_recv().add(entry(1, text)).await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented, "{error}");
    drop(ledger);
    server.drain().await;
}

#[tokio::test]
async fn a_drain_lets_open_calls_end() {
    let (server, other) = (TheirServer::start().await, TheirServer::start().await);
    let fallback = format!("grpc://{}", other.address());
    let ledger: LedgerClient = builder(server.address()).fallback(fallback).connect_lazy();
    let (mut entries, mut answers) = ledger.send_recv().talk().await.unwrap();
    entries.send(entry(1, "before")).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().text, "before");
    let journal = server.journal.clone();
    let ended = tokio::spawn(server.drain());
    // The next calls go to the other server, and the open one goes on.
    ledger.send_recv().add(entry(2, "")).await.unwrap();
    entries.send(entry(1, "after")).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().text, "after");
    entries.finish();
    assert!(answers.message().await.unwrap().is_none());
    journal.wait_for(1, |run| run.ended == 1).await;
    ended.await.unwrap();
    ledger.send_recv().add(entry(3, "")).await.unwrap();
    assert!(other.journal.entries().contains_key(&3));
    drop((ledger, answers));
    other.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_while_servers_drain() {
    let (server, other) = (TheirServer::start().await, TheirServer::start().await);
    let (first, second) = (server.journal.clone(), other.journal.clone());
    let fallback = format!("grpc://{}", other.address());
    let ledger: LedgerClient = builder(server.address())
        .fallback(fallback)
        .connect()
        .await
        .unwrap();
    let mut load = JoinSet::new();
    for caller in 1..=8 {
        let ledger = ledger.clone();
        load.spawn(async move {
            for number in 0..500 {
                let id = caller * 1000 + number;
                ledger
                    .send_recv()
                    .add(entry(id, ""))
                    .await
                    .map_err(|error| format!("{id}: {error}"))?;
            }
            Ok::<_, String>(())
        });
    }
    // In the middle of all calls.
    first.wait_for(1100, |run| run.ended == 1).await;
    let ended = tokio::spawn(server.drain());
    while let Some(done) = load.join_next().await {
        done.unwrap().unwrap();
    }
    ended.await.unwrap();
    let (first, second) = (first.entries(), second.entries());
    assert!(!second.is_empty());
    // Each call ran once, at one of the two.
    assert_eq!(first.len() + second.len(), 4000);
    for (id, run) in first.iter().chain(&second) {
        assert_eq!((run.begun, run.ended), (1, 1), "call {id}");
    }
    drop(ledger);
    other.drain().await;
}

#[tokio::test]
async fn a_client_with_both_addresses_takes_what_the_server_speaks() {
    let server = TheirServer::start().await;
    let ledger: LedgerClient = LedgerClient::builder(format!("tcp://{}", server.address()))
        .fallback(format!("grpc://{}", server.address()))
        .protocol(Grpc::new())
        .connect()
        .await
        .unwrap();
    assert_eq!(ledger.send_recv().add(entry(1, "a")).await.unwrap().text, "a");
    drop(ledger);
    server.drain().await;
}
