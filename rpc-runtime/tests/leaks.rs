//! A leak gate for a whole process: after many rounds of everything, ended at every stage, it holds as many files, threads, tasks
//! and bytes as after the second round.
//!
//! A binary of its own with one test, because the test counts what the process holds. Each round makes and loses
//! dozens of connections, calls and streams, so a byte that one of them leaves behind is seen a hundredfold.
//!
//! `RPC_LEAK_ROUNDS=500 cargo test --test leaks -- --nocapture` runs for longer, and prints what is held after each round.
#![cfg(target_os = "linux")]

use std::{
    alloc::System,
    fs, io, panic,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use rpc_runtime::{
    Client, Error, Reply, Sender, Server, Streaming,
    server::{Load, ServerHandle},
};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use test_support::{
    gate,
    lab::*,
    wire::{self, HandPeer},
    within,
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    runtime::Handle,
};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What the process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    files: usize,
    threads: usize,
    tasks: usize,
    /// On the heap.
    bytes: usize,
    allocations: usize,
}

impl Held {
    fn now() -> Self {
        let heap = HEAP.stats();
        Self {
            files: entries("/proc/self/fd"),
            threads: entries("/proc/self/task"),
            tasks: Handle::current().metrics().num_alive_tasks(),
            bytes: heap.bytes_allocated - heap.bytes_deallocated,
            allocations: heap.allocations - heap.deallocations,
        }
    }

    /// Whether it is what was held before, save for what one round may leave by chance: a queue that has grown, a thread that is late.
    fn is_like(&self, before: &Self) -> bool {
        (self.files, self.threads, self.tasks) == (before.files, before.threads, before.tasks)
            && self.bytes <= before.bytes + BYTES
            && self.allocations <= before.allocations + ALLOCATIONS
    }
}

fn entries(folder: &str) -> usize {
    fs::read_dir(folder).unwrap().count()
}

#[test]
#[cfg(target_os = "linux")]
fn ended_calls_streams_and_connections_leave_nothing() {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        // Handlers panic on purpose. A printed backtrace would keep the debug information that it has read.
        if thread::current().name() != Some(WORKER) {
            hook(info);
        }
    }));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name(WORKER)
        .thread_keep_alive(Duration::from_millis(1))
        .enable_all()
        .build()
        .unwrap();
    let rounds = std::env::var("RPC_LEAK_ROUNDS").map_or(12, |rounds| rounds.parse().unwrap());
    runtime.block_on(run(rounds));
}

async fn run(rounds: u32) {
    let world = World::new().await;
    let mut second = None;
    for round in 0..rounds {
        world.round().await;
        let held = world.settled(second).await;
        println!("round {round}: {held:?}");
        if round == 1 {
            second = Some(held);
        }
    }
}

/// A server that outlives all rounds, and where it is found.
struct World {
    lab: Lab,
    server: ServerHandle,
    folder: PathBuf,
}

impl World {
    async fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("rpc-leaks-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let lab = Lab::default();
        let server = Server::builder()
            .service(lab.clone())
            .listener("tcp://127.0.0.1:0")
            .listener(format!("unix:{}", folder.join("server").display()))
            .listener("mem:leaks")
            .signals(false)
            .bind()
            .await
            .unwrap();
        let world = Self {
            lab,
            server: server.handle(),
            folder,
        };
        gate::serve(server);
        world
    }

    /// Everything, over every transport.
    async fn round(&self) {
        for address in self.server.addresses() {
            let client = within(Client::connect(address)).await.unwrap();
            self.calls(&client).await;
            self.streams(&client).await;
            // One that is dropped with all that it has begun.
            let client = within(Client::connect(address)).await.unwrap();
            let waiting = start(&client, &WAIT, "left");
            self.lab.logged("left began").await;
            drop(client);
            waiting.abort();
            self.lab.logged("left dropped").await;
            self.lab.take_log();
        }
        self.calls(&Client::in_process(self.lab.clone())).await;
        self.streams(&Client::in_process(Lab::default())).await;
        self.refused().await;
        self.hand_peers().await;
        for end in [End::Drain, End::Abort, End::Terminate] {
            self.server_that_ends(end).await;
        }
        self.lab.hold();
    }

