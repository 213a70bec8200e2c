//! Process: a server in a process of its own, with little memory and few files, and what the OS says of it.

use std::{
    fs, io,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::{sleep, timeout},
};

use crate::raw::LONG;

/// How a target is started.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Plan {
    /// How much memory its process may have, in KiB of address space.
    pub memory_kib: Option<u64>,
    /// How many files it may open.
    pub files: Option<u32>,
    /// How many connections it takes.
    pub connections: Option<usize>,
    /// Whether whatever takes time is given less of it, so that tests need not wait.
    pub is_hasty: bool,
}

/// A server in a process of its own; killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    address: String,
}

/// What the OS says of a process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Its resident memory, in KiB.
    pub memory_kib: u64,
    /// The most that it ever was.
    pub peak_kib: u64,
    /// How much CPU time it has taken.
    pub cpu: Duration,
    /// How many files it has open.
    pub files: usize,
}

impl Process {
    /// Starts one, by the program at `path`.
    ///
    /// # Errors
    ///
    /// If it does not start, or does not say where it listens.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future kills it.
    pub async fn start(path: &Path, plan: &Plan) -> io::Result<Self> {
        let mut script = String::new();
        if let Some(memory) = plan.memory_kib {
            script += &format!("ulimit -v {memory}; ");
        }
        if let Some(files) = plan.files {
            script += &format!("ulimit -n {files}; ");
        }
        script += "exec \"$0\" serve";
        if let Some(connections) = plan.connections {
            script += &format!(" --connections {connections}");
        }
        if plan.is_hasty {
            script += " --hasty";
        }
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .arg(path)
            // glibc sets 64 MiB of addresses aside for each thread, which are no memory.
            .env("MALLOC_ARENA_MAX", "2")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let gone = || io::Error::other("the target has no pipes");
        let stdin = child.stdin.take().ok_or_else(gone)?;
        let stdout = child.stdout.take().ok_or_else(gone)?;
        let mut target = Self {
            child,
            stdin,
            lines: BufReader::new(stdout).lines(),
            address: String::new(),
        };
        target.address = target.line("listening ").await?;
        Ok(target)
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap_or(0)
    }

    async fn line(&mut self, prefix: &str) -> io::Result<String> {
        loop {
            match timeout(LONG, self.lines.next_line()).await?? {
                Some(line) => {
                    if let Some(rest) = line.strip_prefix(prefix) {
                        return Ok(rest.to_owned());
                    }
                }
                None => return Err(io::Error::other("the target has ended")),
            }
        }
    }

    /// What it has refused, on one line.
    ///
    /// # Errors
    ///
    /// If it is gone.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave a line for the next one.
    pub async fn counters(&mut self) -> io::Result<String> {
        self.stdin.write_all(b"counters\n").await?;
        self.line("counters ").await
    }

    /// What the OS says of it.
    ///
    /// # Errors
    ///
    /// If it is gone.
    pub fn usage(&self) -> io::Result<Usage> {
        let folder = Path::new("/proc").join(self.pid().to_string());
        let status = fs::read_to_string(folder.join("status"))?;
        let field = |name| {
            let line = status.lines().find_map(|line: &str| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next());
            number.and_then(|number| number.parse().ok()).unwrap_or(0)
        };
        let stat = fs::read_to_string(folder.join("stat"))?;
        // Behind the name, which is in brackets: user and system time are the 14th and 15th of all.
        let numbers = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let ticks: u64 = numbers
            .split(' ')
            .skip(11)
            .take(2)
            .filter_map(|text| text.parse::<u64>().ok())
            .sum();
        Ok(Usage {
            memory_kib: field("VmRSS:"),
            peak_kib: field("VmHWM:"),
            cpu: Duration::from_millis(ticks * 10),
            files: fs::read_dir(folder.join("fd"))?.count(),
        })
    }

    /// Waits until it has no more than `files` open.
    ///
    /// # Errors
    ///
    /// How many it has after a minute.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn settled(&self, files: usize) -> io::Result<()> {
        let begun = Instant::now();
        loop {
            let open = self.usage()?.files;
            if open <= files {
                return Ok(());
            }
            if begun.elapsed() > LONG {
                return Err(io::Error::other(format!(
                    "{open} files are open, and {files} were before"
                )));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Stops or continues it, by the signal of that name.
    ///
    /// # Errors
    ///
    /// If `kill` cannot be run.
    ///
    /// # Cancel safety
    ///
    /// The signal may have been sent when the future is dropped.
    pub async fn signal(&self, name: &str) -> io::Result<()> {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.pid().to_string()])
            .status()
            .await?;
        if status.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("kill -{name} failed")))
        }
    }
}
