//! What a service manager is told of a server: that it is ready, that it still runs, and how its drain goes.

use std::{env, future::pending, pin::pin, time::Duration};

use rpc_runtime::{DrainReport, Error, Server, server::ServerHandle};
use sd_notify::NotifyState;
use tokio::time::{sleep, timeout};

use crate::successor::HANDED_OVER;

/// Serves as [`Server::serve`] does, and [reports](report) to the service manager.
///
/// # Errors
///
/// Those of [`Server::serve`].
///
/// # Cancel safety
///
/// Dropping the future aborts the server.
pub async fn serve(server: Server) -> Result<DrainReport, Error> {
    let handle = server.handle();
    let mut serving = pin!(server.serve());
    tokio::select! {
        // The server serves first, so that it is ready when that is said.
        biased;
        ended = &mut serving => return ended,
        // The server has just ended.
        () = report(&handle) => {}
    }
    serving.await
}

/// Tells the service manager how `server`, which serves, gets on, until it has ended. [`serve`] does that by itself.
///
/// It sends to the socket of `NOTIFY_SOCKET`, and nothing without one. systemd sets it in units with `Type=notify`.
///
/// - `READY=1` when the accept loops run.
/// - `WATCHDOG=1` in each third of `WatchdogSec=`, if the unit has it, and only when all [accept loops have answered](ServerHandle::responds). So
///   a server whose threads are blocked, or that accepts no more, is restarted.
/// - `STOPPING=1` when a drain is asked for, and `EXTEND_TIMEOUT_USEC=` with [the time that it may take](ServerHandle::stop_limit): then
///   `TimeoutStopSec=` need not fit.
/// - `STATUS=`, which `systemctl status` shows: the addresses, and during a drain the number of calls.
///
/// # Cancel safety
///
/// Dropping the future ends the reports.
pub async fn report(server: &ServerHandle) {
    if env::var_os("NOTIFY_SOCKET").is_none() {
        server.drained().await;
        return;
    }
    server.responds().await;
    let status = format!("serving on {}", server.addresses().join(", "));
    notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
    if env::var_os(HANDED_OVER).is_some() {
        // The process before this one waits for it.
        notify(&[NotifyState::Custom("BARRIER=1")]);
    }
    tokio::select! {
        _ = server.drained() => {}
        () = watchdog(server) => {}
        () = stop(server) => {}
    }
}

/// Feeds the watchdog of the service manager, if it has one. It never ends.
async fn watchdog(server: &ServerHandle) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return pending().await;
    };
    let pause = limit / 3;
    loop {
        if timeout(pause, server.responds()).await.is_err() {
            tracing::warn!(
                ?limit,
                "watchdog: a runtime of the server has not answered in time (a third of WatchdogSec=): its threads are blocked"
            );
            server.responds().await;
        }
        notify(&[NotifyState::Watchdog]);
        sleep(pause).await;
    }
}

/// Tells how the drain goes. It never ends.
async fn stop(server: &ServerHandle) {
    server.stopping().await;
    // One second more, so that the process can end.
    let limit = server.stop_limit().saturating_add(Duration::from_secs(1));
    let micros = u32::try_from(limit.as_micros()).unwrap_or(u32::MAX);
    notify(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(micros)]);
    loop {
        let load = server.load();
        let status = format!(
            "draining: {} calls on {} connections",
            load.calls(),
            load.connections()
        );
        notify(&[NotifyState::Status(&status)]);
        sleep(STATUS).await;
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}

/// The time between two reports of a drain.
const STATUS: Duration = Duration::from_secs(1);
