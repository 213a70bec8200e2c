//! Services for operators: only callers that may terminate the server may call them.

use rpc_runtime::{
    Client, Code, Context, Error, Executed, Result, Server,
    auth::{Caller, Roles, TERMINATE},
    middleware::{Next, ServerCall, from_fn},
    server::{Handler, Incoming, Procedure, ServerBuilder, Service, TerminatePolicy},
};
use test_support::{Logged, Running, serve, unix, within};

/// A service for operators. Its handlers answer "open".
struct Console;

static OPEN: Procedure = Procedure::new("console.v1.Console/open", 951);
static CONSOLE: [Procedure; 1] = [OPEN];

impl Service for Console {
    fn name(&self) -> &'static str {
        "console.v1.Console"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &CONSOLE
    }

    fn is_for_operators(&self) -> bool {
        true
    }

    fn call(&self, _: usize, call: Incoming) -> Handler {
        call.handle(|_: Context, (): ()| async move { Result::Ok("open".to_owned()) })
    }
}

async fn served(address: &str, configure: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Running {
    let server = Server::builder()
        .service(Console)
        .listener(address)
        .signals(false);
    serve(configure(server)).await
}

async fn open(client: &Client) -> Result<String, Error> {
    within(client.call().send_recv(&OPEN, ())).await
}

#[tokio::test(crate = "test_support::gate")]
async fn who_may_terminate_may_call_and_nobody_else() {
    let tcp = || "tcp://127.0.0.1:0".to_owned();
    for (address, policy, may) in [
        (
            "mem:inspect-operators".to_owned(),
            TerminatePolicy::default(),
            true,
        ),
        (unix("inspect-operators"), TerminatePolicy::default(), true),
        (tcp(), TerminatePolicy::default(), false),
        (tcp(), TerminatePolicy::loopback(), true),
        (tcp(), TerminatePolicy::disabled(), false),
        (unix("inspect-disabled"), TerminatePolicy::disabled(), false),
        (tcp(), TerminatePolicy::custom(|_| true), true),
        (
            tcp(),
            TerminatePolicy::custom_async(async |_: Context| false),
            false,
        ),
    ] {
        let about = format!("{address} {policy:?}");
        let logged = Logged::here();
        let server = served(&address, |server| server.terminate_policy(policy)).await;
        let client = server.client().await;
        match open(&client).await {
            Ok(answer) => assert!(may && answer == "open", "{about}"),
            Err(error) => {
                assert!(!may, "{about}: {error}");
                assert_eq!(
                    (error.code(), error.executed()),
                    (Code::PermissionDenied, Executed::No),
                    "{about}"
                );
                let text = error.message();
                assert!(
                    text.starts_with(
                        "console.v1.Console/open is for operators, and this peer may not terminate the server"
                    ) && text.contains(".terminate_policy(..)"),
                    "{text}"
                );
                let audit = logged.audit();
                let [line] = &audit[..] else { panic!("{audit:?}") };
                assert_eq!(
                    line.pick(&["message", "decision", "procedure"]),
                    "call denied console.v1.Console/open"
                );
            }
        }
        // A one-way call needs the same right.
        client.call().send(&OPEN, ()).await.unwrap();
        let account = within(client.settled()).await.unwrap();
        assert_eq!(account.handled() == 1, may, "{about}: {account}");
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_client_over_loopback_can_prove_its_user_on_the_connection_that_it_has() {
    let server = served("tcp://127.0.0.1:0", |server| server).await;
    let client = server.client().await;
    assert_eq!(open(&client).await.unwrap_err().code(), Code::PermissionDenied);
    let operator = within(client.with_user_proof()).await.unwrap();
    assert_eq!(open(&operator).await.unwrap(), "open");
    // The proof is for that connection, whoever shows it.
    let other = server.client().await;
    let call = async |proof: &[u8]| {
        let call = other.call().metadata("x-rpc-user-proof", proof.to_vec());
        within(call.send_recv::<_, String>(&OPEN, ())).await
    };
    for wrong in [&[][..], &[7; 32]] {
        let error = call(wrong).await.unwrap_err();
        assert_eq!(error.code(), Code::PermissionDenied);
    }
    // By a Unix socket there is nothing to prove.
    let server = served(&unix("inspect-proof"), |server| server).await;
    let operator = within(server.client().await.with_user_proof()).await.unwrap();
    assert_eq!(open(&operator).await.unwrap(), "open");
}

#[tokio::test(crate = "test_support::gate")]
async fn a_servers_own_policy_decides_by_the_rule_of_terminate() {
    for (rules, may) in [
        (&[(TERMINATE, "operator")][..], true),
        (&[(TERMINATE, "admin")], false),
        (&[], false),
        (&[(TERMINATE, "admin"), ("console.v1.Console", "operator")], true),
        (
            &[(TERMINATE, "operator"), ("console.v1.Console/open", "admin")],
            false,
        ),
    ] {
        let server = served("tcp://127.0.0.1:0", |server| {
            let is_operator = from_fn(async |mut call: ServerCall, next: Next<ServerCall>| {
                call.insert(Caller::new("ada").with_role("operator"));
                next.run(call).await
            });
            let server = server.layer(is_operator).policy(Roles::new());
            rules
                .iter()
                .fold(server, |server, (path, role)| server.allow(*path, [*role]))
        })
        .await;
        let client = server.client().await;
        let opened = open(&client).await;
        assert_eq!(opened.is_ok(), may, "{rules:?}");
        if let Err(error) = opened {
            assert_eq!(error.code(), Code::PermissionDenied);
        }
    }
}
