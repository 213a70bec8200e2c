//! What ends a native connection ends an HTTP/2 one.

use std::{future::Future, time::Duration};

use demo_api::demo::kv::v1::{FetchRequest, SleepRequest};
use rpc_runtime::{
    Limits, Result,
    auth::{Asked, Decision, policy_fn},
    middleware::{self, Answer as CallAnswer, Next, ServerCall},
};
use test_support::{Lab, within};
use tokio::time::timeout;

use crate::{
    TestServer,
    caller::{Answer, Caller, prefixed},
};

const FETCH: &str = "/demo.kv.v1.Kv/rpc_fetch";
const SHORT: Duration = Duration::from_millis(50);
/// Long enough to make a call before it is over.
const SECOND: Duration = Duration::from_secs(1);

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(60), future).await.unwrap()
}

async fn start(limits: Limits) -> TestServer {
    TestServer::start_with("tcp://127.0.0.1:0", |server| server.limits(limits)).await
}

#[tokio::test]
async fn too_many_denials_drain_the_connection() {
    let server = TestServer::start_with("tcp://127.0.0.1:0", |server| {
        server
            .limits(Limits::default().max_denials(3))
            .policy(policy_fn(|_: Asked| async { Decision::denied("nobody may") }))
    })
    .await;
    let grpc = Caller::connect(&server.address).await;
    for _ in 0..3 {
        let answer = grpc.call(FETCH, &[], prefixed(&FetchRequest::default())).await;
        assert_eq!(answer.code(), "7");
    }
    soon(grpc.connection).await.unwrap().unwrap();
    assert_eq!(server.handle.counters().drained_by_denials(), 1);
    server.stop().await;
}

async fn drains(call: ServerCall, next: Next<ServerCall>) -> Result<CallAnswer> {
    call.context().drain_connection("enough of this caller");
    next.run(call).await
}

#[tokio::test]
async fn a_drained_connection_answers_its_open_call_and_ends() {
    let server = TestServer::start_with("tcp://127.0.0.1:0", |server| {
        server.layer(middleware::from_fn(drains))
    })
    .await;
    let grpc = Caller::connect(&server.address).await;
    let answer = grpc
        .call(FETCH, &[], prefixed(&FetchRequest { key: "k".to_owned() }))
        .await;
    assert_eq!(answer.code(), "0");
    soon(grpc.connection).await.unwrap().unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_connection_without_calls_ends_when_it_was_idle_for_long() {
    let server = start(Limits::default().max_idle(SHORT)).await;
    let grpc = Caller::connect(&server.address).await;
    soon(grpc.connection).await.unwrap().unwrap();
    server.stop().await;
}

#[tokio::test]
async fn an_old_connection_gives_its_calls_the_grace_and_ends() {
    let server = start(Limits::default().max_age(SECOND).max_age_grace(SHORT)).await;
    let grpc = Caller::connect(&server.address).await;
    let long = prefixed(&SleepRequest { millis: u32::MAX });
    let answer = soon(grpc.call("/demo.kv.v1.Kv/rpc_sleep", &[], long)).await;
    assert_ne!(answer.code(), "0");
    soon(grpc.connection).await.unwrap().unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_body_that_never_comes_does_not_keep_an_old_connection() {
    let limits = Limits::default()
        .max_age(SECOND)
        .max_age_grace(SHORT)
        .linger(SHORT);
    let server = start(limits).await;
    let grpc = Caller::connect(&server.address).await;
    let _open = grpc.open("/demo.kv.v1.Kv/rpc_import", &[]).await;
    // It is cut, so this end may call it an error.
    let _ = soon(grpc.connection).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_drain_longer_than_the_grace_leaves_open_calls_their_time() {
    let server = TestServer::start_with("tcp://127.0.0.1:0", |server| {
        server
            .limits(
                Limits::default()
                    .max_age_grace(Duration::ZERO)
                    .linger(Duration::ZERO),
            )
            .drain_timeout(Duration::from_secs(3600))
    })
    .await;
    let grpc = Caller::connect(&server.address).await;
    let (response, mut stream) = grpc.open("/demo.kv.v1.Kv/rpc_sleep", &[]).await;
    stream
        .send_data(prefixed(&SleepRequest { millis: 300 }), true)
        .unwrap();
    while server.handle.load().handler_tasks() == 0 {
        tokio::task::yield_now().await;
    }
    let stopped = tokio::spawn(server.stop());
    assert_eq!(Answer::read(response).await.code(), "0");
    drop((stream, grpc));
    assert!(soon(stopped).await.unwrap().is_clean());
}

#[tokio::test]
async fn endless_handlers_and_callers_that_read_nothing_delay_no_drain_over_grpc() {
    let lab = Lab::default();
    let server = TestServer::start_with("tcp://127.0.0.1:0", |server| {
        server
            .service(lab.clone())
            .drain_timeout(SECOND)
            // Nothing else ends what is not read.
            .limits(Limits::default().write_stall(Duration::from_secs(3600)))
    })
    .await;
    let (waiting, deaf) = (
        Caller::connect(&server.address).await,
        Caller::connect(&server.address).await,
    );
    let (endless, mut stream) = waiting.open("/lab.v1.Lab/hang", &[]).await;
    stream.send_data(prefixed(&()), true).unwrap();
    // A reply of more than the window, and replies without end.
    let mut unread = Vec::new();
    for (path, number) in [("/lab.v1.Lab/fill", 1 << 20), ("/lab.v1.Lab/count", u64::MAX)] {
        let (response, mut stream) = deaf.open(path, &[]).await;
        stream.send_data(prefixed(&number), true).unwrap();
        unread.push(response.await.unwrap().into_body());
    }
    lab.until_hanging(1).await;

    let report = within(server.stop()).await;
    assert_eq!((report.aborted(), report.stuck()), (2, 0), "{report}");
    let answer = within(Answer::read(endless)).await;
    assert_eq!(answer.code(), "14");
    assert!(
        answer.text().contains("ServerBuilder::drain_timeout"),
        "{}",
        answer.text()
    );
    for mut body in unread {
        let failed = async {
            while let Some(chunk) = body.data().await {
                match chunk {
                    Ok(chunk) => body
                        .flow_control()
                        .release_capacity(chunk.len())
                        .unwrap_or_default(),
                    Err(_) => return true,
                }
            }
            false
        };
        assert!(within(failed).await, "a part of a reply looks whole");
    }
    within(waiting.connection).await.unwrap().unwrap();
}
