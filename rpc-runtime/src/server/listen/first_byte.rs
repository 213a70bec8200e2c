//! The first byte of a connection, which says whether a guest serves it.

use std::sync::Arc;

use tokio::{runtime::Handle, time::sleep};

use super::{
    admission::Admission,
    serve::{serve_session, serve_stream},
};
use crate::{
    Limits, Peer, Procedure,
    conn::{Cut, Settings},
    driver::SharedConnection,
    net::Stream,
    server::{
        guest::{self, Guest, Host, OpenTask, OpenTasks},
        state::ServerState,
        until::until,
    },
    session::lifecycle::Lifecycle,
};

/// Waits for the first byte of `stream`, and then serves it: by `guest` if that takes the byte.
///
/// The peer has as long as for a handshake, and its place among those. `undecided` counts it until then.
pub(super) async fn serve_either(
    server: Arc<ServerState>,
    guest: Arc<dyn Guest>,
    mut stream: Stream,
    peer: Peer,
    mut admission: Option<Admission>,
    undecided: OpenTask,
) {
    let cut = |cut: Cut, text: &str| server.cut_off(cut, peer.address(), text);
    let patience = server.view().settings().handshake_timeout;
    // A drain waits for no byte: our own peers must get their GOAWAY.
    let first = async {
        let first = until(sleep(patience), stream.first_byte());
        until(server.lifecycle().draining(), first)
            .await
            .unwrap_or(Some(Ok(Some(0))))
    };
    let first = match &mut admission {
        Some(admission) => until(&mut admission.handshake.evicted, first).await,
        None => Some(first.await),
    };
    match first {
        None => cut(
            Cut::HandshakeEvicted,
            "handshake given up: too many peers are in theirs",
        ),
        Some(None) => cut(Cut::HandshakeTimeout, "the peer sent nothing"),
        Some(Some(Err(error))) => {
            tracing::debug!(peer = peer.address(), %error, "a peer left before its first byte");
        }
        Some(Some(Ok(None))) => tracing::debug!(peer = peer.address(), "a peer left before its first byte"),
        Some(Some(Ok(Some(byte)))) if !guest.takes(byte) => {
            serve_stream(&server, stream, peer, admission, &Handle::current());
            drop(undecided);
        }
        Some(Some(Ok(Some(_)))) => {
            drop(undecided);
            stream.give_up_after(server.view().settings().unacknowledged());
            // Its handshake is over; its place among the connections is not.
            let connection = admission.map(|admission| admission.connection);
            guest::serve(server, guest, stream, peer).await;
            drop(connection);
        }
    }
}

impl Host for ServerState {
    fn procedure(&self, path: &str) -> Option<&'static Procedure> {
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

    fn guests(&self) -> &Arc<OpenTasks> {
        self.guests()
    }

    fn accept(self: Arc<Self>, stream: Stream, peer: Peer) -> Option<Arc<SharedConnection>> {
        let session = serve_session(&self, stream, peer, None, &Handle::current())?;
        Some(Arc::clone(session.shared()))
    }
}
