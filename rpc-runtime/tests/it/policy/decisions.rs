//! Which calls go on.

use rpc_runtime::{
    Client, Code, Executed, Status,
    auth::{Asked, Caller, Decision, Roles, policy_fn},
    client::DropReason,
    middleware::{Layered, Next, ServerCall, from_fn},
};
use test_support::{lab::*, unix, within};

use super::*;

#[tokio::test(crate = "test_support::gate")]
async fn roles_decide_as_the_table_says() {
    let server = served("mem:policy-roles", |server| {
        server.policy(Roles::new()).layer(Believe)
    })
    .await;
    let client = server.client().await;
    let (yes, unknown, denied) = (None, Some(Code::Unauthenticated), Some(Code::PermissionDenied));
    let callers = ["", "ada", "ada reader", "ada writer admin"];
    for (procedure, expected) in [
        (&READ, [unknown, denied, yes, yes]),
        (&CLEAR, [unknown, denied, denied, yes]),
        (&HEALTH, [yes, yes, yes, yes]),
        (&ENTER, [unknown, yes, yes, yes]),
        (&UNRULED, [denied, denied, denied, denied]),
    ] {
        for (caller, expected) in callers.iter().zip(expected) {
            let what = format!("{} as {caller:?}", procedure.path());
            match (call_as(&client, procedure, caller).await, expected) {
                (Ok(name), None) => assert_eq!(name == "ada", !caller.is_empty(), "{what}: {name}"),
                (Err(error), Some(code)) => {
                    assert_eq!((error.code(), error.executed()), (code, Executed::No), "{what}");
                    let text = match code {
                        Code::Unauthenticated => format!(
                            "the caller of {} is not known: send credentials that this server accepts",
                            procedure.path()
                        ),
                        _ => format!("this caller may not call {}", procedure.path()),
                    };
                    assert_eq!(error.message(), text);
                }
                (result, _) => panic!("{what}: {result:?}"),
            }
        }
    }
    assert_eq!(server.handle.counters().calls_denied(), 10);
    server.stop().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn the_policy_is_asked_inside_of_all_middleware_of_the_server() {
    let lab = Lab::default();
    let noting = |name: &'static str| {
        let lab = lab.clone();
        from_fn(move |call: ServerCall, next: Next<ServerCall>| {
            lab.note(name);
            next.run(call)
        })
    };
    let asked = lab.clone();
    let policy = policy_fn(move |call: Asked| {
        asked.note(format!("policy of {}", call.procedure()));
        async { Decision::Allowed }
    });
    let server = served("mem:policy-order", |server| {
        server
            .policy(policy)
            .service(Layered::new(Inner).layer(noting("inner")))
            .layer_for(INNER.path(), noting("for"))
            .layer(noting("all"))
    })
    .await;
    let client = server.client().await;
    let (): () = within(client.call().send_recv(&INNER, ())).await.unwrap();
    assert_eq!(
        lab.log(),
        ["for", "all", "policy of inner.v1.Inner/inner", "inner"]
    );
    server.stop().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn a_policy_sees_the_call_and_may_wait() {
    let policy = policy_fn(async |asked: Asked| {
        tokio::task::yield_now().await;
        assert!(asked.peer().is_same_user() && asked.context().remaining().is_some());
        let rule: Vec<_> = asked.rule().roles().collect();
        match (asked.procedure(), asked.metadata().get_str("k"), &rule[..]) {
            ("vault.v1.Vault/read", Some("v"), ["reader", "admin"]) => Decision::Allowed,
            _ => Decision::denied("another call"),
        }
    });
    let server = served("mem:policy-asked", |server| server.policy(policy)).await;
    let client = server.client().await;
    let call = client.call().metadata("k", "v").send_recv::<_, String>(&READ, ());
    assert_eq!(within(call).await.unwrap(), "nobody");
    let error = call_as(&client, &READ, "").await.unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
    server.stop().await;
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_policy_that_panics_or_hangs_denies() {
    let panics = served("mem:policy-panics", |server| {
        server.policy(policy_fn(async |_: Asked| panic!("on purpose")))
    })
    .await;
    let hangs = served("mem:policy-hangs", |server| server.policy(Hang)).await;
    for server in [panics, hangs] {
        let client = server.client().await;
        let error = call_as(&client, &HEALTH, "").await.unwrap_err();
        assert_eq!(
            (error.code(), error.executed()),
            (Code::PermissionDenied, Executed::No),
            "{error}"
        );
        server.stop().await;
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_panic_in_the_map_of_peers_leaves_the_caller_unknown() {
    let roles = Roles::new().callers(|_| panic!("on purpose"));
    let client = Client::in_process(Layered::new(Vault).policy(roles));
    assert_eq!(
        call_as(&client, &READ, "").await.unwrap_err().code(),
        Code::Unauthenticated
    );
    assert_eq!(call_as(&client, &HEALTH, "").await.unwrap(), "nobody");
}

#[tokio::test(crate = "test_support::gate")]
async fn a_peer_is_a_caller_by_its_user() {
    let roles = Roles::new().callers(|peer| {
        let caller = Caller::new(format!(
            "known user: {}",
            peer.uid().is_some() || peer.sid().is_some()
        ));
        peer.is_same_user().then(|| caller.with_role("admin"))
    });
    let server = served(&unix("policy-user"), |server| server.policy(roles).layer(Believe)).await;
    let client = server.client().await;
    assert_eq!(call_as(&client, &CLEAR, "").await.unwrap(), "known user: true");
    let error = call_as(&client, &CLEAR, "ada").await.unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied, "middleware goes first");
    server.stop().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn every_shape_of_call_is_denied_without_a_trace() {
    let lab = Lab::default();
    let denies = policy_fn(async |_: Asked| Decision::denied("nobody"));
    let client = Client::in_process(Layered::new(lab.clone()).policy(denies));
    assert_eq!(
        text(&client, &WAIT, "never").await.unwrap_err().executed(),
        Executed::No
    );
    let mut counted = client.call().reply_stream(&COUNT, 3_u64).await.unwrap();
    let (messages, end) = all::<u64>(&mut counted).await;
    let end = end.unwrap_err();
    assert_eq!(
        (messages.len(), end.code(), end.executed()),
        (0, Code::PermissionDenied, Executed::No)
    );
    let (_sender, sum) = client
        .call()
        .request_stream::<u64, _, _>(&SUM, Ok::<u64, _>)
        .await
        .unwrap();
    assert_eq!(within(sum).await.unwrap_err().executed(), Executed::No);
    for _ in 0..3 {
        send(&client, &NOTE, "never").await;
    }
    let account = within(client.settled()).await.unwrap();
    assert_eq!(
        account.dropped().collect::<Vec<_>>(),
        [(DropReason::Refused, 3)],
        "{account}"
    );
    assert_eq!(lab.log(), [""; 0]);
}

#[tokio::test(crate = "test_support::gate")]
async fn the_server_s_rules_go_before_those_of_the_proto() {
    let server = served("mem:policy-rules", |server| {
        server
            .layer(Believe)
            .policy(Roles::new())
            .allow("vault.v1.Vault", ["guard"])
            .allow("vault.v1.Vault/unruled", ["anyone"])
            .allow("lab.v1.Lab", ["authenticated"])
    })
    .await;
    let client = server.client().await;
    assert_eq!(call_as(&client, &CLEAR, "ada guard").await.unwrap(), "ada");
    let error = call_as(&client, &CLEAR, "ada admin").await.unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
    assert_eq!(call_as(&client, &UNRULED, "").await.unwrap(), "nobody");
    let call = client.call().metadata("x-caller", "ada");
    let echoed: String = within(call.send_recv(&ECHO, "lab".to_owned())).await.unwrap();
    assert_eq!(echoed, "lab");
    assert_eq!(
        echo(&client, "lab").await.unwrap_err().code(),
        Code::Unauthenticated
    );
    server.stop().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn calls_of_the_control_service_but_terminate_pass_the_policy_by() {
    let denies = policy_fn(async |_: Asked| Decision::denied("nobody"));
    let server = served("mem:policy-control", |server| server.policy(denies)).await;
    let client = server.client().await;
    within(client.ping()).await.unwrap();
    within(client.settled()).await.unwrap();
    server.stop().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn middleware_sees_how_the_policy_decided() {
    let lab = Lab::default();
    let noting = lab.clone();
    let layer = from_fn(move |call: ServerCall, next: Next<ServerCall>| {
        let lab = noting.clone();
        async move {
            let result = next.run(call).await;
            lab.note(format!("{:?}", result.as_ref().err().map(Status::code)));
            result
        }
    });
    let client = Client::in_process(Layered::new(Vault).layer(layer).policy(Roles::new()));
    call_as(&client, &READ, "").await.unwrap_err();
    assert_eq!(lab.log(), ["Some(Unauthenticated)"]);
}

/// A service with middleware of its own.
struct Inner;

static INNER: Procedure = Procedure::new("inner.v1.Inner/inner", 911);
static INNERS: [Procedure; 1] = [INNER];

impl Service for Inner {
    fn name(&self) -> &'static str {
        "inner.v1.Inner"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &INNERS
    }

    fn call(&self, _: usize, call: Incoming) -> Handler {
        call.handle(|_: Context, (): ()| async move { Result::Ok(()) })
    }
}

/// A service that stands in for an older version of itself.
struct Renamed;

static NEW: Procedure = Procedure::new("renamed.v1.Renamed/call", 912);
static OLD: Procedure = Procedure::new("renamed.v1alpha.Renamed/call", 913);
static RENAMED: [Procedure; 2] = [NEW, OLD];

impl Service for Renamed {
    fn name(&self) -> &'static str {
        "renamed.v1.Renamed"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &RENAMED
    }

    fn call(&self, _: usize, call: Incoming) -> Handler {
        call.handle(|cx: Context, (): ()| async move {
            let name = cx.get::<Caller>().map_or("nobody", |caller| caller.name());
            Result::Ok(name.to_owned())
        })
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn rules_and_middleware_of_a_service_are_for_its_older_paths_too() {
    let server = Server::builder()
        .service(Renamed)
        .policy(Roles::new())
        .layer_for("renamed.v1.Renamed", Believe)
        .allow("renamed.v1.Renamed", ["admin"])
        .listener("mem:policy-renamed")
        .signals(false);
    let server = serve(server).await;
    let client = server.client().await;
    for procedure in [&NEW, &OLD] {
        assert_eq!(call_as(&client, procedure, "ada admin").await.unwrap(), "ada");
        let error = call_as(&client, procedure, "ada reader").await.unwrap_err();
        assert_eq!(error.code(), Code::PermissionDenied);
    }
    server.stop().await;
    // The older version may have a rule of its own.
    let server = Server::builder()
        .service(Renamed)
        .policy(Roles::new())
        .allow("renamed.v1.Renamed", ["admin"])
        .allow("renamed.v1alpha.Renamed", ["anyone"])
        .listener("mem:policy-renamed")
        .signals(false);
    let server = serve(server).await;
    let client = server.client().await;
    assert_eq!(call_as(&client, &OLD, "").await.unwrap(), "nobody");
    let error = call_as(&client, &NEW, "").await.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated);
    server.stop().await;
}

/// A service by hand, whose procedures have paths of another one.
struct Odd;

static OPEN: Procedure = Procedure::new("old.v1.Old/open", 931).with_allowed_roles(&["anyone"]);
static READABLE: Procedure = Procedure::new("old.v1.Old/readable", 932).with_allowed_roles(&["anyone"]);
static ODD: [Procedure; 2] = [OPEN, READABLE];

impl Service for Odd {
    fn name(&self) -> &'static str {
        "new.v1.New"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &ODD
    }

    fn call(&self, _: usize, call: Incoming) -> Handler {
        call.handle(|_: Context, (): ()| async { Result::Ok("called".to_owned()) })
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_rule_of_a_service_is_that_of_its_procedures_whatever_their_paths() {
    let server = served("mem:policy-odd", |server| {
        server
            .service(Odd)
            .layer(Believe)
            .policy(Roles::new())
            .allow(READABLE.path(), ["reader"])
            .allow("new.v1.New", ["admin"])
    })
    .await;
    let client = server.client().await;
    for (procedure, caller, is_allowed) in [
        (&OPEN, "ada reader", false),
        (&OPEN, "ada admin", true),
        (&READABLE, "ada reader", true),
        (&READABLE, "ada admin", false),
    ] {
        let called = call_as(&client, procedure, caller).await;
        assert_eq!(
            called.is_ok(),
            is_allowed,
            "{} as {caller}: {called:?}",
            procedure.path()
        );
    }
    server.stop().await;
}
