//! One service, one procedure, a server and a client: the smallest whole program.
//!
//! `cargo run -p examples --bin hello`

use std::error::Error;

use examples::hello::v1::{GreetReply, GreetRequest, Hello, HelloClient, HelloServer};
use rpc_runtime::{Context, Result, Server};

struct Polite;

// The trait comes from proto/hello.proto: one method per procedure.
impl Hello for Polite {
    async fn rpc_greet(&self, _: &Context, request: GreetRequest) -> Result<GreetReply> {
        let text = format!("good day, {}", request.name);
        Ok(GreetReply { text })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Port 0 takes a free port; `addresses` has the real one.
    let server = Server::builder()
        .service(HelloServer::new(Polite))
        .listener("tcp://127.0.0.1:0")
        .bind()
        .await?;
    let address = server.addresses().join("");
    println!("server: listening on {address}");
    let handle = server.handle();
    let serving = tokio::spawn(server.serve());

    let hello = HelloClient::connect(&address).await?;
    let reply = hello.send_recv().greet("Ada").await?;
    println!("client: the reply is \"{}\"", reply.text);

    // A drain finishes open calls and takes no new ones. `serve` then returns its report.
    handle.drain();
    println!("server: {}", serving.await??);
    Ok(())
}
