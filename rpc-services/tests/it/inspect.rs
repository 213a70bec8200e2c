//! Inspection: who may look, and what they see.

use std::{sync::Arc, time::Duration};

use prost::Message;
use rpc_http::Http;
use rpc_runtime::{
    Code, Context, Server, Status,
    metrics::{Side, snapshot},
    server::{Handler, Incoming, Procedure, ServerBuilder, Service, TerminatePolicy},
};
use rpc_services::{
    Inspect,
    rpc::inspect::v1::{
        CallsReply, CallsRequest, Connection, ConnectionsReply, ConnectionsRequest, InspectClient,
        LimitsReply, LimitsRequest, ProceduresRequest, limit::Value,
    },
};
use test_support::{
    Lab, Running,
    lab::{WAIT, start},
    serve, unix, until, within,
};
use tokio::sync::Notify;

use crate::caller::{Answer, Caller, prefixed};

/// A server of the lab that can be inspected.
async fn inspectable(
    address: &str,
    configure: impl FnOnce(ServerBuilder) -> ServerBuilder,
) -> (Lab, Running) {
    let lab = Lab::default();
    let server = Server::builder()
        .service(lab.clone())
        .service(Inspect::new())
        .guest(Http::new().grpc())
        .listener(address)
        .signals(false);
    (lab, serve(configure(server)).await)
}

/// Asks a procedure over gRPC.
async fn ask(grpc: &Caller, procedure: &str, request: &impl Message) -> Answer {
    let path = format!("/rpc.inspect.v1.Inspect/{procedure}");
    within(grpc.call(&path, &[], prefixed(request))).await
}

