//! A connection that carries the calls of many callers, as that of a gateway does: the denials of one refuse that one.

use std::time::Duration;

use rpc_runtime::{
    Client, Code, Error, Executed, Limits,
    auth::{BearerTokens, Roles},
};
use test_support::{Logged, lab::*, within};
use tokio::time::sleep;

use super::*;

/// A server that believes what callers say, and denies 5 of their calls in a minute.
async fn believing(address: &str) -> Running {
    served(address, |server| {
        server
            .layer(Believe)
            .policy(Roles::new())
            .allow("lab.v1.Lab", ["anyone"])
            .limits(Limits::default().max_denials(5))
    })
    .await
}

/// Says how a call of the vault ended.
async fn code(client: &Client, procedure: &'static Procedure, caller: &str) -> Option<Code> {
    let error = call_as(client, procedure, caller).await.err()?;
    assert_eq!(error.executed(), Executed::No);
    Some(error.code())
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn the_denials_of_one_caller_refuse_that_one_and_no_other() {
    let logged = Logged::here();
    let server = believing("mem:policy-gateway").await;
    let client = server.client().await;
    let open = hang(&client);
    assert_eq!(code(&client, &READ, "ada reader").await, None);
    for _ in 0..5 {
        assert_eq!(
            code(&client, &CLEAR, "bob reader").await,
            Some(Code::PermissionDenied)
        );
    }
    for procedure in [&CLEAR, &READ] {
        assert_eq!(
            code(&client, procedure, "bob reader").await,
            Some(Code::ResourceExhausted)
        );
        assert_eq!(code(&client, &READ, "ada reader").await, None);
        assert_eq!(
            code(&client, &CLEAR, "ada reader").await,
            Some(Code::PermissionDenied)
        );
    }
    let error = call_as(&client, &READ, "bob reader").await.unwrap_err();
    assert_eq!(
        (error.message(), error.retry_after()),
        (
            "too many calls of this caller were denied (the server's Limits::max_denials): its calls are refused for another 60 s",
            None
        )
    );
    let refused = logged.audit();
    let refused: Vec<_> = refused
        .iter()
        .filter(|line| line.get("decision") == "refused")
        .map(|line| line.pick(&["message", "decision", "denials", "procedure", "caller"]))
        .collect();
    assert_eq!(refused, ["caller refused 5 vault.v1.Vault/clear bob"]);

    sleep(Duration::from_secs(60)).await;
    assert_eq!(code(&client, &READ, "bob reader").await, None);
    let counters = server.handle.counters();
    assert_eq!((counters.calls_denied(), counters.drained_by_denials()), (7, 0));
    assert!(!open.is_finished());
    open.abort();
    server.stop().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn the_denials_of_the_only_caller_of_a_connection_end_it() {
    let server = believing("mem:policy-only").await;
    let client = server.client().await;
    assert_eq!(code(&client, &READ, "bob reader").await, None);
    for _ in 0..5 {
        assert_eq!(
            code(&client, &CLEAR, "bob reader").await,
            Some(Code::PermissionDenied)
        );
    }
    assert_eq!(server.handle.counters().drained_by_denials(), 1);
    assert_eq!(
        code(&client, &READ, "bob reader").await,
        None,
        "by another connection"
    );
    server.stop().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn denials_of_callers_whom_nobody_knows_end_the_connection() {
    let server = believing("mem:policy-unknown").await;
    let client = server.client().await;
    for name in ["ada", "bob"] {
        assert_eq!(code(&client, &READ, &format!("{name} reader")).await, None);
    }
    for _ in 0..5 {
        assert_eq!(code(&client, &READ, "").await, Some(Code::Unauthenticated));
    }
    assert_eq!(server.handle.counters().drained_by_denials(), 1);
    server.stop().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn allowed_calls_of_callers_whom_nobody_knows_keep_no_connection() {
    let server = believing("mem:policy-anonymous").await;
    let client = server.client().await;
    assert_eq!(code(&client, &HEALTH, "").await, None);
    for number in 0..5 {
        assert_eq!(server.handle.counters().drained_by_denials(), 0, "{number}");
        assert_eq!(
            code(&client, &CLEAR, "eve reader").await,
            Some(Code::PermissionDenied)
        );
        assert_eq!(code(&client, &HEALTH, "").await, None);
    }
    assert_eq!(server.handle.counters().drained_by_denials(), 1);
    server.stop().await;

    // The same for one wrong token, again and again.
    let server = served("mem:policy-anonymous-token", |server| {
        server
            .layer(BearerTokens::fixed([("of-ada", Caller::new("ada"))]).optional())
            .policy(Roles::new())
            .limits(Limits::default().max_denials(5))
    })
    .await;
    let client = server.client().await;
    assert_eq!(call_as(&client, &HEALTH, "").await.unwrap(), "nobody");
    for _ in 0..5 {
        let error = with_token(&client, "guess").await.unwrap_err();
        assert_eq!(error.code(), Code::Unauthenticated);
    }
    assert_eq!(server.handle.counters().drained_by_denials(), 1);
    server.stop().await;
}

/// Calls with a token of the call's own.
async fn with_token(client: &Client, token: &str) -> Result<String, Error> {
    let call = client.call().metadata("authorization", format!("Bearer {token}"));
    within(call.send_recv(&HEALTH, ())).await
}

#[tokio::test(crate = "test_support::gate")]
async fn one_wrong_token_is_refused_and_many_end_the_connection() {
    let server = served("mem:policy-tokens", |server| {
        server
            .layer(BearerTokens::fixed([("of-ada", Caller::new("ada"))]))
            .policy(Roles::new())
            .limits(Limits::default().max_denials(5))
    });
    let server = server.await;
    let client = server.client().await;
    let drained = || server.handle.counters().drained_by_denials();
    assert_eq!(with_token(&client, "of-ada").await.unwrap(), "ada");
    for number in 0..20 {
        let error = with_token(&client, "expired").await.unwrap_err();
        let expected = if number < 5 {
            Code::Unauthenticated
        } else {
            Code::ResourceExhausted
        };
        assert_eq!((error.code(), error.executed()), (expected, Executed::No));
        assert_eq!(with_token(&client, "of-ada").await.unwrap(), "ada");
    }
    assert_eq!(drained(), 0);
    for number in 1..5 {
        assert_eq!(drained(), 0);
        let error = with_token(&client, &format!("guess-{number}")).await.unwrap_err();
        assert_eq!(error.code(), Code::Unauthenticated);
    }
    assert_eq!(drained(), 1, "five tokens were wrong");
    assert_eq!(
        with_token(&client, "of-ada").await.unwrap(),
        "ada",
        "by another connection"
    );
    server.stop().await;
}
