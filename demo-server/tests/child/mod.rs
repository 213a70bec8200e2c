//! The demo's server as a child process.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::{process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// A net against hanging: no test waits longer for a process, and none is that slow.
const LIMIT: Duration = Duration::from_secs(60);

/// One running server; it does not outlive the test.
pub(crate) struct Process {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts a server that listens on `address`, and returns when it does: with its real address.
    pub(crate) async fn start(address: &str, args: &[&str]) -> (Self, String) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_demo-server"))
            .args(["--listen", address, "--terminate", "loopback"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut process = Self { child, stdout };
        let line = timeout(LIMIT, process.stdout.next_line()).await.unwrap().unwrap();
        let Some(line) = line else {
            let (code, stderr) = process.end().await;
            panic!("no server on {address}, but exit code {code}: {stderr}");
        };
        let address = line.strip_prefix("listening ").expect("it says where it listens");
        (process, address.to_owned())
    }

    /// Sends a signal, as an operator would: `-TERM`.
    pub(crate) async fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap().to_string();
        let status = Command::new("kill").args([name, &pid]).status().await.unwrap();
        assert!(status.success());
    }

    /// Waits until the process has ended by itself; its exit code, and what it said on stderr.
    pub(crate) async fn end(mut self) -> (i32, String) {
        let mut pipe = self.child.stderr.take().unwrap();
        let mut stderr = String::new();
        // Read while it runs, for a full pipe would hold it up.
        let ended = timeout(LIMIT, async {
            let read = pipe.read_to_string(&mut stderr).await;
            (self.child.wait().await, read)
        })
        .await;
        let (status, read) = ended.expect("it ends by itself");
        read.unwrap();
        (status.unwrap().code().expect("no signal ended it"), stderr)
    }
}
