//! Limits of each caller, the refusal of calls under overload, and clients that come back when they are told.

mod concurrency;
mod hints;
mod rate;
mod shed;

use rpc_runtime::{
    Client, Error, Result,
    auth::Caller,
    middleware::{Answer, Layered, Middleware, Next, ServerCall, from_fn},
    server::Procedure,
};
use test_support::{lab::*, within};

/// The middleware of a server that authenticates: the caller has the name in the entry `user`.
fn by_user() -> impl Middleware<ServerCall> {
    from_fn(
        async |mut call: ServerCall, next: Next<ServerCall>| -> Result<Answer> {
            if let Some(user) = call.metadata().get_str("user").map(str::to_owned) {
                call.insert(Caller::new(user));
            }
            next.run(call).await
        },
    )
}

/// A client of `lab` behind a limit for each user.
fn limited(lab: &Lab, limit: impl Middleware<ServerCall>) -> Client {
    Client::in_process(Layered::new(lab.clone()).layer(by_user()).layer(limit))
}

/// Calls a procedure that takes and returns text, as a user, and does not come back by a hint.
async fn text_as(
    client: &Client,
    user: &str,
    procedure: &'static Procedure,
    text: &str,
) -> Result<String, Error> {
    let call = client.call().metadata("user", user.to_owned()).fail_fast();
    within(call.send_recv(procedure, text.to_owned())).await
}

/// Calls [`ECHO`] as a user, and does not come back by a hint.
async fn echo_as(client: &Client, user: &str) -> Result<(), Error> {
    text_as(client, user, &ECHO, "").await.map(drop)
}

/// How many of `count` calls of [`ECHO`] as a user end well.
async fn admitted(client: &Client, user: &str, count: usize) -> usize {
    let mut admitted = 0;
    for _ in 0..count {
        admitted += usize::from(echo_as(client, user).await.is_ok());
    }
    admitted
}
