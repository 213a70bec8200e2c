//! Attacks: each is what a peer does that means harm, and what the server is to make of it.

mod calls;
mod connections;
mod frames;

use std::{
    fmt, io,
    pin::Pin,
    time::{Duration, Instant},
};

use crate::{
    process::{Plan, Process},
    raw::{Answer, Raw},
};

/// What a peer does that means harm.
#[derive(Clone, Copy)]
pub struct Attack {
    /// What it is called.
    pub name: &'static str,
    /// What it does, on one line.
    pub what: &'static str,
    /// How its target is started.
    pub plan: fn(bool) -> Plan,
    /// What others may notice meanwhile.
    pub others: Others,
    run: for<'a> fn(&'a Scene<'_>) -> Running<'a>,
}

/// What others may notice of an attack beside that they wait longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// Nothing.
    Served,
    /// Calls that need a new connection fail: it takes what they need.
    Unconnected,
    /// Calls are refused for a moment, and were not executed: all the memory is held.
    Refused,
}

type Running<'a> = Pin<Box<dyn Future<Output = Result<Told, Failure>> + Send + 'a>>;

impl fmt::Debug for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attack")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Attack {
    /// Does it.
    ///
    /// # Errors
    ///
    /// If the server answers otherwise than it should.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends it.
    pub async fn run(&self, scene: &Scene<'_>) -> Result<Told, Failure> {
        (self.run)(scene).await
    }
}

/// Whom an attack is on, and for how long.
#[derive(Debug)]
pub struct Scene<'a> {
    /// The server.
    pub target: &'a Process,
    /// How long; if it is not said, a count that suits a test.
    pub time: Option<Duration>,
    begun: Instant,
}

impl<'a> Scene<'a> {
    /// An attack that begins now.
    pub fn new(target: &'a Process, time: Option<Duration>) -> Self {
        Self {
            target,
            time,
            begun: Instant::now(),
        }
    }

    fn address(&self) -> &str {
        self.target.address()
    }

    /// Whether an attack goes on that has done something `done` times, of which `few` are enough for a test.
    fn goes_on(&self, done: u64, few: u64) -> bool {
        self.time
            .map_or(done < few, |time| done == 0 || self.begun.elapsed() < time)
    }

    /// So many for a test, or else so many.
    fn count(&self, few: usize, many: usize) -> usize {
        if self.time.is_some() { many } else { few }
    }
}

/// What came of an attack.
#[derive(Clone, Debug)]
pub struct Told {
    /// How many frames, calls or connections it took.
    pub sent: u64,
    /// What these are.
    pub unit: &'static str,
    /// How the server answered.
    pub answer: String,
}

/// The server answered otherwise than it should.
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
        Self(error.to_string())
    }
}

fn told(sent: u64, unit: &'static str, answer: impl Into<String>) -> Result<Told, Failure> {
    let answer = answer.into();
    Ok(Told { sent, unit, answer })
}

/// The reasons of a GOAWAY.
const PROTOCOL: u32 = 2;
const REJECTED: u32 = 3;
const EXCESS: u32 = 4;
const TIMEOUT: u32 = 5;

/// Expects to be sent away for `reason`; what the server says to that.
async fn sent_away(raw: &mut Raw, reason: u32) -> Result<String, Failure> {
    match raw.swallow().await {
        Answer::Goaway(given, text) if given == reason => Ok(format!("GOAWAY({}): {text}", name(reason))),
        other => Err(Failure(format!(
            "not sent away for {} but {other:?}",
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

/// Memory of 256 MiB. An address space is more than that: threads, the program, what the allocator sets aside.
fn usual(_: bool) -> Plan {
    Plan {
        memory_kib: Some(256 << 10),
        ..Plan::default()
    }
}

/// As usual, and what takes 30 s takes one, in tests.
fn hasty(is_test: bool) -> Plan {
    Plan {
        is_hasty: is_test,
        ..usual(is_test)
    }
}

/// All attacks.
pub fn all() -> Vec<Attack> {
    [frames::ALL, calls::ALL, connections::ALL].concat()
}

macro_rules! attacks {
    ($($name:ident $what:literal $plan:ident $others:ident)*) => {
        /// Those of this module.
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
