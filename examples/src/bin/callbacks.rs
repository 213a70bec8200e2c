//! A server that calls its client, over the connection that the client made.
//!
//! `cargo run -p examples --bin callbacks`

use std::error::Error;

use examples::news::v1::{
    Headline, Newsroom, NewsroomClient, NewsroomServer, Reader, ReaderClient, ReaderServer, SubscribeRequest,
};
use rpc_runtime::{Context, Result, Server};
use tokio::sync::mpsc;

/// What the server serves.
struct Press;

impl Newsroom for Press {
    async fn rpc_subscribe(&self, cx: &Context, request: SubscribeRequest) -> Result<()> {
        // A stub to the client that called. It may outlive the handler, and works while the connection lives.
        let reader: ReaderClient = cx.caller();
        tokio::spawn(async move {
            for number in 1..=3 {
                let text = format!("{}, part {number}", request.topic);
                // An error means that the reader has gone or refuses the headline: end its subscription.
                if reader.send_recv().headline(text).await.is_err() {
                    return;
                }
            }
        });
        Ok(())
    }
}

/// What the client serves: it passes headlines on to `main`.
struct Screen(mpsc::Sender<String>);

impl Reader for Screen {
    async fn rpc_headline(&self, _: &Context, headline: Headline) -> Result<()> {
        // An error means that `main` has ended.
        let _ = self.0.send(headline.text).await;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::builder()
        .service(NewsroomServer::new(Press))
        .listener("tcp://127.0.0.1:0")
        .bind()
        .await?;
    let address = server.addresses().join("");
    let handle = server.handle();
    let serving = tokio::spawn(server.serve());

    let (sender, mut headlines) = mpsc::channel(1);
    let newsroom: NewsroomClient = NewsroomClient::builder(&address)
        .service(ReaderServer::new(Screen(sender)))
        .connect()
        .await?;
    newsroom.send_recv().subscribe("tides").await?;
    println!("client: subscribed to \"tides\"");
    for _ in 0..3 {
        let headline = headlines.recv().await.ok_or("the connection has ended")?;
        println!("client: the server calls with \"{headline}\"");
    }

    newsroom.close().await?;
    handle.drain();
    println!("server: {}", serving.await??);
    Ok(())
}
