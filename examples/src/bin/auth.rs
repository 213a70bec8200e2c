//! Bearer tokens over TLS: one that a client has, one that it gets and renews, and a handler that knows its caller.
//!
//! `cargo run -p examples --bin auth`

use std::{error::Error, time::Duration};

use examples::hello::v1::{GreetReply, GreetRequest, Hello, HelloClient, HelloServer};
use rpc_runtime::{
    Context, Result, Server, Status,
    auth::{BearerTokens, Caller, Token},
    tls::{self, ClientTls, ServerTls},
};

struct Polite;

impl Hello for Polite {
    async fn rpc_greet(&self, cx: &Context, request: GreetRequest) -> Result<GreetReply> {
        let caller = cx
            .get::<Caller>()
            .ok_or_else(|| Status::unauthenticated("who are you?"))?;
        let text = format!("good day, {}, says the server to {}", request.name, caller.name());
        Ok(GreetReply { text })
    }
}

/// Real programs read their tokens from the environment or a file, and never have them in the code.
const ADA: &str = "mF_9.B5f-4.1JqM";
const BILLING: &str = "2YotnFZFEjr1zCsicMWpAA";

/// Stands for a call of an identity provider.
async fn log_in() -> Result<Token> {
    Ok(Token::new(BILLING).expires_in(Duration::from_secs(3600)))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Tokens do not go over plain TCP. A CA for this process: see docs/how-to/tls.md.
    let ca = tls::dev()?;
    let tokens = BearerTokens::fixed([(ADA, Caller::new("ada")), (BILLING, Caller::new("billing"))]);
    let server = Server::builder()
        .layer(tokens)
        .service(HelloServer::new(Polite))
        .listener("tls://127.0.0.1:0")
        .tls(ServerTls::builder(ca.server()?).build()?)
        .bind()
        .await?;
    let address = server.addresses().join("");
    println!("server: listening on {address}");
    let handle = server.handle();
    let serving = tokio::spawn(server.serve());

    let tls = ClientTls::builder().roots(ca.roots()).build()?;
    let builder = HelloClient::builder(&address).tls(tls);
    let ada = builder.clone().token(ADA).connect().await?;
    println!("ada: {}", ada.send_recv().greet("Ada").await?.text);
    let billing = builder.clone().token_source(log_in).connect().await?;
    println!("billing: {}", billing.send_recv().greet("Ada").await?.text);

    let stranger = builder.connect().await?;
    if let Err(error) = stranger.send_recv().greet("Ada").await {
        println!("stranger: {}, executed: {:?}", error.code(), error.executed());
    }
    let plain = HelloClient::builder("tcp://127.0.0.1:5005")
        .token(ADA)
        .connect()
        .await;
    if let Err(error) = plain {
        println!("over plain TCP: {}", error.code());
    }

    handle.drain();
    println!("server: {}", serving.await??);
    Ok(())
}
