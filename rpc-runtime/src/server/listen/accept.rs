//! Accept loops: from a listener to connections that are served. They end with a drain, and never by an error.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::{runtime::Handle, task::yield_now, time::sleep};

use super::{
    admission::{Admission, AdmissionLimits, GRACE, TLS_GRACE},
    opening::{serve_behind, serve_either},
    serve::serve_stream,
};
use crate::{
    Peer,
    net::{Listener, ProxyGate, Stream, lacks_resources, peer_has_left},
    server::{state::ServerState, until::until},
};

/// Accepts streams until the server drains, and then sends a GOAWAY to connections still in the accept queue.
pub(crate) async fn accept(server: Arc<ServerState>, listener: Listener, limits: Arc<AdmissionLimits>) {
    accept_until_drain(&server, &listener, &limits).await;
    let gate = listener.gate();
    let left = match server.own_sockets().is_left() {
        // Another process accepts them.
        true => {
            listener.leave();
            Vec::new()
        }
        // Closing the listener alone would reset them. After a GOAWAY their calls fail as `No`: not executed.
        false => listener.close().await,
    };
    for (stream, peer) in left {
        receive(&server, stream, peer, gate.as_ref(), None, &Handle::current());
    }
    // The drain tells all peers when the accept loops have ended.
    server.undecided().none_left().await;
}

async fn accept_until_drain(server: &Arc<ServerState>, listener: &Listener, limits: &AdmissionLimits) {
    let runtime = Handle::current();
    let gate = listener.gate();
    let gate = gate.as_ref();
    let mut draining = pin!(server.lifecycle().draining());
    let mut backoff = BACKOFF_MIN;
    // How many peers in a row were lost before they were accepted.
    let mut failed: u32 = 0;
    loop {
        if until(draining.as_mut(), memory(server)).await.is_none() {
            return;
        }
        let Some(accepted) = until(draining.as_mut(), listener.accept()).await else {
            return;
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if !lacks_resources(&error) => {
                server.counts().accepts_failed.add();
                match peer_has_left(&error) {
                    true => {
                        tracing::debug!(address = listener.address(), %error, "a peer left before it was accepted");
                    }
                    false => server.note_failed_accept(listener.address(), &error),
                }
                failed = failed.wrapping_add(1);
                // The next peer may be good. Other tasks have their turn in between: errors may never end.
                let turn = async {
                    match failed % FAILED_IN_A_ROW {
                        0 => sleep(BACKOFF_MIN).await,
                        _ => yield_now().await,
                    }
                };
                if until(draining.as_mut(), turn).await.is_none() {
                    return;
                }
                continue;
            }
            Err(error) => {
                // Out of files or memory: trying again at once would spin, and open connections may end meanwhile.
                server.counts().accept_errors.add();
                tracing::warn!(
                    address = listener.address(),
                    %error,
                    again_within = ?backoff,
                    "accept failed: raise the limit of open files, or lower ServerBuilder::max_connections"
                );
                // Random, so that several listeners and servers do not all try at the same moment.
                let pause = backoff.mul_f64(0.5 + fastrand::f64() / 2.0);
                if until(draining.as_mut(), sleep(pause)).await.is_none() {
                    return;
                }
                backoff = (backoff * 2).min(BACKOFF_MAX);
                continue;
            }
        };
        (backoff, failed) = (BACKOFF_MIN, 0);
        if limits.is_full() {
            server.counts().connections_delayed.add();
        }
        let grace = if listener.is_tls() { TLS_GRACE } else { GRACE };
        let Some(Some(admission)) = until(draining.as_mut(), limits.admit(grace)).await else {
            receive(server, stream, peer, gate, None, &runtime);
            return;
        };
        receive(server, stream, peer, gate, Some(admission), &runtime);
    }
}

/// Serves a stream that was accepted: by the server, or by its guest if the peer does not speak our protocol. On a listener behind proxies it
/// has to pass `gate` first.
fn receive(
    server: &Arc<ServerState>,
    stream: Stream,
    peer: Peer,
    gate: Option<&ProxyGate>,
    admission: Option<Admission>,
    runtime: &Handle,
) {
    match (gate, server.guest()) {
        (None, None) => {
            serve_stream(server, stream, peer, admission, runtime);
        }
        (None, Some(guest)) => {
            let (server, guest) = (Arc::clone(server), Arc::clone(guest));
            let undecided = server.undecided().enter();
            runtime.spawn(serve_either(server, guest, stream, peer, admission, undecided));
        }
        (Some(gate), _) => {
            let (server, gate) = (Arc::clone(server), gate.clone());
            let undecided = server.undecided().enter();
            runtime.spawn(serve_behind(server, gate, stream, peer, admission, undecided));
        }
    }
}

/// Waits until there is memory for one more connection.
async fn memory(server: &ServerState) {
    if server.memory().is_scarce() {
        server.counts().accepts_paused.add();
        tracing::warn!(
            held = server.memory().held(),
            "accepting no connections: they hold nearly as much memory as they may: ServerBuilder::max_buffered_bytes"
        );
    }
    while server.memory().is_scarce() {
        sleep(MEMORY_PAUSE).await;
    }
}

/// The shortest pause after an accept that failed for lack of files or memory; it doubles each time.
const BACKOFF_MIN: Duration = Duration::from_millis(5);
/// The longest such pause.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// After this many errors without a peer between them there is a pause, since a broken listener may give nothing else.
const FAILED_IN_A_ROW: u32 = 1000;
/// The time between two looks whether there is memory again.
const MEMORY_PAUSE: Duration = Duration::from_millis(50);
