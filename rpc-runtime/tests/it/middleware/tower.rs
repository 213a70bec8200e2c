//! Layers of the crate tower around calls.

use std::{future::Ready, time::Duration};

use rpc_runtime::{
    Client, Code, Executed, Status,
    middleware::{self, Answer, ClientCall, Layered, Tower, TowerCall},
};
use test_support::{lab::*, within};
use tower::{
    ServiceBuilder, limit::ConcurrencyLimitLayer, load_shed::error::Overloaded, retry::Policy,
    timeout::TimeoutLayer, timeout::error::Elapsed,
};

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_timeout_of_tower_drops_the_handler() {
    let lab = Lab::default();
    let timeout = middleware::tower(TimeoutLayer::new(Duration::from_secs(1)));
    let client = Client::in_process(Layered::new(lab.clone()).layer(timeout));
    assert_eq!(echo(&client, "quick").await.unwrap(), "quick");
    let error = text(&client, &WAIT, "handler").await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unavailable, Executed::Yes)
    );
    assert_eq!(error.message(), "refused by a tower layer: request timed out");
    assert_eq!(lab.log(), ["handler began", "handler dropped"]);
    let error = plain(&client, &FAIL).await.unwrap_err();
    assert_eq!(
        (error.code(), &error.details()[..]),
        (Code::NotFound, &b"more"[..]),
        "the handler's own status"
    );
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn map_error_chooses_the_status() {
    let lab = Lab::default();
    let timeout = middleware::tower(TimeoutLayer::new(Duration::from_secs(1)));
    let timeout = timeout.map_error(|error| match error.is::<Elapsed>() {
        true => Status::deadline_exceeded("a second has passed"),
        false => Status::internal("another error"),
    });
    let client = Client::in_process(Layered::new(lab.clone()).layer(timeout));
    let error = text(&client, &WAIT, "handler").await.unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (Code::DeadlineExceeded, "a second has passed")
    );
    assert!(!error.is_timeout(), "the handler's side answered");
}

#[tokio::test(crate = "test_support::gate")]
async fn a_concurrency_limit_of_tower_holds_for_all_calls() {
    let lab = Lab::default();
    let limit = middleware::tower(ConcurrencyLimitLayer::new(1));
    let client = Client::in_process(Layered::new(lab.clone()).layer(limit));
    let first = start(&client, &WAIT, "first");
    lab.logged("first began").await;
    let second = start(&client, &WAIT, "second");
    within(client.ping()).await.unwrap();
    assert_eq!(lab.log(), ["first began"]);
    lab.release();
    within(first).await.unwrap().unwrap();
    within(second).await.unwrap().unwrap();
    assert_eq!(
        lab.log(),
        ["first began", "first ended", "second began", "second ended"]
    );
}

#[tokio::test(crate = "test_support::gate")]
async fn a_call_that_tower_sheds_was_not_executed() {
    let lab = Lab::default();
    let layer = ServiceBuilder::new()
        .load_shed()
        .concurrency_limit(1)
        .into_inner();
    let shed: Tower<_, _> = middleware::tower(layer);
    let shed = shed.map_error(|error| {
        assert!(error.is::<Overloaded>());
        Status::resource_exhausted("one call runs already")
    });
    let client = Client::in_process(Layered::new(lab.clone()).layer(shed));
    let first = start(&client, &WAIT, "first");
    lab.logged("first began").await;
    let error = text(&client, &WAIT, "never").await.unwrap_err();
    assert_eq!(
        (error.code(), error.message(), error.executed()),
        (Code::ResourceExhausted, "one call runs already", Executed::No)
    );
    lab.release();
    within(first).await.unwrap().unwrap();
    assert_eq!(lab.log(), ["first began", "first ended"]);
    assert_eq!(text(&client, &WAIT, "third").await.unwrap(), "third");
}

/// Makes a call again once if it did not run.
#[derive(Clone)]
struct OnceMore(bool);

impl Policy<TowerCall<ClientCall>, Answer, rpc_runtime::Error> for OnceMore {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut TowerCall<ClientCall>,
        result: &mut Result<Answer, rpc_runtime::Error>,
    ) -> Option<Ready<()>> {
        let may_again = matches!(result, Err(error) if error.executed() == Executed::No);
        (may_again && !std::mem::replace(&mut self.0, true)).then(|| std::future::ready(()))
    }

    fn clone_request(&mut self, call: &TowerCall<ClientCall>) -> Option<TowerCall<ClientCall>> {
        Some(call.clone())
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn tower_makes_the_call_of_a_client_again() {
    let lab = Lab::default();
    let server = lab.serve("mem:middleware-tower-retry").await;
    let noting = lab.clone();
    let flaky = middleware::from_fn(move |call: ClientCall, next: middleware::Next<ClientCall>| {
        noting.note("try");
        let is_first = noting.log().len() == 1;
        async move {
            match is_first {
                true => Err(Status::unavailable("flaky").into()),
                false => next.run(call).await,
            }
        }
    });
    let client: Client = Client::builder(&server.address)
        .layer(middleware::tower(tower::retry::RetryLayer::new(OnceMore(false))))
        .layer(flaky)
        .connect_lazy();
    assert_eq!(echo(&client, "again").await.unwrap(), "again");
    assert_eq!(lab.log(), ["try", "try"]);
}
