//! Clients that keep several connections to their server.

use std::collections::BTreeMap;

use rpc_runtime::{Client, client::ClientBuilder};
use test_support::{lab::*, own_host, within};

async fn four(address: &str) -> Client {
    let client: ClientBuilder = Client::builder(address).connections(4);
    within(client.connect()).await.unwrap()
}

/// Makes `calls` calls, and counts them by connection.
async fn spread(client: &Client, calls: usize) -> BTreeMap<String, usize> {
    let mut spread = BTreeMap::new();
    for _ in 0..calls {
        *spread.entry(plain(client, &PEER).await.unwrap()).or_default() += 1;
    }
    spread
}

#[tokio::test(crate = "test_support::gate")]
async fn calls_take_turns_and_one_ways_keep_to_one_connection() {
    let lab = Lab::default();
    let server = lab.serve("tcp://127.0.0.1:0").await;
    let client = four(&server.address).await;
    let spread = spread(&client, 40).await;
    assert_eq!(
        spread.values().copied().collect::<Vec<_>>(),
        [10; 4],
        "{spread:?}"
    );
    for i in 0..200 {
        send(&client, &NOTE, &i.to_string()).await;
    }
    let account = within(client.barrier()).await.unwrap();
    assert_eq!(account.received(), 200);
    text(&client, &ECHO, "another connection").await.unwrap();
    lab.logged("199").await;
    assert_eq!(lab.log(), (0..200).map(|i| i.to_string()).collect::<Vec<_>>());
    within(client.flush()).await.unwrap();
}

#[tokio::test(crate = "test_support::gate")]
async fn closing_waits_for_the_calls_of_every_connection() {
    let lab = Lab::default();
    let server = lab.serve("tcp://127.0.0.1:0").await;
    let client = four(&server.address).await;
    let calls: Vec<_> = (0..8).map(|_| start(&client, &WAIT, "call")).collect();
    while lab.log().len() < 8 {
        tokio::task::yield_now().await;
    }
    let closing = tokio::spawn({
        let client = client.clone();
        async move { client.close().await }
    });
    while text(&client, &ECHO, "still open").await.is_ok() {}
    assert!(!closing.is_finished());
    lab.release();
    for call in calls {
        within(call).await.unwrap().unwrap();
    }
    within(closing).await.unwrap().unwrap();
    server.handle.drain();
    assert!(server.report().await.is_clean());
}

#[tokio::test(crate = "test_support::gate")]
async fn every_connection_comes_back_after_a_restart() {
    let lab = Lab::default();
    let server = lab.serve(&format!("tcp://{}:0", own_host(4))).await;
    let client = four(&server.address).await;
    assert_eq!(spread(&client, 8).await.len(), 4);
    let address = server.address.clone();
    within(client.terminate()).await.unwrap();
    server.report().await;
    let _server = lab.serve(&address).await;
    assert_eq!(spread(&client, 8).await.len(), 4);
}
