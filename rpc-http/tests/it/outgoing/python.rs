//! A server of Python's grpcio. `.ci/strangers` installs that, and runs this.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use demo_api::demo::kv::v1::{Command as KvCommand, KvClient, UpdateRequest};
use rpc_http::Grpc;
use rpc_runtime::{Code, Executed};
use tokio::time::{sleep, timeout};

/// A process that serves, and ends with this.
struct Python {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Python {
    /// Starts the server by the interpreter that the environment names.
    fn start() -> Self {
        let python =
            std::env::var("RPC_STRANGER_PYTHON").expect("RPC_STRANGER_PYTHON names a Python with grpcio");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/strangers/grpc_python_server.py");
        let mut child = Command::new(python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, input, output }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn connect(address: String) -> KvClient {
    let client = KvClient::builder(address).protocol(Grpc::new().gzip());
    client.connect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it needs Python's grpcio: see .ci/strangers"]
async fn pythons_grpcio_as_a_server_is_called() {
    let mut python = Python::start();
    let address = format!("grpc://127.0.0.1:{}", python.line());
    let kv = connect(address).await;

    kv.send_recv().update("dog", &b"woof"[..]).await.unwrap();
    assert_eq!(
        kv.send_recv().fetch("dog").await.unwrap().as_deref(),
        Some(&b"woof"[..])
    );
    assert_eq!(kv.send_recv().fetch("cat").await.unwrap(), None);
    let long = Bytes::from(vec![7; 3_000_000]);
    kv.send_recv().update("long", long.clone()).await.unwrap();
    assert_eq!(kv.send_recv().fetch("long").await.unwrap(), Some(long));
    let text = "text".repeat(10_000);
    assert_eq!(kv.send_recv().ping(text.clone()).await.unwrap(), text);

    let call = kv
        .send_recv()
        .metadata("x-text", "42")
        .metadata("x-blob-bin", vec![0, 255]);
    let ((), receipt) = call.noop().with_receipt().await.unwrap();
    assert_eq!(receipt.metadata().get_str("x-header"), Some("first"));
    assert_eq!(receipt.metadata().get_str("x-text"), Some("42"));
    assert_eq!(
        receipt.metadata().get("x-blob-bin").map(|value| &value[..]),
        Some(&[0, 255][..])
    );

    let error = kv.send_recv().update("", &b"v"[..]).await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::InvalidArgument, Executed::Yes)
    );
    assert_eq!(error.message(), "kein Schlüssel");
    assert_eq!(&error.details()[..], b"\x08\x03\x12\x03bad");

    let late = kv
        .send_recv()
        .timeout(Duration::from_millis(50))
        .sleep(60_000)
        .await;
    assert!(late.unwrap_err().is_timeout());
    let given_up = timeout(
        Duration::from_millis(50),
        kv.send_recv().timeout(None).sleep(60_000),
    )
    .await;
    assert!(given_up.is_err());
    let told = async {
        while kv.send_recv().fetch("cancelled").await.unwrap().as_deref() != Some(b"2") {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(60), told)
        .await
        .expect("both handlers are told");

    let (mut entries, imported) = kv.send_recv().import().await.unwrap();
    for _ in 0..1000 {
        let (key, value) = ("k".to_owned(), Bytes::from_static(b"v"));
        entries.send(UpdateRequest { key, value }).await.unwrap();
    }
    entries.finish();
    assert_eq!(imported.await.unwrap(), 1000);

    let (mut commands, mut answers) = kv.send_recv().session().await.unwrap();
    for before in [None, Some(&b"1"[..]), Some(b"1")] {
        let (key, value) = ("turn".to_owned(), Some(Bytes::from_static(b"1")));
        commands.send(KvCommand { key, value }).await.unwrap();
        assert_eq!(
            answers.message().await.unwrap().unwrap().before.as_deref(),
            before
        );
    }
    commands.finish();
    assert!(answers.message().await.unwrap().is_none());

    kv.send_recv().update("broken/1", &b"v"[..]).await.unwrap();
    let mut events = kv.send_recv().watch("broken/").await.unwrap();
    assert_eq!(events.message().await.unwrap().unwrap().key, "broken/1");
    let error = events.message().await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::DataLoss, "broken"));

    for _ in 0..100 {
        kv.send().noop().await.unwrap();
    }
    kv.send().update("", &b"v"[..]).await.unwrap();
    let account = kv.barrier().await.unwrap();
    assert_eq!(
        (account.handled(), account.failed(), account.pending()),
        (100, 1, 0),
        "{account}"
    );

    let at_socket = connect(format!("grpc+unix:{}", python.line())).await;
    assert_eq!(
        at_socket.send_recv().fetch("dog").await.unwrap().as_deref(),
        Some(&b"woof"[..])
    );
    let mut events = at_socket.send_recv().watch("dog").await.unwrap();
    assert_eq!(events.message().await.unwrap().unwrap().key, "dog");
    assert!(events.message().await.unwrap().is_none());
    drop(at_socket);

    // A drain lets an open call end, and the next call finds no server.
    let open = {
        let kv = kv.clone();
        tokio::spawn(async move { kv.send_recv().sleep(500).await })
    };
    sleep(Duration::from_millis(100)).await;
    writeln!(python.input, "drain").unwrap();
    assert_eq!(python.line(), "draining");
    open.await.unwrap().unwrap();
    let refused = kv
        .send_recv()
        .timeout(Duration::from_millis(300))
        .noop()
        .await
        .unwrap_err();
    assert_eq!(refused.executed(), Executed::No, "{refused}");
    println!("grpcio: a server that our client calls: as it should be");
}
