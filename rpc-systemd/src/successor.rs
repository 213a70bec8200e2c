//! Successor: a new process that takes over the listening sockets of a server.

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt, io,
    path::Path,
    process::ExitStatus,
    time::Duration,
};

use command_fds::{CommandFdExt, FdMapping};
use rpc_runtime::{
    Code, Error, Status,
    server::{ListeningSocket, ServerHandle},
};
use tokio::{
    net::UnixDatagram,
    process::{Child, Command},
    time::timeout,
};

use crate::{names::Name, private_folder::PrivateFolder};

/// A new process that takes over from this one: it gets the listening sockets of a server, and when it serves, the server drains.
///
/// Between the two nobody is refused: both processes accept by the same sockets for a while. Calls that are open end in the old process, and its
/// clients come back to the same address, where the new one is.
///
/// The new process has to take the sockets by [`Sockets`](crate::Sockets), listen at the same addresses, and serve by
/// [`serve`](crate::serve). It gets them in the way of systemd's socket activation, and says that it is ready in the way of `Type=notify`; any
/// program that knows both may be a successor, if it does without `LISTEN_PID`.
///
/// ```no_run
/// # async fn example(server: rpc_runtime::server::ServerHandle) -> Result<(), rpc_runtime::Error> {
/// use rpc_systemd::Successor;
///
/// // The new version of the program lies at the same path.
/// let successor = Successor::new("/usr/local/bin/kv-server").args(std::env::args_os().skip(1));
/// let pid = successor.take_over(&server).await?;
/// println!("process {pid} has taken over; this one drains");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "it is started by take_over"]
pub struct Successor {
    program: OsString,
    args: Vec<OsString>,
    ready_within: Duration,
}

impl Successor {
    /// Names the program to start.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            ready_within: READY_WITHIN,
        }
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets how long it may take to be ready. Default: 30 s.
    pub fn ready_within(mut self, time: Duration) -> Self {
        self.ready_within = time;
        self
    }

    /// Starts the process, waits until it is ready, and then lets `server` [give way](ServerHandle::give_way). Returns the id of the process.
    ///
    /// The new process is ready when it has said `READY=1` and then `BARRIER=1`, or 5 s after `READY=1`. `systemd-notify` and
    /// [`serve`](crate::serve) send both.
    ///
    /// The process inherits the environment, the working folder, and the standard streams. If it ends or is not ready in time, it is killed, and the
    /// server goes on as before.
    ///
    /// # Errors
    ///
    /// - FAILED_PRECONDITION under a service manager, which would lose sight of the new process: restart the unit instead. Also for a server that stops, and for sockets
    ///   of systemd.
    /// - UNAVAILABLE if the process cannot be started, or ends before it is ready.
    /// - DEADLINE_EXCEEDED if it is not ready in time.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future kills the process, and the server goes on.
    pub async fn take_over(self, server: &ServerHandle) -> Result<u32, Error> {
        let sockets = sockets_of(server)?;
        let folder = PrivateFolder::make()
            .map_err(|error| unavailable("no folder for its answer can be made", &error))?;
        let answer_path = folder.file("notify");
        let answers = UnixDatagram::bind(&answer_path)
            .map_err(|error| unavailable("no socket for its answer can be made", &error))?;
        let mut process = self
            .start(sockets, answer_path.as_os_str())
            .map_err(|error| unavailable(&format!("{} cannot be started", self.program()), &error))?;
        let id = process.0.id().unwrap_or_default();
        tracing::info!(process = id, program = %self.program(), "hand-over: a new process starts");
        match timeout(self.ready_within, process.says("READY=1", &answers)).await {
            Ok(ready) => ready?,
            Err(_) => {
                let text = format!(
                    "hand-over: process {id} was not ready within {:?}, and is killed; the server goes on. A successor says \
                     READY=1 by rpc_systemd::serve; give it more time by Successor::ready_within",
                    self.ready_within
                );
                return Err(Status::new(Code::DeadlineExceeded, text).into());
            }
        }
        // systemd-notify sends a second message, and fails if this process has ended before.
        if let Ok(said) = timeout(BARRIER_WITHIN, process.says("BARRIER=1", &answers)).await {
            said?;
        }
        tracing::info!(
            process = id,
            "hand-over: the new process is ready, this one drains"
        );
        server.give_way();
        process.let_go();
        Ok(id)
    }

    fn program(&self) -> impl fmt::Display {
        Path::new(&self.program).display()
    }

    /// Starts the process with these sockets as its file descriptors from 3 on.
    fn start(&self, sockets: Vec<ListeningSocket>, answer: &OsStr) -> io::Result<Process> {
        let names = Name::write(sockets.iter().map(ListeningSocket::address));
        let count = sockets.len().to_string();
        let mappings = sockets
            .into_iter()
            .zip(FIRST_FD..)
            .map(|(socket, child_fd)| FdMapping {
                parent_fd: socket.into(),
                child_fd,
            });
        let mut command = std::process::Command::new(&self.program);
        command
            .args(&self.args)
            .env("LISTEN_FDS", count)
            .env("LISTEN_FDNAMES", names)
            // It is the id of the new process, which is not known yet.
            .env_remove("LISTEN_PID")
            .env_remove("WATCHDOG_USEC")
            .env("NOTIFY_SOCKET", answer)
            .env(HANDED_OVER, "1");
        command
            .fd_mappings(mappings.collect())
            .map_err(io::Error::other)?;
        Command::from(command).spawn().map(|child| Process(child, true))
    }
}

