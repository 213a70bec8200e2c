//! Stops: a server process under load is told to end, at a random moment; did it, in time, and is its report true?

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

/// Beyond the 3 s that a drain may take after its time is over: the program's own end, of which 200 ms are for handlers
/// that block, and what it takes to start `kill` and to notice the end of a process.
pub const ALLOWANCE: Duration = Duration::from_millis(500);
/// What a server promises: it is drained that long after its drain timeout, at the latest.
pub const PROMISE: Duration = Duration::from_secs(3);

/// What became of one stop that went as promised.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stopped {
    /// From the stop to the end of the process.
    pub took: Duration,
    /// The drain timeout that the server had, or less if a second signal cut it short.
    pub drain_timeout: Duration,
    /// What the server reported.
    pub report: Report,
    /// What the checker counted.
    pub summary: Summary,
    /// Whether handlers count as blocked though none blocks its thread. Those that no thread had time for are in the report
    /// as starved, and no fault.
    pub slow_to_drop: bool,
}

impl Stopped {
    /// How long the process lived after its drain's time was over; zero if it ended before.
    pub fn over(&self) -> Duration {
        self.took.saturating_sub(self.drain_timeout)
    }

    /// Whether the process ended in time.
    pub fn is_in_time(&self) -> bool {
        self.over() <= PROMISE + ALLOWANCE
    }
}

/// What was not as promised about one stop, one line each, and where its journal is.
#[derive(Clone, Debug)]
pub struct Broken(Vec<String>);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

/// Starts a server from `program`, loads it, and stops it as `plan` says.
///
/// `program` hands the arguments of its command `serve` to [`serve`](crate::child::serve).
///
/// # Errors
///
/// What was not as promised.
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
    /// The server's journal, in which we mark what we do.
    marks: Journal,
    /// The client that terminates.
    stopper: Client,
    relay: Option<Relay>,
    load: Load,
}

impl Scene {
    /// Starts the server and its load, and waits for the moment of the stop.
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
        let readers = (0..plan.connections).map(|_| Client::connect_lazy(&address));
        let relay = match plan.ear {
            Some(ear) => Some(Relay::begin(ear, scratch.path("relay"), &address)?),
            None => None,
        };
        let relayed = relay.as_ref().map(|relay| Client::connect_lazy(relay.address()));
        let load = Load::begin(plan, readers.collect(), relayed);
        net("the calls before the stop", load.ended(plan.calls_before)).await?;
        // Somewhere in what those calls are in the middle of.
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

/// One stop that has been made, and everything that is known of it.
struct Run<'a> {
    plan: &'a Plan,
    took: Duration,
    end: End,
    /// What a terminate returned.
    reply: Option<Result<DrainReport, rpc_runtime::Error>>,
    counts: Counts,
    journal: Records,
    history: History,
}

impl<'a> Run<'a> {
    /// Stops the server, and collects what everybody knows.
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
        // Its client cannot notice by itself that the server is gone, if it reads nothing.
        drop(relay);
        net("the clients to notice", load.noticed()).await?;
        let journal = marks.read()?;
        hear_of_losses(&load, &journal, end.report.as_ref()).await;
        let recorder = load.recorder().clone();
        let unsent = net("the calls to end", load.end()).await?;
        // A terminate that came too late looks for the server still.
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
            // A client that was not connected was not told anything, and its connection may have come about all the same.
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

    /// Compares everything with everything.
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

    /// What is wrong with the reply to a terminate.
    fn wrong_reply(&self, report: &Report) -> Option<String> {
        match self.reply.as_ref()? {
            Ok(told) if Report::from(told) == *report => None,
            Ok(told) => Some(format!("a terminate got another report: {told}")),
            // A signal that came before has closed the door.
            Err(_) if matches!(self.plan.stop, Stop::TerminateAnd(_)) => None,
            Err(error) => Some(format!("the terminate failed: {error}")),
        }
    }

    /// Whether a lost reply is nobody's fault: that of a client which does not read, or of a handler which could not be
    /// dropped and ended when its connection was gone.
    fn is_excused(&self, violation: &Violation, report: &Report) -> bool {
        let mut records = self.history.records.iter();
        let record = records.find(|record| Some(record.token) == violation.token);
        record.is_some_and(|record| {
            let is_mute = self.plan.ear == Some(Ear::Deaf) && record.client as usize >= self.plan.connections;
            let blocks = ["block", "spin"].contains(&record.procedure) && report.left() > 0;
            violation.fault == Fault::ReplyLost && (is_mute || blocks)
        })
    }
}

/// Sends what signals the plan says.
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
        // Another than the first, with which it could become one.
        let second = if first == Some(Signal::Int) {
            Signal::Term
        } else {
            Signal::Int
        };
        // The process may have ended; it is not waited for yet, so that its number is nobody else's.
        child.signal(second.name()).await?;
    }
    Ok(())
}

/// Waits for something that is there in a moment, unless something is broken.
async fn net<T>(what: &str, future: impl Future<Output = T>) -> io::Result<T> {
    timeout(LONG, future)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("waited in vain for {what}")))
}

/// Asks the clients until they have told of every send that did not run: a client tells of a connection's losses when it
/// has noticed its end. It gives up in time for the judge to say what is missing.
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

/// How many threads a server has: one of them may be blocked unannounced.
const WORKERS: usize = 4;
/// What our marks in the journal are marked with.
const OURS: u32 = 2;
const STOP: &str = "the stop is sent";
const TOLD: &str = "all clients have been told";
/// How often, and after which pauses, clients are asked for losses: they know at once, if nothing is broken.
const TRIES: u32 = 300;
const PAUSE: Duration = Duration::from_millis(100);
/// A net against hanging.
const LONG: Duration = Duration::from_secs(90);
