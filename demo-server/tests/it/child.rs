//! The demo's server as a child process.

use std::process::Stdio;

use test_support::LONG;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// One running server; it does not outlive the test.
pub(crate) struct Process {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts a server with these arguments.
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_demo-server"))
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, stdout }
    }

    /// Starts a server that listens on `address`, and returns when it does: with its real address.
    pub(crate) async fn listening(address: &str) -> (Self, String) {
        let mut process = Self::start(&["--listen", address]);
        match process.line().await {
            Some(address) => (process, address),
            None => {
                let (code, _, stderr) = process.end().await;
                panic!("no server on {address}, but exit code {code}: {stderr}");
            }
        }
    }

    /// The address of the next `listening` line.
    pub(crate) async fn address(&mut self) -> String {
        self.line().await.expect("one more address")
    }

    /// The address of the `admin` line.
    pub(crate) async fn admin(&mut self) -> String {
        self.line_of("admin").await.expect("an admin line")
    }

    async fn line(&mut self) -> Option<String> {
        self.line_of("listening").await
    }

    async fn line_of(&mut self, what: &str) -> Option<String> {
        let line = timeout(LONG, self.stdout.next_line()).await.unwrap().unwrap()?;
        let (word, address) = line.split_once(' ').expect("a line of two words");
        assert_eq!(word, what, "{line}");
        Some(address.to_owned())
    }

    /// Sends a signal, as an operator would: `-TERM`.
    pub(crate) async fn signal(&self, name: &str) {
        signal(&self.child, name).await;
    }

    /// Waits until the process has ended by itself; the exit code, what was left on stdout, and stderr.
    pub(crate) async fn end(mut self) -> (i32, String, String) {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        let mut pipe = self.child.stderr.take().unwrap();
        // Read while it runs, because a full pipe would block it.
        let ended = timeout(LONG, async {
            pipe.read_to_string(&mut stderr).await.unwrap();
            while let Some(line) = self.stdout.next_line().await.unwrap() {
                stdout += &line;
            }
            self.child.wait().await.unwrap()
        })
        .await;
        let status = ended.expect("the process still runs after 60 s");
        (status.code().expect("no signal ended it"), stdout, stderr)
    }
}

/// Sends a signal to a process, as an operator would: `-TERM`.
pub(crate) async fn signal(child: &Child, name: &str) {
    let pid = child.id().unwrap().to_string();
    let status = Command::new("kill").args([name, &pid]).status().await.unwrap();
    assert!(status.success());
}

/// A test of the same binary as a process of its own: it does its part if [`Helper::part`] says so.
pub(crate) struct Helper {
    child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Helper {
    /// Runs the test `name`, whose part is `part`.
    pub(crate) fn start(name: &str, part: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture", "--test-threads", "1"])
            .env(PART, part)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self {
            stdin: child.stdin.take().unwrap(),
            stdout: BufReader::new(child.stdout.take().unwrap()).lines(),
            child,
        }
    }

    /// What this process is to do; none if it is not a helper.
    pub(crate) fn part() -> Option<String> {
        std::env::var(PART).ok()
    }

    /// Says something to the process that has started this one.
    pub(crate) fn say(what: impl std::fmt::Display) {
        println!("\n{SAYS}{what}");
    }

    /// The next thing that it says.
    pub(crate) async fn hear(&mut self) -> String {
        let line = async {
            loop {
                let line = self
                    .stdout
                    .next_line()
                    .await
                    .unwrap()
                    .expect("the helper has ended");
                if let Some(said) = line.strip_prefix(SAYS) {
                    return said.to_owned();
                }
            }
        };
        timeout(LONG, line)
            .await
            .expect("the helper has said nothing for 60 s")
    }

    /// Tells it to go on: it reads a line.
    pub(crate) async fn tell(&mut self) {
        self.stdin.write_all(b"go on\n").await.unwrap();
    }

    /// Lets it have no processor from now on.
    pub(crate) async fn stop(&self) {
        signal(&self.child, "-STOP").await;
        let pid = self.child.id().unwrap().to_string();
        let is_stopped = async {
            loop {
                let state = Command::new("ps").args(["-o", "stat=", "-p", &pid]).output();
                if state.await.unwrap().stdout.starts_with(b"T") {
                    return;
                }
            }
        };
        timeout(LONG, is_stopped).await.expect("it stops");
    }

    /// Lets it go on.
    pub(crate) async fn go_on(&self) {
        signal(&self.child, "-CONT").await;
    }
}

const PART: &str = "DEMO_TEST_PART";
const SAYS: &str = "helper: ";
