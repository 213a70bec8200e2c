//! The opening of a connection, which says whether a guest serves it: its first byte, or what ALPN agrees on. Before it, the header of a
//! proxy.

use std::{future::pending, io, sync::Arc};

use tokio::runtime::Handle;

use super::{
    admission::{Admission, EVICTED, Handshake},
    serve::{serve_session, serve_stream},
};
use crate::{
    Limits, Peer, Procedure,
    api::server_limit::ServerLimit,
    conn::{Cut, Settings},
    driver::SharedConnection,
    inspect::StreamTraffic,
    message::control::TERMINATE,
    metrics::{EndLabel, OpenConnection, Protocol, Side},
    net::{Opening, ProxyGate, Stream, TlsFailure},
    server::{
        guest::{self, Guest, Host, OpenTask, OpenTasks},
        state::ServerState,
        until::{unless, until},
    },
    session::{CallValues, lifecycle::Lifecycle},
};

/// Reads the header of the proxy that has passed `stream` on, and then serves the stream as one of the proxy's client.
///
/// The header is the first part of the handshake, as the opening is. Without it not even a GOAWAY makes sense to the peer: it is read during a drain, too,
/// until the drain has told all peers.
pub(super) async fn serve_behind(
    server: Arc<ServerState>,
    gate: ProxyGate,
    stream: Stream,
    from: Peer,
    mut admission: Option<Admission>,
    undecided: OpenTask,
) {
    let handshake = admission.as_mut().map(|one| &mut one.handshake);
    let passed = until(server.lifecycle().announced(), gate.pass(stream, &from));
    let (stream, peer) = match unless(limit(&server, handshake), passed).await {
        Err(cut) => return note_cut(&server, &from, cut),
        Ok(None) => return tracing::debug!(peer = from.address(), "the drain ends before the PROXY header"),
        Ok(Some(Err(fault))) => return server.note_proxy_fault(from.address(), &fault),
        Ok(Some(Ok(passed))) => passed,
    };
    match server.guest() {
        None => {
            serve_stream(&server, stream, peer, admission, &Handle::current());
            drop(undecided);
        }
        Some(guest) => {
            let guest = Arc::clone(guest);
            serve_either(server, guest, stream, peer, admission, undecided).await;
        }
    }
}

/// Waits for the opening of `stream`, and then serves it: by `guest` if the opening is the guest's.
///
/// The opening is the first part of the handshake: one time limit covers all of that, and the peer keeps its place until its end.
/// `undecided` counts the stream until the opening is there.
pub(super) async fn serve_either(
    server: Arc<ServerState>,
    guest: Arc<dyn Guest>,
    mut stream: Stream,
    peer: Peer,
    mut admission: Option<Admission>,
    undecided: OpenTask,
) {
    let opening = async {
        // A drain waits for no peer: ours must get their GOAWAY.
        let opening = until(server.lifecycle().draining(), stream.opening());
        opening.await.unwrap_or(Ok(Some(Opening::Ours)))
    };
    let handshake = admission.as_mut().map(|one| &mut one.handshake);
    // Boxed, because it takes more memory than what follows, and ends soon.
    match Box::pin(unless(limit(&server, handshake), opening)).await {
        Err(cut) => note_cut(&server, &peer, cut),
        Ok(Err(error)) => note_failure(&server, &peer, &error),
        Ok(Ok(None)) => tracing::debug!(peer = peer.address(), "a peer left before its first byte"),
        Ok(Ok(Some(opening))) if is_guests(opening, &*guest) => {
            drop(undecided);
            serve_guest(server, guest, stream, peer, admission).await;
        }
        Ok(Ok(Some(_))) => {
            serve_stream(&server, stream, peer, admission, &Handle::current());
            drop(undecided);
        }
    }
}

fn is_guests(opening: Opening, guest: &dyn Guest) -> bool {
    match opening {
        Opening::FirstByte(first) => guest.takes(first),
        Opening::Ours => false,
        Opening::Guests => true,
    }
}

/// Serves the stream of a guest until its end.
async fn serve_guest(
    server: Arc<ServerState>,
    guest: Arc<dyn Guest>,
    mut stream: Stream,
    peer: Peer,
    admission: Option<Admission>,
) {
    stream.give_up_after(server.view().settings().unacknowledged());
    let (connection, mut handshake) = match admission {
        Some(admission) => (Some(admission.connection), Some(admission.handshake)),
        None => (None, None),
    };
    let open = OpenConnection::new(Side::Server, Protocol::Grpc, peer.transport().name());
    let state = Arc::clone(&server);
    // It owns the place among the handshakes, and is dropped when the handshake is over.
    let limit = async move { limit(&state, handshake.as_mut()).await };
    let host = Arc::clone(&server);
    let cut = match guest::serve(host, guest, stream, peer.clone(), limit).await {
        Ok(cut) => cut,
        Err(cut) => {
            note_cut(&server, &peer, cut);
            Some(cut)
        }
    };
    open.ended(match cut {
        Some(cut) => cut.end_label(),
        None if server.lifecycle().is_draining() => EndLabel::Drained,
        None => EndLabel::Closed,
    });
    drop(connection);
}

/// Waits until a peer must leave that is still in its handshake.
async fn limit(server: &ServerState, handshake: Option<&mut Handshake>) -> Cut {
    match handshake {
        Some(handshake) => handshake.cut(server.view().settings().handshake_timeout).await,
        // It came when the drain had begun, whose end is its limit.
        None => pending().await,
    }
}

