//! Who is measured, and how their binaries come about.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::Options;

/// The transport between a client and a server.
#[derive(Clone, Copy, PartialEq)]
pub enum Transport {
    Tcp,
    Tls,
    Unix,
}

/// One line of the report's tables.
pub struct Peer {
    pub label: &'static str,
    pub client: Program,
    pub server: Program,
    needs: Needs,
    /// Whether `--brief` keeps it.
    brief: bool,
    /// Whether `--grpc` keeps it.
    grpc: bool,
}

/// A binary, and how its processes run.
#[derive(Clone, Copy, PartialEq)]
pub struct Program {
    pub binary: &'static str,
    /// `PEER_VARIANT` of its processes.
    pub variant: &'static str,
}

impl Program {
    pub fn path(self) -> PathBuf {
        std::env::current_exe()
            .expect("the runner is a file")
            .with_file_name(self.binary)
    }

    /// This project.
    fn is_ours(self) -> bool {
        self.binary == "peer-rpc"
    }

    /// A server in Go, which Cargo does not build.
    pub fn is_go(self) -> bool {
        self.binary == "peer-grpc-go"
    }

    fn build(self) -> Result<(), String> {
        match self.is_go() {
            true => self.build_by_go(),
            false => self.build_by_cargo(),
        }
    }

    fn build_by_go(self) -> Result<(), String> {
        let output = Command::new("go")
            .args(["build", "-o"])
            .arg(self.path())
            .arg(".")
            .current_dir(workspace().join("peers/grpc-go"))
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("go does not start: {error}"))?;
        match output.status.success() {
            true => Ok(()),
            // Its text may have paths of this machine.
            false => Err("`go build` failed in bench/peers/grpc-go".into()),
        }
    }

    fn build_by_cargo(self) -> Result<(), String> {
        let target = self
            .path()
            .ancestors()
            .nth(2)
            .map(Path::to_path_buf)
            .expect("target/release/peer");
        let output = Command::new("cargo")
            .args([
                "build",
                "--release",
                "--quiet",
                "--locked",
                "-p",
                self.binary,
                "--manifest-path",
            ])
            .arg(workspace().join("Cargo.toml"))
            .env("CARGO_TARGET_DIR", target)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("cargo does not start: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        let line = text
            .lines()
            .find(|line| line.starts_with("error"))
            .unwrap_or("cargo failed");
        // Cargo puts paths of this machine in parentheses, and the report must not have them.
        Err(format!(
            "it does not build: {}",
            line.split(" (").next().unwrap_or(line)
        ))
    }
}

