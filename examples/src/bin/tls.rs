//! Mutual TLS: the server and the client prove who they are, and the handler knows its caller.
//!
//! `cargo run -p examples --bin tls`

use std::error::Error;

use examples::hello::v1::{GreetReply, GreetRequest, Hello, HelloClient, HelloServer};
use rpc_runtime::{
    Context, Result, Server, Status,
    tls::{self, ClientTls, ServerTls, TlsError},
};

struct Polite;

impl Hello for Polite {
    async fn rpc_greet(&self, cx: &Context, request: GreetRequest) -> Result<GreetReply> {
        // The CA has vouched for this name.
        let caller = cx
            .peer()
            .certificate()
            .and_then(|certificate| certificate.common_name());
        let caller = caller.ok_or_else(|| Status::unauthenticated("who are you?"))?;
        let text = format!("good day, {}, says the server to {caller}", request.name);
        Ok(GreetReply { text })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // A CA for this process. A real one gives you files: see docs/how-to/tls.md.
    let ca = tls::dev()?;
    let server_tls = ServerTls::builder(ca.server()?)
        .client_roots(ca.roots())
        .build()?;
    let server = Server::builder()
        .service(HelloServer::new(Polite))
        .listener("tls://127.0.0.1:0")
        .tls(server_tls)
        .bind()
        .await?;
    let address = server.addresses().join("");
    println!("server: listening on {address}");
    let handle = server.handle();
    let serving = tokio::spawn(server.serve());

    let client_tls = ClientTls::builder()
        .roots(ca.roots())
        .identity(ca.client("billing")?)
        .build()?;
    let hello = HelloClient::builder(&address).tls(client_tls).connect().await?;
    println!("client: {}", hello.send_recv().greet("Ada").await?.text);

    // Without a certificate nobody gets in.
    let anonymous = ClientTls::builder().roots(ca.roots()).build()?;
    match HelloClient::builder(&address).tls(anonymous).connect().await {
        Ok(_) => println!("client: is let in without a certificate"),
        Err(error) => println!("client: {:?}", TlsError::find(&error).map(TlsError::fault)),
    }

    handle.drain();
    println!("server: {}", serving.await??);
    Ok(())
}
