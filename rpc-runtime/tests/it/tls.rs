//! TLS: calls over it, certificates that are refused at both ends, and files that change under load.

mod calls;
pub(crate) mod certs;
mod crowd;
#[cfg(unix)]
mod default_roots;
mod dev_cas;
mod faults;
mod keys;
mod mixups;
mod openssl;
mod reload;

use rpc_runtime::{
    Client, Error,
    server::{Counters, ServerHandle},
    tls::{ClientTls, ServerTls, TlsError, TlsFault},
};
use test_support::{Lab, Running, within};
use tokio::time::sleep;

/// Serves a lab over TLS.
async fn serve(tls: ServerTls) -> (Lab, Running) {
    let lab = Lab::default();
    let server = lab
        .serve_with("tls://127.0.0.1:0", |server| server.tls(tls))
        .await;
    (lab, server)
}

/// Connects to a server over TLS.
async fn connect(server: &Running, tls: ClientTls) -> Result<Client, Error> {
    within(Client::builder(&server.address).tls(tls).connect()).await
}

/// Returns the fault of a client's error, and whether the server has told it.
#[track_caller]
fn fault(error: &Error) -> (TlsFault, bool) {
    let found = TlsError::find(error).unwrap_or_else(|| panic!("no TLS error: {error:#}"));
    (found.fault(), found.is_from_peer())
}

/// Waits until the server has counted what `counted` looks for.
async fn counted(server: &ServerHandle, counted: impl Fn(&Counters) -> bool) {
    within(async {
        while !counted(&server.counters()) {
            sleep(std::time::Duration::from_millis(1)).await;
        }
    })
    .await;
}
