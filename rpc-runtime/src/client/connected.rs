//! Connected: one connection as the channel and its calls hold it.

use std::sync::Arc;

use super::{failure::Obstacle, keeper::Hold};
use crate::{
    Compression,
    conn::{Cause, State},
    driver::{Baton, Link},
    net::Stream,
};
use bytes::Bytes;

/// A connection as the channel and its calls hold it. When the last of them lets go, it closes: what is queued still
/// goes out.
pub(super) struct Connected {
    pub(super) link: Arc<Link>,
    /// The address of the peer, for errors.
    pub(super) peer: Arc<str>,
    /// None for a connection that is somebody else's to end.
    pub(super) baton: Option<Arc<Baton<Stream>>>,
    /// Its address, by its place in the route.
    pub(super) place: usize,
    /// Tells the keeper when it is dropped.
    pub(super) _hold: Hold,
}

impl Connected {
    /// Whether a new call can start here.
    pub(super) fn takes_calls(&self) -> bool {
        self.link.with(|conn, _| conn.takes_calls())
    }

    /// How messages on this connection are compressed: as chosen, if the peer takes that and has said so by now.
    pub(super) fn compression(&self, chosen: Option<Compression>) -> Option<Compression> {
        let chosen = chosen?;
        let is_taken = self.link.with(|conn, _| conn.peer_takes(chosen.encoding()));
        is_taken.then_some(chosen)
    }

    /// Whether the peer has said that it took no request at all.
    pub(super) fn took_nothing(&self) -> bool {
        self.link
            .with(|conn, _| conn.peer_goaway().is_some_and(|goaway| goaway.last_id == 0))
    }

    /// Whether nothing comes from it any more.
    pub(super) fn is_over(&self) -> bool {
        self.link.with(|conn, _| conn.is_closed())
    }

    /// Ends the connection now; everything that is pending on it fails.
    pub(super) fn abort(&self) {
        if let Some(baton) = &self.baton {
            baton.cut("this client was closed");
        }
    }

    /// Why it takes no more calls; none if that is our own doing, as when it was idle for too long.
    pub(super) fn obstacle(&self) -> Option<Obstacle> {
        obstacle(&self.link)
    }

    /// Which run of the server this is, once its HELLO is here.
    pub(super) fn instance(&self) -> Option<Bytes> {
        self.link
            .with(|conn, _| conn.peer_hello().map(|hello| hello.instance_id.clone()))
    }
}

/// Why a connection takes no more calls; none if that is our own doing.
pub(super) fn obstacle(link: &Link) -> Option<Obstacle> {
    link.with(|conn, _| match (conn.state(), conn.peer_goaway()) {
        (State::Closed(Cause::Closed), None) => None,
        (State::Closed(cause), _) if !matches!(cause, Cause::Closed) => Some(Obstacle::of(&cause)),
        (_, Some(goaway)) => Some(Obstacle::of(&Cause::GoingAway {
            reason: goaway.reason,
            text: goaway.text.clone(),
        })),
        // Perhaps after a fault of the peer, which shows only at the end.
        (State::Closing, None) => Some(Obstacle::of(&Cause::Closed)),
        (_, None) => None,
    })
}
