//! Policies: which calls of a server go on, what the audit says, and what becomes of a peer that is denied too often.

mod audit;
mod decisions;
mod shared_connections;
mod start;
mod terminate;

use std::sync::Arc;

use rpc_runtime::{
    Client, Context, Error, Result, Server,
    auth::{Asked, Caller, Decision, Policy},
    middleware::{Answer, Middleware, Next, ServerCall},
    server::{Handler, Incoming, Procedure, ServerBuilder, Service},
};
use test_support::{Running, lab::*, serve, within};

/// A service with rules, as generated code declares them. Its handlers return the caller's name.
#[derive(Clone, Default)]
struct Vault;

static READ: Procedure = Procedure::new("vault.v1.Vault/read", 901).with_allowed_roles(&["reader", "admin"]);
static CLEAR: Procedure = Procedure::new("vault.v1.Vault/clear", 902).with_allowed_roles(&["admin"]);
static HEALTH: Procedure = Procedure::new("vault.v1.Vault/health", 903).with_allowed_roles(&["anyone"]);
static ENTER: Procedure = Procedure::new("vault.v1.Vault/enter", 904).with_allowed_roles(&["authenticated"]);
static UNRULED: Procedure = Procedure::new("vault.v1.Vault/unruled", 905);
static VAULT: [Procedure; 5] = [READ, CLEAR, HEALTH, ENTER, UNRULED];

impl Service for Vault {
    fn name(&self) -> &'static str {
        "vault.v1.Vault"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &VAULT
    }

    fn call(&self, _: usize, call: Incoming) -> Handler {
        call.handle(|cx: Context, (): ()| async move {
            let name = cx.get::<Caller>().map_or("nobody", |caller| caller.name());
            Result::Ok(name.to_owned())
        })
    }
}

/// Middleware that believes what the metadata says: `x-caller: ada reader admin` is ada with two roles.
struct Believe;

impl Middleware<ServerCall> for Believe {
    async fn handle(&self, mut call: ServerCall, next: Next<ServerCall>) -> Result<Answer> {
        let caller = call.metadata().get_str("x-caller").and_then(|text| {
            let mut words = text.split(' ').map(Arc::<str>::from);
            Some(Caller::new(words.next()?).with_roles(words))
        });
        if let Some(caller) = caller {
            call.insert(caller);
        }
        next.run(call).await
    }

    fn wraps_terminate(&self) -> bool {
        true
    }
}

/// A policy that never answers.
struct Hang;

impl Policy for Hang {
    async fn decide(&self, _: Asked) -> Decision {
        std::future::pending().await
    }
}

/// Serves the vault and the lab at `address`.
async fn served(address: &str, configure: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Running {
    let builder = Server::builder().service(Vault).service(Lab::default());
    serve(configure(builder).listener(address).signals(false)).await
}

/// Calls a procedure of the vault as `caller`, in the form that [`Believe`] reads.
async fn call_as(client: &Client, procedure: &'static Procedure, caller: &str) -> Result<String, Error> {
    let call = match caller {
        "" => client.call(),
        caller => client.call().metadata("x-caller", caller.to_owned()),
    };
    within(call.send_recv(procedure, ())).await
}
