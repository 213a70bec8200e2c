//! Errors that come from a limit name the setting that bounds it, as callers see them.
//!
//! `src/limit_texts.rs` of the workspace looks at the texts of the source; here the limits are reached.

use std::time::Duration;

use rpc_runtime::{Client, Code, Error, Limits, client::ClientBuilder};
use test_support::{lab::*, mute, within};

/// A client of a lab that is served at `address`, each with its limits.
async fn limited(lab: &Lab, address: &str, server: Limits, client: Limits) -> Client {
    lab.serve_with(address, |builder| builder.limits(server)).await;
    within(Client::builder(address).limits(client).connect())
        .await
        .unwrap()
}

#[track_caller]
fn names(error: &Error, code: Code, text: &str) {
    assert_eq!(error.code(), code, "{error}");
    assert!(error.message().contains(text), "{error}");
}

#[tokio::test(crate = "test_support::gate")]
async fn a_message_that_is_too_long_names_whose_limit_it_exceeds() {
    let (lab, short) = (Lab::default(), Limits::default().max_message(1000));
    let client = limited(&lab, "mem:texts-request", short.clone(), Limits::default()).await;
    let long = "x".repeat(2000);
    let error = text(&client, &ECHO, &long).await.unwrap_err();
    let peers = "exceeds the peer's limit of 1000: send less, or raise its Limits::max_message";
    names(&error, Code::ResourceExhausted, peers);

    let client = limited(&lab, "mem:texts-reply", Limits::default(), short).await;
    let error = text(&client, &ECHO, &long).await.unwrap_err();
    let callers = "exceeds the caller's limit of 1000: its Limits::max_message";
    names(&error, Code::ResourceExhausted, callers);
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn calls_that_find_no_slot_name_what_they_wait_for() {
    let lab = Lab::default();
    let few = Limits::default().max_calls(16);
    let client = limited(&lab, "mem:texts-slots", few, Limits::default().max_waiting(1)).await;
    let open: Vec<_> = (0..16).map(|i| start(&client, &WAIT, &i.to_string())).collect();
    for i in 0..16 {
        lab.logged(&format!("{i} began")).await;
    }
    let call = |time| {
        let call = client.call().timeout(Duration::from_secs(time));
        call.send_recv::<_, String>(&ECHO, "one more".to_owned())
    };
    // The first one takes the place of those that wait.
    let (waiting, refused) = within(async { tokio::join!(call(5), call(1)) }).await;
    let one_more = "1 callers wait already: start fewer calls at once, or raise Limits::max_waiting";
    names(&refused.unwrap_err(), Code::ResourceExhausted, one_more);
    let late = waiting.unwrap_err();
    let time = "not sent within 5s (Call::timeout or ClientBuilder::timeout)";
    names(&late, Code::DeadlineExceeded, time);
    let slots = "its Limits::max_calls, Limits::call_bytes or Limits::send_bytes";
    names(&late, Code::DeadlineExceeded, slots);
    lab.release();
    for call in open {
        within(call).await.unwrap().unwrap();
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_reply_beyond_the_inbox_names_it() {
    let lab = Lab::default();
    let small = Limits::default().inbox_bytes(100_000);
    let client = limited(&lab, "mem:texts-inbox", Limits::default(), small).await;
    let error = text(&client, &ECHO, &"x".repeat(300_000)).await.unwrap_err();
    let inbox =
        "unread replies exceed our limit of 100000 bytes: poll the calls, or raise Limits::inbox_bytes";
    names(&error, Code::ResourceExhausted, inbox);
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_server_that_says_nothing_names_the_times_that_a_client_waits() {
    let silent = mute("mem:texts-mute").await;
    let hasty: ClientBuilder = Client::builder("mem:texts-mute").connect_timeout(Duration::from_secs(2));
    let error = within(hasty.connect()).await.unwrap_err();
    let connecting = "Limits::handshake_timeout, or what was left of ClientBuilder::connect_timeout";
    names(&error, Code::DeadlineExceeded, connecting);
    drop(silent);
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_call_that_a_drain_drops_names_the_time_of_the_drain() {
    let lab = Lab::default();
    let server = lab
        .serve_with("mem:texts-drain", |server| {
            server.drain_timeout(Duration::from_secs(1))
        })
        .await;
    let call = hang(&server.client().await);
    lab.until_hanging(1).await;
    server.handle.drain();
    let error = within(call).await.unwrap().unwrap_err();
    let drain = "dropped at the end of the drain: the server's ServerBuilder::drain_timeout";
    names(&error, Code::Unavailable, drain);
    server.report().await;
}
