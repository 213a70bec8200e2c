//! Process: a server in a process of its own, with limits of memory and files, and its usage of both.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use test_support::LONG;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::{sleep, timeout},
};

use crate::{
    certificates::Certificates,
    door::{Door, Transport},
};

/// The limits of a target.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Plan {
    /// The limit of its address space, in KiB.
    pub memory_kib: Option<u64>,
    /// The maximum number of open files.
    pub files: Option<u32>,
    /// The maximum number of connections.
    pub connections: Option<usize>,
    /// True if its timeouts are a second, and that of a handshake 5 s, so that tests need not wait.
    pub is_hasty: bool,
    /// True if it answers requests of HTTP that are no calls.
    pub has_routes: bool,
    /// The folder for its key, in place of that of this user.
    pub runtime_folder: Option<PathBuf>,
    /// The path of a Unix socket, in place of TCP.
    pub unix: Option<PathBuf>,
    /// The common name of the certificate that may terminate it.
    pub operator: Option<&'static str>,
}

/// A server in a process of its own; killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    door: Door,
}

/// The resources that a process uses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Its resident memory, in KiB.
    pub memory_kib: u64,
    /// The maximum of its resident memory so far, in KiB.
    pub peak_kib: u64,
    /// The CPU time that it has used.
    pub cpu: Duration,
    /// The number of its open files.
    pub files: usize,
}

impl Process {
    /// Starts the program at `path` as a target.
    ///
    /// # Errors
    ///
    /// If it does not start, or does not print its address.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future kills it.
    pub async fn start(path: &Path, plan: &Plan, transport: Transport) -> io::Result<Self> {
        let certificates = match transport {
            Transport::Tcp => None,
            Transport::Tls => Some(Certificates::new()?),
        };
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
        if plan.has_routes {
            script += " --routes";
        }
        if let Some(path) = &plan.unix {
            script += &format!(" --unix '{}'", path.display());
        }
        if let Some(operator) = plan.operator {
            script += &format!(" --operator {operator}");
        }
        if let Some(certificates) = &certificates {
            script += &format!(" --certificates '{}'", certificates.folder().display());
        }
        let mut command = Command::new("sh");
        if let Some(folder) = &plan.runtime_folder {
            // A folder that others can enter would not do.
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
            command.env("XDG_RUNTIME_DIR", folder);
        }
        let mut child = command
            .args(["-c", &script])
            .arg(path)
            // glibc reserves 64 MiB of address space for each arena.
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
            door: Door::default(),
        };
        let address = target.line("listening ").await?;
        target.door = Door::new(address, certificates)?;
        Ok(target)
    }

    /// The ways to it.
    pub fn door(&self) -> &Door {
        &self.door
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

    /// Asks for the server's counters, as one line.
    ///
    /// # Errors
    ///
    /// If the process has ended.
    ///
    /// # Cancel safety
    ///
    /// After a drop, the next call may read this call's line.
    pub async fn counters(&mut self) -> io::Result<String> {
        self.stdin.write_all(b"counters\n").await?;
        self.line("counters ").await
    }

    /// Reads its usage from /proc.
    ///
    /// # Errors
    ///
    /// If the process has ended.
    pub fn usage(&self) -> io::Result<Usage> {
        let folder = Path::new("/proc").join(self.pid().to_string());
        let status = fs::read_to_string(folder.join("status"))?;
        let field = |name| {
            let line = status.lines().find_map(|line: &str| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next());
            number.and_then(|number| number.parse().ok()).unwrap_or(0)
        };
        let stat = fs::read_to_string(folder.join("stat"))?;
        // User and system time are the 14th and 15th fields. The second one is the name, in brackets.
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

    /// Waits until at most `files` files are open.
    ///
    /// # Errors
    ///
    /// If more files are open after a minute.
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
                    "{open} files are open, expected at most {files}"
                )));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until it has ended by itself, well.
    ///
    /// # Errors
    ///
    /// If it does not end within a minute, or with a failure.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn ended(&mut self) -> io::Result<()> {
        let status = timeout(LONG, self.child.wait()).await??;
        if status.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("the target has failed: {status}")))
        }
    }

    /// Sends the signal `name` to the process.
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
