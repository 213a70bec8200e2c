//! Host: starts and stops one server after another, in this process or in processes of their own.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    time::Duration,
};

use rpc_runtime::{Client, DrainReport, Error, Server, server::ServerHandle};
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};

use crate::{
    certificates::Certificates,
    child::Child,
    journal::{Journal, Records},
    probe,
    scratch::Scratch,
};

/// The place of the servers.
#[derive(Clone, Debug)]
pub enum Place {
    /// In this process.
    Here,
    /// In processes of their own, started from this program.
    Process(PathBuf),
}

/// The transport of the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Each on a free TCP port.
    Tcp,
    /// Each on a Unix socket.
    Unix,
    /// Each on a free TCP port, with TLS.
    Tls,
}

impl Transport {
    /// Returns the address of a new listener; `path` is for a Unix socket.
    pub fn address(self, path: &Path) -> String {
        match self {
            Self::Tcp => "tcp://127.0.0.1:0".to_owned(),
            Self::Tls => "tls://127.0.0.1:0".to_owned(),
            Self::Unix => format!("unix:{}", path.display()),
        }
    }
}

/// A way to stop a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// By its handle, or by SIGTERM: it drains.
    Drain,
    /// By its handle, or by two SIGTERMs: handlers are dropped at once.
    Abort,
    /// By SIGKILL.
    Kill,
}

/// Starts and stops servers that write to one journal.
#[derive(Debug)]
pub struct Host {
    place: Place,
    transport: Transport,
    scratch: Scratch,
    journal: Journal,
    certificates: Option<Certificates>,
    instances: u32,
}

impl Host {
    /// Makes a host without a server.
    ///
    /// # Errors
    ///
    /// If its folder cannot be created.
    pub fn new(place: Place, transport: Transport) -> io::Result<Self> {
        let scratch = Scratch::new("host")?;
        let journal = match place {
            Place::Here => Journal::in_memory(),
            Place::Process(_) => Journal::append(scratch.path("journal"), 0)?,
        };
        let certificates = match transport {
            Transport::Tcp | Transport::Unix => None,
            Transport::Tls => Some(Certificates::new(scratch.path("certificates"))?),
        };
        Ok(Self {
            place,
            transport,
            scratch,
            journal,
            certificates,
            instances: 0,
        })
    }

    /// Makes a client that connects to `address` when it is needed.
    ///
    /// # Errors
    ///
    /// If the certificates cannot be used.
    pub fn client(&self, address: &str) -> io::Result<Client> {
        let builder = Client::builder(address);
        Ok(match &self.certificates {
            None => builder.connect_lazy(),
            Some(certificates) => builder.tls(certificates.client()?).connect_lazy(),
        })
    }

    /// Returns an address for a relay.
    pub fn front(&self) -> String {
        self.address("front")
    }

    fn address(&self, name: &str) -> String {
        self.transport.address(&self.scratch.path(name))
    }

    /// Starts another server, at an address of its own.
    ///
    /// # Errors
    ///
    /// If it cannot listen.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the server.
    pub async fn start(&mut self, drain_timeout: Duration) -> io::Result<Hosted> {
        self.instances += 1;
        let address = self.address(&format!("server-{}", self.instances));
        match &self.place {
            Place::Here => {
                let mut builder = Server::builder()
                    .service(probe::service(self.journal.clone()))
                    .limits(probe::limits())
                    .listener(address)
                    .drain_timeout(drain_timeout)
                    .signals(false);
                if let Some(certificates) = &self.certificates {
                    builder = builder.tls(certificates.server()?);
                }
                let server = builder.bind().await.map_err(io::Error::other)?;
                Ok(Hosted::Here {
                    address: server.addresses()[0].clone(),
                    handle: server.handle(),
                    serving: tokio::spawn(server.serve()),
                })
            }
            Place::Process(program) => {
                let mut child = Child::builder(program, self.scratch.path("journal"))
                    .listener(address)
                    .instance(self.instances)
                    .drain_timeout(drain_timeout);
                if let Some(certificates) = &self.certificates {
                    child = child.certificates(certificates.folder());
                }
                let child = child.start().await?;
                Ok(Hosted::Process(Box::new(child)))
            }
        }
    }

    /// Waits until no handler of this process runs, and reads the journal.
    ///
    /// # Errors
    ///
    /// `TimedOut` if handlers run for more than a minute; otherwise as [`Journal::read`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn records(&self) -> io::Result<Records> {
        let ended = async {
            // A handler that blocks its thread cannot be dropped: it ends when it has finished.
            while matches!(self.place, Place::Here) && self.journal.open() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(60), ended).await?;
        // Reading may take long, and other servers of this process need the thread.
        let journal = self.journal.clone();
        spawn_blocking(move || journal.read()).await?
    }

    /// Keeps the journal if it is a file, and returns its path.
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

/// A running server.
#[derive(Debug)]
pub enum Hosted {
    /// In this process.
    Here {
        /// Its address.
        address: String,
        /// The handle that stops it.
        handle: ServerHandle,
        /// The task that serves.
        serving: JoinHandle<Result<DrainReport, Error>>,
    },
    /// In a process of its own.
    Process(Box<Child>),
}

impl Hosted {
    /// Its address.
    pub fn address(&self) -> &str {
        match self {
            Self::Here { address, .. } => address,
            Self::Process(child) => child.addresses().first().map_or("", |address| address),
        }
    }

    /// Stops it, and waits for its end. Returns the number of handlers that could not be dropped for lack of a thread, which is
    /// no fault of the server.
    ///
    /// # Errors
    ///
    /// If it ended wrongly. A server of this process cannot be killed, and is aborted instead.
    ///
    /// # Cancel safety
    ///
    /// The server may have been stopped when the future is dropped.
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
                        // The first signal may have ended it already.
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

/// A guard against hanging.
const LIMIT: Duration = Duration::from_secs(90);
