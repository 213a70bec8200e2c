//! Course: a load on one server after another, behind a relay that cuts, and the check of the outcomes.

use std::{fmt, io, ops::AddAssign, path::PathBuf, time::Duration};

use tokio::task::spawn_blocking;

use crate::{
    check::{Rules, Summary, check},
    cuts::{Counts, Cuts, Relay},
    host::{Host, Hosted, Place, Stop, Transport},
    load::{Load, Mix, Running},
};

/// A load on one server after another, behind a relay that cuts.
#[derive(Clone, Debug)]
pub struct Course {
    /// Its name in the output.
    pub name: &'static str,
    /// The seed of all actions, apart from time and threads.
    pub seed: u64,
    /// The number of calls.
    pub calls: u64,
    /// The transport of the servers and of the relay.
    pub transport: Transport,
    /// The place of the servers.
    pub place: Place,
    /// The cuts of connections.
    pub cuts: Cuts,
    /// The stops of servers.
    pub stops: Stops,
    /// The number of clients.
    pub clients: usize,
    /// The number of users per client.
    pub users: u32,
}

/// The stops of a course's servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stops {
    /// One server serves until the end.
    Never,
    /// Each server drains after the next one has started, with enough time for all handlers.
    Drains,
    /// Servers are stopped in each possible way.
    Any,
}

impl Course {
    /// Returns the rules that must hold.
    fn rules(&self) -> Rules {
        let uncut = self.cuts.cut == 0;
        Rules::always()
            .handlers_end(matches!(self.place, Place::Here))
            .covered_sends_run(self.stops != Stops::Any)
            .replies_delivered(uncut && self.stops != Stops::Any)
            .no_sends_in_doubt(uncut && self.stops != Stops::Any)
    }

    /// Runs it, and repeatedly calls `more` with the number of calls that have ended since.
    ///
    /// # Errors
    ///
    /// Each broken promise, or why it could not run.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the course.
    pub async fn run(&self, more: impl Fn(u64)) -> Result<Outcome, Failure> {
        let mut host = Host::new(self.place.clone(), self.transport)?;
        match self.run_on(&mut host, more).await {
            Ok(outcome) => Ok(outcome),
            Err(mut failure) => {
                failure.journal = host.keep();
                Err(failure)
            }
        }
    }

    async fn run_on(&self, host: &mut Host, more: impl Fn(u64)) -> Result<Outcome, Failure> {
        let mut random = fastrand::Rng::with_seed(self.seed);
        let mut server = host.start(self.drain_timeout(&mut random)).await?;
        let relay = Relay::start(&host.front(), server.address(), self.cuts.clone(), random.fork()).await?;
        let clients: io::Result<Vec<_>> = (0..self.clients).map(|_| host.client(relay.address())).collect();
        let load = Load::new(random.u64(..))
            .users(self.users)
            .calls(self.calls)
            .mix(Mix::default())
            .start(clients?);

        let mut stopped = Stopped::default();
        let mut seen = 0;
        while !load.progress().is_over() {
            let until = match self.stops {
                Stops::Never => u64::MAX,
                _ => load.ended() + random.u64(1..self.between_stops()),
            };
            watch(&load, until, &mut seen, &more).await;
            if self.stops != Stops::Never && !load.progress().is_over() {
                let stop = self.stop(&mut random);
                let drain_timeout = self.drain_timeout(&mut random);
                let (next, starved) = if self.stops == Stops::Drains || random.bool() {
                    // The next server starts before this one stops.
                    let next = host.start(drain_timeout).await?;
                    relay.redirect(next.address()).await;
                    (next, server.stop(stop).await?)
                } else {
                    let starved = server.stop(stop).await?;
                    let next = host.start(drain_timeout).await?;
                    relay.redirect(next.address()).await;
                    (next, starved)
                };
                server = next;
                stopped.starved += starved;
                stopped.count(stop, &server);
            }
        }
        let history = load.finish().await;
        more(history.records.len() as u64 - seen);
        stopped.starved += server.stop(Stop::Drain).await?;
        let (records, rules) = (host.records().await?, self.rules());
        // The check takes seconds for a million calls. On a worker it would delay handlers of other courses that this worker
        // has woken, because no other worker can steal them.
        let checked = spawn_blocking(move || check(&records, &history, rules)).await;
        let checked = checked.map_err(io::Error::other)?;
        let summary = checked.map_err(|violations| Failure {
            stories: violations.iter().map(ToString::to_string).collect(),
            journal: None,
        })?;
        Ok(Outcome {
            summary,
            cuts: relay.counts(),
            stopped,
        })
    }

