//! Our client through nginx. `.ci/strangers nginx` starts it, with the configuration of docs/how-to/behind-nginx.md.

use std::{
    collections::BTreeSet,
    env, fs,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use demo_api::demo::kv::v1::{KeyRefused, KvClient, UpdateRequest};
use rpc_http::Grpc;
use rpc_runtime::{
    Code, Error, Executed,
    tls::{ClientTls, Roots},
};
use test_support::{until, within};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::calls::all_kinds;

fn set(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

/// A client that goes by TLS to nginx, which has the configuration of the page.
async fn over_tls() -> KvClient {
    let roots = Roots::pem_file(set("RPC_NGINX_CA"));
    let tls = ClientTls::builder().roots(roots).server_name("kv.example");
    let client = KvClient::builder(format!("grpcs://{}", set("RPC_NGINX_TLS")))
        .protocol(Grpc::new())
        .tls(tls.build().unwrap());
    client.connect().await.unwrap()
}

/// A client at another port of nginx.
async fn at(name: &str) -> KvClient {
    super::builder(&format!("grpc://{}", set(name)))
        .connect()
        .await
        .unwrap()
}

#[track_caller]
fn check(error: &Error, code: Code, says: &str) {
    assert_eq!(
        (error.code(), error.executed()),
        (code, Executed::Maybe),
        "{error}"
    );
    assert!(error.message().contains(says), "{error}");
}

async fn failures() {
    let error = at("RPC_NGINX_DEAD").await.send_recv().noop().await.unwrap_err();
    check(&error, Code::Unavailable, "502 Bad Gateway");
    let error = at("RPC_NGINX_SLOW")
        .await
        .send_recv()
        .sleep(60_000)
        .await
        .unwrap_err();
    check(&error, Code::Unavailable, "504 Gateway Time-out");
    let slow = at("RPC_NGINX_SLOW").await;
    let mut events = slow.send_recv().watch("dog").await.unwrap();
    assert!(events.message().await.unwrap().is_some());
    let error = within(events.message()).await.unwrap_err();
    check(&error, Code::Internal, "the server reset the stream");
    let quiet = at("RPC_NGINX_QUIET").await;
    let (mut entries, imported) = quiet.send_recv().import().await.unwrap();
    let (key, value) = ("quiet".to_owned(), Bytes::new());
    entries.send(UpdateRequest { key, value }).await.unwrap();
    let error = imported.await.unwrap_err();
    check(&error, Code::Internal, "the server reset the stream");
    let long = vec![0; 2_000_000];
    let error = at("RPC_NGINX_DEFAULTS")
        .await
        .send_recv()
        .update("k", long)
        .await
        .unwrap_err();
    check(&error, Code::Unknown, "413 Request Entity Too Large");
    // Details that do not fit.
    let key = "k".repeat(5500);
    let defaults = at("RPC_NGINX_DEFAULTS").await;
    let error = defaults.send_recv().update(key.as_str(), "").await.unwrap_err();
    check(&error, Code::Unavailable, "502 Bad Gateway");
    let error = over_tls()
        .await
        .send_recv()
        .update(key.as_str(), "")
        .await
        .unwrap_err();
    let details: KeyRefused = error.details_as().unwrap().unwrap();
    assert_eq!((error.code(), details.key), (Code::InvalidArgument, key));
}

/// Calls by several clients while nginx replaces its workers, and keeps a stream open. Returns how many calls were made, and
/// how many of them twice.
async fn reloads() -> (u64, u64) {
    let kv = over_tls().await;
    let mut events = kv.send_recv().timeout(None).watch("reload").await.unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let mut load = JoinSet::new();
    for number in 0..4 {
        let (kv, is_over) = (over_tls().await, Arc::clone(&is_over));
        load.spawn(async move {
            let (mut made, mut again) = (0, 0);
            while !is_over.load(SeqCst) {
                let text = format!("{number} {made}");
                match kv.send_recv().ping(text.as_str()).await {
                    Ok(reply) => assert_eq!(reply, text),
                    // Two workers in a row went away. The client resends a call once, and the caller may do it again.
                    Err(error) if error.executed() == Executed::No => {
                        again += 1;
                        continue;
                    }
                    Err(error) => panic!("{error}"),
                }
                made += 1;
            }
            (made, again)
        });
    }
    for _ in 0..5 {
        sleep(Duration::from_secs(1)).await;
        let hangup = Command::new("kill")
            .args(["-HUP", &set("RPC_NGINX_PID")])
            .status();
        assert!(hangup.unwrap().success());
    }
    sleep(Duration::from_secs(1)).await;
    is_over.store(true, SeqCst);
    let counts = load.join_all().await;
    // The stream is older than all workers that take calls now.
    kv.send_recv().update("reload", "last").await.unwrap();
    let event = within(events.message()).await.unwrap().unwrap();
    assert_eq!(&event.value[..], b"last");
    let sum = |of: fn(&(u64, u64)) -> u64| counts.iter().map(of).sum();
    (sum(|count| count.0), sum(|count| count.1))
}

/// The processes of nginx that take calls.
fn workers() -> BTreeSet<String> {
    let pid = set("RPC_NGINX_PID");
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.split_whitespace().map(str::to_owned).collect()
}

/// Calls while one of two servers is taken out of nginx, and then stopped. Returns how many calls were made.
async fn stop_one_of_two() -> u64 {
    let kv = at("RPC_NGINX_TWO").await;
    let is_over = Arc::new(AtomicBool::new(false));
    let load = {
        let is_over = Arc::clone(&is_over);
        tokio::spawn(async move {
            let mut made = 0;
            while !is_over.load(SeqCst) {
                match kv.send_recv().ping("on").await {
                    Ok(_) => made += 1,
                    Err(error) => assert_eq!(error.executed(), Executed::No, "{error}"),
                }
            }
            made
        })
    };
    let (settings, server) = (set("RPC_NGINX_SETTINGS"), set("RPC_NGINX_SERVER"));
    let text = fs::read_to_string(&settings).unwrap();
    let both = format!("server {server};\n        server ");
    assert!(text.contains(&both), "{text}");
    let one = both.replacen(';', " down;", 1);
    fs::write(&settings, text.replace(&both, &one)).unwrap();
    let old = workers();
    signal("HUP", "RPC_NGINX_PID");
    until(|| workers().is_disjoint(&old)).await;
    signal("TERM", "RPC_NGINX_SERVER_PID");
    sleep(Duration::from_secs(2)).await;
    is_over.store(true, SeqCst);
    load.await.unwrap()
}

/// Sends a signal to the process whose id is in this variable.
fn signal(signal: &str, pid: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{signal}"), &set(pid)])
        .status();
    assert!(sent.unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "`.ci/strangers nginx` starts nginx"]
async fn our_client_calls_through_nginx() {
    let kv = over_tls().await;
    all_kinds(&kv).await;
    let late = kv.send_recv().timeout(Duration::from_millis(50)).sleep(60_000);
    assert!(late.await.unwrap_err().is_timeout());
    // The server finds out: it drains at once at the end of the test.
    let given_up = kv.send_recv().timeout(None).sleep(u32::MAX);
    timeout(Duration::from_millis(300), given_up).await.unwrap_err();
    let long = vec![7; 3_000_000];
    kv.send_recv().update("long", long.clone()).await.unwrap();
    assert_eq!(kv.send_recv().fetch("long").await.unwrap().unwrap(), long);
    failures().await;
    let (made, again) = reloads().await;
    println!(
        "our client through nginx: {made} calls during 5 reloads, {again} of them made again, none failed"
    );
    drop(kv);
    let made = stop_one_of_two().await;
    println!(
        "our client through nginx: {made} calls while one of two servers was taken out and stopped, none failed"
    );
}
