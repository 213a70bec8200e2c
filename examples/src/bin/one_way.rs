//! One-way calls: no reply comes back, and yet the client can learn how they ended.
//!
//! `cargo run -p examples --bin one_way`

use std::{
    error::Error,
    sync::{Mutex, PoisonError},
};

use examples::journal::v1::{Event, Journal, JournalClient, JournalServer};
use rpc_runtime::{Code, Context, Result, Server, Status};

#[derive(Default)]
struct Pages(Mutex<Vec<String>>);

impl Journal for Pages {
    async fn rpc_append(&self, _: &Context, event: Event) -> Result<()> {
        if event.text.is_empty() {
            // No caller reads the status of a one-way call. The account counts it.
            return Err(Status::new(Code::InvalidArgument, "an event needs a text"));
        }
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(event.text);
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::builder()
        .service(JournalServer::new(Pages::default()))
        .listener("tcp://127.0.0.1:0")
        .bind()
        .await?;
    let (address, handle) = (server.addresses().join(""), server.handle());
    let serving = tokio::spawn(server.serve());
    let journal = JournalClient::connect(&address).await?;

    for text in ["start", "", "work", "stop"] {
        // Resolves when the event is in the client's queue.
        journal.send().append(text).await?;
    }
    println!("sent: 4 events are queued");

    // Waits until the operating system has them. A program that ends before that loses what is queued.
    journal.flush().await?;
    println!("flush: the operating system has them");

    // Waits until the server has read them. Their handlers may still run: those calls are pending.
    let account = journal.barrier().await?;
    println!("barrier: the server has received {}", account.received());

    // Waits until their handlers have ended.
    let account = journal.settled().await?;
    println!("settled: {account}");

    handle.drain();
    println!("server: {}", serving.await??);
    Ok(())
}
