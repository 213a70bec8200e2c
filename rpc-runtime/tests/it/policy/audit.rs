//! Each denial is one event of the audit, and too many end the connection.

use rpc_runtime::{
    Code, Context, Executed, Limits,
    auth::{Asked, Decision, Roles, policy_fn},
    middleware::{ServerCall, from_fn},
};
use test_support::{
    Logged,
    lab::*,
    wire::{self, HandPeer},
    within,
};

use super::*;
use crate::metrics::number;

const CANARY: &str = "canary-0x5eed-token";

#[tokio::test(crate = "test_support::gate")]
async fn a_denial_is_one_event_without_metadata() {
    let logged = Logged::here();
    let server = served("mem:policy-audit", |server| {
        server.layer(Believe).policy(Roles::new())
    })
    .await;
    let client = server.client().await;
    let call = client
        .call()
        .metadata("x-caller", "ada reader")
        .metadata("x-token", CANARY);
    within(call.send_recv::<_, String>(&CLEAR, ())).await.unwrap_err();
    call_as(&client, &READ, "").await.unwrap_err();
    call_as(&client, &READ, "ada reader").await.unwrap();
    server.stop().await;
    let fields = [
        "message",
        "decision",
        "code",
        "procedure",
        "caller",
        "peer",
        "transport",
        "unsaid",
        "reason",
    ];
    let lines: Vec<_> = logged.audit().iter().map(|line| line.pick(&fields)).collect();
    assert_eq!(
        lines[..3],
        [
            "call denied PERMISSION_DENIED vault.v1.Vault/clear ada mem:policy-audit mem 0 the caller has none of the roles \
             [\"admin\"]",
            "call denied UNAUTHENTICATED vault.v1.Vault/read  mem:policy-audit mem 0 neither middleware nor the transport says \
             who calls",
            "call allowed  vault.v1.Vault/read ada mem:policy-audit mem  ",
        ]
    );
    assert!(!logged.all().contains(CANARY), "{}", logged.all());
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn the_audit_of_a_connection_is_bounded_and_counts_what_it_left_out() {
    let logged = Logged::here();
    let denies = policy_fn(async |_: Asked| Decision::denied("nobody"));
    let server = served("mem:policy-bounded", |server| server.policy(denies)).await;
    let client = server.client().await;
    for _ in 0..25 {
        call_as(&client, &READ, "").await.unwrap_err();
    }
    assert_eq!(logged.audit().len(), 10);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    call_as(&client, &READ, "").await.unwrap_err();
    let lines = logged.audit();
    assert_eq!((lines.len(), lines[10].get("unsaid")), (11, "15"));
    assert_eq!(server.handle.counters().calls_denied(), 26);
    server.stop().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn too_many_denials_drain_the_connection() {
    let logged = Logged::here();
    let server = served("tcp://127.0.0.1:0", |server| {
        server
            .policy(Roles::new())
            .allow("lab.v1.Lab", ["anyone"])
            .limits(Limits::default().max_denials(5))
    })
    .await;
    let mut peer = HandPeer::greeted(&server.address).await;
    peer.send(&wire::call(1, &HANG, &())).await;
    for id in 0..5 {
        peer.send(&wire::call(3 + 2 * id, &READ, &())).await;
    }
    let (mut denied, mut goaways) = (0, Vec::new());
    while denied < 5 || goaways.is_empty() {
        let frame = within(peer.next()).await.unwrap();
        match frame.kind {
            wire::REPLY => {
                let flags = frame.flags & wire::NOT_EXECUTED;
                assert_eq!((frame.code, flags), (16, wire::NOT_EXECUTED));
                denied += 1;
            }
            wire::GOAWAY => goaways.push(wire::Goaway::of(&frame)),
            _ => {}
        }
    }
    assert_eq!(
        (goaways[0].reason, &*goaways[0].text),
        (
            4,
            "too many calls were denied (Limits::max_denials), the last: vault.v1.Vault/read"
        )
    );
    let counters = server.handle.counters();
    assert_eq!((counters.calls_denied(), counters.drained_by_denials()), (5, 1));
    assert!(number("rpc_server_connections_denied_total", &[]) >= 1.0);
    let last = logged.audit().pop().unwrap();
    assert_eq!(
        last.pick(&["message", "decision", "denials", "limit", "procedure"]),
        "connection drained 5 Limits::max_denials vault.v1.Vault/read"
    );
    drop(peer);
    server.stop().await;
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_policy_that_gives_no_answer_ends_no_connection() {
    let panics = served("mem:policy-own-fault-panics", |server| {
        server
            .policy(policy_fn(async |_: Asked| panic!("on purpose")))
            .limits(Limits::default().max_denials(3))
    })
    .await;
    let hangs = served("mem:policy-own-fault-hangs", |server| {
        server.policy(Hang).limits(Limits::default().max_denials(3))
    })
    .await;
    for server in [panics, hangs] {
        let client = server.client().await;
        for _ in 0..5 {
            let error = call_as(&client, &READ, "").await.unwrap_err();
            assert_eq!(error.code(), Code::PermissionDenied);
        }
        let counters = server.handle.counters();
        assert_eq!((counters.calls_denied(), counters.drained_by_denials()), (5, 0));
        server.stop().await;
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_denied_client_goes_on_with_another_connection_and_loses_no_call() {
    let server = served("mem:policy-denied-often", |server| {
        server
            .policy(Roles::new())
            .allow("lab.v1.Lab", ["anyone"])
            .limits(Limits::default().max_denials(5))
    })
    .await;
    let client = server.client().await;
    let open = start(&client, &SLEEP, "open");
    for _ in 0..12 {
        let error = call_as(&client, &READ, "").await.unwrap_err();
        assert_eq!(
            (error.code(), error.executed()),
            (Code::Unauthenticated, Executed::No)
        );
    }
    assert_eq!(within(open).await.unwrap().unwrap(), "open");
    assert_eq!(server.handle.counters().drained_by_denials(), 2);
    server.stop().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn middleware_and_handlers_may_drain_the_connection() {
    let drain = from_fn(async |call: ServerCall, next| {
        let cx: Context = call.context().clone();
        cx.drain_connection("the session is over");
        next.run(call).await
    });
    let server = served("tcp://127.0.0.1:0", |server| {
        server
            .layer_for(ECHO.path(), drain)
            .policy(policy_fn(async |_: Asked| Decision::Allowed))
    })
    .await;
    let mut peer = HandPeer::greeted(&server.address).await;
    peer.send(&wire::call(1, &ECHO, &"last".to_owned())).await;
    let (mut replies, mut goaways) = (0, Vec::new());
    while goaways.is_empty() || replies == 0 {
        let frame = within(peer.next()).await.unwrap();
        match frame.kind {
            wire::REPLY => replies += 1,
            wire::GOAWAY => goaways.push(wire::Goaway::of(&frame)),
            _ => {}
        }
    }
    assert_eq!((goaways[0].reason, &*goaways[0].text), (1, "the session is over"));
    drop(peer);
    let client = server.client().await;
    for _ in 0..3 {
        assert_eq!(echo(&client, "again").await.unwrap(), "again");
    }
    server.stop().await;
}
