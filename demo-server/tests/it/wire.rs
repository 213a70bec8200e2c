//! The wire protocol from outside: peers in another language, written from docs/reference/wire.md.

use std::{io::ErrorKind, process::Stdio, time::Duration};

use demo_api::demo::kv::v1::{KvClient, UpdateRequest};
use rpc_runtime::{Message, trace::TraceContext};
use test_support::within;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// Longer than the programs themselves ever wait, so that what they have to say is heard.
const LIMIT: Duration = Duration::from_secs(150);

/// Starts a program of tests/wire; `None` if Python is not installed.
fn python(program: &str, arguments: &[&str]) -> Option<Child> {
    let program = format!("{}/../tests/wire/{program}", env!("CARGO_MANIFEST_DIR"));
    let spawned = Command::new("python3")
        // No compiled files beside the sources.
        .args(["-B", &program])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    match spawned {
        Ok(child) => Some(child),
        // The README asks for Rust and a C compiler, and for nothing else.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("skipped: python3 is not installed here");
            None
        }
        Err(error) => panic!("python3 cannot be started: {error}"),
    }
}

/// Waits until a program has ended well, and returns what it has printed.
async fn ended(child: Child) -> String {
    let output = timeout(LIMIT, child.wait_with_output())
        .await
        .expect("the program still runs after 150 s")
        .expect("the program's output cannot be read");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{printed}{errors}", output.status);
    printed
}

#[tokio::test(crate = "test_support::gate")]
async fn a_peer_in_another_language_confirms_the_wire_page() {
    if let Some(peer) = python("peer.py", &[env!("CARGO_BIN_EXE_demo-server")]) {
        ended(peer).await;
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_peer_in_another_language_reads_packed_one_way_calls() {
    let Some(mut listener) = python("listener.py", &[]) else {
        return;
    };
    let mut output = BufReader::new(listener.stdout.take().expect("it is a pipe"));
    let mut line = String::new();
    within(output.read_line(&mut line)).await.unwrap();
    let address = line.trim().strip_prefix("listening ").expect("an address");
    let kv = KvClient::connect(address).await.unwrap();
    // More than the credit, which comes back.
    let values: Vec<String> = (0..5000).map(|n| n.to_string()).collect();
    for value in &values {
        within(kv.send().update("key", value.clone())).await.unwrap();
    }
    within(kv.barrier()).await.unwrap();
    drop(kv);

    let (mut frames, mut requests) = (Vec::new(), Vec::new());
    let mut lines = output.lines();
    while let Some(line) = within(lines.next_line()).await.unwrap() {
        match line.strip_prefix("frame ") {
            Some(count) => frames.push(count.parse::<usize>().unwrap()),
            None => requests.push(line),
        }
    }
    ended(listener).await;
    let expected = values.iter().zip((1..).step_by(2)).map(|(value, id)| {
        let request = UpdateRequest {
            key: "key".to_owned(),
            value: value.clone().into(),
        };
        let hex: String = request
            .encode_to_vec()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("{id} {hex}")
    });
    assert!(requests.iter().eq(&expected.collect::<Vec<_>>()), "{requests:?}");
    assert_eq!(frames.iter().sum::<usize>(), requests.len());
    assert!(
        frames.len() < requests.len() / 10,
        "they share frames: {frames:?}"
    );
}

#[tokio::test(crate = "test_support::gate")]
async fn a_peer_in_another_language_reads_the_trace_of_a_call() {
    let Some(mut listener) = python("listener.py", &[]) else {
        return;
    };
    let mut output = BufReader::new(listener.stdout.take().expect("it is a pipe"));
    let mut line = String::new();
    within(output.read_line(&mut line)).await.unwrap();
    let address = line.trim().strip_prefix("listening ").expect("an address");
    let kv = KvClient::connect(address).await.unwrap();
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let trace = TraceContext::parse(parent, "vendor=1", "tenant=acme").unwrap();
    within(kv.send().trace_context(trace).update("key", "one"))
        .await
        .unwrap();
    within(kv.send().update("key", "two")).await.unwrap();
    within(kv.barrier()).await.unwrap();
    drop(kv);

    let (mut traces, mut frames) = (Vec::new(), 0);
    let mut lines = output.lines();
    while let Some(line) = within(lines.next_line()).await.unwrap() {
        frames += usize::from(line.starts_with("frame "));
        traces.extend(line.strip_prefix("trace ").map(str::to_owned));
    }
    ended(listener).await;
    assert_eq!(traces, [format!("{parent} vendor=1 tenant=acme")]);
    assert_eq!(frames, 2, "a call of a trace shares no frame");
}
