//! Child: a server with a probe, in a process of its own that can be killed.

use std::{
    fmt,
    io::{self, Read},
    path::{Path, PathBuf},
    process::{ExitCode, ExitStatus, Stdio},
    time::Duration,
};

use clap::Args;
use rpc_runtime::{DrainReport, Server, server::TerminatePolicy};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    process::{self, ChildStdin, ChildStdout, Command},
    runtime::Runtime,
    time::timeout,
};

use crate::{certificates::Certificates, journal::Journal, probe};

/// The arguments of the hidden command `serve` of this package's programs.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// An address to listen on; may be repeated.
    #[arg(long, required = true)]
    listen: Vec<String>,
    /// The journal to append to.
    #[arg(long)]
    journal: PathBuf,
    /// The mark of this process's records.
    #[arg(long)]
    instance: u32,
    /// The drain timeout.
    #[arg(long)]
    drain_millis: u64,
    /// The folder of the certificates, if it listens with TLS.
    #[arg(long)]
    certificates: Option<PathBuf>,
    /// The number of the runtime's threads. Default: one per core.
    #[arg(long)]
    workers: Option<usize>,
}

/// Serves until SIGTERM, SIGINT, a remote terminate, or the end of stdin, which means that the parent is gone.
///
/// Prints `listening ADDRESS` for each address, and `drained: ..` at the end. The exit code is 0 after a clean drain, 6 after
/// another drain, and 5 if it could not serve.
pub fn serve(args: ServeArgs) -> ExitCode {
    std::thread::spawn(|| {
        // The parent never writes to stdin, so stdin ends when the parent ends.
        let _ = io::stdin().read(&mut [0]);
        std::process::exit(3);
    });
    let runtime = match runtime(args.workers) {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start the runtime: {error}");
            return ExitCode::from(5);
        }
    };
    let result = runtime.block_on(run(args));
    // A handler that blocks its thread does not keep the process alive.
    runtime.shutdown_timeout(Duration::from_millis(200));
    match result {
        Ok(report) => {
            println!("{report}");
            report.exit_code()
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(5)
        }
    }
}

fn runtime(workers: Option<usize>) -> io::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(workers) = workers {
        builder.worker_threads(workers);
    }
    builder.enable_all().build()
}

async fn run(args: ServeArgs) -> Result<DrainReport, Box<dyn std::error::Error>> {
    let journal = Journal::append(&args.journal, args.instance)?;
    let mut builder = Server::builder()
        .service(probe::service(journal))
        .limits(probe::limits())
        .drain_timeout(Duration::from_millis(args.drain_millis))
        .terminate_policy(TerminatePolicy::loopback());
    for address in &args.listen {
        builder = builder.listener(address);
    }
    if let Some(folder) = args.certificates {
        builder = builder.tls(Certificates::of(folder).server()?);
    }
    let server = builder.bind().await?;
    for address in server.addresses() {
        println!("listening {address}");
    }
    Ok(server.serve().await?)
}

/// A builder of a server process.
#[derive(Clone, Debug)]
#[must_use]
pub struct ChildBuilder {
    program: PathBuf,
    journal: PathBuf,
    listen: Vec<String>,
    instance: u32,
    drain_timeout: Duration,
    workers: Option<usize>,
    certificates: Option<PathBuf>,
}

impl ChildBuilder {
    /// Adds an address to listen on; port 0 takes a free one.
    pub fn listener(mut self, address: impl Into<String>) -> Self {
        self.listen.push(address.into());
        self
    }

    /// Sets the mark of this server's records in the journal. Default: 1.
    pub fn instance(mut self, instance: u32) -> Self {
        self.instance = instance;
        self
    }

    /// Sets the drain timeout. Default: 30 s.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// Sets the folder of the certificates, for an address with TLS.
    pub fn certificates(mut self, folder: impl Into<PathBuf>) -> Self {
        self.certificates = Some(folder.into());
        self
    }

