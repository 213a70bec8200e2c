//! How many bytes a call puts on the wire, counted by a relay between client and server: a regression gate.
//!
//! A binary of its own, because other tests would delay its tasks, and then more PING and CREDIT frames may be sent.
//!
//! `cargo test -p rpc-runtime --test wire_size -- --nocapture` prints what was counted.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use rpc_runtime::{
    Bytes, Client, Server,
    server::{Handler, Incoming, Procedure, Service},
};
use test_support::gate;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

static ECHO: Procedure = Procedure::new("size.v1.Size/rpc_echo", u64::MAX);
static PROCEDURES: [Procedure; 1] = [ECHO];

/// Returns what it gets.
struct Size;

impl Service for Size {
    fn name(&self) -> &'static str {
        "size.v1.Size"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &PROCEDURES
    }

    fn call(&self, _: usize, call: Incoming) -> Handler {
        call.handle(|_, bytes: Bytes| async move { Ok(bytes) })
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn call_of_64_bytes_adds_few_bytes_of_its_own() {
    let [request, reply] = sizes(async |client| {
        let _: Bytes = client.call().send_recv(&ECHO, MESSAGE).await.unwrap();
    })
    .await;
    println!("a call: {request:.1} bytes to the server, {reply:.1} to the client");
    // The message itself has 66: tag, length, value.
    assert!(request <= 94.0 && reply <= 82.0);
}

#[tokio::test(crate = "test_support::gate")]
async fn one_way_of_64_bytes_adds_few_bytes_of_its_own() {
    let [request, back] = sizes(async |client| client.call().send(&ECHO, MESSAGE).await.unwrap()).await;
    println!("a one-way: {request:.1} bytes to the server, {back:.1} to the client");
    assert!(request <= 94.0 && back <= 2.0);
}

/// Bytes to the server and to the client for one `work`: the difference of a long and a short run.
async fn sizes(work: impl AsyncFn(&Client)) -> [f64; 2] {
    let short = relayed(&work, SHORT).await;
    let long = relayed(&work, SHORT + PIECES).await;
    [0, 1].map(|way| (long[way] as f64 - short[way] as f64) / PIECES as f64)
}

async fn relayed(work: &impl AsyncFn(&Client), pieces: u64) -> [u64; 2] {
    let server = Server::builder()
        .service(Size)
        .listener("tcp://127.0.0.1:0")
        .bind()
        .await
        .unwrap();
    let server_address = server.addresses()[0].to_string();
    let serving = gate::serve(server);
    let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", relay.local_addr().unwrap());
    let counters = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
    let [to_server, to_client] = counters.clone();
    let relaying = tokio::spawn(async move {
        let (near, _) = relay.accept().await.unwrap();
        let far = TcpStream::connect(server_address.trim_start_matches("tcp://"))
            .await
            .unwrap();
        let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
        tokio::join!(
            copy(near_read, far_write, to_server),
            copy(far_read, near_write, to_client)
        );
    });
    let client = Client::connect(&address).await.unwrap();
    for _ in 0..pieces {
        work(&client).await;
    }
    client.barrier().await.unwrap();
    let counted = counters.map(|counter| counter.load(Ordering::Relaxed));
    client.close().await.unwrap();
    serving.abort();
    relaying.abort();
    counted
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, counter: Arc<AtomicU64>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(len @ 1..) = from.read(&mut buffer).await {
        counter.fetch_add(len as u64, Ordering::Relaxed);
        if to.write_all(&buffer[..len]).await.is_err() {
            return;
        }
    }
}

const MESSAGE: Bytes = Bytes::from_static(&[7; 64]);
const SHORT: u64 = 1_000;
const PIECES: u64 = 3_000;
