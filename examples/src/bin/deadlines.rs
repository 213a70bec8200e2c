//! A deadline, or a future that is dropped, stops the handler on the server.
//!
//! `cargo run -p examples --bin deadlines`

use std::{error::Error, time::Duration};

use examples::kitchen::v1::{CookRequest, Dish, Kitchen, KitchenClient, KitchenServer};
use rpc_runtime::{Context, Result};
use tokio::{sync::mpsc, time::sleep};

/// Sends what happens in the handlers to `main`, which prints it.
struct Chef(mpsc::Sender<String>);

/// Sends its text when it is dropped, and so shows when a handler's future is dropped.
struct OnDrop(String, mpsc::Sender<String>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        // An error means that `main` has ended.
        let _ = self.1.try_send(self.0.clone());
    }
}

impl Kitchen for Chef {
    async fn rpc_cook(&self, cx: &Context, request: CookRequest) -> Result<Dish> {
        let CookRequest { name, millis } = request;
        // The deadline travels with the call: the handler can read it.
        let bound = if cx.deadline().is_some() { "a" } else { "no" };
        let _ = self.0.try_send(format!("{name} begins, with {bound} deadline"));
        let mut end = OnDrop(format!("{name} is stopped"), self.0.clone());
        // The server drops the handler's future at an await.
        sleep(Duration::from_millis(millis)).await;
        end.0 = format!("{name} is done");
        Ok(Dish { name })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (sender, mut events) = mpsc::channel(16);
    let kitchen = KitchenClient::in_process(KitchenServer::new(Chef(sender)));
    let order = |name: &str, millis| CookRequest {
        name: name.to_owned(),
        millis,
    };
    let hour = 3_600_000;

    // A call that sets no timeout has 30 s.
    let dish = kitchen.send_recv().cook(order("soup", 1)).await?;
    println!("client: the {} is here", dish.name);
    print_two(&mut events).await;

    let call = kitchen.send_recv().timeout(Duration::from_secs(1));
    let error = call
        .cook(order("stew", hour))
        .await
        .err()
        .ok_or("the stew came in time")?;
    println!("client: {}, executed: {:?}", error.code(), error.executed());
    print_two(&mut events).await;

    // Dropping the future of a call cancels the call. `select!` drops it when the handler has begun.
    tokio::select! {
        _ = kitchen.send_recv().cook(order("roast", hour)) => return Err("the roast came at once".into()),
        Some(event) = events.recv() => println!("server: {event}"),
    }
    println!("client: has dropped the future of its call");
    println!("server: {}", events.recv().await.ok_or("the server has ended")?);
    Ok(kitchen.close().await?)
}

/// Prints the begin and the end of a handler.
async fn print_two(events: &mut mpsc::Receiver<String>) {
    for _ in 0..2 {
        if let Some(event) = events.recv().await {
            println!("server: {event}");
        }
    }
}
