//! What a service manager is told: ready, watchdog, the drain.

use std::time::Duration;

use rpc_runtime::Client;
use test_support::{lab::*, within};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixDatagram,
    process::Child,
    time::timeout,
};

use crate::child::{BLOCK, line, signal, start};

/// A service manager that hears what a process says.
struct Manager {
    socket: UnixDatagram,
    path: std::path::PathBuf,
}

impl Manager {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("rpc-notify-{}-{name}", std::process::id()));
        Self {
            socket: UnixDatagram::bind(&path).unwrap(),
            path,
        }
    }

    /// Starts a process that serves, with a watchdog of 300 ms.
    fn start(&self) -> Child {
        let path = self.path.to_str().unwrap();
        let env = [("NOTIFY_SOCKET", path), ("WATCHDOG_USEC", "300000")];
        start("serves", &["tcp://127.0.0.1:0"], Vec::new(), &env)
    }

    /// The next states that the process sends.
    async fn hear(&self) -> Vec<String> {
        let mut datagram = vec![0; 4096];
        let len = within(self.socket.recv(&mut datagram)).await.unwrap();
        let text = String::from_utf8_lossy(&datagram[..len]);
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until it says `state`.
    async fn hears(&self, state: &str) -> Vec<String> {
        loop {
            let states = self.hear().await;
            if states.iter().any(|one| one == state) {
                return states;
            }
        }
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[tokio::test]
async fn a_service_manager_hears_that_it_is_ready_that_it_runs_and_how_it_stops() {
    let manager = Manager::new("whole");
    let mut process = manager.start();
    let mut stdout = BufReader::new(process.stdout.take().unwrap()).lines();
    let address = line(&mut stdout, "listening ").await;
    assert_eq!(
        manager.hear().await,
        ["READY=1".to_owned(), format!("STATUS=serving on {address}")]
    );
    for _ in 0..3 {
        assert_eq!(manager.hear().await, ["WATCHDOG=1"]);
    }
    let client = within(Client::connect(&address)).await.unwrap();
    let open = start_wait(&client).await;
    signal(process.id().unwrap(), "-TERM");
    // 60 s for the drain, 3 s for its end, 1 s for the end of the process.
    assert_eq!(
        manager.hears("STOPPING=1").await,
        ["STOPPING=1", "EXTEND_TIMEOUT_USEC=64000000"]
    );
    manager.hears("STATUS=draining: 1 calls on 1 connections").await;
    manager.hears("WATCHDOG=1").await;
    signal(process.id().unwrap(), "-TERM");
    let status = within(process.wait()).await.unwrap();
    assert_eq!(status.code(), Some(6), "the second signal cuts the call off");
    within(open).await.unwrap().unwrap_err();
}

/// Begins a call that does not end by itself.
async fn start_wait(client: &Client) -> tokio::task::JoinHandle<Result<(), rpc_runtime::Error>> {
    // Behind a first call, so that it has surely begun when the next one is answered.
    let open = hang(client);
    while text(client, &ECHO, "x").await.is_err() {}
    open
}

#[tokio::test]
async fn a_server_whose_thread_is_blocked_does_not_feed_the_watchdog() {
    let manager = Manager::new("blocked");
    let mut process = manager.start();
    let mut stdout = BufReader::new(process.stdout.take().unwrap()).lines();
    let address = line(&mut stdout, "listening ").await;
    manager.hears("WATCHDOG=1").await;
    let client = within(Client::connect(&address)).await.unwrap();
    let blocked = tokio::spawn(async move { client.call().send_recv::<_, ()>(&BLOCK, ()).await });
    line(&mut stdout, "blocked").await;
    // One may be on its way, and no other one comes: nothing that accepts can answer.
    let mut late = 0;
    while timeout(SILENCE, manager.socket.recv(&mut [0; 100])).await.is_ok() {
        late += 1;
        assert!(late <= 5, "the watchdog is fed");
    }
    let mut stdin = process.stdin.take().unwrap();
    stdin.write_all(b"go on\n").await.unwrap();
    within(blocked).await.unwrap().unwrap();
    manager.hears("WATCHDOG=1").await;
    signal(process.id().unwrap(), "-TERM");
    assert_eq!(within(process.wait()).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn without_a_service_manager_a_server_serves_as_ever() {
    let mut process = start("serves", &["tcp://127.0.0.1:0"], Vec::new(), &[]);
    let mut stdout = BufReader::new(process.stdout.take().unwrap()).lines();
    let address = line(&mut stdout, "listening ").await;
    let client = within(Client::connect(&address)).await.unwrap();
    assert_eq!(text(&client, &ECHO, "alone").await.unwrap(), "alone");
    drop(client);
    signal(process.id().unwrap(), "-TERM");
    assert_eq!(within(process.wait()).await.unwrap().code(), Some(0));
}

/// So long after the last state the process counts as silent: more than three pauses of its watchdog.
const SILENCE: Duration = Duration::from_secs(1);
