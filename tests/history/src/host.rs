//! Host: one server after another, in this process or as one of its own, with all ways to stop them.

use std::{fmt, io, path::PathBuf, time::Duration};

use rpc_runtime::{DrainReport, Error, Server, server::ServerHandle};
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};

use crate::{
    child::Child,
    journal::{Journal, Records},
    probe,
    scratch::Scratch,
};

/// Where servers run.
#[derive(Clone, Debug)]
pub enum Place {
    /// In this process.
    Here,
    /// Each in a process of its own, started from this program.
    Process(PathBuf),
}

/// How servers listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// On a free TCP port each.
    Tcp,
    /// On a Unix socket each.
    Unix,
}

/// How a server is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// By its handle, or by SIGTERM: it drains.
    Drain,
    /// By its handle, or by two SIGTERMs: handlers are dropped at once.
    Abort,
    /// By SIGKILL: nothing of it is left.
    Kill,
}

/// Starts servers, which all write into one journal, and stops them.
#[derive(Debug)]
pub struct Host {
    place: Place,
    transport: Transport,
    scratch: Scratch,
    journal: Journal,
    instances: u32,
}

impl Host {
    /// A host of no server yet.
    ///
    /// # Errors
    ///
    /// If there is no room for its files.
    pub fn new(place: Place, transport: Transport) -> io::Result<Self> {
        let scratch = Scratch::new("host")?;
        let journal = match place {
            Place::Here => Journal::in_memory(),
            Place::Process(_) => Journal::append(scratch.path("journal"), 0)?,
        };
        Ok(Self {
            place,
            transport,
            scratch,
            journal,
            instances: 0,
        })
    }

    /// An address for something that is no server.
    pub fn front(&self) -> String {
        self.address("front")
    }

    fn address(&self, name: &str) -> String {
        match self.transport {
            Transport::Tcp => "tcp://127.0.0.1:0".to_owned(),
            Transport::Unix => format!("unix:{}", self.scratch.path(name).display()),
        }
    }

    /// Starts a further server, at an address of its own.
    ///
    /// # Errors
    ///
    /// If it cannot listen.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves no server behind.
    pub async fn start(&mut self, drain_timeout: Duration) -> io::Result<Hosted> {
        self.instances += 1;
        let address = self.address(&format!("server-{}", self.instances));
        match &self.place {
            Place::Here => {
                let server = Server::builder()
                    .service(probe::service(self.journal.clone()))
                    .limits(probe::limits())
                    .listener(address)
                    .drain_timeout(drain_timeout)
                    .signals(false)
                    .bind()
                    .await
                    .map_err(io::Error::other)?;
                Ok(Hosted::Here {
                    address: server.addresses()[0].clone(),
                    handle: server.handle(),
                    serving: tokio::spawn(server.serve()),
                })
            }
            Place::Process(program) => {
                let child = Child::builder(program, self.scratch.path("journal"))
                    .listener(address)
                    .instance(self.instances)
                    .drain_timeout(drain_timeout);
                let child = child.start().await?;
                Ok(Hosted::Process(Box::new(child)))
            }
        }
    }

    /// Waits until no handler of this process runs, and returns what all servers wrote down.
    ///
    /// # Errors
    ///
    /// `TimedOut` if handlers go on for more than a minute; otherwise as [`Journal::read`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn records(&self) -> io::Result<Records> {
        let ended = async {
            // Handlers that block their thread end when they have finished, not when they are dropped.
            while matches!(self.place, Place::Here) && self.journal.open() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(60), ended).await?;
        // It may be long, and other servers of this process need the thread.
        let journal = self.journal.clone();
        spawn_blocking(move || journal.read()).await?
    }

    /// Keeps the journal for a person to read, if it is a file.
    pub fn keep(&mut self) -> Option<PathBuf> {
        match self.place {
            Place::Here => None,
            Place::Process(_) => {
                self.scratch.keep();
                Some(self.scratch.path("journal"))
            }
        }
    }
}

/// A server that runs.
#[derive(Debug)]
pub enum Hosted {
    /// In this process.
    Here {
        /// Where it listens.
        address: String,
        /// What stops it.
        handle: ServerHandle,
        /// What it returns.
        serving: JoinHandle<Result<DrainReport, Error>>,
    },
    /// In a process of its own.
    Process(Box<Child>),
}

impl Hosted {
    /// Where it listens.
    pub fn address(&self) -> &str {
        match self {
            Self::Here { address, .. } => address,
            Self::Process(child) => child.addresses().first().map_or("", |address| address),
        }
    }

    /// Stops it, and waits until it has ended; how many handlers could not be dropped for lack of a thread, which is no fault
    /// of the server's.
    ///
    /// # Errors
    ///
    /// If it did not end as it should. A server of this process cannot be killed, and is aborted instead.
    ///
    /// # Cancel safety
    ///
    /// The server may have been stopped, and may not.
    pub async fn stop(self, stop: Stop) -> io::Result<u64> {
        match self {
            Self::Here { handle, serving, .. } => {
                match stop {
                    Stop::Drain => handle.drain(),
                    Stop::Abort | Stop::Kill => handle.abort(),
                }
                let report = timeout(LIMIT, serving).await?.map_err(io::Error::other)?;
                let report = report.map_err(io::Error::other)?;
                is_true(report.stuck() == 0, &report)?;
                Ok(report.starved())
            }
            Self::Process(child) => {
                match stop {
                    Stop::Drain => child.signal("TERM").await?,
                    Stop::Abort => {
                        child.signal("TERM").await?;
                        // It may have ended by the first one already.
                        let _ = child.signal("TERM").await;
                    }
                    Stop::Kill => return child.kill().await.map(|()| 0),
                }
                let end = child.ended().await?;
                let expected = match end.report {
                    Some(report) => Some(if report.is_clean() { 0 } else { 6 }),
                    None => Some(-1),
                };
                is_true(end.status.code() == expected && end.stderr.is_empty(), &end)?;
                Ok(end.report.map_or(0, |report| report.starved))
            }
        }
    }
}

fn is_true(fact: bool, story: &impl fmt::Display) -> io::Result<()> {
    if fact {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "a server did not end as it should: {story}"
        )))
    }
}

/// A net against hanging.
const LIMIT: Duration = Duration::from_secs(90);
