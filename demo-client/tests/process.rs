//! The client as a process: the walk, the commands, and how they end.

use std::{process::Stdio, time::Duration};

use demo_api::demo::kv::v1::{KvClient, KvServer};
use demo_server::Store;
use rpc_runtime::{DrainReport, Error, Server, server::TerminatePolicy};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    task::JoinHandle,
    time::timeout,
};

/// No test waits longer for a process.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs the client: its exit code, its stdout, its stderr.
async fn run(args: &[&str]) -> (i32, String, String) {
    let child = Command::new(env!("CARGO_BIN_EXE_demo-client"))
        .args(args)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(LIMIT, child)
        .await
        .expect("the client still runs after 120 s")
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

async fn server() -> (String, JoinHandle<Result<DrainReport, Error>>) {
    let server = Server::builder()
        .service(KvServer::new(Store::default()))
        .listener("tcp://127.0.0.1:0")
        .terminate_policy(TerminatePolicy::loopback())
        .signals(false)
        .bind()
        .await
        .unwrap();
    let address = server.addresses()[0].to_owned();
    (address, tokio::spawn(server.serve()))
}

fn ends_ok(stdout: &str) -> bool {
    let last = stdout.lines().last().unwrap_or_default();
    last.starts_with("all ") && last.ends_with(" steps ok")
}

#[tokio::test(flavor = "multi_thread")]
async fn walk_without_flags_ends_well() {
    let (code, stdout, stderr) = run(&[]).await;
    assert!(code == 0 && ends_ok(&stdout), "{code}\n{stdout}\n{stderr}");
    for step in [
        "send_recv fetch \"dog\" -> \"brown\"",
        "pipelined calls",
        "DEADLINE_EXCEEDED",
        "watch \"star/\" -> star/sirius bright, star/vega blue",
        "import -> 10000 entries",
        "session: look, store, look -> \"brown\", \"brown\", \"golden\"",
        "the server calls back: changed \"moon/io\" \"yellow\"",
        "terminate",
    ] {
        assert!(stdout.contains(step), "{step} is missing:\n{stdout}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn walk_leaves_a_running_server_alone_unless_told() {
    let (address, serving) = server().await;
    let (code, stdout, stderr) = run(&["--connect", &address]).await;
    assert!(code == 0 && ends_ok(&stdout), "{code}\n{stdout}\n{stderr}");
    KvClient::connect(&address)
        .await
        .unwrap()
        .send_recv()
        .noop()
        .await
        .unwrap();

    let (code, stdout, stderr) = run(&["--connect", &address, "--terminate"]).await;
    assert!(code == 0 && ends_ok(&stdout), "{code}\n{stdout}\n{stderr}");
    serving.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_do_one_thing_each() {
    let (address, serving) = server().await;
    let connect = ["--connect", address.as_str()];
    let with = |args: &[&'static str]| [&connect[..], args].concat();
    assert_eq!(run(&with(&["update", "dog", "brown"])).await.1, "ok\n");
    assert_eq!(run(&with(&["fetch", "dog"])).await.1, "brown\n");
    let (code, stdout, stderr) = run(&with(&["fetch", "unicorn"])).await;
    assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
    assert!(run(&with(&["ping"])).await.1.contains("answered in"));
    let (code, _, stderr) = run(&with(&["update", "", "x"])).await;
    assert!(
        code == 1 && stderr.starts_with("error: INVALID_ARGUMENT: "),
        "{stderr}"
    );
    let (code, stdout, stderr) = run(&with(&["terminate"])).await;
    assert!(
        code == 0 && stdout.starts_with("terminated: "),
        "{stdout}{stderr}"
    );
    serving.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_prints_each_change_until_the_server_stops() {
    let (address, serving) = server().await;
    let kv = KvClient::connect(&address).await.unwrap();
    kv.send_recv().update("star/sirius", "bright").await.unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_demo-client"))
        .args(["--connect", address.as_str(), "watch", "star/"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let watched = async {
        assert_eq!(lines.next_line().await.unwrap().unwrap(), "star/sirius bright");
        kv.send_recv().update("moon/io", "yellow").await.unwrap();
        kv.send_recv().update("star/vega", "blue").await.unwrap();
        assert_eq!(lines.next_line().await.unwrap().unwrap(), "star/vega blue");
        kv.terminate().await.unwrap();
        assert_eq!(lines.next_line().await.unwrap(), None);
        assert!(child.wait().await.unwrap().success());
    };
    timeout(LIMIT, watched)
        .await
        .expect("the client still runs after 120 s");
    serving.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_server_is_one_clear_line() {
    let (address, serving) = server().await;
    KvClient::connect(&address)
        .await
        .unwrap()
        .terminate()
        .await
        .unwrap();
    serving.await.unwrap().unwrap();
    let (code, _, stderr) = run(&["--connect", &address, "ping"]).await;
    assert_eq!(code, 3, "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains(&address), "{stderr}");
}
