//! Default metadata: the entries that a client adds to all its calls.

use rpc_runtime::{
    Client, Code, Executed,
    client::ClientBuilder,
    middleware::{ServerCall, from_fn},
};
use test_support::{Lab, all, lab::*, within};

/// A client of a lab whose middleware notes the metadata of each call.
async fn connected(address: &str, configure: impl FnOnce(ClientBuilder) -> ClientBuilder) -> (Lab, Client) {
    let lab = Lab::default();
    let notes = lab.clone();
    let noting = from_fn(move |call: ServerCall, next| {
        let entries = call.metadata().iter();
        let entries: Vec<_> = entries
            .map(|(key, value)| format!("{key}={}", String::from_utf8_lossy(value)))
            .collect();
        notes.note(entries.join(" "));
        next.run(call)
    });
    let server = lab.serve_with(address, |server| server.layer(noting)).await;
    let client = configure(Client::builder(&server.address)).connect();
    (lab, within(client).await.unwrap())
}

#[tokio::test(crate = "test_support::gate")]
async fn every_shape_of_call_carries_the_entries_of_its_client() {
    let (lab, client) = connected("mem:default-metadata-shapes", |client| {
        client.metadata("x-tenant", "acme").metadata("X-Zone", "b")
    })
    .await;
    let both = "x-tenant=acme x-zone=b";

    echo(&client, "unary").await.unwrap();
    assert_eq!(lab.take_log(), [both]);
    send(&client, &NOTE, "one-way").await;
    within(client.settled()).await.unwrap();
    assert_eq!(lab.take_log(), [both, "one-way"]);
    let mut counted = client.call().reply_stream(&COUNT, 1_u64).await.unwrap();
    all::<u64>(&mut counted).await.1.unwrap();
    assert_eq!(lab.take_log(), [both]);
    let (sender, sum) = client
        .call()
        .request_stream::<u64, _, _>(&SUM, Ok::<u64, _>)
        .await
        .unwrap();
    sender.finish();
    within(sum).await.unwrap();
    assert_eq!(lab.take_log(), [both]);
}

#[tokio::test(crate = "test_support::gate")]
async fn an_entry_of_the_call_wins_and_leaves_the_others() {
    let (lab, client) = connected("mem:default-metadata-own", |client| {
        client
            .metadata("x-tenant", "acme")
            .metadata("x-tenant", "too")
            .metadata("x-zone", "b")
    })
    .await;
    let call = client
        .call()
        .metadata("X-Tenant", "own")
        .metadata("x-tenant", "second");
    let _: String = within(call.send_recv(&ECHO, String::new())).await.unwrap();
    echo(&client, "").await.unwrap();
    assert_eq!(
        lab.take_log(),
        [
            "x-zone=b x-tenant=own x-tenant=second",
            "x-tenant=acme x-tenant=too x-zone=b"
        ]
    );
}

#[tokio::test(crate = "test_support::gate")]
async fn a_default_entry_that_may_not_travel_fails_every_call() {
    let (lab, client) = connected("mem:default-metadata-bad", |client| client.metadata("rpc-x", "1")).await;
    let error = echo(&client, "").await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::InvalidArgument, Executed::No)
    );
    assert!(error.message().contains("\"rpc-x\" is reserved"), "{error}");
    assert!(lab.log().is_empty());
}
