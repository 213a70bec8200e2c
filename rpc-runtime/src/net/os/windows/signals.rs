//! Signals of Windows: those of a console.
//!
//! learn.microsoft.com, "HandlerRoutine": when a console closes, Windows ends the process after 5 s, and when the system shuts down, a
//! console program after 5 s and a service after 20 s. tokio's handler does not return for those two, so that the process has this time.
//! A container of Windows gets CTRL_SHUTDOWN_EVENT where one of Linux gets SIGTERM.

use std::{future::poll_fn, io, task::Poll};

use tokio::signal::windows::{
    CtrlBreak, CtrlC, CtrlClose, CtrlShutdown, ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown,
};

use super::super::OsSignal;

/// The signals of a console, as this process receives them.
#[derive(Debug)]
pub(crate) struct OsSignals {
    c: CtrlC,
    break_: CtrlBreak,
    close: CtrlClose,
    shutdown: CtrlShutdown,
}

impl OsSignals {
    /// Takes them from the OS. From then on they do nothing by themselves.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            c: ctrl_c()?,
            break_: ctrl_break()?,
            close: ctrl_close()?,
            shutdown: ctrl_shutdown()?,
        })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) -> OsSignal {
        let name = poll_fn(|cx| {
            if self.shutdown.poll_recv(cx).is_ready() {
                return Poll::Ready(STOP_SIGNAL);
            }
            if self.close.poll_recv(cx).is_ready() {
                return Poll::Ready("CTRL_CLOSE");
            }
            if self.break_.poll_recv(cx).is_ready() {
                return Poll::Ready("CTRL_BREAK");
            }
            self.c.poll_recv(cx).map(|_| "CTRL_C")
        })
        .await;
        OsSignal { name, code: ENDED }
    }
}

/// The signal by which Windows, and those who run its containers, stop a process.
pub(crate) const STOP_SIGNAL: &str = "CTRL_SHUTDOWN";

/// STATUS_CONTROL_C_EXIT, the exit code of a process that such a signal ends by itself.
const ENDED: i32 = 0xC000_013A_u32 as i32;
