//! Inspection: who may look, and what they see.

use prost::Message;
use rpc_http::Http;
use rpc_runtime::{
    Code, Server,
    server::{ServerBuilder, TerminatePolicy},
};
use rpc_services::{
    Inspect,
    rpc::inspect::v1::{
        CallsReply, CallsRequest, ConnectionsReply, ConnectionsRequest, InspectClient, LimitsReply,
        LimitsRequest, limit::Value,
    },
};
use test_support::{
    Lab, Running,
    lab::{WAIT, start},
    serve, unix, within,
};

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
            procedure: "rpc.inspect".to_owned(),
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
