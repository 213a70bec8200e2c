//! A client that trusts the CAs of its machine, on a machine whose disk hangs.

use std::{env, path::Path, process::Stdio, time::Duration};

use rpc_runtime::{Client, Error};
use test_support::within;
use tokio::{net::TcpListener, process::Command, time::sleep};

#[tokio::test(crate = "test_support::gate")]
async fn cas_that_cannot_be_read_stop_no_other_task_and_fail_the_connect() {
    let folder = env::temp_dir().join(format!("rpc-tls-hanging-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    // Whoever opens a pipe waits until somebody writes to it.
    let pipe = folder.join("cas.pem");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(within(made).await.unwrap().success());
    let said = run("tls::default_roots::connects_where_the_disk_hangs", &pipe).await;
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(
        said.contains(
            "said: reading the CAs of this machine takes longer than 5s: see whether the disk hangs"
        ),
        "{said}"
    );
}

/// Not a test of its own: a client in a process of its own, with one thread for all tasks.
#[tokio::test]
async fn connects_where_the_disk_hangs() {
    if env::var(CHILD).is_err() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tls://{}", listener.local_addr().unwrap());
    let connecting =
        tokio::spawn(async move { within::<Result<Client, Error>>(Client::connect(&address)).await });
    // Other tasks go on meanwhile.
    for _ in 0..100 {
        sleep(Duration::from_millis(1)).await;
    }
    assert!(!connecting.is_finished());
    let error = connecting.await.unwrap().unwrap_err();
    println!("\nsaid: {}", rpc_runtime::tls::TlsError::find(&error).unwrap());
    // The thread that waits for the pipe would wait for ever.
    std::process::exit(0);
}

/// Runs a test of this file in a process whose CAs are in the file `cas`, and returns what it has printed.
async fn run(test: &'static str, cas: &Path) -> String {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .env("SSL_CERT_FILE", cas)
        .env_remove("SSL_CERT_DIR")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = within(command.output()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

const CHILD: &str = "RPC_TEST_HANGING_DISK";