#[tokio::test(crate = "test_support::gate")]
async fn only_those_that_may_terminate_the_server_may_look_over_either_protocol() {
    let tcp = || "tcp://127.0.0.1:0".to_owned();
    for (address, policy, may) in [
        (tcp(), TerminatePolicy::default(), false),
        (tcp(), TerminatePolicy::loopback(), true),
        (unix("inspect-service"), TerminatePolicy::default(), true),
        (unix("inspect-nobody"), TerminatePolicy::disabled(), false),
    ] {
        let about = format!("{address} {policy:?}");
        let (_, server) = inspectable(&address, |server| server.terminate_policy(policy)).await;
        let native = within(InspectClient::connect(&server.address)).await.unwrap();
        let grpc = Caller::connect(&server.address).await;
        let found = within(native.send_recv().limits(LimitsRequest {})).await;
        let answers = [
            ask(&grpc, "rpc_connections", &ConnectionsRequest::default()).await,
            ask(&grpc, "rpc_calls", &CallsRequest::default()).await,
            ask(&grpc, "rpc_procedures", &ProceduresRequest::default()).await,
            ask(&grpc, "rpc_limits", &LimitsRequest {}).await,
        ];
        for answer in answers {
            assert_eq!(answer.code(), if may { "0" } else { "7" }, "{about}: {answer:?}");
        }
        match found {
            Ok(_) => assert!(may, "{about}"),
            Err(error) => {
                assert!(!may, "{about}: {error}");
                assert_eq!(error.code(), Code::PermissionDenied);
                assert!(error.message().contains(".terminate_policy(..)"), "{error}");
            }
        }
        drop((native, grpc));
        server.stop().await;
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_stub_over_loopback_looks_with_a_proof_of_its_user() {
    let (_, server) = inspectable("tcp://127.0.0.1:0", |server| server).await;
    let operator = within(server.client().await.with_user_proof()).await.unwrap();
    let inspect = InspectClient::from(operator);
    let limits = within(inspect.send_recv().limits(LimitsRequest {}))
        .await
        .unwrap();
    assert!(!limits.limits.is_empty());
    drop(inspect);
    server.stop().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn a_look_shows_connections_calls_and_limits() {
    let (lab, server) = inspectable("tcp://127.0.0.1:0", |server| {
        server
            .terminate_policy(TerminatePolicy::loopback())
            .max_buffered_bytes(20 << 20)
    })
    .await;
    let client = server.client().await;
    let native = InspectClient::from(client.clone());
    let grpc = Caller::connect(&server.address).await;
    let waiting = start(&client, &WAIT, "x");
    lab.logged("x began").await;

    let answer = ask(
        &grpc,
        "rpc_connections",
        &ConnectionsRequest {
            most: 1000,
            ..Default::default()
        },
    )
    .await;
    let [reply] = &answer.messages::<ConnectionsReply>()[..] else {
        panic!("{answer:?}")
    };
    let own: Vec<_> = reply
        .connections
        .iter()
        .filter(|one| one.side == "server" && one.owner == server.address)
        .collect();
    let mut protocols: Vec<_> = own.iter().map(|one| &*one.protocol).collect();
    protocols.sort_unstable();
    assert_eq!(protocols, ["grpc", "native"], "{own:?}");
    let of_native = own.iter().find(|one| one.protocol == "native").unwrap();
    assert_eq!((of_native.calls_served, &*of_native.stage), (1, "open"));
    assert!(of_native.since.is_some() && of_native.bytes_received > 0);
    let of_grpc = own.iter().find(|one| one.protocol == "grpc").unwrap();
    // The preface of HTTP/2 alone has 24 bytes, and none of our frames goes over the network.
    assert!(
        of_grpc.bytes_received > 24 && of_grpc.bytes_sent > 0,
        "{of_grpc:?}"
    );
    assert_eq!((&*of_grpc.transport, of_grpc.calls_served), ("tcp", 1));
    // No PING has gone out.
    assert_eq!(of_grpc.round_trip, None);
    // The guest's own client is the server's business, and not listed.
    assert!(
        reply
            .connections
            .iter()
            .all(|one| one.owner != "in-process" || one.side == "server")
    );

    let request = CallsRequest {
        procedure: "lab.v1.Lab/".to_owned(),
        connection: of_native.id,
        ..Default::default()
    };
    let calls: CallsReply = within(native.send_recv().calls(request)).await.unwrap();
    let [call] = &calls.calls[..] else {
        panic!("{calls:?}")
    };
    assert_eq!(
        (&*call.procedure, &*call.state, &*call.side, call.count),
        ("lab.v1.Lab/wait", "running", "server", 1)
    );
    assert_eq!((call.remaining.is_some(), &*call.cancelled_by), (false, ""));
    // The call that asks is one of them.
    let answer = ask(
        &grpc,
        "rpc_calls",
        &CallsRequest {
            // Other tests look, too, by other procedures.
            procedure: "rpc.inspect.v1.Inspect/rpc_calls".to_owned(),
            ..Default::default()
        },
    )
    .await;
    let [reply] = &answer.messages::<CallsReply>()[..] else {
        panic!("{answer:?}")
    };
    let itself = reply.calls.iter().find(|call| call.side == "server").unwrap();
    assert_eq!(
        (&*itself.procedure, &*itself.protocol),
        ("rpc.inspect.v1.Inspect/rpc_calls", "grpc")
    );

    let limits: LimitsReply = within(native.send_recv().limits(LimitsRequest {})).await.unwrap();
    let limit = |name: &str| {
        let mut all = limits.limits.iter();
        all.find(|one| one.owner == server.address && one.side == "server" && one.name == name)
            .unwrap_or_else(|| panic!("no limit {name}"))
    };
    let buffered = limit("max_buffered_bytes");
    assert_eq!(
        (buffered.value, &*buffered.source),
        (Some(Value::Bytes(20 << 20)), "program")
    );
    assert_eq!(limit("max_age").value, None);

    let negative = CallsRequest {
        slower_than: Some(rpc_runtime::prost_types::Duration {
            seconds: -1,
            nanos: 0,
        }),
        ..Default::default()
    };
    let error = within(native.send_recv().calls(negative)).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);

    lab.release();
    within(waiting).await.unwrap().unwrap();
    drop((native, client, grpc));
    server.stop().await;
}

/// The connections of `server` on its own side, by the protocol `protocol`.
async fn own_connections(inspect: &InspectClient, server: &Running, protocol: &str) -> Vec<Connection> {
    let request = ConnectionsRequest {
        most: 1000,
        ..Default::default()
    };
    let reply = within(inspect.send_recv().connections(request)).await.unwrap();
    let is_own = |one: &Connection| {
        (&*one.side, &*one.owner, &*one.protocol) == ("server", &*server.address, protocol)
    };
    reply.connections.into_iter().filter(is_own).collect()
}

#[tokio::test(crate = "test_support::gate")]
async fn missed_deadlines_are_told() {
    let (lab, server) = inspectable("tcp://127.0.0.1:0", |server| {
        server.terminate_policy(TerminatePolicy::loopback())
    })
    .await;
    let client = server.client().await;
    let inspect = InspectClient::from(client.clone());
    let patient = start(&client, &WAIT, "x");
    lab.logged("x began").await;
    let [before] = &own_connections(&inspect, &server, "native").await[..] else {
        panic!("not one connection")
    };
    assert_eq!(before.missed_deadlines, 0);
    let call = client.call().timeout(Duration::from_millis(20));
    let error = within(call.send_recv::<_, String>(&WAIT, "y".to_owned()))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    // The server has a clock of its own.
    within(async {
        loop {
            let [now] = &own_connections(&inspect, &server, "native").await[..] else {
                panic!("not one connection")
            };
            match now.missed_deadlines {
                0 => tokio::task::yield_now().await,
                missed => break assert_eq!(missed, 1),
            }
        }
    })
    .await;
    lab.release();
    within(patient).await.unwrap().unwrap();
    drop((inspect, client));
    server.stop().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn a_grpc_peer_has_the_round_trip_of_the_last_keep_alive() {
    let (_, server) = inspectable("tcp://127.0.0.1:0", |server| {
        server
            .terminate_policy(TerminatePolicy::loopback())
            .guest(Http::new().grpc().keep_alive(Duration::from_millis(10)))
    })
    .await;
    let inspect = InspectClient::from(server.client().await);
    // It says nothing, and answers PINGs.
    let grpc = Caller::connect(&server.address).await;
    within(async {
        loop {
            let connections = own_connections(&inspect, &server, "grpc").await;
            if connections.iter().any(|one| one.round_trip.is_some()) {
                break;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop((inspect, grpc));
    server.stop().await;
}

/// No other test calls it, so its numbers stand still. Fails with NOT_FOUND if the request is empty, waits if it is `wait`.
static COUNT: Procedure = Procedure::new("inspect.v1.Counted/rpc_count", 721);
static NOTE: Procedure = Procedure::new("inspect.v1.Counted/rpc_note", 722);
static COUNTED: [Procedure; 2] = [COUNT, NOTE];

#[derive(Clone, Default)]
struct Counted(Arc<Notify>);

impl Service for Counted {
    fn name(&self) -> &'static str {
        "inspect.v1.Counted"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &COUNTED
    }

    fn call(&self, index: usize, call: Incoming) -> Handler {
        let go_on = Arc::clone(&self.0);
        match index {
            0 => call.handle(move |_: Context, text: String| async move {
                match &*text {
                    "" => return Err(Status::not_found("there is nothing")),
                    "wait" => go_on.notified().await,
                    _ => {}
                }
                Ok(text)
            }),
            1 => call.handle(|_: Context, ()| async move { Ok(()) }),
            _ => call.unknown(),
        }
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn procedures_have_their_counts_errors_rates_and_latencies() {
    let counted = Counted::default();
    let (_, server) = inspectable("tcp://127.0.0.1:0", |server| {
        server
            .terminate_policy(TerminatePolicy::loopback())
            .service(counted.clone())
    })
    .await;
    let client = server.client().await;
    let inspect = InspectClient::from(client.clone());
    for text in ["a", "b", ""] {
        let called = within(client.call().send_recv::<_, String>(&COUNT, text.to_owned())).await;
        assert_eq!(called.is_err(), text.is_empty());
    }
    within(client.call().send(&NOTE, ())).await.unwrap();
    within(client.barrier()).await.unwrap();
    let waiting = start(&client, &COUNT, "wait");
    until(|| {
        let snapshot = snapshot();
        let mut calls = snapshot.procedures().iter();
        calls.any(|one| one.path() == COUNT.path() && one.side() == Side::Server && one.in_flight() == 1)
    })
    .await;

    let request = ProceduresRequest {
        procedure: "inspect.v1.Counted/".to_owned(),
        ..Default::default()
    };
    let reply = within(inspect.send_recv().procedures(request.clone()))
        .await
        .unwrap();
    let found: Vec<_> = reply
        .procedures
        .iter()
        .map(|one| (&*one.procedure, &*one.side, &*one.protocol))
        .collect();
    let expected = [
        (COUNT.path(), "server", "native"),
        (COUNT.path(), "client", "native"),
        (NOTE.path(), "server", "native"),
    ];
    assert_eq!(found, expected);
    let served = &reply.procedures[0];
    assert_eq!((served.in_flight, served.started), (1, 4));
    assert_eq!((served.ended, served.errors), (3, 1));
    let codes = [("OK".to_owned(), 2), ("NOT_FOUND".to_owned(), 1)];
    assert_eq!(served.codes, codes.into_iter().collect());
    let age = Duration::try_from(reply.window.unwrap()).unwrap().as_secs_f64();
    let calls = served.rate.unwrap() * age;
    assert!((calls - 3.0).abs() < 0.001, "{calls} calls in {age} s");
    // The histogram is that of the metrics.
    let snapshot = snapshot();
    let mut all = snapshot.procedures().iter();
    let latency = all
        .find(|one| one.path() == COUNT.path() && one.side() == Side::Server)
        .unwrap()
        .latency();
    for (told, part) in [(served.p50, 0.5), (served.p90, 0.9), (served.p99, 0.99)] {
        assert_eq!(
            told.map(|time| time.try_into().unwrap()),
            latency.quantile(part),
            "{part}"
        );
    }
    let noted = &reply.procedures[2];
    assert_eq!((noted.started, noted.p50), (0, None));
    assert_eq!(noted.one_ways, [("handled".to_owned(), 1)].into_iter().collect());

    // A list has a bound, and says what is missing.
    let first = ProceduresRequest {
        most: 1,
        ..request.clone()
    };
    let first = within(inspect.send_recv().procedures(first)).await.unwrap();
    assert_eq!((first.procedures.len(), first.left_out), (1, 2));

    counted.0.notify_one();
    within(waiting).await.unwrap().unwrap();
    // In a window only its own calls count: not the one that failed before.
    let calling = tokio::spawn({
        let client = client.clone();
        async move {
            loop {
                let called = client.call().send_recv::<_, String>(&COUNT, "c".to_owned());
                called.await.unwrap();
            }
        }
    });
    let asked = Duration::from_millis(50);
    let request_window = ProceduresRequest {
        window: Some(asked.try_into().unwrap()),
        ..request.clone()
    };
    within(async {
        loop {
            let asking = inspect.send_recv().procedures(request_window.clone());
            let reply = asking.await.unwrap();
            let time = Duration::try_from(reply.window.unwrap()).unwrap();
            assert!(time >= asked, "{time:?}");
            let served = &reply.procedures[0];
            assert_eq!(served.errors, 0);
            let calls = served.rate.unwrap() * time.as_secs_f64();
            assert!((calls - served.ended as f64).abs() < 0.001, "{calls}");
            // No one-way call came in the window.
            assert!(reply.procedures[2].one_ways.is_empty());
            if served.ended > 0 {
                break;
            }
        }
    })
    .await;
    calling.abort();
    assert!(calling.await.unwrap_err().is_cancelled());

    for seconds in [-1, 21] {
        let wrong = ProceduresRequest {
            window: Some(rpc_runtime::prost_types::Duration { seconds, nanos: 0 }),
            ..request.clone()
        };
        let error = within(inspect.send_recv().procedures(wrong)).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.message().contains("from 0 s to 20s"), "{error}");
    }
    drop((inspect, client));
    server.stop().await;
}
