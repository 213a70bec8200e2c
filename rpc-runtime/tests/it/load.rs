//! `load()` of a server and of a client.

use rpc_runtime::{Client, Streaming, server::Load};
use test_support::{lab::*, wire, within};

fn show(load: Load) -> String {
    let counts = [
        load.connections(),
        load.handshakes(),
        load.calls(),
        load.one_ways(),
        load.handler_tasks(),
        load.waiting(),
    ];
    counts.map(|count| count.to_string()).join(" ")
}

#[tokio::test(crate = "test_support::gate")]
async fn a_load_shows_what_is_open_until_it_is_over() {
    let lab = Lab::default();
    let server = lab.serve("tcp://127.0.0.1:0").await;
    assert_eq!(server.handle.load(), Load::default());
    let client = server.client().await;
    let call = start(&client, &WAIT, "call");
    lab.logged("call began").await;
    send(&client, &WAIT, "send").await;
    lab.logged("send began").await;
    let mute = wire::HandPeer::connect(&server.address).await;
    while server.handle.load().handshakes() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(show(server.handle.load()), "2 1 1 1 2 0");
    assert_eq!(show(client.load()), "1 0 1 0 0 0");
    lab.release();
    within(call).await.unwrap().unwrap();
    drop(mute);
    while show(server.handle.load()) != "1 0 0 0 0 0" {
        tokio::task::yield_now().await;
    }
    assert_eq!(show(client.load()), "1 0 0 0 0 0");
    within(client.close()).await.unwrap();
    assert_eq!(client.load(), Load::default());
}

#[tokio::test(crate = "test_support::gate")]
async fn a_load_shows_callers_that_wait_for_a_connection() {
    let client = Client::connect_lazy("mem:load-nobody");
    let call = start(&client, &ECHO, "unheard");
    while client.load().waiting() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(show(client.load()), "0 0 0 0 0 1");
    call.abort();
    while client.load() != Load::default() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_load_shows_unread_bytes() {
    let (_tape, client) = Lab::in_process();
    let replies = client.call().reply_stream(&COUNT, 100_u64);
    let mut replies: Streaming<u64> = within(replies).await.unwrap();
    while client.load().buffered_bytes() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(all(&mut replies).await.0.len(), 100);
    assert_eq!(client.load().buffered_bytes(), 0);
}
