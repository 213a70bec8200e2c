//! The processes of a peer: a server, and a client that prints its figures.

use std::{
    io::{BufRead, BufReader},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    peers::{Peer, Program},
    scenarios::Scenario,
};

/// A server; it ends when its stdin closes.
pub struct Server {
    child: Child,
    out: BufReader<ChildStdout>,
    pub addr: String,
}

impl Server {
    /// Starts it under `tool` (a command and its arguments; none for none).
    pub fn start(tool: &[String], peer: &Peer, scenario: &Scenario) -> Option<Self> {
        let mut child = under(tool, peer.server)
            .env("PEER_WORK", scenario.work)
            .arg("server")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut out = BufReader::new(child.stdout.take()?);
        let mut line = String::new();
        out.read_line(&mut line).ok()?;
        let Some(addr) = line.trim().strip_prefix("ADDR ") else {
            wait(&mut child, Duration::ZERO);
            return None;
        };
        Some(Self {
            child,
            out,
            addr: addr.to_owned(),
        })
    }

    /// The arguments of a client that does `scenario` with this server.
    pub fn client_args(&self, scenario: &Scenario, more: &[(&str, String)]) -> Vec<String> {
        let fixed = [
            ("addr", self.addr.clone()),
            ("server-pid", self.child.id().to_string()),
            ("conns", scenario.conns.to_string()),
            ("inflight", scenario.in_flight.to_string()),
            ("value", scenario.value.to_owned()),
        ];
        let options = fixed
            .iter()
            .chain(more)
            .flat_map(|(name, value)| [format!("--{name}"), value.clone()]);
        [scenario.command.to_owned()].into_iter().chain(options).collect()
    }

    /// Ends it; returns what it has had, or null if it does not say.
    pub fn stop(mut self) -> Value {
        drop(self.child.stdin.take());
        wait(&mut self.child, Duration::from_secs(20));
        let mut line = String::new();
        match self.out.read_line(&mut line) {
            Ok(_) => serde_json::from_str(&line).unwrap_or(Value::Null),
            Err(_) => Value::Null,
        }
    }
}

/// Runs a client to its end; null if it fails or takes longer than `limit`.
pub fn client(tool: &[String], peer: &Peer, args: &[String], limit: Duration) -> Value {
    let spawned = under(tool, peer.client)
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = spawned else {
        return Value::Null;
    };
    let succeeded = wait(&mut child, limit);
    let mut line = String::new();
    let printed = child
        .stdout
        .take()
        .is_some_and(|out| BufReader::new(out).read_line(&mut line).is_ok());
    if succeeded && printed {
        serde_json::from_str(&line).unwrap_or(Value::Null)
    } else {
        Value::Null
    }
}

fn under(tool: &[String], program: Program) -> Command {
    let mut words = tool.iter().cloned().chain([program.path().display().to_string()]);
    let mut command = Command::new(words.next().expect("the peer itself at least"));
    command.args(words).env("PEER_VARIANT", program.variant);
    command
}

/// Waits, then kills. True if the child ended by itself, with success.
fn wait(child: &mut Child, limit: Duration) -> bool {
    let until = Instant::now() + limit;
    while Instant::now() < until {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) => std::thread::sleep(Duration::from_millis(5)),
            Err(_) => break,
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    false
}
