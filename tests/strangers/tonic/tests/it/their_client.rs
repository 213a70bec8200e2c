//! tonic's client at our server.

use std::{net::SocketAddr, time::Duration};

use tokio::{sync::mpsc, time::timeout};
use tokio_stream::{iter, wrappers::ReceiverStream};
use tonic::{Code, Request, codec::CompressionEncoding, metadata::MetadataValue, transport::Channel};
use tonic_stranger::{
    FIELD, LONG, REFUSAL, WHY,
    ours::OurServer,
    relay::Relay,
    theirs::v1::{Ask, Entry, ListRequest, ledger_client::LedgerClient},
};
use tonic_types::StatusExt;

async fn connect(address: SocketAddr) -> LedgerClient<Channel> {
    LedgerClient::connect(format!("http://{address}")).await.unwrap()
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
    let server = OurServer::start().await;
    let mut ledger = connect(server.address()).await;
    let noted = ledger.add(entry(1, "größe")).await.unwrap().into_inner();
    assert_eq!((noted.entries, noted.text.as_str()), (1, "größe"));

    let request = ListRequest {
        id: 2,
        count: 1000,
        hangs: false,
    };
    let mut listed = ledger.list(request).await.unwrap().into_inner();
    for id in 1..=1000 {
        assert_eq!(listed.message().await.unwrap().unwrap().id, id);
    }
    assert_eq!(listed.message().await.unwrap(), None);

    let entries = iter((0..1000).map(|number| entry(3, number.to_string())));
    let noted = ledger.load(entries).await.unwrap().into_inner();
    assert_eq!((noted.entries, noted.text.as_str()), (1000, "999"));

    let (sender, entries) = mpsc::channel(1);
    sender.send(entry(4, "0")).await.unwrap();
    let mut answers = ledger
        .talk(ReceiverStream::new(entries))
        .await
        .unwrap()
        .into_inner();
    for turn in 1..100 {
        // Each entry waits for the answer to the one before.
        assert_eq!(
            answers.message().await.unwrap().unwrap().text,
            (turn - 1).to_string()
        );
        sender.send(entry(4, turn.to_string())).await.unwrap();
    }
    drop(sender);
    assert_eq!(answers.message().await.unwrap().unwrap().text, "99");
    assert_eq!(answers.message().await.unwrap(), None);

    for (id, run) in server.journal.entries() {
        assert_eq!((run.begun, run.ended, run.dropped), (1, 1, 0), "call {id}");
        assert!(run.agent.starts_with("tonic/"), "{}", run.agent);
    }
    assert_eq!(server.journal.entries().len(), 4);
    drop(ledger);
    assert!(server.stop().await.is_clean());
}

#[tokio::test]
async fn a_deadline_reaches_the_handler_and_ends_it() {
    let server = OurServer::start().await;
    let mut ledger = connect(server.address()).await;
    assert_eq!(
        ledger.add(entry(1, "")).await.unwrap().into_inner().left_millis,
        None
    );
    let mut request = Request::new(entry(2, ""));
    request.set_timeout(Duration::from_secs(300));
    let left = ledger.add(request).await.unwrap().into_inner().left_millis;
    assert!((1..=300_000).contains(&left.unwrap()), "{left:?}");

    let mut request = Request::new(asking(3, Ask::Hang));
    request.set_timeout(Duration::from_millis(100));
    let status = ledger.add(request).await.unwrap_err();
    // Whoever is first: our server, or tonic's own timer, which has another code.
    assert!(
        matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled),
        "{status}"
    );
    server.journal.wait_for(3, |run| run.dropped == 1).await;

    // tonic has no timer for a stream that has begun. The server ends it.
    let mut request = Request::new(ListRequest {
        id: 4,
        count: 1,
        hangs: true,
    });
    request.set_timeout(Duration::from_millis(500));
    let mut listed = ledger.list(request).await.unwrap().into_inner();
    assert!(listed.message().await.unwrap().is_some());
    let status = timeout(LONG, listed.message()).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    server.journal.wait_for(4, |run| run.dropped == 1).await;
    drop(ledger);
    server.stop().await;
}

#[tokio::test]
async fn a_call_that_is_dropped_ends_its_handler() {
    let server = OurServer::start().await;
    let mut ledger = connect(server.address()).await;
    let hanging = {
        let mut ledger = ledger.clone();
        tokio::spawn(async move { ledger.add(asking(1, Ask::Hang)).await })
    };
    server.journal.wait_for(1, |run| run.begun == 1).await;
    hanging.abort();
    server.journal.wait_for(1, |run| run.dropped == 1).await;

    let request = ListRequest {
        id: 2,
        count: 1,
        hangs: true,
    };
    let mut listed = ledger.list(request).await.unwrap().into_inner();
    assert!(listed.message().await.unwrap().is_some());
    drop(listed);
    server.journal.wait_for(2, |run| run.dropped == 1).await;
    // The connection goes on.
    ledger.add(entry(3, "")).await.unwrap();
    drop(ledger);
    server.stop().await;
}

