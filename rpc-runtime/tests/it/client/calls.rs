//! Replies, refusals and limits of calls, and what a dropped call leaves behind.

use std::{collections::HashSet, pin::pin, task::Poll};

use rpc_runtime::{Bytes, Client, Code, Executed, Limits, Message, Metadata, status::Phase};
use test_support::{lab::*, unix, until, within};

#[tokio::test(crate = "test_support::gate")]
async fn every_transport_carries_a_call() {
    let lab = Lab::default();
    let mut clients = vec![Client::in_process(lab.clone())];
    let mut servers = Vec::new();
    for address in ["tcp://127.0.0.1:0", "mem:client-calls-every", &unix("every")] {
        let server = lab.serve(address).await;
        clients.push(server.client().await);
        clients.push(Client::connect_lazy(&server.address));
        servers.push(server);
    }
    for client in &clients {
        assert_eq!(echo(client, "hello").await.unwrap(), "hello");
        assert_eq!(echo(client, "").await.unwrap(), "");
        within(client.ping()).await.unwrap();
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_refusal_brings_its_code_text_details_and_metadata() {
    let client = Client::in_process(Lab::default());
    let call = client.call().metadata("k", "v").metadata("k2", vec![0, 255]);
    let error = within(call.send_recv::<_, ()>(&REFUSE, "not twice".to_owned()))
        .await
        .unwrap_err();
    let status = error.status().expect("the peer refused");
    assert_eq!(
        (status.code(), status.message()),
        (Code::AlreadyExists, "not twice")
    );
    assert_eq!(error.details(), "the typed reason");
    let sent: Metadata = [("k", &b"v"[..]), ("k2", &[0, 255])].into_iter().collect();
    assert_eq!(error.metadata(), &sent);
    assert_eq!(
        (error.executed(), error.phase()),
        (Executed::Yes, Some(Phase::Wait))
    );
    assert_eq!(error.procedure(), Some("lab.v1.Lab/refuse"));
    assert_eq!(error.peer(), Some("in-process"));
}

#[tokio::test(crate = "test_support::gate")]
async fn metadata_reaches_the_handler() {
    let client = Client::in_process(Lab::default());
    let value: Bytes = within(client.call().metadata("k", "v").send_recv(&ENTRY, ()))
        .await
        .unwrap();
    assert_eq!(value, "v");
}

#[tokio::test(crate = "test_support::gate")]
async fn metadata_over_the_limit_never_leaves() {
    let client = Client::in_process(Lab::default());
    let call = client.call().metadata("k", vec![0; Metadata::MAX_LEN]);
    let error = within(call.send_recv::<_, Bytes>(&ENTRY, ())).await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::InvalidArgument, Executed::No)
    );
    assert!(error.message().contains("8192 bytes"), "{error}");
    assert_eq!(echo(&client, "next").await.unwrap(), "next");
}

#[tokio::test(crate = "test_support::gate")]
async fn a_request_over_the_peers_limit_fails_here_and_alone() {
    let lab = Lab::default();
    let limits = Limits::default().max_message(100_000);
    let server = lab
        .serve_with("mem:client-calls-oversize", |server| server.limits(limits))
        .await;
    let client = server.client().await;
    let (long, next) = tokio::join!(echo(&client, vec![0; 200_000]), echo(&client, vec![0; 90_000]));
    let error = long.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::ResourceExhausted, Executed::No)
    );
    let len = Bytes::from(vec![0; 200_000]).encoded_len();
    assert!(
        error.message().contains(&len.to_string()) && error.message().contains("100000"),
        "{error}"
    );
    assert_eq!(next.unwrap().len(), 90_000);
}

#[tokio::test(crate = "test_support::gate")]
async fn a_reply_over_our_limit_fails_its_call_alone() {
    let lab = Lab::default();
    let server = lab.serve("mem:client-calls-reply").await;
    let limits = Limits::default().max_message(100_000);
    let client = within(Client::builder(&server.address).limits(limits).connect())
        .await
        .unwrap();
    let error = within(client.call().send_recv::<_, Bytes>(&FILL, 200_000_u64))
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::ResourceExhausted, Executed::Yes)
    );
    assert!(error.message().contains("100000"), "{error}");
    assert_eq!(echo(&client, "next").await.unwrap(), "next");
}

