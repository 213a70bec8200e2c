//! Code around calls: the client's logs how long they take, the server's refuses strangers and tells the handler who calls.
//!
//! `cargo run -p examples --bin middleware`

use std::{error::Error, time::Instant};

use examples::hello::v1::{GreetReply, GreetRequest, Hello, HelloClient, HelloServer};
use rpc_runtime::{
    Context, Result, Server, Status,
    middleware::{self, Answer, ClientCall, Middleware, Next, ServerCall},
};

/// The caller, as the middleware of the server knows it.
struct User(String);

/// Lets only callers in that say who they are. A real one would check a token.
struct KnownUsers;

impl Middleware<ServerCall> for KnownUsers {
    async fn handle(&self, mut call: ServerCall, next: Next<ServerCall>) -> Result<Answer> {
        let Some(user) = call.metadata().get_str("x-user").map(str::to_owned) else {
            // The handler does not run, and the caller learns that.
            return Err(Status::unauthenticated("send x-user"));
        };
        call.insert(User(user));
        next.run(call).await
    }
}

struct Polite;

impl Hello for Polite {
    async fn rpc_greet(&self, cx: &Context, request: GreetRequest) -> Result<GreetReply> {
        let user = cx.get::<User>().map_or("nobody", |user| &user.0);
        let text = format!("\"good day, {}\", and {user} asked", request.name);
        Ok(GreetReply { text })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::builder()
        .layer(KnownUsers)
        .service(HelloServer::new(Polite))
        .listener("tcp://127.0.0.1:0")
        .bind()
        .await?;
    let address = server.addresses().join("");
    let handle = server.handle();
    let serving = tokio::spawn(server.serve());

    let hello: HelloClient = HelloClient::builder(&address)
        .layer(middleware::from_fn(async |call: ClientCall, next| {
            let (procedure, begun) = (call.procedure(), Instant::now());
            let result = next.run(call).await;
            println!("client: {procedure} took {} ms", begun.elapsed().as_millis());
            result
        }))
        .connect()
        .await?;
    let known = hello.send_recv().metadata("x-user", "ada");
    println!("client: the reply is {}", known.greet("Ada").await?.text);
    if let Err(error) = hello.send_recv().greet("Ada").await {
        let text = error.message();
        println!(
            "client: {}: {text}, executed: {:?}",
            error.code(),
            error.executed()
        );
    }

    handle.drain();
    serving.await??;
    Ok(())
}
