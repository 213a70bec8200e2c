//! Rolling restarts: servers behind one client under load are drained and started again, one after the other, and not
//! one call fails.

use std::{
    fmt::Debug,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use super::child::Process;
use super::streams::streams_of_the_store;
use demo_api::demo::kv::v1::{Kv, KvClient, KvServer};
use demo_server::Store;
use rpc_runtime::{
    Bytes, Client, Context, DrainReport, Error, Result, Server, client::ClientBuilder, server::ServerHandle,
};
use test_support::{LONG, gate, own_host};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::timeout,
};

/// How often each server is restarted.
const ROUNDS: usize = 3;
/// How many calls end between two restarts.
const CALLS_BETWEEN: u64 = 200;
/// How many tasks call, and how many send, at once.
const CALLERS: u64 = 24;
const SENDERS: u64 = 4;
/// How many sends a sender makes between two barriers.
const SENDS_BETWEEN: u64 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 4, crate = "test_support::gate")]
async fn two_servers_restarted_in_turn_fail_no_call() {
    for addresses in addresses("turn", 2) {
        restart_in_turn(&addresses, Replica::start_here).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4, crate = "test_support::gate")]
async fn two_processes_restarted_in_turn_fail_no_call() {
    let [_, tcp, unix] = addresses("processes", 2);
    for addresses in [tcp, unix] {
        restart_in_turn(&addresses, Replica::start_process).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4, crate = "test_support::gate")]
async fn one_server_restarted_again_and_again_fails_no_call() {
    for addresses in addresses("again", 1) {
        restart_in_turn(&addresses, Replica::start_here).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4, crate = "test_support::gate")]
async fn one_process_restarted_again_and_again_fails_no_call() {
    let [_, tcp, unix] = addresses("process", 1);
    for addresses in [tcp, unix] {
        restart_in_turn(&addresses, Replica::start_process).await;
    }
}

/// Restarts servers in turn, while a load runs through one client of them all.
async fn restart_in_turn(addresses: &[String], start: impl AsyncFn(&str) -> Replica) {
    let mut replicas = Vec::new();
    for address in addresses {
        replicas.push(start(address).await);
    }
    let real: Vec<_> = replicas.iter().map(|one| one.address.clone()).collect();
    let load = Load::begin(&client(&real));
    let mut handled = Some(0);
    for _ in 0..ROUNDS * replicas.len() {
        load.goes_on().await;
        let replica = replicas.remove(0);
        let address = replica.address.clone();
        handled = sum(handled, replica.stop().await);
        if !replicas.is_empty() {
            load.goes_on().await;
        }
        replicas.push(start(&address).await);
    }
    load.goes_on().await;
    let sent = load.end().await;
    for replica in replicas {
        handled = sum(handled, replica.stop().await);
    }
    if let Some(handled) = handled {
        assert_eq!(handled, sent, "every send is handled, once");
    }
}

fn sum(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    Some(one? + other?)
}

/// One client of all `addresses`.
pub(super) fn client(addresses: &[String]) -> Client {
    let (first, more) = addresses.split_first().unwrap();
    let builder = Client::builder(first);
    more.iter().fold(builder, ClientBuilder::fallback).connect_lazy()
}

/// One server behind the client.
struct Replica {
    address: String,
    server: Running,
}

enum Running {
    /// In this process.
    Here {
        handled: Arc<AtomicU64>,
        handle: ServerHandle,
        serving: JoinHandle<Result<DrainReport, Error>>,
    },
    /// In a process of its own.
    Process(Box<Process>),
}

impl Replica {
    async fn start_here(address: &str) -> Self {
        let handled = Arc::default();
        let counting = Counting {
            store: Store::default(),
            handled: Arc::clone(&handled),
        };
        let server = Server::builder()
            .service(KvServer::new(counting))
            .listener(address)
            .signals(false)
            .bind()
            .await
            .unwrap();
        Self {
            address: server.addresses()[0].clone(),
            server: Running::Here {
                handled,
                handle: server.handle(),
                serving: gate::serve(server),
            },
        }
    }

    async fn start_process(address: &str) -> Self {
        let (process, address) = Process::listening(address).await;
        Self {
            address,
            server: Running::Process(Box::new(process)),
        }
    }

    /// Drains the server; how many updates it has handled in its life, if that is known.
    async fn stop(self) -> Option<u64> {
        match self.server {
            Running::Here {
                handled,
                handle,
                serving,
            } => {
                handle.drain();
                let report = timeout(LONG, serving)
                    .await
                    .expect("the server still serves after 60 s")
                    .unwrap()
                    .unwrap();
                assert!(report.is_clean(), "{report}");
                Some(handled.load(Ordering::Acquire))
            }
            Running::Process(process) => {
                process.signal("-TERM").await;
                let (code, _, stderr) = process.end().await;
                assert_eq!(code, 0, "{stderr}");
                None
            }
        }
    }
}

/// The demo's store, which counts its updates.
struct Counting {
    store: Store,
    handled: Arc<AtomicU64>,
}

