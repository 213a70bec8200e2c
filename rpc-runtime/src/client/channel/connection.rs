//! ClientConnection: one connection, as the channel and its calls share it.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::{
    Compression, Transport,
    client::connection_failure::ConnectionFailure,
    conn::{Cause, PeerHello, State},
    driver::{Breaker, SharedConnection},
    metrics::Protocol,
    net::Stream,
    wire::frame::control::Reason,
};

/// Held by the users of a connection, or of an attempt. When it is dropped, the keeper ends that.
pub(in crate::client) type ConnectionGuard = oneshot::Sender<Infallible>;
/// Resolves when the [`ConnectionGuard`] is dropped.
pub(in crate::client) type GuardReleased = oneshot::Receiver<Infallible>;

/// A connection, as the channel and its calls share it. When the last of them drops it, it writes its queue and closes.
pub(in crate::client) struct ClientConnection {
    pub(in crate::client) shared: Arc<SharedConnection>,
    /// The address of the peer, for errors.
    pub(in crate::client) peer: Arc<str>,
    /// True if it goes by TCP to this machine.
    pub(in crate::client) is_loopback: bool,
    /// The transport and the protocol, for those who look into the process.
    pub(in crate::client) transport: Transport,
    pub(in crate::client) protocol: Protocol,
    /// None for a borrowed connection, which its server ends.
    pub(in crate::client) breaker: Option<Breaker<Stream>>,
    /// The index of its address.
    pub(in crate::client) place: usize,
    /// Tells the keeper when it is dropped.
    pub(in crate::client) _guard: ConnectionGuard,
}

impl ClientConnection {
    /// True if a new call can start here.
    pub(in crate::client) fn takes_calls(&self) -> bool {
        self.shared.with(|conn, _| conn.takes_calls())
    }

    /// The compression for messages on this connection: `chosen`, if the peer has said that it accepts it.
    pub(in crate::client) fn compression(&self, chosen: Option<Compression>) -> Option<Compression> {
        let chosen = chosen?;
        let is_taken = self.shared.with(|conn, _| conn.peer_takes(chosen.encoding()));
        is_taken.then_some(chosen)
    }

    /// True if the peer has said that it took no request at all.
    pub(in crate::client) fn took_nothing(&self) -> bool {
        self.shared
            .with(|conn, _| conn.peer_goaway().is_some_and(|goaway| goaway.last_id == 0))
    }

    /// True if nothing can arrive any more.
    pub(in crate::client) fn is_over(&self) -> bool {
        self.shared.with(|conn, _| conn.is_closed())
    }

    /// Ends the connection now; everything that is pending on it fails.
    pub(in crate::client) fn abort(&self) {
        if let Some(breaker) = &self.breaker {
            breaker.cut("this client was closed");
        }
    }

    /// Why it takes no more calls; none if this side ended it, such as after idle time.
    pub(in crate::client) fn failure(&self) -> Option<ConnectionFailure> {
        failure(&self.shared)
    }

    /// The instance of the server, once its HELLO has arrived.
    pub(in crate::client) fn instance(&self) -> Option<Bytes> {
        self.shared
            .with(|conn, _| conn.peer_hello().map(PeerHello::instance_id))
    }

    /// What the server asks a terminate to prove its user with; empty if it does not, or if its HELLO has not arrived.
    pub(in crate::client) fn challenge(&self) -> Bytes {
        let challenge = self
            .shared
            .with(|conn, _| conn.peer_hello().map(PeerHello::challenge));
        challenge.unwrap_or_default()
    }
}

/// Why a connection takes no more calls; none if this side ended it.
pub(in crate::client) fn failure(shared: &SharedConnection) -> Option<ConnectionFailure> {
    shared.with(|conn, _| {
        let goaway = conn.peer_goaway();
        let failure = match (conn.state(), goaway) {
            (State::Closed(Cause::Closed), None) => return None,
            (State::Closed(cause), _) if !matches!(cause, Cause::Closed) => ConnectionFailure::of(&cause),
            (_, Some(goaway)) => ConnectionFailure::of(&Cause::GoingAway {
                reason: goaway.reason,
                text: goaway.text.clone(),
            }),
            // Perhaps after a fault of the peer, which shows only at the end.
            (State::Closing, None) => ConnectionFailure::of(&Cause::Closed),
            (_, None) => return None,
        };
        match goaway {
            Some(goaway) if goaway.reason == Reason::Drain => Some(failure.in_a_drain()),
            _ => Some(failure),
        }
    })
}
