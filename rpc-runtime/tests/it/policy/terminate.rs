//! A server's policy alone decides about terminate.

use rpc_runtime::{
    Client, Code, Context, DrainReport, Error, Executed,
    auth::{Asked, Caller, Decision, Roles, TERMINATE, policy_fn},
    middleware::{Next, ServerCall, from_fn},
    server::TerminatePolicy,
};
use test_support::{Logged, lab::*, unix, within};

use super::*;

async fn terminate_as(client: &Client, caller: &str) -> Result<DrainReport, Error> {
    let call = match caller {
        "" => client.call(),
        caller => client.call().metadata("x-caller", caller.to_owned()),
    };
    within(call.terminate()).await
}

#[track_caller]
fn refused(result: Result<DrainReport, Error>, code: Code) {
    let error = result.unwrap_err();
    assert_eq!((error.code(), error.executed()), (code, Executed::No), "{error}");
}

#[tokio::test(crate = "test_support::gate")]
async fn the_rule_of_terminate_decides_and_not_the_user() {
    // The peer is the server's own user in each case, which a server without a policy obeys.
    for address in [
        "mem:policy-terminate",
        "tcp://127.0.0.1:0",
        &unix("policy-terminate"),
    ] {
        let logged = Logged::here();
        let server = served(address, |server| {
            server
                .layer(Believe)
                .policy(Roles::new())
                .allow(TERMINATE, ["operator"])
        })
        .await;
        let client = server.client().await;
        refused(terminate_as(&client, "").await, Code::Unauthenticated);
        refused(terminate_as(&client, "ada admin").await, Code::PermissionDenied);
        let report = terminate_as(&client, "ada operator").await.unwrap();
        assert_eq!(server.report().await, report);
        let fields = [
            "message",
            "decision",
            "code",
            "wish",
            "by",
            "procedure",
            "caller",
            "policy",
        ];
        let lines: Vec<_> = logged.audit().iter().map(|line| line.pick(&fields)).collect();
        assert_eq!(
            lines,
            [
                "terminate denied UNAUTHENTICATED drain peer rpc.control.v1.Control/rpc_terminate  ",
                "terminate denied PERMISSION_DENIED drain peer rpc.control.v1.Control/rpc_terminate ada ",
                "terminate allowed  drain peer  ada ServerBuilder::policy",
            ],
            "{address}"
        );
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn without_a_rule_roles_deny_terminate_to_all() {
    let roles = Roles::new().callers(|_| Some(Caller::new("root").with_role("admin")));
    let server = served("mem:policy-terminate-unruled", |server| server.policy(roles)).await;
    let client = server.client().await;
    refused(terminate_as(&client, "").await, Code::PermissionDenied);
    assert_eq!(call_as(&client, &HEALTH, "").await.unwrap(), "root");
    // A handle needs no policy.
    server.stop().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn the_transport_says_who_terminates() {
    let roles = Roles::new().callers(|peer| {
        let is_known = peer.uid().is_some() || peer.sid().is_some();
        is_known.then(|| Caller::new("user").with_role("operator"))
    });
    let server = served(&unix("policy-terminate-user"), |server| {
        server.policy(roles).allow(TERMINATE, ["operator"])
    })
    .await;
    let client = server.client().await;
    terminate_as(&client, "").await.unwrap();
    server.report().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn only_middleware_that_says_so_wraps_terminate() {
    let lab = Lab::default();
    let noting = |name: &'static str| {
        let lab = lab.clone();
        from_fn(move |call: ServerCall, next: Next<ServerCall>| {
            lab.note(format!("{name} {}", call.procedure()));
            next.run(call)
        })
    };
    let server = served("mem:policy-terminate-layers", |server| {
        server
            .layer(noting("with").with_terminate())
            .layer(noting("without"))
            .layer_for("lab.v1.Lab", noting("for").with_terminate())
            .policy(policy_fn(async |asked: Asked| match asked.procedure() {
                TERMINATE => Decision::Allowed,
                _ => Decision::denied("only terminate"),
            }))
    })
    .await;
    let client = server.client().await;
    terminate_as(&client, "").await.unwrap();
    server.report().await;
    assert_eq!(lab.log(), ["with rpc.control.v1.Control/rpc_terminate"]);
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_policy_that_hangs_or_panics_denies_terminate() {
    let hangs = served("mem:policy-terminate-hangs", |server| server.policy(Hang)).await;
    let panics = served("mem:policy-terminate-panics", |server| {
        server.policy(policy_fn(async |_: Asked| panic!("on purpose")))
    })
    .await;
    for server in [hangs, panics] {
        let client = server.client().await;
        refused(terminate_as(&client, "").await, Code::PermissionDenied);
        server.stop().await;
    }
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_terminate_policy_may_wait_but_not_for_ever() {
    let policy = || {
        TerminatePolicy::custom_async(async |cx: Context| match cx.metadata().get_str("x-caller") {
            Some("hangs") => std::future::pending().await,
            Some("panics") => panic!("on purpose"),
            caller => {
                tokio::task::yield_now().await;
                caller == Some("ada")
            }
        })
    };
    let lab = Lab::default();
    let server = lab
        .serve_with("mem:policy-terminate-async", |server| {
            server.terminate_policy(policy())
        })
        .await;
    let client = server.client().await;
    for caller in ["", "hangs", "panics", "eve"] {
        refused(terminate_as(&client, caller).await, Code::PermissionDenied);
    }
    terminate_as(&client, "ada").await.unwrap();
    server.report().await;
}