    /// Calls that end in every way.
    async fn calls(&self, client: &Client) {
        for procedure in [&PANIC, &PANIC_LATER, &FAIL, &UNWRITABLE, &NOWHERE] {
            plain(client, procedure).await.unwrap_err();
        }
        for number in 0..10 {
            text(client, &ECHO, "quick").await.unwrap();
            text(client, &SLEEP, "slow").await.unwrap();
            send(client, &NOTE, &number.to_string()).await;
            let late = client.call().timeout(Duration::from_millis(1));
            let late = late.send_recv::<_, String>(&WAIT, "late".to_owned());
            assert!(within(late).await.unwrap_err().is_timeout());
        }
        let long = "long".repeat(100_000);
        assert_eq!(text(client, &ECHO, &long).await.unwrap(), long);
        within(client.barrier()).await.unwrap();
        within(client.flush()).await.unwrap();
        for procedure in [&WAIT, &PANIC_DROPPED] {
            let waiting = start(client, procedure, "cancelled");
            self.lab.logged("cancelled began").await;
            waiting.abort();
            self.lab.logged("cancelled dropped").await;
            self.lab.take_log();
        }
        self.lab.set_client(client.clone());
        text(client, &FORWARD, "beyond").await.unwrap();
        self.lab.forget_client();
        text(client, &BACK, "nobody is there").await.unwrap_err();
    }

    /// Streams that are left at every stage.
    async fn streams(&self, client: &Client) {
        for taken in 0..4 {
            let mut replies: Streaming<u64> =
                within(client.call().reply_stream(&COUNT, 3_u64)).await.unwrap();
            for _ in 0..taken {
                within(replies.message()).await.unwrap();
            }
        }
        for procedure in [&FAIL_STREAM, &PANIC_STREAM, &WATCH] {
            let mut replies: Streaming<String> =
                within(client.call().reply_stream(procedure, ())).await.unwrap();
            within(replies.message()).await.unwrap();
            if procedure.id() != WATCH.id() {
                within(replies.message()).await.unwrap_err();
            }
        }
        for sent in 0..4 {
            let (mut numbers, sum): (Sender<u64>, Reply<u64>) =
                within(client.call().request_stream(&SUM, Ok)).await.unwrap();
            for number in 0..sent {
                within(numbers.send(number)).await.unwrap();
            }
            match sent {
                0 => drop((numbers, sum)),
                1 => drop((sum, numbers)),
                2 => {
                    drop(numbers);
                    within(sum).await.unwrap_err();
                }
                _ => {
                    numbers.finish();
                    assert_eq!(within(sum).await.unwrap(), 3);
                }
            }
        }
        let (mut unread, reply): (Sender<String>, Reply<()>) =
            within(client.call().request_stream(&IGNORE, Ok)).await.unwrap();
        within(unread.send("unread".repeat(1000))).await.unwrap();
        drop((unread, reply));
        let (_texts, reply): (Sender<String>, Reply<()>) =
            within(client.call().request_stream(&LEAVE, Ok)).await.unwrap();
        within(reply).await.unwrap();
        for left in 0..3 {
            let (mut texts, mut echo): (Sender<String>, Streaming<String>) =
                within(client.call().both_streams(&ECHO_STREAM)).await.unwrap();
            for text in ["short".to_owned(), "long".repeat(10_000)] {
                within(texts.send(text)).await.unwrap();
                if left > 0 {
                    within(echo.message()).await.unwrap();
                }
            }
            if left > 1 {
                texts.finish();
                assert_eq!(within(echo.message()).await.unwrap(), None);
            }
        }
    }

