//! Stops: a server process under load is stopped at a random moment. Does it end in time, and is its report true?

mod judge;
mod load;
mod plan;
mod relay;

use std::{
    fmt, io,
    path::Path,
    time::{Duration, Instant},
};

use fastrand::Rng;
use rpc_runtime::{Client, DrainReport};
use tokio::time::{sleep, timeout};

pub use self::plan::{Ear, Plan, Signal, Slow, Stop, Transport};
use self::{
    judge::{Counts, Evidence, vanished},
    load::Load,
    relay::Relay,
};
use crate::{
    check::{Fault, Rules, Summary, Violation, check},
    child::{Child, End, Report},
    history::History,
    journal::{Journal, Records},
    scratch::Scratch,
};

/// Added to the 3 s that a drain may take after its timeout: the program's own end, of which 200 ms are for handlers
/// that block, the start of `kill`, and the detection of the end of a process.
pub const ALLOWANCE: Duration = Duration::from_millis(500);
/// A server promises that its drain ends within this time after the drain timeout.
pub const PROMISE: Duration = Duration::from_secs(3);

/// The outcome of a stop that kept all promises.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stopped {
    /// The time from the stop to the end of the process.
    pub took: Duration,
    /// The server's drain timeout, or less if a second signal ended it early.
    pub drain_timeout: Duration,
    /// The server's report.
    pub report: Report,
    /// The checker's counts.
    pub summary: Summary,
    /// True if the report counts waiting handlers as stuck. Handlers without a thread are in the report
    /// as starved, which is no fault.
    pub slow_to_drop: bool,
}

impl Stopped {
    /// Returns the time that the process lived after its drain timeout; zero if it ended before.
    pub fn over(&self) -> Duration {
        self.took.saturating_sub(self.drain_timeout)
    }

    /// True if the process ended in time.
    pub fn is_in_time(&self) -> bool {
        self.over() <= PROMISE + ALLOWANCE
    }
}

/// The broken promises of a stop, one line each, and the path of its journal.
#[derive(Clone, Debug)]
pub struct Broken(Vec<String>);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

/// Starts a server from `program`, loads it, and stops it as `plan` says.
///
/// `program` passes the arguments of its command `serve` to [`serve`](crate::child::serve).
///
/// # Errors
///
/// The broken promises.
///
/// # Cancel safety
///
/// Dropping the future kills the server.
pub async fn stop(program: &Path, plan: &Plan) -> Result<Stopped, Broken> {
    let broken = |text: String| Broken(vec![text]);
    let mut scratch = Scratch::new("stop").map_err(|error| broken(format!("no scratch folder: {error}")))?;
    let run = async { Run::new(plan, Scene::set(program, plan, &scratch).await?).await };
    let result = match run.await {
        Ok(run) => run.judged(),
        Err(error) => Err(vec![format!("no stop, or no end: {error}")]),
    };
    result.map_err(|mut lines| {
        lines.insert(0, plan.to_string());
        lines.push(format!("the journal is in {}", scratch.keep().display()));
        Broken(lines)
    })
}

/// A server under load, before the stop.
struct Scene {
    child: Child,
    /// The server's journal, in which the test marks its actions.
    marks: Journal,
    /// The client that terminates.
    stopper: Client,
    relay: Option<Relay>,
    load: Load,
}