    /// Sets the number of the runtime's threads. Default: one per core.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Starts the process, and waits until it listens.
    ///
    /// # Errors
    ///
    /// If the process cannot be started, or ends without listening; `TimedOut` after 90 s.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future kills the process.
    pub async fn start(self) -> io::Result<Child> {
        let mut command = Command::new(&self.program);
        command.arg("serve").arg("--journal").arg(&self.journal);
        for address in &self.listen {
            command.arg("--listen").arg(address);
        }
        if let Some(folder) = &self.certificates {
            command.arg("--certificates").arg(folder);
        }
        if let Some(workers) = self.workers {
            command.arg("--workers").arg(workers.to_string());
        }
        let mut child = command
            .arg("--instance")
            .arg(self.instance.to_string())
            .arg("--drain-millis")
            .arg(self.drain_timeout.as_millis().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (Some(pid), Some(stdout)) = (child.id(), child.stdout.take()) else {
            return Err(io::Error::other("the server has ended already"));
        };
        let mut child = Child {
            _stdin: child.stdin.take(),
            process: child,
            pid,
            stdout: BufReader::new(stdout).lines(),
            addresses: Vec::new(),
        };
        while child.addresses.len() < self.listen.len() {
            let line = timeout(LIMIT, child.stdout.next_line()).await??;
            let address = line.as_deref().and_then(|line| line.strip_prefix("listening "));
            let Some(address) = address else {
                let end = child.ended().await?;
                return Err(io::Error::other(format!("the server does not listen: {end}")));
            };
            child.addresses.push(address.to_owned());
        }
        Ok(child)
    }
}

/// A server with a probe in a process of its own. It ends when this value is dropped, or when the parent process ends.
#[derive(Debug)]
pub struct Child {
    process: process::Child,
    pid: u32,
    /// Kept apart: waiting for a process closes its stdin, which the server takes for the end of its parent.
    _stdin: Option<ChildStdin>,
    stdout: Lines<BufReader<ChildStdout>>,
    addresses: Vec<String>,
}

impl Child {
    /// Makes a builder for a server from `program`, which passes the arguments of its command `serve` to [`serve`]. The
    /// journal is in a file.
    pub fn builder(program: impl AsRef<Path>, journal: impl AsRef<Path>) -> ChildBuilder {
        ChildBuilder {
            program: program.as_ref().to_owned(),
            journal: journal.as_ref().to_owned(),
            listen: Vec::new(),
            instance: 1,
            drain_timeout: Duration::from_secs(30),
            workers: None,
            certificates: None,
        }
    }

    /// Returns its addresses with their real ports, in the order of [`ChildBuilder::listener`].
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends it a signal by its name, such as `TERM` or `INT`.
    ///
    /// # Errors
    ///
    /// If the signal cannot be sent, because the process has ended.
    ///
    /// # Cancel safety
    ///
    /// The signal may have been sent when the future is dropped.
    pub async fn signal(&self, name: &str) -> io::Result<()> {
        let mut command = Command::new("kill");
        command
            .arg(format!("-{name}"))
            .arg(self.pid.to_string())
            .stderr(Stdio::null());
        let status = command.status().await?;
        if status.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("kill -{name} {}: {status}", self.pid)))
        }
    }

    /// Kills it by SIGKILL, and waits for its end.
    ///
    /// # Errors
    ///
    /// If the OS refuses.
    ///
    /// # Cancel safety
    ///
    /// The process is killed even if the future is dropped.
    pub async fn kill(mut self) -> io::Result<()> {
        self.process.kill().await
    }

    /// Waits until it ends by itself, and returns how.
    ///
    /// # Errors
    ///
    /// `TimedOut` if it does not end within 90 s. Then it is killed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future kills the process.
    pub async fn ended(mut self) -> io::Result<End> {
        let mut stderr = String::new();
        let Some(mut pipe) = self.process.stderr.take() else {
            return Err(io::Error::other("the server has been waited for"));
        };
        let mut report = None;
        // Both pipes are read while it runs, because a full pipe would block it.
        let stdout = async {
            while let Some(line) = self.stdout.next_line().await? {
                report = Report::parse(&line).or(report);
            }
            Ok::<_, io::Error>(())
        };
        let status = timeout(LIMIT, async {
            let (stdout, stderr) = tokio::join!(stdout, pipe.read_to_string(&mut stderr));
            stdout?;
            stderr?;
            self.process.wait().await
        })
        .await??;
        Ok(End {
            status,
            report,
            stderr,
        })
    }
}

