//! Hand-over: a process is replaced by a new one under load, again and again, and not one call fails.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use rpc_runtime::Client;
use test_support::{LONG, own_host, within};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdout},
    time::{sleep, timeout},
};

use super::rolling::{Load, client};

/// How often the process is replaced.
const GENERATIONS: usize = 3;

/// The first of several processes, and the pid of the last one. None outlives the test.
struct Generations {
    first: Child,
    /// All of them write into the pipes of the first one.
    stdout: Lines<BufReader<ChildStdout>>,
    stderr: Lines<BufReader<ChildStderr>>,
    last: u32,
}

impl Generations {
    fn start(addresses: &[String]) -> Self {
        let listen = addresses.iter().flat_map(|address| ["--listen", address]);
        let mut first = tokio::process::Command::new(env!("CARGO_BIN_EXE_demo-server"))
            .args(listen)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self {
            stdout: BufReader::new(first.stdout.take().unwrap()).lines(),
            stderr: BufReader::new(first.stderr.take().unwrap()).lines(),
            last: first.id().unwrap(),
            first,
        }
    }

    /// The addresses that the next process prints.
    async fn addresses(&mut self, count: usize) -> Vec<String> {
        let mut addresses = Vec::new();
        while addresses.len() < count {
            let line = within(self.stdout.next_line())
                .await
                .unwrap()
                .expect("it listens");
            addresses.push(line.strip_prefix("listening ").unwrap().to_owned());
        }
        addresses
    }

    /// Waits until a process says that it has handed over.
    async fn handed_over(&mut self) {
        let handed_over = async {
            loop {
                let line = self.stderr.next_line().await.unwrap().expect("a process runs");
                assert!(!line.starts_with("error"), "{line}");
                if let Some(pid) = line.strip_prefix("handed over to process ") {
                    return pid.parse().unwrap();
                }
            }
        };
        self.last = timeout(LONG, handed_over).await.expect("it hands over");
    }

    fn signal(&self, name: &str) -> bool {
        let pid = self.last.to_string();
        let mut kill = Command::new("kill");
        let status = kill.args([name, &pid]).stderr(Stdio::null()).status();
        status.unwrap().success()
    }

    /// Returns whether the last process has ended. Nobody but its parent can wait for it, and that has ended, too.
    fn has_ended(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.last));
        // A zombie has ended.
        stat.map_or(true, |stat| stat.contains(") Z "))
    }
}

impl Drop for Generations {
    fn drop(&mut self) {
        self.signal("-KILL");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4, crate = "test_support::gate")]
async fn a_process_replaced_again_and_again_fails_no_call() {
    let path = std::env::temp_dir().join(format!("hand-over-{}.sock", std::process::id()));
    let written = [
        format!("tcp://{}:0", own_host(7)),
        format!("unix:{}", path.display()),
    ];
    let mut generations = Generations::start(&written);
    let addresses = generations.addresses(2).await;
    let loads = [0, 1].map(|which| Load::begin(&client(&addresses[which..=which])));
    for _ in 0..GENERATIONS {
        for load in &loads {
            load.goes_on().await;
        }
        assert!(generations.signal("-USR2"));
        // The new process listens at the same port and path.
        assert_eq!(generations.addresses(2).await, addresses);
        generations.handed_over().await;
        for load in &loads {
            load.goes_on().await;
        }
    }
    let ended = timeout(LONG, generations.first.wait())
        .await
        .expect("the first process ends");
    assert_eq!(ended.unwrap().code(), Some(0), "its drain was clean");
    for load in loads {
        load.end().await;
    }
    assert!(generations.signal("-TERM"));
    let over = async {
        while !generations.has_ended() {
            sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, over).await.expect("the last process ends");
    assert!(Client::connect(&addresses[0]).await.is_err());
    assert!(!Path::new(&path).exists(), "the last process removes the file");
}