    /// Peers and addresses that are not there.
    async fn refused(&self) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let free = format!("tcp://{}", listener.local_addr().unwrap());
        drop(listener);
        let nowhere = format!("unix:{}", self.folder.join("nobody").display());
        for address in [free.as_str(), nowhere.as_str(), "mem:leaks-nobody", "no address"] {
            within(Client::connect(address)).await.unwrap_err();
            let client = Client::connect_lazy(address);
            let call = client.call().timeout(Duration::from_millis(1));
            let _: Error = within(call.send_recv::<_, String>(&ECHO, String::new()))
                .await
                .unwrap_err();
        }
    }

    /// Peers that go in the middle of something, or do not speak the protocol.
    async fn hand_peers(&self) {
        let address = &self.server.addresses()[0];
        let hello = wire::encode(&wire::hello());
        for bytes in [&hello[..0], &hello[..7], &hello[..], b"GET / HTTP/1.1\r\n\r\n"] {
            HandPeer::connect(address).await.write(bytes).await;
        }
        for _ in 0..4 {
            let mut peer = HandPeer::greeted(address).await;
            peer.send(&wire::call(1, &WAIT, &"lost".to_owned())).await;
            self.lab.logged("lost began").await;
            peer.write(&hello[..9]).await;
            drop(peer);
            self.lab.logged("lost dropped").await;
            self.lab.take_log();
        }
        let socket = address.strip_prefix("tcp://").unwrap();
        let mut rude = within(TcpStream::connect(socket)).await.unwrap();
        rude.write_all(&hello).await.unwrap();
        rude.set_zero_linger().unwrap();
    }

    /// A server whose end finds calls and streams open, and a client that serves.
    async fn server_that_ends(&self, end: End) {
        let lab = Lab::default();
        let server = Server::builder()
            .service(lab.clone())
            .listener("tcp://127.0.0.1:0")
            .drain_timeout(Duration::from_millis(10))
            .signals(false)
            .bind()
            .await
            .unwrap();
        let handle = server.handle();
        let serving = tokio::spawn(server.serve());
        let builder = Client::builder(&handle.addresses()[0]).service(self.lab.clone());
        let client = within(builder.connect()).await.unwrap();
        assert_eq!(text(&client, &BACK, "to and fro").await.unwrap(), "to and fro");
        let open = [&WAIT, &DRAINING, &BACK_WAIT].map(|procedure| start(&client, procedure, "open"));
        let mut watched: Streaming<String> = within(client.call().reply_stream(&WATCH, ())).await.unwrap();
        lab.logged("open began").await;
        match end {
            End::Drain => handle.drain(),
            End::Abort => handle.abort(),
            End::Terminate => client.call().send_terminate().await.unwrap(),
        }
        within(serving).await.unwrap().unwrap();
        // The client retries the calls that the drain has refused.
        let _ = within(client.close()).await;
        for call in open {
            let _ = within(call).await.unwrap();
        }
        let _ = all(&mut watched).await;
        // The handler of a one-way terminate ends behind the drain.
        let begun = Instant::now();
        while handle.load() != Load::default() {
            assert!(begun.elapsed() < NET, "{:?}", handle.load());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until everything has ended, and returns what is held. It must be like `before`.
    async fn settled(&self, before: Option<Held>) -> Held {
        let begun = Instant::now();
        let (mut held, mut looks) = (Held::now(), 0);
        loop {
            let load = self.server.load();
            let is_over = load == Load::default() && before.is_none_or(|before| held.is_like(&before));
            if is_over && looks >= STILL {
                return held;
            }
            assert!(
                begun.elapsed() < NET,
                "after the second round {before:?}, now {held:?} and {load:?}"
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
            let now = Held::now();
            looks = if now == held { looks + 1 } else { 0 };
            held = now;
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _: io::Result<()> = fs::remove_dir_all(&self.folder);
    }
}

const WORKER: &str = "worker";

/// How a server ends.
#[derive(Clone, Copy)]
enum End {
    Drain,
    Abort,
    Terminate,
}

/// How many bytes more may be on the heap: each thread keeps a spare buffer of 64 KiB, or none.
const BYTES: usize = 256 * 1024;
/// How many allocations more there may be. A leak shows by their number: what one connection, call or stream of each round leaves
/// behind is more than this in the end.
const ALLOCATIONS: usize = 16;
/// How many looks in a row must see no change.
const STILL: u32 = 50;
/// How long the end of everything may take.
const NET: Duration = Duration::from_secs(30);
