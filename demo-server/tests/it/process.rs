//! The server as a process: what it prints, and how it ends.

use std::time::Duration;

use demo_api::demo::kv::v1::KvClient;
use test_support::{LONG, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::child::{Helper, Process};

#[tokio::test(crate = "test_support::gate")]
async fn stdout_is_the_address_and_nothing_else() {
    let mut server = Process::start(&["--listen", "tcp://127.0.0.1:0"]);
    let address = server.address().await;
    assert!(
        address.starts_with("tcp://127.0.0.1:") && !address.ends_with(":0"),
        "{address}"
    );
    let kv = KvClient::connect(&address).await.unwrap();
    kv.send_recv().update("dog", "brown").await.unwrap();
    let report = kv.send_recv().terminate().await.unwrap();
    assert!(report.is_clean(), "{report}");
    let (code, rest, stderr) = server.end().await;
    assert_eq!((code, rest.as_str()), (0, ""), "{stderr}");
    assert!(
        stderr.contains(&format!("--connect {address}")),
        "hints are on stderr: {stderr}"
    );
    assert!(stderr.contains("terminated: "), "{stderr}");
}

#[tokio::test(crate = "test_support::gate")]
async fn every_address_is_listened_on() {
    let socket = std::env::temp_dir().join(format!("demo-server-{}.sock", std::process::id()));
    let unix = format!("unix:{}", socket.display());
    let mut server = Process::start(&["--listen", "tcp://127.0.0.1:0", "--listen", &unix]);
    let (tcp, second) = (server.address().await, server.address().await);
    assert_eq!(second, unix);
    KvClient::connect(&tcp)
        .await
        .unwrap()
        .send_recv()
        .update("dog", "brown")
        .await
        .unwrap();
    let kv = KvClient::connect(&unix).await.unwrap();
    assert_eq!(
        kv.send_recv().fetch("dog").await.unwrap().as_deref(),
        Some(&b"brown"[..])
    );
    kv.terminate().await.unwrap();
    assert_eq!(server.end().await.0, 0);
    assert!(!socket.exists(), "the socket's file is removed");
}

#[tokio::test(crate = "test_support::gate")]
async fn sigterm_and_ctrl_c_drain() {
    for signal in ["-TERM", "-INT"] {
        let mut server = Process::start(&["--listen", "tcp://127.0.0.1:0"]);
        let kv = KvClient::connect(server.address().await).await.unwrap();
        let open = kv.send_recv().sleep(300);
        let stop = async {
            // The reply of a later call says that the server has the first one.
            kv.send_recv().noop().await.unwrap();
            server.signal(signal).await;
        };
        let (open, ()) = tokio::join!(open, stop);
        open.expect("an open call has its reply");
        let (code, _, stderr) = server.end().await;
        assert_eq!(code, 0, "{signal}: {stderr}");
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn second_signal_does_not_wait_for_the_drain() {
    let mut server = Process::start(&["--listen", "tcp://127.0.0.1:0", "--drain-timeout", "3600"]);
    let kv = KvClient::connect(server.address().await).await.unwrap();
    kv.send()
        .timeout(Duration::from_secs(3600))
        .sleep(3_600_000)
        .await
        .unwrap();
    kv.barrier().await.unwrap();
    server.signal("-TERM").await;
    // The drain has begun when the server takes no more calls.
    while kv.send_recv().fail_fast().noop().await.is_ok() {}
    server.signal("-TERM").await;
    let (code, _, stderr) = server.end().await;
    assert_eq!(code, 6, "the drain cut a one-way: {stderr}");
}

/// The client of `a_client_without_a_processor_gets_the_account_of_its_sends`, a process of its own.
#[tokio::test(crate = "test_support::gate")]
async fn helper_process_that_sends_and_asks_for_the_account() {
    let Some(address) = Helper::part() else { return };
    let kv = KvClient::connect(&address).await.unwrap();
    for n in 0..100 {
        kv.send().update("sent", n.to_string()).await.unwrap();
    }
    kv.flush().await.unwrap();
    Helper::say("sent");
    // Not in a blocking call of the runtime: whatever it does while it is stopped, it does not do.
    let told = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    told.await.unwrap().unwrap();
    for _ in 0..2 {
        match kv.barrier().await {
            Ok(account) => Helper::say(account),
            Err(error) => Helper::say(error),
        }
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_client_without_a_processor_gets_the_account_of_its_sends() {
    let mut server = Process::start(&["--listen", "tcp://127.0.0.1:0", "--drain-timeout", "30"]);
    let address = server.address().await;
    let kv = KvClient::connect(&address).await.unwrap();
    let mut client = Helper::start(
        "process::helper_process_that_sends_and_asks_for_the_account",
        &address,
    );
    assert_eq!(client.hear().await, "sent");
    while kv.send_recv().fetch("sent").await.unwrap().as_deref() != Some(b"99") {}
    client.stop().await;
    server.signal("-TERM").await;
    let (code, _, stderr) = server.end().await;
    assert_eq!(code, 0, "{stderr}");
    // The server is gone for good before the client can ask.
    client.tell().await;
    client.go_on().await;
    for _ in 0..2 {
        let account = client.hear().await;
        assert_eq!(
            account,
            "received 100: 100 handled, 0 failed, 0 expired, 0 dropped, 0 pending"
        );
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn handler_that_blocks_for_ever_does_not_keep_the_process() {
    let mut server = Process::start(&["--listen", "tcp://127.0.0.1:0", "--drain-timeout", "0"]);
    let kv = KvClient::connect(server.address().await).await.unwrap();
    kv.send().block(u32::MAX).await.unwrap();
    kv.barrier().await.unwrap();
    // Each blocking call has a thread, so the reply of a later one says that the first one has begun.
    kv.send_recv().block(0).await.unwrap();
    server.signal("-TERM").await;
    let (code, _, stderr) = server.end().await;
    assert_eq!(code, 6, "{stderr}");
    assert!(stderr.contains("1 stuck, 0 starved"), "{stderr}");
}

/// The status of a page, and its text.
async fn page(admin: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(admin.trim_start_matches("tcp://"))
        .await
        .unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().to_owned(), body.to_owned())
}

#[tokio::test(crate = "test_support::gate")]
async fn admin_pages_are_there_until_the_drain_is_over() {
    let mut server = Process::start(&["--listen", "tcp://127.0.0.1:0", "--admin", "tcp://127.0.0.1:0"]);
    let (address, admin) = (server.address().await, server.admin().await);
    let kv = KvClient::connect(&address).await.unwrap();
    kv.send_recv().noop().await.unwrap();
    let (status, metrics) = page(&admin, "/metrics").await;
    let counted = r#"rpc_server_handled_total{service="demo.kv.v1.Kv",method="rpc_noop",protocol="native",code="OK"} 1"#;
    assert!(
        status == "200" && metrics.lines().any(|line| line == counted),
        "{metrics}"
    );
    assert_eq!(
        page(&admin, "/readyz").await,
        ("200".to_owned(), "ready\n".to_owned())
    );

    let open = tokio::spawn({
        let kv = kv.clone();
        async move { kv.send_recv().timeout(LONG).sleep(u32::MAX).await }
    });
    // The reply of a later call says that the server has the first one.
    kv.send_recv().noop().await.unwrap();
    server.signal("-TERM").await;
    let drains = ("503".to_owned(), "not ready: the server drains\n".to_owned());
    within(async { while page(&admin, "/readyz").await != drains {} }).await;
    assert_eq!(page(&admin, "/healthz").await.0, "200");
    open.abort();
    let (code, stdout, stderr) = server.end().await;
    assert_eq!((code, stdout.as_str()), (0, ""), "{stderr}");
}

#[tokio::test(crate = "test_support::gate")]
async fn taken_port_is_one_clear_line() {
    let mut first = Process::start(&["--listen", "tcp://127.0.0.1:0"]);
    let address = first.address().await;
    let (code, stdout, stderr) = Process::start(&["--listen", &address]).end().await;
    assert_eq!((code, stdout.as_str()), (5, ""));
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(
        stderr.starts_with(&format!("error: UNAVAILABLE: cannot listen on {address}")),
        "{stderr}"
    );
}

#[tokio::test(crate = "test_support::gate")]
async fn bad_address_says_what_to_write() {
    let (code, _, stderr) = Process::start(&["--listen", "localhost:5005"]).end().await;
    assert_eq!(code, 5);
    assert!(stderr.contains("write tcp://localhost:5005"), "{stderr}");
}
