//! A load over the native protocol that counts what becomes of its calls, as ghz does for gRPC. `.ci/strangers` compares it with a real Prometheus.
//!
//! Usage: native-load ADDRESS of a demo server. It prints `call PROCEDURE CODE COUNT` for the calls, `one-way PROCEDURE FATE COUNT` for the
//! one-way calls that it made so that this must become of them, and `account FATE COUNT` for what the server has told of them.

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    sync::{Arc, Mutex},
    time::Duration,
};

use demo_api::demo::kv::v1::{KvClient, UpdateRequest};
use rpc_runtime::Code;
use tokio::task::JoinSet;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = env::args().nth(1).ok_or("usage: native-load ADDRESS")?;
    let counts = Counts::default();
    let mut callers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let kv = KvClient::connect(&address).await?;
        callers.spawn(one_connection(kv, counts.clone()));
    }
    while let Some(caller) = callers.join_next().await {
        caller??;
    }
    for (what, count) in counts.0.lock().expect("nothing panics with it").iter() {
        println!("{what} {count}");
    }
    Ok(())
}

/// What is counted, and how often.
#[derive(Clone, Default)]
struct Counts(Arc<Mutex<BTreeMap<String, u64>>>);

impl Counts {
    fn add(&self, what: String, count: u64) {
        let mut counts = self.0.lock().expect("nothing panics with it");
        *counts.entry(what).or_default() += count;
    }

    fn call<T>(&self, procedure: &str, result: Result<T, rpc_runtime::Error>) {
        let code = result.map_or_else(|error| error.code(), |_| Code::Ok);
        self.add(format!("call {procedure} {code}"), 1);
    }
}

/// Makes calls on one connection, some at once, and one-way calls between them.
async fn one_connection(kv: KvClient, counts: Counts) -> Result<(), rpc_runtime::Error> {
    let mut callers = JoinSet::new();
    for _ in 0..AT_ONCE {
        callers.spawn(calls(kv.clone(), counts.clone()));
    }
    while let Some(caller) = callers.join_next().await {
        caller.expect("no caller panics")?;
    }
    let account = kv.settled().await?;
    for (fate, count) in [
        ("handled", account.handled()),
        ("failed", account.failed()),
        ("expired", account.expired()),
    ] {
        counts.add(format!("account {fate}"), count);
    }
    for (reason, count) in account.dropped() {
        counts.add(format!("account {reason}").replace(' ', "_"), count);
    }
    kv.close().await
}

async fn calls(kv: KvClient, counts: Counts) -> Result<(), rpc_runtime::Error> {
    for turn in 0..TURNS {
        let key = format!("key {turn}");
        counts.call("rpc_ping", kv.send_recv().ping("hello").await);
        counts.call("rpc_fetch", kv.send_recv().fetch(&key).await);
        // An empty key is refused by the handler.
        counts.call("rpc_update", kv.send_recv().update("", "value").await);
        kv.send().update(&key, "value").await?;
        kv.send().update(&key, "another").await?;
        counts.add("one-way rpc_update handled".to_owned(), 2);
        kv.send().update("", "value").await?;
        counts.add("one-way rpc_update failed".to_owned(), 1);
    }
    // Its handler waits for longer than the deadline.
    kv.send().timeout(Duration::from_millis(20)).sleep(60_000).await?;
    counts.add("one-way rpc_sleep expired".to_owned(), 1);
    counts.call("rpc_import", import(&kv).await);
    Ok(())
}

/// A call with a stream.
async fn import(kv: &KvClient) -> Result<u64, rpc_runtime::Error> {
    let (mut entries, imported) = kv.send_recv().import().await?;
    for number in 0..10 {
        let entry = UpdateRequest {
            key: format!("entry {number}"),
            value: "value".into(),
        };
        entries.send(entry).await?;
    }
    entries.finish();
    imported.await
}

const CONNECTIONS: usize = 4;
const AT_ONCE: usize = 8;
const TURNS: usize = 100;
