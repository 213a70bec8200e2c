//! Serving a stream: from an accepted stream to a connection with a dispatcher.

use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;

use super::{admission::Admission, connection_end::watch_over};
use crate::{
    Peer,
    conn::{Connection, Side},
    driver::{Baton, SharedConnection},
    metrics::{self, ConnectionMeters, OpenConnection, Protocol},
    net::Stream,
    server::{dispatch::Dispatched, drain::announce, state::ServerState},
};

/// Serves a stream in `runtime`. When the drain has begun, its peer gets a GOAWAY at once, and none of its calls are executed.
/// When the drain has told all peers, this closes the stream and returns false.
pub(crate) fn serve_stream(
    server: &Arc<ServerState>,
    stream: Stream,
    peer: Peer,
    admission: Option<Admission>,
    runtime: &Handle,
) -> bool {
    serve_session(server, stream, peer, admission, runtime, Protocol::Native).is_some()
}

/// Serves a stream as [`serve_stream`] does, and returns its session. The stream is that of a guest's client unless `protocol` is our own.
pub(super) fn serve_session(
    server: &Arc<ServerState>,
    mut stream: Stream,
    peer: Peer,
    admission: Option<Admission>,
    runtime: &Handle,
    protocol: Protocol,
) -> Option<Arc<Dispatched>> {
    let settings = Arc::clone(server.view().settings());
    let is_metered = settings.is_metered;
    let transport = peer.transport();
    let max_frame = settings.max_frame;
    stream.give_up_after(settings.unacknowledged());
    let challenge = peer.challenge().filter(|_| server.key().is_written());
    let challenge = challenge.map_or(Bytes::new(), |challenge| Bytes::copy_from_slice(&challenge));
    let mut connection = Connection::with_challenge(Side::Acceptor, settings, challenge);
    if is_metered {
        connection.measure(match protocol {
            Protocol::Native => ConnectionMeters::of_server(),
            Protocol::Grpc => ConnectionMeters::of_guest(),
        });
    }
    let shared = match &admission {
        // So that one limit covers all of its handshake, with what came before this.
        Some(admission) => SharedConnection::begun_at(admission.handshake.begun, connection),
        None => SharedConnection::new(connection),
    };
    let session = Dispatched::register(server, Arc::clone(&shared), peer, runtime.clone())?;
    // The connection of a guest's peer is counted elsewhere.
    let open = (is_metered && protocol == Protocol::Native)
        .then(|| OpenConnection::new(metrics::Side::Server, protocol, transport.name()));
    if server.lifecycle().is_draining() {
        // Before the first byte is read, so that no call is taken.
        announce(session.shared(), server.drain_timeout());
    }
    // The driver's timer belongs to that runtime, too.
    let _entered = runtime.enter();
    session.spawn_dispatcher(Baton::new(stream, shared, max_frame));
    runtime.spawn(watch_over(Arc::clone(&session), admission, open));
    Some(session)
}

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
