//! Measures calls, one-way calls and streamed messages per second, between two halves of one process, over loopback TCP.
//!
//! The figures hold for this machine at this moment only. Client, server and kernel share its cores, so they say little
//! about any other setting.
//!
//! `cargo run --release -p rpc-runtime --example speed`

use std::time::{Duration, Instant};

use rpc_runtime::{
    Bytes, Client, Error, Server, Streaming,
    server::{Handler, Incoming, Procedure, Service},
    stream,
};

static ECHO: Procedure = Procedure::new("speed.v1.Speed/rpc_echo", 1);
/// Sends messages of the requested length, until the caller stops reading.
static FLOW: Procedure = Procedure::new("speed.v1.Speed/rpc_flow", 2).with_reply_stream();
static PROCEDURES: [Procedure; 2] = [ECHO, FLOW];

/// Returns what it gets.
struct Speed;

impl Service for Speed {
    fn name(&self) -> &'static str {
        "speed.v1.Speed"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &PROCEDURES
    }

    fn call(&self, index: usize, call: Incoming) -> Handler {
        match index {
            0 => call.handle(|_, bytes: Bytes| async move { Ok(bytes) }),
            _ => call.handle_reply_stream(|_, len: u64, replies| async move {
                let message = Bytes::from(vec![7; len as usize]);
                let flow = stream(async |out| {
                    loop {
                        out.send(message.clone()).await;
                    }
                });
                replies.forward(flow).await
            }),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let server = Server::builder()
        .service(Speed)
        .listener("tcp://127.0.0.1:0")
        .bind()
        .await?;
    let address = server.addresses()[0].clone();
    let serving = tokio::spawn(server.serve());
    let client = Client::connect(&address).await?;
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let build = if cfg!(debug_assertions) {
        "DEBUG"
    } else {
        "release"
    };
    println!("{PAYLOAD} bytes there and back, one connection over {address}, {cores} cores, {build} build");
    for in_flight in [1, 64, 256] {
        let rate = calls(&client, in_flight).await?;
        println!("{:>10} calls/s, {in_flight} in flight", grouped(rate));
    }
    let rate = grouped(one_ways(&client).await?);
    println!("{rate:>10} one-ways/s, all read by the server");
    for len in [PAYLOAD, 64 * 1024] {
        let rate = flow(&client, len).await?;
        let gigabytes = rate * len as f64 / 1e9;
        println!(
            "{:>10} messages/s of {len} bytes by one stream, {gigabytes:.2} GB/s",
            grouped(rate)
        );
    }
    println!("account: {}", client.barrier().await?);
    serving.abort();
    client.close().await
}

/// Returns calls per second. Each task calls, waits for the reply, and calls again.
async fn calls(client: &Client, in_flight: usize) -> Result<f64, Error> {
    closed_loop(client, in_flight, WINDOW / 5).await?;
    let start = Instant::now();
    let calls = closed_loop(client, in_flight, WINDOW).await?;
    Ok(calls as f64 / start.elapsed().as_secs_f64())
}

async fn closed_loop(client: &Client, in_flight: usize, window: Duration) -> Result<u64, Error> {
    let start = Instant::now();
    let tasks: Vec<_> = (0..in_flight)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                let mut calls = 0;
                while start.elapsed() < window {
                    let request = Bytes::from_static(&[7; PAYLOAD]);
                    let reply: Bytes = client.call().send_recv(&ECHO, request).await?;
                    assert_eq!(reply.len(), PAYLOAD);
                    calls += 1;
                }
                Ok::<u64, Error>(calls)
            })
        })
        .collect();
    let mut calls = 0;
    for task in tasks {
        calls += task.await.expect("the task does not panic")?;
    }
    Ok(calls)
}

/// Returns one-way calls per second from one task, until the server has confirmed that it has read all of them.
async fn one_ways(client: &Client) -> Result<f64, Error> {
    let start = Instant::now();
    let mut sent = 0_u64;
    while start.elapsed() < WINDOW {
        for _ in 0..100 {
            client
                .call()
                .send(&ECHO, Bytes::from_static(&[7; PAYLOAD]))
                .await?;
        }
        sent += 100;
    }
    client.barrier().await?;
    Ok(sent as f64 / start.elapsed().as_secs_f64())
}

/// Returns messages per second of one stream of replies.
async fn flow(client: &Client, len: usize) -> Result<f64, Error> {
    let call = client.call().timeout(None);
    let mut messages: Streaming<Bytes> = call.reply_stream(&FLOW, len as u64).await?;
    let (mut start, mut read) = (Instant::now(), 0_u64);
    let begun = start;
    while start.elapsed() < WINDOW {
        if messages.message().await?.is_none() {
            break;
        }
        read += 1;
        // The window widens at the beginning: leave that time out.
        if begun.elapsed() < WINDOW / 5 {
            (start, read) = (Instant::now(), 0);
        }
    }
    Ok(read as f64 / start.elapsed().as_secs_f64())
}

/// `1_234_567`
fn grouped(rate: f64) -> String {
    let digits = (rate as u64).to_string();
    let groups: Vec<_> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(String::from_utf8_lossy)
        .collect();
    groups.join("_")
}

const PAYLOAD: usize = 64;
const WINDOW: Duration = Duration::from_secs(1);
