//! Attacks: what a hostile peer does, and how the server must answer.

mod calls;
mod connections;
mod frames;
mod handshakes;
mod http1;
mod http2;

use std::{
    fmt, io,
    pin::Pin,
    time::{Duration, Instant},
};

use prost::Message;
use test_support::{
    LONG,
    wire::{self, CALL, END, Frame, GOAWAY, Goaway, RawPeer, SEND},
};
use tokio::time::timeout;

use crate::{
    door::{Door, Transport},
    probe::once,
    process::{Plan, Process},
};

/// An attack on a server.
#[derive(Clone, Copy)]
pub struct Attack {
    /// Its name.
    pub name: &'static str,
    /// What it does, in one line.
    pub what: &'static str,
    /// Plans the start of its target; the argument is true in a test.
    pub plan: fn(bool) -> Plan,
    /// What other clients may notice.
    pub others: Others,
    run: for<'a> fn(&'a Scene<'_>) -> Running<'a>,
}

/// What other clients may notice of an attack, apart from longer waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// Nothing.
    Served,
    /// Calls that need a new connection fail, because the attack takes all connections.
    Unconnected,
    /// Calls are refused for a moment without being executed, because the attack holds all memory.
    Refused,
}

type Running<'a> = Pin<Box<dyn Future<Output = Result<Outcome, Failure>> + Send + 'a>>;

impl fmt::Debug for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attack")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Attack {
    /// Runs the attack.
    ///
    /// # Errors
    ///
    /// If the server answers wrongly.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the attack.
    pub async fn run(&self, scene: &Scene<'_>) -> Result<Outcome, Failure> {
        (self.run)(scene).await
    }
}

/// The target and the duration of an attack.
#[derive(Debug)]
pub struct Scene<'a> {
    /// The server.
    pub target: &'a Process,
    /// The duration; without one, an attack sends a small number, as a test wants it.
    pub time: Option<Duration>,
    begun: Instant,
}

impl<'a> Scene<'a> {
    /// Makes the scene of an attack that begins now.
    pub fn new(target: &'a Process, time: Option<Duration>) -> Self {
        Self {
            target,
            time,
            begun: Instant::now(),
        }
    }

    fn door(&self) -> &Door {
        self.target.door()
    }

    /// True if the attack goes on after `done` rounds; a test makes `few` rounds.
    fn goes_on(&self, done: u64, few: u64) -> bool {
        self.time
            .map_or(done < few, |time| done == 0 || self.begun.elapsed() < time)
    }

    /// Returns `few` in a test, otherwise `many`.
    fn count(&self, few: usize, many: usize) -> usize {
        if self.time.is_some() { many } else { few }
    }
}

/// The outcome of an attack that the server answered correctly.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The number of frames, calls or connections that it took.
    pub sent: u64,
    /// The unit of that number.
    pub unit: &'static str,
    /// The server's answer.
    pub answer: String,
    /// Counters of the server, and what each must have counted at least.
    pub counted: Vec<(&'static str, u64)>,
}

impl Outcome {
    /// Adds what the server must have counted.
    fn counting(mut self, counter: &'static str, least: u64) -> Self {
        self.counted.push((counter, least));
        self
    }
}

/// A wrong answer of the server.
#[derive(Clone, Debug)]
pub struct Failure(pub String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<rpc_runtime::Error> for Failure {
    fn from(error: rpc_runtime::Error) -> Self {
        Self(format!("{error:#}"))
    }
}

fn outcome(sent: u64, unit: &'static str, answer: impl Into<String>) -> Result<Outcome, Failure> {
    Ok(Outcome {
        sent,
        unit,
        answer: answer.into(),
        counted: Vec::new(),
    })
}

/// Expects that the server accepts a newcomer, though `count` connections hold unfinished requests.
async fn accepts_beside(scene: &Scene<'_>, count: usize) -> Result<Outcome, Failure> {
    once(scene.door()).await?;
    let memory = scene.target.usage()?.memory_kib;
    outcome(
        count as u64,
        "connections",
        format!("the account of memory; {} MiB resident", memory >> 10),
    )
}

/// The reasons of a GOAWAY.
const PROTOCOL: u32 = 2;
const REJECTED: u32 = 3;
const EXCESS: u32 = 4;
const TIMEOUT: u32 = 5;

/// How a server ends a connection, or that it does not.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    /// A GOAWAY with its reason and its text.
    Goaway(u32, String),
    /// The end of the stream or a reset, without a GOAWAY.
    Cut,
    /// The connection stays open.
    Open,
}