#[tokio::test(crate = "test_support::gate")]
async fn long_messages_travel_whole_in_both_directions() {
    let lab = Lab::default();
    let server = lab.serve("tcp://127.0.0.1:0").await;
    let client = server.client().await;
    for len in [16 * 1024 - 10, 16 * 1024, 100_000, 3 << 20] {
        let sent: Vec<u8> = (0..len).map(|i| i as u8).collect();
        assert_eq!(echo(&client, sent.clone()).await.unwrap(), sent);
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_reply_of_another_type_is_executed_and_internal() {
    let client = Client::in_process(Lab::default());
    // The tag of `String` is that of `Bytes`, but these bytes are no text.
    let sent = Bytes::from_static(&[0xff, 0xfe]);
    let error = within(client.call().send_recv::<_, String>(&ECHO, sent))
        .await
        .unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::Internal, Executed::Yes));
    assert!(error.status().is_none());
    assert_eq!(error.procedure(), Some("lab.v1.Lab/echo"));
}

#[tokio::test(crate = "test_support::gate")]
async fn an_unknown_procedure_is_not_executed() {
    let client = Client::in_process(Lab::default());
    let error = within(client.call().send_recv::<_, ()>(&NOWHERE, ()))
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unimplemented, Executed::No)
    );
}

#[tokio::test(flavor = "multi_thread", crate = "test_support::gate")]
async fn ten_thousand_calls_fit_through_one_connection() {
    let lab = Lab::default();
    let server = lab.serve("tcp://127.0.0.1:0").await;
    let client = server.client().await;
    let calls: Vec<_> = (0..10_000_u32)
        .map(|i| {
            let client = client.clone();
            let bytes = Bytes::copy_from_slice(&i.to_be_bytes());
            tokio::spawn(async move {
                // A slow machine needs longer than the default of 30 s for all of them.
                let call = client.call().timeout(None);
                (i, call.send_recv::<_, Bytes>(&ECHO, bytes).await.unwrap())
            })
        })
        .collect();
    let mut seen = HashSet::new();
    for call in calls {
        let (i, reply) = within(call).await.unwrap();
        assert_eq!(reply, i.to_be_bytes()[..]);
        assert!(seen.insert(i));
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn dropped_calls_leave_nothing_behind() {
    let lab = Lab::default();
    let limits = Limits::default().max_calls(16);
    let server = lab
        .serve_with("mem:client-calls-drop", |server| server.limits(limits))
        .await;
    let client = server.client().await;
    // Dropped before the first poll, after it, while queued behind a full connection, and after the handler began.
    for round in 0..10 {
        drop(client.call().send_recv::<_, ()>(&HANG, ()));
        let mut calls: Vec<_> = (0..40)
            .map(|_| Box::pin(client.call().send_recv::<_, ()>(&HANG, ())))
            .collect();
        within(std::future::poll_fn(|cx| {
            for call in &mut calls {
                assert!(call.as_mut().poll(cx).is_pending());
            }
            if round % 2 == 0 && lab.hanging() < 16 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(())
        }))
        .await;
        drop(calls);
        until(|| lab.hanging() == 0).await;
    }
    for i in 0..1000_u32 {
        assert_eq!(
            echo(&client, i.to_be_bytes().to_vec()).await.unwrap(),
            i.to_be_bytes()[..]
        );
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_future_of_a_call_is_send_and_a_dropped_send_affects_no_other() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let lab = Lab::default();
    let client = Client::in_process(lab.clone());
    {
        let send = is_send(client.call().send(&ADD, 1_u64));
        let mut send = pin!(send);
        // Finds no connection, so it waits.
        assert!(std::future::poll_fn(|cx| Poll::Ready(send.as_mut().poll(cx).is_pending())).await);
    }
    within(is_send(client.call().send(&ADD, 10_u64))).await.unwrap();
    let account = within(client.barrier()).await.unwrap();
    assert_eq!(account.received(), 1);
    until(|| lab.sum() == 10).await;
}

#[tokio::test(crate = "test_support::gate")]
async fn a_call_sees_the_effects_of_earlier_sends() {
    let lab = Lab::default();
    let server = lab.serve("tcp://127.0.0.1:0").await;
    let client = server.client().await;
    for i in 1..=100_u64 {
        within(client.call().send(&ADD, 1_u64)).await.unwrap();
        let sum: u64 = within(client.call().send_recv(&TOTAL, ())).await.unwrap();
        assert_eq!(sum, i);
    }
}