/// Counts and logs that a peer was cut off in its handshake.
fn note_cut(server: &ServerState, peer: &Peer, cut: Cut) {
    let text = match cut {
        Cut::HandshakeEvicted => EVICTED.to_owned(),
        _ => format!(
            "peer did not end its handshake in {:?}: Limits::handshake_timeout",
            server.view().settings().handshake_timeout
        ),
    };
    server.cut_off(cut, peer.address(), &text);
}

/// Counts and logs that a peer was lost before its opening.
fn note_failure(server: &ServerState, peer: &Peer, error: &io::Error) {
    match TlsFailure::find(error) {
        Some(failure) => server.note_tls_failure(peer.address(), &failure),
        None => tracing::debug!(peer = peer.address(), %error, "a peer left before its first byte"),
    }
}

impl Host for ServerState {
    fn procedure(&self, path: &str) -> Option<&'static Procedure> {
        let is_terminate = path == TERMINATE.path() && self.policy().is_for_guests();
        if is_terminate {
            return Some(&TERMINATE);
        }
        self.router().by_path(path)
    }

    fn limits(&self) -> &Limits {
        self.limits()
    }

    fn settings(&self) -> &Arc<Settings> {
        self.view().settings()
    }

    fn lifecycle(&self) -> &Lifecycle {
        self.lifecycle()
    }

    fn cut_off(&self, cut: Cut, peer: &str, text: &str) {
        self.note_cut(cut, peer, text);
        cut.count(self.counts()).add();
    }

    fn note_limit(&self, limit: ServerLimit, peer: &str) {
        let view = self.view();
        view.refusals().note(limit, peer, None, None, view.age());
    }

    fn guests(&self) -> &Arc<OpenTasks> {
        self.guests()
    }

    fn accept(
        self: Arc<Self>,
        stream: Stream,
        peer: Peer,
        values: Arc<CallValues>,
        traffic: Arc<StreamTraffic>,
    ) -> Option<Arc<SharedConnection>> {
        let session = serve_session(&self, stream, peer, None, &Handle::current(), Protocol::Grpc)?;
        // The client makes no call before it has this connection.
        session.set_guest(values, traffic);
        Some(Arc::clone(session.shared()))
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future, pin::Pin, time::Duration};

    use tokio::{
        task::JoinHandle,
        time::{Instant, sleep},
    };

    use super::*;
    use crate::{
        net,
        server::{
            GuestConnection,
            listen::admission::{AdmissionLimits, GRACE},
            state::ServerOptions,
        },
    };

    /// A guest whose connections never end by themselves.
    #[derive(Debug)]
    enum Endless {
        /// Its peers say nothing.
        Mute,
        /// Its peers have shaken hands.
        Open,
    }

    impl Guest for Endless {
        fn takes(&self, _: u8) -> bool {
            true
        }

        fn serve(&self, connection: GuestConnection) -> Pin<Box<dyn Future<Output = ()> + Send>> {
            let (stream, server, handshake) = connection.into_parts();
            let handshake = match self {
                Self::Mute => Some(handshake),
                Self::Open => None,
            };
            Box::pin(async move {
                let _connection = (stream, server, handshake);
                pending().await
            })
        }
    }

    /// Serves a stream of `guest` for a peer that was admitted 9 s ago. A handshake may take 10 s.
    async fn after_nine_seconds(
        server: &Arc<ServerState>,
        limits: &AdmissionLimits,
        guest: Endless,
    ) -> JoinHandle<()> {
        let admission = limits.admit(GRACE).await;
        sleep(Duration::from_secs(9)).await;
        let (_, theirs) = net::pair();
        let (server, guest) = (Arc::clone(server), Arc::new(guest));
        tokio::spawn(serve_guest(server, guest, theirs, Peer::in_process(), admission))
    }

    #[tokio::test(start_paused = true)]
    async fn one_limit_covers_the_first_byte_and_the_guests_handshake() {
        let server = ServerState::of_nothing(ServerOptions::default());
        let limits = AdmissionLimits::new(10, 1);
        let begun = Instant::now();
        after_nine_seconds(&server, &limits, Endless::Mute)
            .await
            .await
            .unwrap();
        assert!(
            (10..11).contains(&begun.elapsed().as_secs()),
            "{:?}",
            begun.elapsed()
        );
        assert_eq!(server.counts().read().handshakes_timed_out(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_guests_peer_keeps_its_place_until_its_handshake_is_over() {
        let server = ServerState::of_nothing(ServerOptions::default());
        let limits = AdmissionLimits::new(10, 1);
        let mute = after_nine_seconds(&server, &limits, Endless::Mute).await;
        // It needs the only place.
        let open = limits.admit(GRACE).await;
        mute.await.unwrap();
        assert_eq!(server.counts().read().handshakes_evicted(), 1);
        drop(open);
        let open = after_nine_seconds(&server, &limits, Endless::Open).await;
        limits.admit(GRACE).await.unwrap();
        sleep(Duration::from_secs(100)).await;
        assert!(!open.is_finished());
        let counters = server.counts().read();
        assert_eq!(
            (counters.handshakes_evicted(), counters.handshakes_timed_out()),
            (1, 0)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn one_limit_covers_the_first_byte_and_our_own_handshake() {
        let server = ServerState::of_nothing(ServerOptions::default());
        let begun = Instant::now();
        let limits = AdmissionLimits::new(1, 1);
        let admission = limits.admit(GRACE).await;
        sleep(Duration::from_secs(9)).await;
        let (_peer, theirs) = net::pair();
        assert!(serve_stream(
            &server,
            theirs,
            Peer::in_process(),
            admission,
            server.runtime()
        ));
        while server.counts().read().handshakes_timed_out() == 0 {
            sleep(Duration::from_millis(1)).await;
        }
        assert!(
            (10..11).contains(&begun.elapsed().as_secs()),
            "{:?}",
            begun.elapsed()
        );
    }
}
