//! The token of a terminate, from a source.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use rpc_runtime::{
    Client, Code, Executed, Result, Status,
    auth::{self, BearerTokens, Caller, Roles, Secret, Token},
    server::TerminatePolicy,
};
use test_support::{Lab, Running, lab::*, within};
use tokio::time::{Instant, sleep};

use super::connect;

/// A server that terminates for callers with a token of `oldest` or more.
async fn guarded(address: &str) -> (Running, Arc<AtomicUsize>) {
    let oldest = Arc::new(AtomicUsize::new(0));
    let accepted = Arc::clone(&oldest);
    let tokens = BearerTokens::verified_by(move |token: Secret| {
        let number: usize = token.expose().parse().unwrap_or_default();
        let is_accepted = number >= accepted.load(SeqCst);
        async move {
            match is_accepted {
                true => Ok(Caller::new("operator").with_role("operator")),
                false => Err(Status::unauthenticated("that is too old")),
            }
        }
    });
    let lab = Lab::default();
    let server = lab.serve_with(address, |server| {
        let server = server.layer(tokens).policy(Roles::new());
        server
            .allow(auth::TERMINATE, ["operator"])
            .allow("lab.v1.Lab", ["operator"])
    });
    (server.await, oldest)
}

async fn with_source<F, Fut>(server: &Running, source: F) -> Client
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Token>> + Send + 'static,
{
    connect(server, |client| client.token_source(source))
        .await
        .unwrap()
}

async fn sealed() -> Result<Token> {
    Err(Status::unavailable("vault is sealed"))
}

#[tokio::test(crate = "test_support::gate")]
async fn a_terminate_carries_the_token_of_a_source() {
    let policy = TerminatePolicy::custom(|cx| cx.metadata().get_str("authorization") == Some("Bearer stop"));
    let lab = Lab::default();
    let server = lab
        .serve_with("mem:tokens-terminate", |server| server.terminate_policy(policy))
        .await;
    let error = within(server.client().await.terminate()).await.unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
    let client = with_source(&server, async || Ok(Token::new("stop"))).await;
    within(client.terminate()).await.unwrap();
    server.report().await;
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_terminate_needs_no_source_that_answers() {
    // The server's own user may terminate it, with a token or without.
    let server = Lab::default().serve("mem:tokens-terminate-sealed").await;
    let client = with_source(&server, sealed).await;
    within(client.terminate()).await.unwrap();
    server.report().await;

    let server = Lab::default().serve("mem:tokens-terminate-silent").await;
    let client = with_source(&server, std::future::pending).await;
    let begun = Instant::now();
    within(client.terminate()).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(11), "{:?}", begun.elapsed());
    server.report().await;

    let server = Lab::default().serve("mem:tokens-terminate-short").await;
    let client = with_source(&server, std::future::pending).await;
    let short = client.call().timeout(Duration::from_secs(1));
    within(short.terminate()).await.unwrap();
    server.report().await;
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_refused_terminate_names_the_source_that_gave_no_token() {
    let (server, _) = guarded("mem:tokens-terminate-missing").await;
    let client = with_source(&server, sealed).await;
    let error = within(client.terminate()).await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unauthenticated, Executed::No)
    );
    assert!(
        error.message().ends_with(
            "it was sent without a token: the client's token source gave no token: vault is sealed"
        ),
        "{error}"
    );
    let error = within(client.call().send_terminate()).await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unavailable, Executed::No)
    );
    assert_eq!(error.procedure(), Some(auth::TERMINATE));
    assert!(error.message().ends_with("vault is sealed"), "{error}");
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_terminate_whose_token_is_refused_is_made_again_with_another_one() {
    let (server, oldest) = guarded("mem:tokens-terminate-old").await;
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let source = move || {
        let number = counted.fetch_add(1, SeqCst) + 1;
        async move { Ok(Token::new(number.to_string())) }
    };
    let client = with_source(&server, source).await;
    echo(&client, "with token 1").await.unwrap();
    sleep(Duration::from_secs(10)).await;
    oldest.store(3, SeqCst);
    let error = within(client.terminate()).await.unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (Code::Unauthenticated, "that is too old")
    );
    assert_eq!(asked.load(SeqCst), 2, "token 2 is refused, too");
    oldest.store(2, SeqCst);
    within(client.terminate()).await.unwrap();
    server.report().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn a_terminate_with_its_own_token_asks_no_source() {
    let (server, _) = guarded("mem:tokens-terminate-own").await;
    let client = with_source(&server, || async { panic!("it is asked") }).await;
    let own = client.call().metadata("authorization", "Bearer 7");
    within(own.terminate()).await.unwrap();
    server.report().await;
}
