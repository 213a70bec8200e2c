//! Accept loops: from a listener to connections that are served. They end with a drain, and never by an error.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{runtime::Handle, task::yield_now, time::sleep};

use super::{
    admission::{Admission, AdmissionLimits, GRACE, TLS_GRACE},
    connection_end::watch_over,
};
use crate::{
    Peer, Transport,
    conn::{Connection, Side},
    driver::{Baton, SharedConnection},
    net::{Listener, Stream, lacks_resources, peer_has_left},
    server::{dispatch::Dispatched, drain::announce, state::ServerState, until::until},
};

/// Accepts streams until the server drains, and then sends a GOAWAY to connections still in the accept queue.
pub(crate) async fn accept(server: Arc<ServerState>, listener: Listener, limits: Arc<AdmissionLimits>) {
    accept_until_drain(&server, &listener, &limits).await;
    // Closing the listener alone would reset them. After a GOAWAY their calls fail as `No`: not executed.
    for (stream, peer) in listener.close().await {
        serve_stream(&server, stream, peer, None, &Handle::current());
    }
}

async fn accept_until_drain(server: &Arc<ServerState>, listener: &Listener, limits: &AdmissionLimits) {
    let runtime = Handle::current();
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
                tracing::warn!(address = listener.address(), %error, again_within = ?backoff, "accept failed");
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
        let grace = match peer.transport() {
            Transport::Tls => TLS_GRACE,
            _ => GRACE,
        };
        let Some(Some(admission)) = until(draining.as_mut(), limits.admit(grace)).await else {
            serve_stream(server, stream, peer, None, &runtime);
            return;
        };
        serve_stream(server, stream, peer, Some(admission), &runtime);
    }
}

/// Waits until there is memory for one more connection.
async fn memory(server: &ServerState) {
    if server.memory().is_scarce() {
        server.counts().accepts_paused.add();
        tracing::warn!(
            held = server.memory().held(),
            "accepting no connections: they hold nearly as much memory as they may"
        );
    }
    while server.memory().is_scarce() {
        sleep(MEMORY_PAUSE).await;
    }
}

/// Serves a stream in `runtime`. When the drain has begun, its peer gets a GOAWAY at once, and none of its calls are executed.
/// When the drain has told all peers, this closes the stream and returns false.
pub(crate) fn serve_stream(
    server: &Arc<ServerState>,
    mut stream: Stream,
    peer: Peer,
    admission: Option<Admission>,
    runtime: &Handle,
) -> bool {
    let settings = Arc::clone(server.view().settings());
    let max_frame = settings.max_frame;
    stream.give_up_after(settings.unacknowledged());
    let challenge = peer.challenge().filter(|_| server.key().is_written());
    let challenge = challenge.map_or(Bytes::new(), |challenge| Bytes::copy_from_slice(&challenge));
    let connection = Connection::with_challenge(Side::Acceptor, settings, challenge);
    let shared = SharedConnection::new(connection);
    let Some(session) = Dispatched::register(server, Arc::clone(&shared), peer, runtime.clone()) else {
        return false;
    };
    if server.lifecycle().is_draining() {
        // Before the first byte is read, so that no call is taken.
        announce(session.shared(), server.drain_timeout());
    }
    // The driver's timer belongs to that runtime, too.
    let _entered = runtime.enter();
    session.spawn_dispatcher(Baton::new(stream, shared, max_frame));
    runtime.spawn(watch_over(session, admission));
    true
}

/// The shortest pause after an accept that failed for lack of files or memory; it doubles each time.
const BACKOFF_MIN: Duration = Duration::from_millis(5);
/// The longest such pause.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// After this many errors without a peer between them there is a pause, since a broken listener may give nothing else.
const FAILED_IN_A_ROW: u32 = 1000;
/// The time between two looks whether there is memory again.
const MEMORY_PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        conn::State,
        net,
        server::{drain, state::ServerOptions, terminate::Asker},
        session::Session,
    };

    #[tokio::test(start_paused = true)]
    async fn a_late_peer_of_closed_listeners_gets_a_goaway_before_anything_is_read() {
        let server = ServerState::of_nothing(ServerOptions::default());
        // A loop that is slow to close its listener. Until it has, the drain tells no peer.
        let slow = server.runtime().spawn(std::future::pending());
        server.add_accepting(slow).unwrap();
        let (_before, theirs) = net::pair();
        assert!(serve_stream(
            &server,
            theirs,
            Peer::in_process(),
            None,
            server.runtime()
        ));
        drain::begin(&server, &Asker::Handle);
        let (_while, theirs) = net::pair();
        assert!(serve_stream(
            &server,
            theirs,
            Peer::in_process(),
            None,
            server.runtime()
        ));
        let is_told =
            |one: &&Arc<Session>| matches!(one.shared().with(|conn, _| conn.state()), State::Closing);
        let told = server.connections().seal().iter().filter(is_told).count();
        assert_eq!(told, 1, "only the second");
        let (_behind, theirs) = net::pair();
        assert!(!serve_stream(
            &server,
            theirs,
            Peer::in_process(),
            None,
            server.runtime()
        ));
        server.lifecycle().closed().await;
    }
}