impl Scene {
    /// Starts the server and its load, and waits until the stop is due.
    async fn set(program: &Path, plan: &Plan, scratch: &Scratch) -> io::Result<Self> {
        let path = scratch.path("journal");
        let listen = match plan.transport {
            Transport::Tcp => "tcp://127.0.0.1:0".to_owned(),
            Transport::Unix => format!("unix:{}", scratch.path("server").display()),
        };
        let child = Child::builder(program, &path)
            .listener(listen)
            .drain_timeout(plan.drain_timeout)
            .workers(WORKERS)
            .start()
            .await?;
        let address = child.addresses()[0].clone();
        let marks = Journal::append(&path, OURS)?;
        let stopper = Client::connect(&address).await.map_err(io::Error::other)?;
        let readers = (0..plan.connections).map(|_| patient(&address));
        let relay = match plan.ear {
            Some(ear) => Some(Relay::begin(ear, scratch.path("relay"), &address)?),
            None => None,
        };
        let relayed = relay.as_ref().map(|relay| patient(&relay.address()));
        let load = Load::begin(plan, readers.collect(), relayed);
        net("the calls before the stop", load.ended(plan.calls_before)).await?;
        // A random moment within the calls that follow.
        for _ in 0..Rng::with_seed(plan.load_seed).u32(..200) {
            tokio::task::yield_now().await;
        }
        Ok(Self {
            child,
            marks,
            stopper,
            relay,
            load,
        })
    }
}

/// A finished stop, and all results.
struct Run<'a> {
    plan: &'a Plan,
    took: Duration,
    end: End,
    /// The result of a terminate.
    reply: Option<Result<DrainReport, rpc_runtime::Error>>,
    counts: Counts,
    journal: Records,
    history: History,
}

impl<'a> Run<'a> {
    /// Stops the server, and collects the results of all sides.
    async fn new(plan: &'a Plan, scene: Scene) -> io::Result<Self> {
        let Scene {
            child,
            marks,
            stopper,
            relay,
            load,
        } = scene;
        let (is_connected, told) = (load.is_connected(), load.told());
        let before = load.recorder().history();
        marks.mark(STOP);
        let begun = Instant::now();
        let telling = tokio::spawn({
            let marks = marks.clone();
            async move {
                told.await;
                marks.mark(TOLD);
            }
        });
        let stopping = plan.stop.is_terminate().then(|| {
            let stopper = stopper.clone();
            tokio::spawn(async move { stopper.terminate().await })
        });
        send_signals(&child, plan).await?;
        let end = child.ended().await?;
        let took = begun.elapsed();

        net("the clients to be told", telling).await??;
        // A client that reads nothing cannot notice the server's end by itself.
        drop(relay);
        net("the clients to notice", load.noticed()).await?;
        let journal = marks.read()?;
        hear_of_losses(&load, &journal, end.report.as_ref()).await;
        let recorder = load.recorder().clone();
        let unsent = net("the calls to end", load.end()).await?;
        // A terminate that came too late still tries to connect.
        let _ = stopper.close().await;
        let reply = match stopping {
            Some(stopping) => Some(net("the terminate to end", stopping).await??),
            None => None,
        };
        let mut told = journal.marks.iter().filter(|mark| mark.text == TOLD);
        let evidence = Evidence {
            journal: &journal,
            before: &before,
            unsent: &unsent,
            readers: plan.connections,
            // A client without a connection got no GOAWAY, and may have connected later.
            told: told
                .next()
                .filter(|_| is_connected)
                .map_or(journal.entries.len(), |mark| mark.after),
        };
        let history = recorder.history();
        let counts = Counts::of(&evidence, &history);
        Ok(Self {
            plan,
            took,
            end,
            reply,
            counts,
            history,
            journal,
        })
    }

    /// Compares all results with each other.
    fn judged(&self) -> Result<Stopped, Vec<String>> {
        let Some(report) = self.end.report else {
            return Err(vec![format!(
                "the server has ended without a report: {}",
                self.end
            )]);
        };
        let mut lines = self.counts.judge(&report);
        let code = if report.is_clean() { 0 } else { 6 };
        if self.end.status.code() != Some(code) {
            lines.push("the exit code does not fit the report".to_owned());
        }
        if let Some(line) = self.wrong_reply(&report) {
            lines.push(line);
        }
        let rules = Rules::always()
            .replies_delivered(true)
            .handlers_end(report.left() == 0);
        let summary = match check(&self.journal, &self.history, rules) {
            Ok(summary) => Some(summary),
            Err(violations) => {
                let violations = violations
                    .iter()
                    .filter(|violation| !self.is_excused(violation, &report));
                lines.extend(violations.map(Violation::to_string));
                None
            }
        };
        if !lines.is_empty() {
            lines.push(format!("the server: {}; {:?}", self.end, self.counts));
            return Err(lines);
        }
        Ok(Stopped {
            took: self.took,
            drain_timeout: self.plan.drain_timeout,
            report,
            summary: summary.unwrap_or_default(),
            slow_to_drop: !self.plan.slow.blocks() && report.stuck > 0,
        })
    }