/// A new process. It is killed when this is dropped, unless it was let go.
struct Process(Child, bool);

impl Process {
    /// Waits until it has sent this line. Fails if it ends before.
    async fn says(&mut self, line: &str, answers: &UnixDatagram) -> Result<(), Error> {
        tokio::select! {
            heard = hear(answers, line) => heard.map_err(|error| unavailable("its answer cannot be read", &error)),
            ended = self.0.wait() => Err(ended_early(ended)),
        }
    }

    fn let_go(mut self) {
        self.1 = false;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.1 {
            // It may have ended.
            let _ = self.0.start_kill();
        }
    }
}

/// The sockets of a server that can be handed over.
fn sockets_of(server: &ServerHandle) -> Result<Vec<ListeningSocket>, Error> {
    if env::var_os("NOTIFY_SOCKET").is_some() && env::var_os(HANDED_OVER).is_none() {
        let text = "hand-over: a service manager watches this process (NOTIFY_SOCKET is set) and would lose sight of the new \
                    one: restart the unit instead. With a socket unit no connection is refused meanwhile";
        return Err(Status::failed_precondition(text).into());
    }
    if server.is_stopping() {
        return Err(Status::failed_precondition("hand-over: the server stops already").into());
    }
    let sockets = server.listening_sockets()?;
    if let Some(kept) = sockets.iter().find(|socket| socket.is_kept_elsewhere()) {
        let text = format!(
            "hand-over: the socket of {} belongs to a service manager: restart the unit instead",
            kept.address()
        );
        return Err(Status::failed_precondition(text).into());
    }
    match sockets.is_empty() {
        true => {
            let text =
                "hand-over: the server has no TCP and no Unix socket, so there is nothing to take over";
            Err(Status::failed_precondition(text).into())
        }
        false => Ok(sockets),
    }
}

/// Waits for a datagram with this line. File descriptors that come with it are closed: so a sender of `BARRIER=1` goes on.
async fn hear(answers: &UnixDatagram, wanted: &str) -> io::Result<()> {
    let mut datagram = vec![0; MAX_DATAGRAM];
    loop {
        let len = answers.recv(&mut datagram).await?;
        if datagram[..len]
            .split(|&byte| byte == b'\n')
            .any(|line| line == wanted.as_bytes())
        {
            return Ok(());
        }
    }
}

fn ended_early(ended: io::Result<ExitStatus>) -> Error {
    let how = match ended {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    let text = format!(
        "hand-over: the new process ended before it was ready ({how}); the server goes on. What it has printed says why"
    );
    Status::unavailable(text).into()
}

fn unavailable(what: &str, error: &io::Error) -> Error {
    Status::unavailable(format!("hand-over: {what}: {error}; the server goes on")).into()
}

/// Tells a process that NOTIFY_SOCKET is that of the process before it, and not of a service manager.
pub(crate) const HANDED_OVER: &str = "RPC_HANDED_OVER";
/// The first file descriptor of a process that is given.
const FIRST_FD: i32 = 3;
/// The longest datagram that is read.
const MAX_DATAGRAM: usize = 4096;
/// How long a process that is ready may take to say `BARRIER=1`. Not all programs say it.
const BARRIER_WITHIN: Duration = Duration::from_secs(5);
/// How long a new process may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(30);
