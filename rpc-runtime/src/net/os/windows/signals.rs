//! Signals of Windows: those of a console.
//!
//! learn.microsoft.com, "HandlerRoutine": when a console closes, Windows ends the process after 5 s. When the system shuts down, only
//! services get a signal, and Windows waits as long as WaitToKillServiceTimeout says. tokio's handler does not return for those two, so that
//! the process has this time. A container of Windows gets CTRL_SHUTDOWN_EVENT where one of Linux gets SIGTERM.

use std::{future::poll_fn, io, task::Poll, time::Duration};

use tokio::signal::windows::{
    CtrlBreak, CtrlC, CtrlClose, CtrlShutdown, ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown,
};

use super::{super::OsSignal, registry::text_of_machine};

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
        let (name, limit) = poll_fn(|cx| {
            if self.shutdown.poll_recv(cx).is_ready() {
                return Poll::Ready((STOP_SIGNAL, Some(time_to_shut_down())));
            }
            if self.close.poll_recv(cx).is_ready() {
                return Poll::Ready(("CTRL_CLOSE", Some(TIME)));
            }
            if self.break_.poll_recv(cx).is_ready() {
                return Poll::Ready(("CTRL_BREAK", None));
            }
            self.c.poll_recv(cx).map(|_| ("CTRL_C", None))
        })
        .await;
        OsSignal {
            name,
            code: ENDED,
            limit,
        }
    }
}

/// The signal by which Windows, and those who run its containers, stop a process.
pub(crate) const STOP_SIGNAL: &str = "CTRL_SHUTDOWN";

/// The time that Windows gives services when the system shuts down, which whoever makes an image of a container may set.
fn time_to_shut_down() -> Duration {
    let text = text_of_machine("SYSTEM\\CurrentControlSet\\Control", "WaitToKillServiceTimeout");
    text.and_then(|text| text.trim().parse().ok())
        .map_or(TIME, Duration::from_millis)
}

/// The time that Windows gives a program whose console closes. Newer versions give it to services, too.
const TIME: Duration = Duration::from_secs(5);

/// STATUS_CONTROL_C_EXIT, the exit code of a process that such a signal ends by itself.
const ENDED: i32 = 0xC000_013A_u32 as i32;