/// The end of a server process.
#[derive(Clone, Debug)]
pub struct End {
    /// Its exit code, or the signal that ended it.
    pub status: ExitStatus,
    /// The report that it printed, if there is one.
    pub report: Option<Report>,
    /// Its other output.
    pub stderr: String,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        match &self.report {
            Some(report) => write!(f, ", {report:?}")?,
            None => f.write_str(", no report")?,
        }
        if !self.stderr.is_empty() {
            write!(f, ": {}", self.stderr.trim_end())?;
        }
        Ok(())
    }
}

/// A [`DrainReport`], as it was printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Handlers that ended during the drain.
    pub completed: u64,
    /// Handlers that the end of the drain's time dropped.
    pub aborted: u64,
    /// One-way calls that it dropped.
    pub one_way_dropped: u64,
    /// Handlers that blocked their thread.
    pub stuck: u64,
    /// Handlers that could not be dropped for lack of a thread.
    pub starved: u64,
}

impl Report {
    /// Parses a report's line; `None` for any other line.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.strip_prefix("drained: ")?.split(", ");
        let mut number = |what: &str| -> Option<u64> {
            let (number, rest) = words.next()?.split_once(' ')?;
            (rest == what).then_some(())?;
            number.parse().ok()
        };
        let report = Self {
            completed: number("completed")?,
            aborted: number("aborted")?,
            one_way_dropped: number("one-ways dropped")?,
            stuck: number("stuck")?,
            starved: number("starved")?,
        };
        words.next().is_none().then_some(report)
    }

    /// True if every request ran to its end.
    pub fn is_clean(&self) -> bool {
        self.aborted == 0 && self.one_way_dropped == 0 && self.left() == 0
    }

    /// Handlers that were not dropped in time, for either reason.
    pub fn left(&self) -> u64 {
        self.stuck + self.starved
    }
}

impl From<&DrainReport> for Report {
    fn from(report: &DrainReport) -> Self {
        Self {
            completed: report.completed(),
            aborted: report.aborted(),
            one_way_dropped: report.one_way_dropped(),
            stuck: report.stuck(),
            starved: report.starved(),
        }
    }
}

/// A guard against hanging: no process takes that long to start or to end.
const LIMIT: Duration = Duration::from_secs(90);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_as_it_is_printed() {
        let report = Report::parse("drained: 3 completed, 1 aborted, 2 one-ways dropped, 0 stuck, 4 starved");
        let expected = Report {
            completed: 3,
            aborted: 1,
            one_way_dropped: 2,
            stuck: 0,
            starved: 4,
        };
        assert_eq!(report, Some(expected));
        assert_eq!((expected.left(), expected.is_clean()), (4, false));
        for line in [
            "listening tcp://127.0.0.1:5005",
            "drained: 3 completed, 1 aborted, 2 stuck, 0 one-ways dropped",
            "drained: 3 completed",
            "drained: 3 completed, 1 aborted, 2 one-ways dropped, 0 stuck",
            "drained: 3 completed, 1 aborted, 2 one-ways dropped, 0 stuck, 0 starved, 1 more",
        ] {
            assert_eq!(Report::parse(line), None, "{line}");
        }
    }
}
