//! Signals of Unix: SIGTERM and SIGINT.

use std::{future::poll_fn, io, task::Poll};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::super::OsSignal;

/// SIGTERM and SIGINT, as this process receives them.
#[derive(Debug)]
pub(crate) struct OsSignals {
    term: Signal,
    interrupt: Signal,
}

impl OsSignals {
    /// Takes both from the OS, for a task of the runtime that this is called in. From then on they do nothing by themselves.
    pub(crate) fn listen() -> io::Result<Self> {
        let [term, interrupt] = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
        Ok(Self {
            term: term?,
            interrupt: interrupt?,
        })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) -> OsSignal {
        poll_fn(|cx| {
            if self.term.poll_recv(cx).is_ready() {
                return Poll::Ready(OsSignal {
                    name: STOP_SIGNAL,
                    code: 128 + 15,
                    limit: None,
                });
            }
            self.interrupt.poll_recv(cx).map(|_| OsSignal {
                name: "SIGINT",
                code: 128 + 2,
                limit: None,
            })
        })
        .await
    }
}

/// The signal by which service managers and Kubernetes stop a process, by its name.
pub(crate) const STOP_SIGNAL: &str = "SIGTERM";
