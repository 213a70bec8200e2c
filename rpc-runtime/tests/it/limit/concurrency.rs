//! `limit::concurrency`: whose place is taken, and when it is free again.

use std::time::Duration;

use rpc_runtime::{Client, Code, Error, Executed, limit, server::Procedure};
use test_support::{lab::*, within};
use tokio::task::JoinHandle;

use super::{echo_as, limited, text_as};

/// Calls a procedure as a user, in a task of its own.
fn start_as(
    client: &Client,
    user: &'static str,
    procedure: &'static Procedure,
    text: &str,
) -> JoinHandle<Result<String, Error>> {
    let (client, text) = (client.clone(), text.to_owned());
    tokio::spawn(async move { text_as(&client, user, procedure, &text).await })
}

#[tokio::test(crate = "test_support::gate")]
async fn a_call_beyond_the_limit_is_refused_until_one_has_ended() {
    let lab = Lab::default();
    let client = limited(&lab, limit::concurrency(2).retry_after(Duration::from_secs(3)));
    let calls = ["1", "2"].map(|name| start_as(&client, "greedy", &WAIT, name));
    lab.logged("1 began").await;
    lab.logged("2 began").await;
    let error = text_as(&client, "greedy", &WAIT, "never").await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::ResourceExhausted, Executed::No)
    );
    assert_eq!(
        error.message(),
        "2 calls of this caller run already (the server's limit::concurrency): wait for one to end"
    );
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
    echo_as(&client, "modest").await.unwrap();
    lab.release();
    for call in calls {
        within(call).await.unwrap().unwrap();
    }
    echo_as(&client, "greedy").await.unwrap();
    assert!(!lab.log().contains(&"never began".to_owned()));
}

#[tokio::test(crate = "test_support::gate")]
async fn a_place_is_free_when_the_handler_was_cancelled_panicked_or_failed() {
    let lab = Lab::default();
    let client = limited(&lab, limit::concurrency(1));
    for _ in 0..2 {
        let call = start_as(&client, "ada", &WAIT, "x");
        lab.logged("x began").await;
        echo_as(&client, "ada").await.unwrap_err();
        call.abort();
        lab.logged("x dropped").await;
        lab.hold();
        freed(&client).await;
    }
    for procedure in [&PANIC, &PANIC_LATER, &FAIL] {
        let call = client
            .call()
            .metadata("user", "ada")
            .send_recv::<_, String>(procedure, ());
        let error = within(call).await.unwrap_err();
        assert_eq!(error.executed(), Executed::Yes, "{error}");
        freed(&client).await;
    }
}

#[tokio::test(crate = "test_support::gate", start_paused = true)]
async fn a_place_is_free_when_the_deadline_has_dropped_the_handler() {
    let lab = Lab::default();
    let client = limited(&lab, limit::concurrency(1));
    let call = client
        .call()
        .metadata("user", "ada")
        .timeout(Duration::from_secs(1));
    let error = within(call.send_recv::<_, ()>(&HANG, ())).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    lab.until_hanging(0).await;
    freed(&client).await;
}

#[tokio::test(crate = "test_support::gate")]
async fn a_stream_has_its_place_until_it_has_ended() {
    let lab = Lab::default();
    let client = limited(&lab, limit::concurrency(1));
    let call = client.call().metadata("user", "ada");
    let mut watched = call.reply_stream::<_, String>(&WATCH, ()).await.unwrap();
    within(watched.message()).await.unwrap().unwrap();
    echo_as(&client, "ada").await.unwrap_err();
    drop(watched);
    lab.until_hanging(0).await;
    freed(&client).await;

    let call = client.call().metadata("user", "ada");
    let (mut sender, sum) = call.request_stream::<u64, u64, _>(&SUM, Ok).await.unwrap();
    sender.send(1).await.unwrap();
    until_refused(&client).await;
    sender.finish();
    assert_eq!(within(sum).await.unwrap(), 1);
    freed(&client).await;
}

/// Waits until ada's place is free: its call may have ended for its caller a moment before it has for the limit.
async fn freed(client: &Client) {
    within(async { while echo_as(client, "ada").await.is_err() {} }).await;
}

/// Waits until ada's place is taken: a call with a stream of requests is open before it has arrived.
async fn until_refused(client: &Client) {
    within(async { while echo_as(client, "ada").await.is_ok() {} }).await;
}