/// Connects with a HELLO that accepts large replies.
async fn connect(scene: &Scene<'_>) -> io::Result<RawPeer> {
    let mut raw = scene.door().raw().await?;
    raw.greet(&wire::greedy_hello()).await?;
    Ok(raw)
}

/// Makes a whole call in one frame.
pub(crate) fn call(id: u64, procedure: u64, payload: Vec<u8>) -> Frame {
    Frame {
        flags: END,
        procedure,
        payload,
        ..Frame::new(CALL, id)
    }
}

/// Makes a whole one-way call in one frame.
fn send(id: u64, procedure: u64, payload: Vec<u8>) -> Frame {
    Frame {
        kind: SEND,
        ..call(id, procedure, payload)
    }
}

/// Reads until the server ends the connection; without that, it counts as open after `patience`.
async fn answer(raw: &mut RawPeer, patience: Duration) -> Answer {
    let end = async {
        loop {
            match raw.next().await {
                Ok(Some(frame)) if frame.kind == GOAWAY => {
                    let goaway = Goaway::decode(&frame.payload[..]).unwrap_or_default();
                    return Answer::Goaway(goaway.reason, goaway.text);
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return Answer::Cut,
            }
        }
    };
    timeout(patience, end).await.unwrap_or(Answer::Open)
}

/// Expects a GOAWAY for `reason`, and returns it as text.
async fn sent_away(raw: &mut RawPeer, reason: u32) -> Result<String, Failure> {
    match answer(raw, LONG).await {
        Answer::Goaway(given, text) if given == reason => Ok(format!("GOAWAY({}): {text}", name(reason))),
        other => Err(Failure(format!(
            "expected GOAWAY({}), got {other:?}",
            name(reason)
        ))),
    }
}

fn name(reason: u32) -> &'static str {
    match reason {
        PROTOCOL => "PROTOCOL",
        REJECTED => "HELLO_REJECTED",
        EXCESS => "EXCESS",
        TIMEOUT => "TIMEOUT",
        _ => "another reason",
    }
}

/// A target with an address space of 256 MiB. Threads, the program and the allocator's reserves count as well.
fn usual(_: bool) -> Plan {
    Plan {
        memory_kib: Some(256 << 10),
        ..Plan::default()
    }
}

/// Like [`usual`]; in tests, limits of 30 s are limits of a second, and a handshake has 5 s.
fn hasty(is_test: bool) -> Plan {
    Plan {
        is_hasty: is_test,
        ..usual(is_test)
    }
}

/// Like [`usual`]; requests of HTTP that are no calls are answered.
fn routes(is_test: bool) -> Plan {
    Plan {
        has_routes: true,
        ..usual(is_test)
    }
}

/// Like [`routes`], with the limits of [`hasty`].
fn hasty_routes(is_test: bool) -> Plan {
    Plan {
        has_routes: true,
        ..hasty(is_test)
    }
}

/// Returns all attacks on a server with this transport: over TLS the same after the handshake, and others on the handshake. Those over
/// HTTP are for TCP only: above TLS the same code runs.
pub fn all(transport: Transport) -> Vec<Attack> {
    let attacks = [frames::ALL, calls::ALL, connections::ALL];
    match transport {
        Transport::Tcp => [attacks.concat().as_slice(), http1::ALL, http2::ALL].concat(),
        Transport::Tls => [attacks.concat().as_slice(), handshakes::ALL].concat(),
    }
}

macro_rules! attacks {
    ($($name:ident $what:literal $plan:ident $others:ident)*) => {
        /// The attacks of this module.
        pub(super) const ALL: &[crate::attack::Attack] = &[$(crate::attack::Attack {
            name: stringify!($name),
            what: $what,
            plan: crate::attack::$plan,
            others: crate::attack::Others::$others,
            run: |scene| Box::pin($name(scene)),
        }),*];
    };
}
use attacks;

fn few_files(_: bool) -> Plan {
    Plan {
        files: Some(64),
        ..usual(true)
    }
}

fn few_connections(_: bool) -> Plan {
    Plan {
        connections: Some(50),
        ..usual(true)
    }
}
