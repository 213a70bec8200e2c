//! The function that verifies tokens: how long it may take, and that it may panic.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use rpc_runtime::{
    Code, Executed, Result,
    auth::{BearerTokens, Caller, Secret},
};
use test_support::{Logged, lab::*, within};
use tokio::time::Instant;

use super::{connect, served};

/// Tokens of which `sleepy` is verified after 20 s, and `bomb` never.
fn slow() -> BearerTokens {
    BearerTokens::verified_by(async |token: Secret| -> Result<Caller> {
        match token.expose() {
            "sleepy" => tokio::time::sleep(Duration::from_secs(20)).await,
            "bomb" => panic!("on purpose"),
            _ => {}
        }
        Ok(Caller::new("ada"))
    })
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_call_waits_for_the_verification_of_its_token_for_5_s() {
    let logged = Logged::here();
    let (lab, server) = served("mem:tokens-sleepy", slow()).await;
    let client = connect(&server, |client| client.token("sleepy")).await.unwrap();
    for _ in 0..3 {
        let begun = Instant::now();
        let error = within(
            client
                .call()
                .fail_fast()
                .send_recv::<_, String>(&ECHO, String::new()),
        )
        .await
        .unwrap_err();
        assert_eq!(
            (error.code(), error.executed(), error.message()),
            (
                Code::Unavailable,
                Executed::No,
                "the token was not verified within 5s: the server's BearerTokens::verify_timeout"
            )
        );
        // The client makes a call that was not executed once more.
        assert!(begun.elapsed() < Duration::from_secs(11), "{:?}", begun.elapsed());
    }
    assert!(lab.log().is_empty());
    let lines = logged.picked("a call was refused because its token was not verified", &["text"]);
    assert_eq!(
        lines,
        ["the token was not verified within 5s: the server's BearerTokens::verify_timeout"],
        "once a minute"
    );
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn the_time_of_a_verification_can_be_set() {
    for (seconds, is_enough) in [(30, true), (1, false)] {
        let tokens = slow().verify_timeout(Duration::from_secs(seconds));
        let (_, server) = served(&format!("mem:tokens-patient-{seconds}"), tokens).await;
        let client = connect(&server, |client| client.token("sleepy")).await.unwrap();
        let begun = Instant::now();
        assert_eq!(echo(&client, "").await.is_ok(), is_enough);
        // A call that was not executed is made once more.
        let expected = if is_enough { 20 } else { 2 };
        assert_eq!(begun.elapsed().as_secs(), expected);
    }
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn the_deadline_of_a_call_ends_the_verification_of_its_token() {
    let ended = Arc::new(AtomicUsize::new(0));
    struct CountsEnd(Arc<AtomicUsize>);
    impl Drop for CountsEnd {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let counted = Arc::clone(&ended);
    let tokens = BearerTokens::verified_by(move |_| {
        let ends = CountsEnd(Arc::clone(&counted));
        async move {
            let _ends = ends;
            std::future::pending::<Result<Caller>>().await
        }
    });
    let (_, server) = served("mem:tokens-late", tokens).await;
    let client = connect(&server, |client| client.token("any")).await.unwrap();
    let begun = Instant::now();
    let call = client.call().timeout(Duration::from_secs(2));
    let error = within(call.send_recv::<_, String>(&ECHO, String::new()))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
    assert_eq!(begun.elapsed().as_secs(), 2);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(ended.load(SeqCst), 1);
}

#[tokio::test(crate = "test_support::gate")]
async fn a_verification_that_panics_refuses_its_call_alone() {
    let logged = Logged::here();
    let (lab, server) = served("mem:tokens-bomb", slow()).await;
    let client = connect(&server, |client| client.token("bomb")).await.unwrap();
    for _ in 0..2 {
        let error = echo(&client, "").await.unwrap_err();
        assert_eq!(
            (error.code(), error.executed(), error.message()),
            (
                Code::Internal,
                Executed::No,
                "the function that verifies tokens panicked"
            )
        );
    }
    let client = connect(&server, |client| client.token("good")).await.unwrap();
    echo(&client, "").await.unwrap();
    assert_eq!(lab.log(), ["ada calls echo"]);
    assert!(
        !logged
            .picked("a call was refused because its token was not verified", &[])
            .is_empty()
    );
}