impl Kv for Counting {
    async fn rpc_noop(&self, cx: &Context) -> Result<()> {
        self.store.rpc_noop(cx).await
    }

    async fn rpc_update(&self, cx: &Context, key: String, value: Bytes) -> Result<()> {
        self.store.rpc_update(cx, key, value).await?;
        self.handled.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    async fn rpc_fetch(&self, cx: &Context, key: String) -> Result<Option<Bytes>> {
        self.store.rpc_fetch(cx, key).await
    }

    async fn rpc_ping(&self, cx: &Context, text: String) -> Result<String> {
        self.store.rpc_ping(cx, text).await
    }

    async fn rpc_sleep(&self, cx: &Context, millis: u32) -> Result<()> {
        self.store.rpc_sleep(cx, millis).await
    }

    async fn rpc_block(&self, cx: &Context, millis: u32) -> Result<()> {
        self.store.rpc_block(cx, millis).await
    }

    streams_of_the_store!();
}

/// Callers and senders that share one client until the test ends them.
pub(super) struct Load {
    shared: Arc<Shared>,
    client: Client,
    tasks: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    /// How many calls have had their reply.
    done: watch::Sender<u64>,
    sent: AtomicU64,
    over: AtomicBool,
    failed: Mutex<Vec<String>>,
}

impl Load {
    pub(super) fn begin(client: &Client) -> Self {
        let shared = Arc::<Shared>::default();
        let mut tasks = JoinSet::new();
        for caller in 0..CALLERS {
            let (shared, kv) = (Arc::clone(&shared), KvClient::new(client.clone()));
            tasks.spawn(async move { shared.call(caller, &kv).await });
        }
        for _ in 0..SENDERS {
            let (shared, kv) = (Arc::clone(&shared), KvClient::new(client.clone()));
            tasks.spawn(async move { shared.send(&kv).await });
        }
        Self {
            shared,
            client: client.clone(),
            tasks,
        }
    }

    /// Waits until some more calls have had their replies.
    pub(super) async fn goes_on(&self) {
        let mut done = self.shared.done.subscribe();
        let enough = *done.borrow_and_update() + CALLS_BETWEEN;
        let more = timeout(LONG, done.wait_for(|done| *done >= enough)).await;
        self.check();
        more.expect("calls go on").unwrap();
    }

    /// Ends all callers and senders; how many sends there were.
    pub(super) async fn end(mut self) -> u64 {
        self.shared.over.store(true, Ordering::Release);
        while let Some(ended) = timeout(LONG, self.tasks.join_next())
            .await
            .expect("a caller still runs after 60 s")
        {
            ended.unwrap();
        }
        self.check();
        let account = timeout(LONG, self.client.barrier()).await.unwrap();
        account.expect("no send is unaccounted for");
        self.shared.sent.load(Ordering::Acquire)
    }

    fn check(&self) {
        let failed = self.shared.failed.lock().unwrap();
        assert!(failed.is_empty(), "{} failed: {failed:#?}", failed.len());
    }
}

impl Shared {
    /// Calls, with texts of several lengths, some of them several fragments long, and some slow.
    async fn call(&self, caller: u64, kv: &KvClient) {
        for round in caller.. {
            if self.over.load(Ordering::Acquire) {
                return;
            }
            let result = if round % 7 == 0 {
                kv.send_recv().sleep((round % 30) as u32).await
            } else {
                let text = "x".repeat(LENGTHS[round as usize % LENGTHS.len()]);
                let reply = kv.send_recv().ping(text.as_str()).await;
                reply.map(|reply| assert_eq!(reply.len(), text.len()))
            };
            self.note("call", result);
            self.done.send_modify(|done| *done += 1);
        }
    }

    /// Sends, and has everything accounted for now and then.
    async fn send(&self, kv: &KvClient) {
        while !self.over.load(Ordering::Acquire) {
            for round in 0..SENDS_BETWEEN {
                let value = vec![0; LENGTHS[round as usize % LENGTHS.len()]];
                let sent = kv.send().update("key", value).await;
                self.sent.fetch_add(sent.is_ok().into(), Ordering::AcqRel);
                self.note("send", sent);
            }
            self.note("barrier", kv.barrier().await);
        }
    }

    fn note<T: Debug>(&self, what: &str, result: Result<T, Error>) {
        if let Err(error) = result {
            self.failed.lock().unwrap().push(format!("{what}: {error}"));
        }
    }
}

/// The lengths of texts and values: empty, small, one frame's worth, and two to three fragments.
const LENGTHS: [usize; 6] = [0, 10, 1_000, 20_000, 130_000, 300_000];

/// Addresses for as many servers, on each transport.
fn addresses(name: &str, count: usize) -> [Vec<String>; 3] {
    let unix = |number| {
        let file = format!("rolling-{}-{name}-{number}.sock", std::process::id());
        format!("unix:{}", std::env::temp_dir().join(file).display())
    };
    [
        (0..count)
            .map(|number| format!("mem:rolling-{name}-{number}"))
            .collect(),
        (0..count).map(|_| format!("tcp://{}:0", own_host(3))).collect(),
        (0..count).map(unix).collect(),
    ]
}
