//! How many allocations a call costs on each side: a regression gate by counts, which repeat, and never by time.
//!
//! A binary of its own, because it replaces the global allocator.
//!
//! Client and server each have a thread of their own with a runtime of their own, so that each thread's count is one
//! side's. What is set up once cancels out: a cost is the difference of a long and a short run.
//!
//! A number allocates nothing, so its calls show what the runtime needs. 64 bytes add the messages' own: each side copies
//! those that it reads, because a slice would keep the whole read buffer alive, and a server's reply is shared once.
//! The aim is 2 on each side beyond the messages' own. Each limit is what was counted and a quarter, because on a busy machine
//! late handlers cost some more: lower it with each allocation that goes.
//!
//! `cargo test -p rpc-runtime --test allocations -- --nocapture` prints what was counted.

use std::{sync::mpsc, thread};

use rpc_runtime::{
    Bytes, Client, Server, Streaming,
    server::{Handler, Incoming, Procedure, Service},
    stream,
};
use tokio::runtime::{Builder, Runtime};

/// Returns what it gets.
static ECHO: Procedure = Procedure::new("count.v1.Count/rpc_echo", 1);
/// As `ECHO`, for a message that allocates nothing.
static NUMBER: Procedure = Procedure::new("count.v1.Count/rpc_number", 4);
/// As `ECHO`, after an await that is pending once.
static AWAIT: Procedure = Procedure::new("count.v1.Count/rpc_await", 2);
/// Sends as many messages as its request says.
static FLOW: Procedure = Procedure::new("count.v1.Count/rpc_flow", 3).with_reply_stream();
static PROCEDURES: [Procedure; 4] = [ECHO, AWAIT, NUMBER, FLOW];

struct Count;

impl Service for Count {
    fn name(&self) -> &'static str {
        "count.v1.Count"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &PROCEDURES
    }

    fn call(&self, index: usize, call: Incoming) -> Handler {
        match index {
            0 => call.handle(|_, bytes: Bytes| async move { Ok(bytes) }),
            1 => call.handle(|_, bytes: Bytes| async move {
                tokio::task::yield_now().await;
                Ok(bytes)
            }),
            2 => call.handle(|_, number: u64| async move { Ok(number) }),
            _ => call.handle_reply_stream(|_, messages: u64, replies| async move {
                let flow = stream(async move |out| {
                    for _ in 0..messages {
                        out.send(MESSAGE).await;
                    }
                    Ok(())
                });
                replies.forward(flow).await
            }),
        }
    }
}

#[test]
fn calls_one_by_one() {
    check("calls, 1 in flight", [1.25, 3.25], |client, calls| {
        run_calls(client, &ECHO, 1, calls)
    });
}

#[test]
fn calls_with_numbers() {
    check(
        "calls with numbers, 1 in flight",
        [0.25, 1.25],
        async |client, calls| {
            for number in 0..calls {
                let _: u64 = client.call().send_recv(&NUMBER, number).await.unwrap();
            }
        },
    );
}

#[test]
fn calls_64_in_flight() {
    check("calls, 64 in flight", [1.25, 3.25], |client, calls| {
        run_calls(client, &ECHO, 64, calls)
    });
}

#[test]
fn calls_whose_handlers_await() {
    check("awaiting calls, 64 in flight", [1.25, 7.5], |client, calls| {
        run_calls(client, &AWAIT, 64, calls)
    });
}

#[test]
fn one_ways() {
    check("one-ways", [0.25, 3.25], async |client, sends| {
        for _ in 0..sends {
            client.call().send(&ECHO, MESSAGE).await.unwrap();
        }
        client.barrier().await.unwrap();
    });
}

#[test]
fn messages_of_a_stream() {
    check("messages of a stream", [2.25, 0.25], async |client, messages| {
        let mut replies: Streaming<Bytes> = client.call().reply_stream(&FLOW, messages).await.unwrap();
        while replies.message().await.unwrap().is_some() {}
    });
}

async fn run_calls(client: Client, procedure: &'static Procedure, in_flight: u64, calls: u64) {
    let tasks: Vec<_> = (0..in_flight)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                for _ in 0..calls / in_flight {
                    let _: Bytes = client.call().send_recv(procedure, MESSAGE).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

/// Fails if `work` costs more than `limits` allocations a piece, on the client and on the server.
fn check<F: Future<Output = ()>>(what: &str, limits: [f64; 2], work: impl Fn(Client, u64) -> F) {
    let short = count(&work, SHORT);
    let long = count(&work, SHORT + PIECES);
    let each = [0, 1].map(|side| (long[side] as f64 - short[side] as f64) / PIECES as f64);
    println!(
        "{what}: {:.2} allocations on the client, {:.2} on the server",
        each[0], each[1]
    );
    for ((side, each), limit) in ["client", "server"].into_iter().zip(each).zip(limits) {
        assert!(
            each <= limit,
            "{what}: {each:.2} allocations on the {side}, at most {limit} are allowed"
        );
    }
}

/// Counts the allocations of a client's and of a server's life with this many pieces of work.
fn count<F: Future<Output = ()>>(work: &impl Fn(Client, u64) -> F, pieces: u64) -> [u64; 2] {
    let (address, addresses) = mpsc::channel();
    let server = thread::spawn(move || {
        let runtime = runtime();
        allocation_counter::measure(|| {
            runtime.block_on(async {
                let server = Server::builder()
                    .service(Count)
                    .listener("tcp://127.0.0.1:0")
                    .bind()
                    .await
                    .unwrap();
                address.send(server.addresses()[0].to_string()).unwrap();
                server.serve().await.unwrap();
            });
        })
    });
    let address = addresses.recv().unwrap();
    let runtime = runtime();
    let client = allocation_counter::measure(|| {
        runtime.block_on(async {
            let client = Client::connect(&address).await.unwrap();
            work(client.clone(), pieces).await;
            client.terminate().await.unwrap();
        });
    });
    [client.count_total, server.join().unwrap().count_total]
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

const MESSAGE: Bytes = Bytes::from_static(&[7; 64]);
const SHORT: u64 = 6_400;
const PIECES: u64 = 12_800;
