//! Health: what is known of it, by whom, and when.

use std::{process::Command, time::Duration};

use bytes::BytesMut;
use demo_api::demo::kv::v1::KvClient;
use h2::RecvStream;
use rpc_runtime::{
    Code, Error, Streaming,
    server::{Procedure, Service},
};
use rpc_services::{
    Health, HealthHandle, ServingStatus,
    grpc::health::v1::{
        HealthCheckRequest, HealthCheckResponse, HealthClient, HealthListRequest,
        health_check_response::ServingStatus as OnTheWire,
    },
};
use test_support::{Running, wire, wire::HandPeer, within};

use crate::{
    caller::{Answer, Caller, prefixed, read_chunk, take_message},
    served,
};

const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";

fn asks_for(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

/// Serves the demo with health, and returns the handle, too.
async fn healthy(health: Health) -> (Running, HealthHandle) {
    let handle = health.handle();
    (served(|server| server.service(health)).await, handle)
}

async fn native(server: &Running) -> HealthClient {
    within(HealthClient::connect(&server.address)).await.unwrap()
}

async fn check(client: &HealthClient, service: &str) -> Result<OnTheWire, Error> {
    Ok(within(client.send_recv().check(service)).await?.status())
}

async fn grpc_check(grpc: &Caller, service: &str) -> Answer {
    within(grpc.call(CHECK, &[], prefixed(&asks_for(service)))).await
}

/// A call of `Watch`, over one of the two protocols.
enum Watch {
    Native(Streaming<HealthCheckResponse>),
    Grpc(RecvStream, BytesMut),
}

impl Watch {
    /// Watches a service over both protocols.
    async fn both(server: &Running, service: &str) -> [Self; 2] {
        let client = native(server).await;
        let watch = within(client.send_recv().timeout(None).watch(service))
            .await
            .unwrap();
        let grpc = Caller::connect(&server.address).await;
        let (response, mut stream) = grpc.open(WATCH, &[]).await;
        stream.send_data(prefixed(&asks_for(service)), true).unwrap();
        let body = within(response).await.unwrap().into_body();
        [Self::Native(watch), Self::Grpc(body, BytesMut::new())]
    }

    /// The next status, or the code of the end.
    async fn next(&mut self) -> Result<OnTheWire, Code> {
        within(async {
            match self {
                Self::Native(watch) => match watch.message().await {
                    Ok(Some(response)) => Ok(response.status()),
                    Ok(None) => Err(Code::Ok),
                    Err(error) => Err(error.code()),
                },
                Self::Grpc(body, read) => {
                    while read.is_empty() {
                        let Some(chunk) = read_chunk(body).await else {
                            let trailers = body.trailers().await.unwrap().unwrap();
                            let code = trailers["grpc-status"].to_str().unwrap();
                            return Err(Code::from_number(code.parse().unwrap()));
                        };
                        read.extend_from_slice(&chunk);
                    }
                    let response: HealthCheckResponse = take_message(read).unwrap();
                    Ok(response.status())
                }
            }
        })
        .await
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_server_and_its_services_serve_from_the_start() {
    let (server, _) = healthy(Health::new()).await;
    let (client, grpc) = (native(&server).await, Caller::connect(&server.address).await);
    for service in ["", "demo.kv.v1.Kv", "grpc.health.v1.Health"] {
        assert_eq!(
            check(&client, service).await.unwrap(),
            OnTheWire::Serving,
            "{service}"
        );
        let answer = grpc_check(&grpc, service).await;
        assert_eq!(answer.code(), "0", "{service}");
        let [response] = &answer.messages::<HealthCheckResponse>()[..] else {
            panic!("{answer:?}")
        };
        assert_eq!(response.status(), OnTheWire::Serving);
    }
    let error = check(&client, "demo.kv.v1.Watcher").await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    assert_eq!(grpc_check(&grpc, "demo.kv.v1.Watcher").await.code(), "5");
    drop(grpc);
    server.stop().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn a_list_has_all_services_if_they_are_a_hundred_at_most() {
    let (server, handle) = healthy(Health::new()).await;
    let client = native(&server).await;
    handle.set("another", ServingStatus::NotServing);
    let list = within(client.send_recv().list(HealthListRequest {}))
        .await
        .unwrap();
    let list: Vec<(&str, OnTheWire)> = list
        .statuses
        .iter()
        .map(|(name, one)| (&**name, one.status()))
        .collect();
    assert_eq!(
        list,
        [
            ("", OnTheWire::Serving),
            ("another", OnTheWire::NotServing),
            ("demo.kv.v1.Kv", OnTheWire::Serving),
            ("grpc.health.v1.Health", OnTheWire::Serving),
        ]
    );
    for number in 4..100 {
        handle.set(number.to_string(), ServingStatus::Serving);
    }
    let list = within(client.send_recv().list(HealthListRequest {}))
        .await
        .unwrap();
    assert_eq!(list.statuses.len(), 100);
    handle.set("one more", ServingStatus::Serving);
    let error = within(client.send_recv().list(HealthListRequest {}))
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (
            Code::ResourceExhausted,
            "the server knows 101 services, and a list has 100 at most: ask for each by Check"
        )
    );
    server.stop().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn a_watcher_sees_each_status_once() {
    let (server, handle) = healthy(Health::new()).await;
    let mut watches = Watch::both(&server, "shop").await;
    for watch in &mut watches {
        assert_eq!(watch.next().await, Ok(OnTheWire::ServiceUnknown));
    }
    for (status, expected) in [
        (Some(ServingStatus::Serving), OnTheWire::Serving),
        (Some(ServingStatus::NotServing), OnTheWire::NotServing),
        (None, OnTheWire::ServiceUnknown),
        (Some(ServingStatus::Serving), OnTheWire::Serving),
    ] {
        // Twice: the second one is no news.
        for _ in 0..2 {
            match status {
                Some(status) => handle.set("shop", status),
                None => handle.remove("shop"),
            }
            handle.set("other", ServingStatus::Serving);
        }
        for watch in &mut watches {
            assert_eq!(watch.next().await, Ok(expected));
        }
    }
    drop(watches);
    server.stop().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn a_name_that_is_too_long_is_not_watched() {
    let (server, _) = healthy(Health::new()).await;
    let client = native(&server).await;
    let mut watch = within(client.send_recv().watch("x".repeat(1025))).await.unwrap();
    let error = within(watch.message()).await.unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (
            Code::InvalidArgument,
            "the name of a service has 1024 bytes at most, and this one has 1025"
        )
    );
    server.stop().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn a_drain_tells_those_who_watch_and_ends_their_calls() {
    let (server, handle) = healthy(Health::new()).await;
    let mut watches = Watch::both(&server, "demo.kv.v1.Kv").await;
    let mut unknown = Watch::both(&server, "none").await;
    for watch in &mut watches {
        assert_eq!(watch.next().await, Ok(OnTheWire::Serving));
    }
    for watch in &mut unknown {
        assert_eq!(watch.next().await, Ok(OnTheWire::ServiceUnknown));
    }
    server.handle.drain();
    assert_eq!(handle.get(""), Some(ServingStatus::NotServing), "at once");
    for watch in &mut watches {
        assert_eq!(watch.next().await, Ok(OnTheWire::NotServing));
        assert_eq!(watch.next().await, Err(Code::Unavailable));
    }
    for watch in &mut unknown {
        assert_eq!(watch.next().await, Err(Code::Unavailable));
    }
    let report = server.report().await;
    assert!(report.is_clean(), "{report}");
}

#[tokio::test(crate = "test_support::gate")]
async fn a_terminate_tells_those_who_watch_as_a_drain_does() {
    let (server, _) = healthy(Health::new()).await;
    let mut watches = Watch::both(&server, "").await;
    for watch in &mut watches {
        assert_eq!(watch.next().await, Ok(OnTheWire::Serving));
    }
    let kv = within(KvClient::connect(&server.address)).await.unwrap();
    let terminated = tokio::spawn(async move { kv.send_recv().terminate().await });
    for watch in &mut watches {
        assert_eq!(watch.next().await, Ok(OnTheWire::NotServing));
        assert_eq!(watch.next().await, Err(Code::Unavailable));
    }
    within(terminated).await.unwrap().unwrap();
    let report = server.report().await;
    assert!(report.is_clean(), "{report}");
}

#[tokio::test(crate = "test_support::gate")]
async fn a_watcher_is_told_before_the_goaway() {
    let (server, _) = healthy(Health::new()).await;
    let mut peer = HandPeer::greeted(&server.address).await;
    peer.send(&wire::call(1, watch_procedure(), &asks_for(""))).await;
    peer.until(wire::DATA).await;
    server.handle.drain();
    let mut kinds = Vec::new();
    while !kinds.contains(&wire::GOAWAY) {
        let frame = within(peer.next()).await.expect("a GOAWAY comes before the end");
        if frame.kind != wire::PING {
            kinds.push(frame.kind);
        }
    }
    assert_eq!(kinds, [wire::DATA, wire::GOAWAY]);
    drop(peer);
    server.report().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn a_lame_duck_is_not_serving_and_takes_calls_and_connections() {
    let health = Health::new();
    let handle = health.handle();
    let server = served(|server| {
        server
            .service(health)
            .signals(true)
            .lame_duck(Duration::from_secs(3600))
            .drain_timeout(Duration::from_secs(7200))
    });
    let server = server.await;
    let mut watches = Watch::both(&server, "").await;
    for watch in &mut watches {
        assert_eq!(watch.next().await, Ok(OnTheWire::Serving));
    }
    // The only server of this process that obeys signals.
    let pid = std::process::id().to_string();
    let killed = Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    assert!(killed.success());
    for watch in &mut watches {
        assert_eq!(watch.next().await, Ok(OnTheWire::NotServing));
    }
    // What is set now is not seen any more.
    handle.set("", ServingStatus::Serving);
    handle.set("late", ServingStatus::Serving);
    // New connections, and calls of other services.
    let (client, grpc) = (native(&server).await, Caller::connect(&server.address).await);
    for service in ["", "demo.kv.v1.Kv", "late"] {
        assert_eq!(check(&client, service).await.unwrap(), OnTheWire::NotServing);
        let answer = grpc_check(&grpc, service).await;
        assert_eq!(
            answer.messages::<HealthCheckResponse>()[0].status(),
            OnTheWire::NotServing
        );
    }
    let kv = within(KvClient::connect(&server.address)).await.unwrap();
    within(kv.send_recv().update("dog", "woof")).await.unwrap();
    server.handle.abort();
    drop((watches, client, grpc, kv));
    server.report().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn a_watcher_that_reads_nothing_holds_up_no_goaway() {
    let health = Health::new();
    let server = served(|server| server.service(health).drain_timeout(Duration::from_secs(7200))).await;
    let mut peer = HandPeer::connect(&server.address).await;
    let mut hello = wire::hello();
    // Field 9, the window of a stream: two bytes, as one message has.
    hello.payload.extend([9 << 3, 2]);
    peer.send(&hello).await;
    peer.until(wire::HELLO).await;
    peer.send(&wire::call(1, watch_procedure(), &asks_for(""))).await;
    peer.until(wire::DATA).await;
    server.handle.drain();
    let told = async {
        loop {
            match peer.next().await.expect("a GOAWAY comes before the end").kind {
                wire::DATA => panic!("the window has room for more"),
                wire::GOAWAY => return,
                _ => {}
            }
        }
    };
    within(told).await;
    drop(peer);
    server.report().await;
}

/// The procedure `Watch`.
fn watch_procedure() -> &'static Procedure {
    let mut procedures = Health::new().procedures().iter();
    let watch = procedures.find(|procedure| procedure.path() == "grpc.health.v1.Health/Watch");
    watch.expect("it is there")
}
