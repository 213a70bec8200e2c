//! Bearer tokens: who calls, over which transports they go, where they come from, and that nothing shows them.

mod checks;
mod renewal;
mod secrecy;
mod terminate;
mod transports;
#[cfg(unix)]
mod unix_server;
mod verification;

use rpc_runtime::{
    Client, Error,
    auth::{BearerTokens, Caller},
    client::ClientBuilder,
    middleware::{Middleware, ServerCall, from_fn},
    server::ServerBuilder,
};
use test_support::{Lab, Running, within};

/// The token of ada. No text that a peer or a log gets may have it.
const ADA: &str = "s3cret-of-ada.0123456789";
/// The token of bob.
const BOB: &str = "s3cret-of-bob.0123456789";

/// The tokens of ada and bob.
fn fixed() -> BearerTokens {
    BearerTokens::fixed([
        (ADA, Caller::new("ada").with_role("admin")),
        (BOB, Caller::new("bob")),
    ])
}

/// Notes in the lab's log who makes each call. Neither it nor the handler sees a token.
fn noting(lab: &Lab) -> impl Middleware<ServerCall> + use<> {
    let lab = lab.clone();
    from_fn(move |call: ServerCall, next| {
        let of_connection = call.context().connection_metadata();
        assert!(!call.context().metadata().contains_key("authorization"));
        assert!(!of_connection.contains_key("authorization"));
        let name = call.get::<Caller>().map_or("nobody", Caller::name);
        let procedure = call.procedure().rsplit('/').next().unwrap_or_default();
        lab.note(format!("{name} calls {procedure}"));
        next.run(call)
    })
}

/// Serves a lab behind `tokens`.
async fn serve(
    address: &str,
    tokens: BearerTokens,
    configure: impl FnOnce(ServerBuilder) -> ServerBuilder,
) -> (Lab, Running) {
    let lab = Lab::default();
    let server = lab
        .serve_with(address, |server| {
            configure(server).layer(tokens).layer(noting(&lab))
        })
        .await;
    (lab, server)
}

/// Serves a lab behind `tokens` at a `mem:` address.
async fn served(address: &str, tokens: BearerTokens) -> (Lab, Running) {
    serve(address, tokens, |server| server).await
}

/// Connects a client to a server.
async fn connect(
    server: &Running,
    configure: impl FnOnce(ClientBuilder) -> ClientBuilder,
) -> Result<Client, Error> {
    within(configure(Client::builder(&server.address)).connect()).await
}
