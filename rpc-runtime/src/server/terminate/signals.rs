//! Signals: SIGTERM and Ctrl-C, for servers that obey them. Without such a server they end the process. On Windows they are Ctrl-C,
//! Ctrl-Break, a console that closes, and a system that shuts down.
//!
//! tokio takes a signal from the OS and cannot give it back. From then on the signal does nothing by itself. So a thread of our
//! own, `rpc-signals`, one for the process, listens as long as the process lives, also after the runtimes of its servers: a
//! `main` that waits for a handler that never returns can still be ended. It starts with the first server that obeys signals.

use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc::{Receiver, Sender, channel},
};

use crate::{
    Code, Error,
    net::os::{OsSignal, OsSignals},
};

/// The signals that stop a process, as one server receives them.
#[derive(Debug)]
pub(crate) struct Signals(Receiver<OsSignal>);

impl Signals {
    /// Receives them from now on. When this and all others of the process are dropped, signals end the process again.
    ///
    /// # Errors
    ///
    /// INTERNAL if the OS refuses.
    pub(crate) fn listen() -> Result<Self, Error> {
        let mut process = process();
        if !process.is_watched {
            watch().map_err(|error| {
                Error::local(Code::Internal, "cannot listen for signals").with_source(error)
            })?;
            process.is_watched = true;
        }
        // The first one drains, the second aborts; further ones change nothing.
        let (sender, receiver) = channel(2);
        process.servers.retain(|server| !server.is_closed());
        process.servers.push(sender);
        Ok(Self(receiver))
    }

    /// Waits for the next signal.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no signal.
    pub(crate) async fn next(&mut self) -> OsSignal {
        match self.0.recv().await {
            Some(signal) => signal,
            // The process keeps the sender while this receiver exists.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        let mut process = process();
        self.0.close();
        process.left = Some(Instant::now());
    }
}

/// Ignores signals from now on: the process is about to end, and no signal is to change its exit code.
pub(crate) fn ignore_signals() {
    process().is_ending = true;
}

static PROCESS: Mutex<SignalState> = Mutex::new(SignalState {
    is_watched: false,
    servers: Vec::new(),
    left: None,
    is_ending: false,
});

/// The servers of this process that obey signals.
struct SignalState {
    /// Whether the thread has been started.
    is_watched: bool,
    servers: Vec<Sender<OsSignal>>,
    /// When the last of them ended.
    left: Option<Instant>,
    is_ending: bool,
}

impl SignalState {
    /// Passes a signal on. Returns false if the signal is to end the process.
    fn hear(&mut self, signal: OsSignal) -> bool {
        self.servers.retain(|server| !server.is_closed());
        for server in &self.servers {
            // It is full with two signals, and a third would change nothing.
            let _ = server.try_send(signal);
        }
        let is_repeated = self.left.is_some_and(|left| left.elapsed() < REPEATED);
        !self.servers.is_empty() || is_repeated || self.is_ending
    }
}

fn process() -> MutexGuard<'static, SignalState> {
    PROCESS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes the signals from the OS, and starts the thread that receives them.
fn watch() -> io::Result<()> {
    let runtime = OwnRuntime(Some(Builder::new_current_thread().enable_io().build()?));
    let mut signals = {
        // Here and not on the thread, so that no signal falls between.
        let _entered = runtime.0.as_ref().map(Runtime::enter);
        OsSignals::listen()?
    };
    let run = move || {
        let Some(runtime) = &runtime.0 else { return };
        loop {
            let signal = runtime.block_on(signals.next());
            if !process().hear(signal) {
                // Nothing is logged: what blocks the process may block the log, too.
                std::process::exit(signal.code);
            }
        }
    };
    thread::Builder::new().name("rpc-signals".to_owned()).spawn(run)?;
    Ok(())
}

/// A runtime that may be dropped inside of another one, as it is when its thread cannot be started.
struct OwnRuntime(Option<Runtime>);

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A signal that comes within this time after the end of the last server is ignored: it was meant for that server, and the
/// process may end with the exit code of its drain.
const REPEATED: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn signal(name: &'static str) -> OsSignal {
        OsSignal {
            name,
            code: 1,
            limit: None,
        }
    }

    fn obeyed_by(servers: Vec<Sender<OsSignal>>) -> SignalState {
        SignalState {
            is_watched: true,
            servers,
            left: None,
            is_ending: false,
        }
    }

    #[test]
    fn a_signal_goes_to_every_server_and_ends_the_process_when_there_is_none() {
        let (first, mut first_hears) = channel(2);
        let (second, mut second_hears) = channel(2);
        let mut process = obeyed_by(vec![first, second]);
        for name in ["SIGTERM", "SIGINT", "SIGTERM"] {
            assert!(process.hear(signal(name)));
        }
        for server in [&mut first_hears, &mut second_hears] {
            assert_eq!(server.try_recv(), Ok(signal("SIGTERM")));
            assert_eq!(server.try_recv(), Ok(signal("SIGINT")));
            assert!(server.try_recv().is_err(), "two are enough");
        }
        drop(first_hears);
        assert!(process.hear(signal("SIGTERM")));
        drop(second_hears);
        assert!(!process.hear(signal("SIGTERM")));
    }

    #[test]
    fn a_signal_right_behind_the_last_server_is_meant_for_it() {
        let mut process = obeyed_by(Vec::new());
        let now = Instant::now();
        process.left = Some(now + 3600 * REPEATED);
        assert!(process.hear(signal("SIGTERM")), "the server has just left");
        process.left = now.checked_sub(2 * REPEATED);
        assert!(!process.hear(signal("SIGTERM")));
        process.is_ending = true;
        assert!(process.hear(signal("SIGTERM")));
    }
}