#[tokio::test]
async fn metadata_goes_both_ways() {
    let server = OurServer::start().await;
    let mut ledger = connect(server.address()).await;
    let fill = |metadata: &mut tonic::metadata::MetadataMap| {
        metadata.append("x-tenant", "acme".parse().unwrap());
        metadata.append("x-tenant", "other".parse().unwrap());
        metadata.append_bin("x-blob-bin", MetadataValue::from_bytes(&[0, 255, 7]));
    };
    let check = |metadata: &tonic::metadata::MetadataMap| {
        let tenants: Vec<_> = metadata.get_all("x-tenant").iter().collect();
        assert_eq!(tenants, ["acme", "other"]);
        let blob = metadata.get_bin("x-blob-bin").unwrap().to_bytes().unwrap();
        assert_eq!(&blob[..], [0, 255, 7]);
    };
    let mut request = Request::new(entry(1, ""));
    fill(request.metadata_mut());
    check(ledger.add(request).await.unwrap().metadata());

    let mut request = Request::new(ListRequest {
        id: 2,
        count: 1,
        hangs: false,
    });
    fill(request.metadata_mut());
    let mut listed = ledger.list(request).await.unwrap().into_inner();
    while listed.message().await.unwrap().is_some() {}
    check(&listed.trailers().await.unwrap().unwrap());

    let mut request = Request::new(asking(3, Ask::Refuse));
    fill(request.metadata_mut());
    check(ledger.add(request).await.unwrap_err().metadata());
    drop(ledger);
    server.stop().await;
}

#[tokio::test]
async fn a_refusal_has_its_code_text_and_details() {
    let server = OurServer::start().await;
    let mut ledger = connect(server.address()).await;
    let status = ledger.add(asking(1, Ask::Refuse)).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::InvalidArgument, REFUSAL)
    );
    let details = status.get_details_bad_request().unwrap();
    let violation = &details.field_violations[0];
    assert_eq!(
        (violation.field.as_str(), violation.description.as_str()),
        (FIELD, WHY)
    );
    drop(ledger);
    server.stop().await;
}

#[tokio::test]
async fn gzip_and_zstd_make_messages_short_both_ways() {
    let server = OurServer::start().await;
    let relay = Relay::start(server.address()).await.unwrap();
    let text = "text".repeat(25_000);
    for (id, name, encoding) in [
        (1, "gzip", CompressionEncoding::Gzip),
        (2, "zstd", CompressionEncoding::Zstd),
    ] {
        let mut ledger = connect(relay.address())
            .await
            .send_compressed(encoding)
            .accept_compressed(encoding);
        let noted = ledger.add(entry(id, text.clone())).await.unwrap();
        assert_eq!(noted.metadata().get("grpc-encoding").unwrap(), name);
        assert_eq!(noted.into_inner().text, text);
        let (sent, received) = relay.take_bytes();
        assert!(
            sent < 10_000 && received < 10_000,
            "{encoding:?}: {sent}, {received}"
        );
    }
    // And without: the relay does count.
    let mut ledger = connect(relay.address()).await;
    assert_eq!(
        ledger
            .add(entry(3, text.clone()))
            .await
            .unwrap()
            .into_inner()
            .text,
        text
    );
    let (sent, received) = relay.take_bytes();
    assert!(sent > 100_000 && received > 100_000, "{sent}, {received}");
    drop(ledger);
    server.stop().await;
}

#[tokio::test]
async fn a_drain_lets_open_calls_end() {
    let server = OurServer::start().await;
    let mut ledger = connect(server.address()).await;
    let (sender, entries) = mpsc::channel(1);
    sender.send(entry(1, "before")).await.unwrap();
    let mut answers = ledger
        .talk(ReceiverStream::new(entries))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().text, "before");
    server.handle.drain();
    sender.send(entry(1, "after")).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().text, "after");
    drop(sender);
    assert_eq!(answers.message().await.unwrap(), None);
    server.journal.wait_for(1, |run| run.ended == 1).await;
    assert!(server.ended().await.is_clean());
    // Nothing listens any more. tonic says so, and does not hang.
    let status = timeout(LONG, ledger.add(entry(2, "")))
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
}
