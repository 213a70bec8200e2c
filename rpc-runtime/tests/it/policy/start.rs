//! A service with rules starts only with a policy.

use rpc_runtime::{
    Client, Code, Context, Server,
    auth::{Roles, TERMINATE},
    middleware::Layered,
    server::TerminatePolicy,
};
use test_support::{lab::*, within};

use super::*;

const UNGUARDED: &str = "vault.v1.Vault/read has the rule `allow: [\"reader\", \"admin\"]` and no policy decides by it: add one by \
                         .policy(auth::Roles::new()), to the server or, for a service in process or of a client, to \
                         Layered::new(service)";

async fn refused(configure: impl FnOnce(ServerBuilder) -> ServerBuilder) -> (Code, String) {
    let builder = Server::builder().service(Vault).listener("mem:policy-start");
    let error = configure(builder).bind().await.unwrap_err();
    (error.code(), error.message().to_owned())
}

#[tokio::test(crate = "test_support::gate")]
async fn a_server_with_rules_and_no_policy_does_not_start() {
    let refusal = (Code::FailedPrecondition, UNGUARDED.to_owned());
    assert_eq!(refused(|server| server).await, refusal);
    assert_eq!(refused(|server| server.layer(Believe)).await, refusal);
    let guarded = Server::builder().service(Layered::new(Vault).policy(Roles::new()));
    drop(guarded.listener("mem:policy-start-layered").bind().await.unwrap());
}

#[tokio::test(crate = "test_support::gate")]
async fn a_wrong_rule_of_the_server_is_refused_by_name() {
    let with = |path: &'static str, role: &'static str| {
        refused(move |server| server.policy(Roles::new()).allow(path, [role]))
    };
    let (code, text) = with("vault.v1.Vault/raed", "admin").await;
    assert_eq!(code, Code::NotFound);
    assert!(
        text.starts_with("allow names vault.v1.Vault/raed, which this server does not have"),
        "{text}"
    );
    for (path, says) in [
        ("vault.v1.Vault/rpc_clear", "write vault.v1.Vault/clear"),
        (
            "vault.v1.Vault/raed",
            "vault.v1.Vault has read, clear, health, enter, unruled",
        ),
        (
            "vault.v1.Vaults",
            "name a service, as package.Service, or a procedure, as package.Service/Name; it has vault.v1.Vault",
        ),
    ] {
        let (_, text) = with(path, "admin").await;
        assert_eq!(
            text,
            format!("allow names {path}, which this server does not have: {says}")
        );
    }
    for role in ["", "*"] {
        let (code, text) = with(TERMINATE, role).await;
        assert_eq!(code, Code::InvalidArgument);
        assert_eq!(
            text,
            format!(
                "allow of rpc.control.v1.Control/rpc_terminate names the role {role:?}, which no caller has: write \"anyone\" for \
                 every caller, \"authenticated\" for every caller that is known"
            )
        );
    }
    let builder = Server::builder()
        .service(Lab::default())
        .listener("mem:policy-start");
    let error = builder.allow(TERMINATE, ["admin"]).bind().await.unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (
            Code::FailedPrecondition,
            "allow sets a rule of rpc.control.v1.Control/rpc_terminate and no policy decides by it: add one by \
             .policy(auth::Roles::new())"
        )
    );
}

#[tokio::test(crate = "test_support::gate")]
async fn a_server_has_a_policy_or_a_terminate_policy() {
    let (code, text) = refused(|server| {
        server
            .policy(Roles::new())
            .terminate_policy(TerminatePolicy::default())
    })
    .await;
    assert_eq!(code, Code::FailedPrecondition);
    assert_eq!(
        text,
        "a server with a policy has no terminate policy: its policy decides about terminate, so say who may by \
         .allow(auth::TERMINATE, [..]) and leave .terminate_policy(..) out"
    );
}

#[tokio::test(crate = "test_support::gate")]
async fn a_service_in_process_needs_a_policy_too() {
    let error = call_as(&Client::in_process(Vault), &HEALTH, "")
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (Code::FailedPrecondition, UNGUARDED)
    );
    let client = Client::in_process(Layered::new(Vault).layer(Believe).policy(Roles::new()));
    assert_eq!(call_as(&client, &CLEAR, "ada admin").await.unwrap(), "ada");
    within(client.terminate()).await.unwrap();
}

#[tokio::test(crate = "test_support::gate")]
async fn a_service_of_a_client_needs_a_policy_too() {
    let server = Back.serve("mem:policy-callback").await;
    let client = || Client::builder(&server.address);
    let error = within(client().service(Vault).connect()).await.unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (Code::FailedPrecondition, UNGUARDED)
    );
    let roles = Roles::new().callers(|_| Some(Caller::new("the server").with_role("reader")));
    let client: Client = within(client().service(Layered::new(Vault).policy(roles)).connect())
        .await
        .unwrap();
    let names: String = within(client.call().send_recv(&CALL_BACK, ())).await.unwrap();
    assert_eq!(names, "read: the server, clear: PermissionDenied");
    drop(client);
    server.stop().await;
}

/// A service that calls its caller's vault.
struct Back;

static CALL_BACK: Procedure = Procedure::new("back.v1.Back/call_back", 921);
static CALL_BACKS: [Procedure; 1] = [CALL_BACK];

impl Back {
    async fn serve(self, address: &str) -> Running {
        serve(Server::builder().service(self).listener(address).signals(false)).await
    }
}

impl Service for Back {
    fn name(&self) -> &'static str {
        "back.v1.Back"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &CALL_BACKS
    }

    fn call(&self, _: usize, call: Incoming) -> Handler {
        call.handle(|cx: Context, (): ()| async move {
            let peer: Client = cx.caller();
            let read = call_as(&peer, &READ, "").await?;
            let clear = call_as(&peer, &CLEAR, "").await.unwrap_err().code();
            Result::Ok(format!("read: {read}, clear: {clear:?}"))
        })
    }
}