    /// Returns the maximum number of calls between two stops: a short course has several stops, a long one very many.
    fn between_stops(&self) -> u64 {
        (self.calls / 8).clamp(2, 4000)
    }

    fn drain_timeout(&self, random: &mut fastrand::Rng) -> Duration {
        match self.stops {
            // Too short for some handlers.
            Stops::Any => Duration::from_millis(random.u64(..300)),
            Stops::Drains | Stops::Never => Duration::from_secs(30),
        }
    }

    fn stop(&self, random: &mut fastrand::Rng) -> Stop {
        match (self.stops, random.u32(..4)) {
            (Stops::Any, 0) => Stop::Abort,
            (Stops::Any, 1 | 2) => Stop::Kill,
            _ => Stop::Drain,
        }
    }
}

/// Waits until `until` calls have ended, and reports progress.
async fn watch(load: &Running, until: u64, seen: &mut u64, more: &impl Fn(u64)) {
    while load.ended() < until && !load.progress().is_over() {
        load.reached(until.min(*seen + 1000)).await;
        let ended = load.ended();
        more(ended - *seen);
        *seen = ended;
    }
}

/// The outcome of a course that broke no promise.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The checker's summary.
    pub summary: Summary,
    /// The counts of the relay.
    pub cuts: Counts,
    /// The stops of the servers.
    pub stopped: Stopped,
}

impl AddAssign for Outcome {
    fn add_assign(&mut self, other: Self) {
        self.summary += other.summary;
        self.cuts += other.cuts;
        self.stopped += other.stopped;
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.summary)?;
        writeln!(f, "cuts      {}", self.cuts)?;
        write!(f, "restarts  {}", self.stopped)
    }
}

/// The numbers of stopped servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stopped {
    /// Servers that drained.
    pub drained: u64,
    /// Servers whose handlers were dropped at once.
    pub aborted: u64,
    /// Processes that were killed.
    pub killed: u64,
    /// Handlers that could not be dropped for lack of a thread: the machine was too busy.
    pub starved: u64,
}

impl Stopped {
    fn count(&mut self, stop: Stop, server: &Hosted) {
        match (stop, server) {
            (Stop::Drain, _) => self.drained += 1,
            (Stop::Kill, Hosted::Process(_)) => self.killed += 1,
            // A server of this process cannot be killed.
            (Stop::Abort | Stop::Kill, _) => self.aborted += 1,
        }
    }
}

impl AddAssign for Stopped {
    fn add_assign(&mut self, other: Self) {
        self.drained += other.drained;
        self.aborted += other.aborted;
        self.killed += other.killed;
        self.starved += other.starved;
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            drained,
            aborted,
            killed,
            starved,
        } = self;
        let sum = drained + aborted + killed;
        write!(
            f,
            "{sum}: {drained} drained, {aborted} aborted, {killed} killed by SIGKILL"
        )?;
        if *starved > 0 {
            write!(
                f,
                "\nnote      {starved} handlers could not be dropped in time, for no thread was free"
            )?;
        }
        Ok(())
    }
}

/// The failure of a course.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Each broken promise or error, on one line.
    pub stories: Vec<String>,
    /// The path of the journal, if it is a file.
    pub journal: Option<PathBuf>,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self {
            stories: vec![error.to_string()],
            journal: None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} violations", self.stories.len())?;
        for story in self.stories.iter().take(SHOWN) {
            write!(f, "\n  {story}")?;
        }
        if let Some(more) = self.stories.len().checked_sub(SHOWN + 1) {
            write!(f, "\n  and {} more", more + 1)?;
        }
        if let Some(journal) = &self.journal {
            write!(f, "\n  the journal is in {}", journal.display())?;
        }
        Ok(())
    }
}

/// The maximum number of printed violations.
const SHOWN: usize = 40;