    /// Returns what is wrong with the reply to a terminate.
    fn wrong_reply(&self, report: &Report) -> Option<String> {
        match self.reply.as_ref()? {
            Ok(told) if Report::from(told) == *report => None,
            Ok(told) => Some(format!("a terminate got another report: {told}")),
            // After an earlier signal, the server accepts no terminate.
            Err(_) if matches!(self.plan.stop, Stop::TerminateAnd(_)) => None,
            Err(error) => Some(format!("the terminate failed: {error}")),
        }
    }

    /// True if a lost reply is no fault: its client does not read, or had not read enough at the drain's limit, or its
    /// handler could not be dropped and ended after its connection.
    fn is_excused(&self, violation: &Violation, report: &Report) -> bool {
        let mut records = self.history.records.iter();
        let record = records.find(|record| Some(record.token) == violation.token);
        record.is_some_and(|record| {
            // How much a slow client reads until the limit depends on the machine. A drain that ends before its limit waits.
            let hears = match self.plan.ear {
                Some(Ear::Deaf) => false,
                Some(Ear::Slow) => report.is_clean(),
                None => true,
            };
            let is_mute = !hears && record.client as usize >= self.plan.connections;
            let blocks = ["block", "spin"].contains(&record.procedure) && report.left() > 0;
            violation.fault == Fault::ReplyLost && (is_mute || blocks)
        })
    }
}

/// A client whose calls end only by themselves or by the stop, however slow the machine is.
fn patient(address: &str) -> Client {
    Client::builder(address).timeout(None).connect_lazy()
}

/// Sends the signals of the plan.
async fn send_signals(child: &Child, plan: &Plan) -> io::Result<()> {
    let first = match plan.stop {
        Stop::Signal(signal) | Stop::TerminateAnd(signal) => Some(signal),
        Stop::Terminate => None,
    };
    if let Some(first) = first {
        child.signal(first.name()).await?;
    }
    if let Some(after) = plan.second {
        sleep(after).await;
        // The OS may merge it with the first signal if both are the same.
        let second = if first == Some(Signal::Int) {
            Signal::Term
        } else {
            Signal::Int
        };
        // The process may have ended. It was not waited for yet, so no other process has its id.
        child.signal(second.name()).await?;
    }
    Ok(())
}

/// Waits for `future`, with a guard against hanging.
async fn net<T>(what: &str, future: impl Future<Output = T>) -> io::Result<T> {
    timeout(LONG, future)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("waited in vain for {what}")))
}

/// Asks the clients until they have reported each one-way call that did not run. A client reports the losses of a connection when
/// it has noticed its end. The wait ends in any case, and the judge names what is missing.
async fn hear_of_losses(load: &Load, journal: &Records, report: Option<&Report>) {
    let Some(report) = report else { return };
    for _ in 0..TRIES {
        load.hear_of_losses().await;
        if vanished(journal, &load.recorder().history(), report) == 0 {
            return;
        }
        sleep(PAUSE).await;
    }
}

/// The number of a server's threads: a handler may block one of them.
const WORKERS: usize = 4;
/// The instance of the test's marks in the journal.
const OURS: u32 = 2;
const STOP: &str = "the stop is sent";
const TOLD: &str = "all clients have been told";
/// The number of questions about losses, and the pauses between them. Without a fault, clients know at once.
const TRIES: u32 = 300;
const PAUSE: Duration = Duration::from_millis(100);
/// A guard against hanging.
const LONG: Duration = Duration::from_secs(90);