/// What must be on the machine to build a peer.
#[derive(Clone, Copy)]
enum Needs {
    Cargo,
    /// A program of this name.
    Tool(&'static str),
    /// A C library that pkg-config knows by this name.
    Library(&'static str),
}

impl Needs {
    /// What is missing; none if nothing is.
    fn missing(self) -> Option<String> {
        match self {
            Self::Tool(tool) if !is_installed(tool) => {
                Some(format!("{tool}, which its build calls, is not installed"))
            }
            Self::Library(library) if !is_known_library(library) => Some(format!(
                "pkg-config does not find {library}, to which it is linked"
            )),
            _ => None,
        }
    }
}

fn is_known_library(library: &str) -> bool {
    let status = Command::new("pkg-config").args(["--exists", library]).status();
    status.is_ok_and(|status| status.success())
}

const fn peer(label: &'static str, binary: &'static str, variant: &'static str) -> Peer {
    let program = Program { binary, variant };
    Peer {
        label,
        client: program,
        server: program,
        needs: Needs::Cargo,
        brief: false,
        grpc: false,
    }
}

impl Peer {
    const fn needs(mut self, what: Needs) -> Self {
        self.needs = what;
        self
    }

    const fn brief(mut self) -> Self {
        self.brief = true;
        self
    }

    const fn grpc(mut self) -> Self {
        self.grpc = true;
        self
    }

    /// Its clients call the server of another program.
    const fn calls(mut self, binary: &'static str, variant: &'static str) -> Self {
        self.server = Program { binary, variant };
        self
    }

    /// True if its client and its server are of two projects.
    pub fn is_mixed(&self) -> bool {
        self.client.binary != self.server.binary
    }

    /// True if this project has a part in it.
    pub fn is_ours(&self) -> bool {
        self.client.is_ours() || self.server.is_ours()
    }

    /// A limit, not a framework.
    pub fn is_limit(&self) -> bool {
        self.label.starts_with('L')
    }

    /// The transport between its client and its server.
    pub fn transport(&self) -> Transport {
        match self.client.variant {
            "unix" => Transport::Unix,
            "tls" => Transport::Tls,
            _ => Transport::Tcp,
        }
    }
}

/// A new peer is one line here.
pub const PEERS: [Peer; 27] = [
    peer("L1 tokio", "peer-limit-tokio", "").brief(),
    peer("L2 std", "peer-limit-std", ""),
    peer("L3 sketch", "peer-limit-sketch", ""),
    peer("L4 proto", "peer-limit-proto", ""),
    peer("L4 spawn", "peer-limit-proto", "spawn"),
    peer("rpc", "peer-rpc", "").brief().grpc(),
    peer("rpc workers", "peer-rpc", "workers"),
    peer("rpc 4 conns", "peer-rpc", "connections"),
    peer("tonic", "peer-tonic", "").brief().grpc(),
    peer("tonic to rpc", "peer-tonic", "")
        .calls("peer-rpc", "grpc")
        .grpc(),
    peer("rpc to tonic", "peer-rpc", "grpc")
        .calls("peer-tonic", "")
        .grpc(),
    peer("tonic to grpc-go", "peer-tonic", "")
        .calls("peer-grpc-go", "")
        .needs(Needs::Tool("go"))
        .grpc(),
    peer("tarpc", "peer-tarpc", ""),
    peer("ttrpc", "peer-ttrpc", ""),
    peer("volo-grpc", "peer-volo-grpc", ""),
    peer("volo-thrift", "peer-volo-thrift", ""),
    peer("volo-thrift-mux", "peer-volo-thrift", "multiplex"),
    peer("capnp", "peer-capnp", "").needs(Needs::Tool("capnp")),
    peer("connectrpc", "peer-connectrpc", "").needs(Needs::Tool("protoc")),
    peer("zeromq", "peer-zeromq", "")
        .needs(Needs::Library("libzmq"))
        .brief(),
    peer("L1 unix", "peer-limit-tokio", "unix"),
    peer("rpc-unix", "peer-rpc", "unix"),
    peer("tarpc-unix", "peer-tarpc", "unix"),
    peer("ttrpc-unix", "peer-ttrpc", "unix"),
    peer("L1 tls", "peer-limit-tokio", "tls"),
    peer("rpc-tls", "peer-rpc", "tls"),
    peer("tonic-tls", "peer-tonic", "tls"),
];

/// Builds the chosen peers, one after the other: a peer that cannot be built stops no other. Returns those that can be
/// measured, and a row for each that cannot.
pub fn prepare(options: &Options) -> (Vec<&'static Peer>, Vec<Value>) {
    let chosen: Vec<_> = PEERS.iter().filter(|peer| options.wants(peer)).collect();
    let style =
        ProgressStyle::with_template("{bar:40} {pos}/{len} building {msg}").expect("the template is right");
    let bar = ProgressBar::new(chosen.len() as u64).with_style(style);
    let (mut ready, mut skipped) = (Vec::new(), Vec::new());
    for peer in chosen {
        bar.set_message(peer.label);
        match build(peer, options) {
            Ok(()) => ready.push(peer),
            Err(reason) => skipped.push(json!({"skipped": peer.label, "reason": reason})),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    (ready, skipped)
}

fn build(peer: &Peer, options: &Options) -> Result<(), String> {
    let programs = [peer.client, peer.server];
    let programs = &programs[usize::from(!peer.is_mixed())..];
    if options.no_build {
        return match programs.iter().all(|program| program.path().exists()) {
            true => Ok(()),
            false => Err("it was not built".into()),
        };
    }
    if let Some(reason) = peer.needs.missing() {
        return Err(reason);
    }
    programs.iter().try_for_each(|program| program.build())
}

/// Whether a program of this name is on the path.
pub fn is_installed(tool: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|dir| dir.join(tool).is_file())
}

/// `bench/`
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the runner is in bench/runner")
}

impl Options {
    fn wants(&self, peer: &Peer) -> bool {
        match &self.peers {
            Some(labels) => labels.iter().any(|label| label == peer.label),
            None => (peer.brief || !self.brief) && (peer.grpc || !self.grpc),
        }
    }
}
