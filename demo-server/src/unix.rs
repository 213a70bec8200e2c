//! systemd, and a successor at SIGUSR2.

use std::{env, ffi::OsString};

use rpc_runtime::server::ServerHandle;
use rpc_systemd::Successor;
pub(crate) use rpc_systemd::{Sockets, serve};
use tokio::signal::unix::{SignalKind, signal};

/// Hands the listening sockets over to a new process of `program` at SIGUSR2, and tries again at the next one if that fails.
pub(crate) async fn replace_when_asked(program: OsString, server: ServerHandle) {
    let Ok(mut signals) = signal(SignalKind::user_defined2()) else {
        return;
    };
    while signals.recv().await.is_some() {
        let successor = Successor::new(&program).args(env::args_os().skip(1));
        match successor.take_over(&server).await {
            Ok(pid) => return eprintln!("handed over to process {pid}"),
            Err(error) => eprintln!("error: {error:#}"),
        }
    }
}
