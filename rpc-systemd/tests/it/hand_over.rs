//! Successors: who gets the sockets, and what a server does about one that fails.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use rpc_runtime::{
    Client, Code, Server,
    server::{Endpoint, ListeningSocket, ServerHandle},
};
use rpc_systemd::Successor;
use test_support::{Lab, Running, lab::*, serve, unix, within};
use tokio::time::sleep;

use crate::child::{arguments, signal};

/// This binary as a successor that serves at the address of `server`.
fn successor(address: &str) -> Successor {
    Successor::new(std::env::current_exe().unwrap()).args(arguments("serves", &[address]))
}

async fn served(address: &str) -> Running {
    let server = Server::builder().service(Lab::default()).listener(address);
    serve(server.signals(false)).await
}

/// Waits until a process has ended.
async fn has_ended(pid: u32) {
    within(async {
        let stat = format!("/proc/{pid}/stat");
        // A zombie has ended, too; nobody may have waited for it yet.
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_gets_the_sockets_and_the_old_server_drains() {
    for address in ["tcp://127.0.0.1:0".to_owned(), unix("hand-over")] {
        let old = served(&address).await;
        let real = old.address.clone();
        let client = within(Client::connect(&real)).await.unwrap();
        assert_eq!(text(&client, &ECHO, "old").await.unwrap(), "old");
        let open = hang(&client);
        while old.handle.load().handler_tasks() == 0 {
            sleep(Duration::from_millis(1)).await;
        }
        let pid = within(successor(&address).take_over(&old.handle)).await.unwrap();
        assert!(old.handle.is_stopping());
        // The old server still has a call, and the same client goes on in the new one.
        for number in 0..10 {
            let sent = number.to_string();
            assert_eq!(text(&client, &ECHO, &sent).await.unwrap(), sent);
        }
        assert!(!open.is_finished());
        old.handle.abort();
        assert_eq!(old.report().await.aborted(), 1);
        let late = within(Client::connect(&real)).await.unwrap();
        assert_eq!(text(&late, &ECHO, "new").await.unwrap(), "new");
        drop((client, late));
        signal(pid, "-TERM");
        has_ended(pid).await;
        assert!(within(Client::connect(&real)).await.is_err());
        if let Some(path) = real.strip_prefix("unix:") {
            assert!(!Path::new(path).exists(), "the last process removes the file");
        }
    }
}

/// Checks that a successor fails so, and that the server goes on.
async fn fails(successor: Successor, code: Code, says: &str) -> String {
    let server = served("tcp://127.0.0.1:0").await;
    let error = within(successor.take_over(&server.handle)).await.unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    assert!(error.message().contains(says), "{error}");
    let client = within(Client::connect(&server.address)).await.unwrap();
    assert_eq!(text(&client, &ECHO, "goes on").await.unwrap(), "goes on");
    drop(client);
    server.stop().await;
    error.message().to_owned()
}

#[tokio::test]
async fn a_successor_that_cannot_be_started_or_ends_leaves_the_server_as_it_is() {
    fails(
        Successor::new("/nowhere/kv-server"),
        Code::Unavailable,
        "/nowhere/kv-server cannot be started",
    )
    .await;
    fails(
        Successor::new("false"),
        Code::Unavailable,
        "ended before it was ready (exit status: 1)",
    )
    .await;
    // It cannot serve there, and says so.
    let elsewhere = Successor::new(std::env::current_exe().unwrap()).args(arguments("serves", &["fd:kv"]));
    fails(
        elsewhere,
        Code::Unavailable,
        "ended before it was ready (exit status: 5)",
    )
    .await;
}

#[tokio::test]
async fn a_successor_that_is_not_ready_in_time_is_killed() {
    let begun = Instant::now();
    let limit = Duration::from_millis(200);
    let sleeper = Successor::new("sleep").args(["1000"]).ready_within(limit);
    let text = fails(
        sleeper,
        Code::DeadlineExceeded,
        "was not ready within 200ms, and is killed",
    )
    .await;
    assert!(begun.elapsed() >= limit);
    let pid = text
        .split("process ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    has_ended(pid.unwrap().parse().unwrap()).await;
}

#[tokio::test]
async fn a_successor_gets_the_answer_to_its_barrier() {
    let server = served("tcp://127.0.0.1:0").await;
    let folder = std::env::temp_dir();
    let done = folder.join(format!("rpc-barrier-{}", std::process::id()));
    let file = done.to_str().unwrap();
    let slow = Successor::new(std::env::current_exe().unwrap()).args(arguments("notifies_slowly", &[file]));
    within(slow.take_over(&server.handle)).await.unwrap();
    assert!(server.report().await.is_clean());
    within(async {
        while !done.exists() {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    std::fs::remove_file(done).unwrap();
}

/// A successor by another program: `.ci/strangers` runs it.
#[tokio::test]
#[ignore = "needs systemd's tools"]
async fn systemd_notify_as_a_stranger_says_that_it_is_ready() {
    let server = served("tcp://127.0.0.1:0").await;
    let script = "systemd-notify --ready --status=fine && exec sleep 1000";
    let stranger = Successor::new("sh").args(["-c", script]);
    let pid = within(stranger.take_over(&server.handle)).await.unwrap();
    assert!(server.report().await.is_clean());
    signal(pid, "-TERM");
    has_ended(pid).await;
}

#[tokio::test]
async fn nothing_is_handed_over_that_is_not_the_servers_own() {
    let refused = async |server: &ServerHandle, says: &str| {
        let error = Successor::new("true").take_over(server).await.unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition);
        assert!(error.message().contains(says), "{error}");
    };
    let memory = served("mem:hand-over").await;
    refused(&memory.handle, "no TCP and no Unix socket").await;
    memory.stop().await;

    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let kept = Endpoint::sockets(
        "tcp://127.0.0.1:0",
        [ListeningSocket::from(socket).kept_elsewhere()],
    );
    let server = Server::builder()
        .service(Lab::default())
        .listener(kept)
        .signals(false);
    let server = serve(server).await;
    refused(&server.handle, "belongs to a service manager").await;
    let handle = server.handle.clone();
    server.stop().await;
    refused(&handle, "stops already").await;
}
