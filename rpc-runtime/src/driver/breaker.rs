//! Breaker: ends a connection at once, whoever drives it.

use std::sync::Arc;

use super::{Baton, SharedConnection};

/// Ends a connection at once, whoever drives it.
pub(crate) enum Breaker<S> {
    /// A driver of its own has the connection.
    Driven(Arc<Baton<S>>),
    /// The driver of its peer drives it: see [`ConnectionStream`](super::ConnectionStream).
    Joined(Arc<SharedConnection>),
}

impl<S> Breaker<S> {
    /// Ends the connection now, whatever is open on it. Callers get `why`.
    pub(crate) fn cut(&self, why: &'static str) {
        match self {
            Self::Driven(baton) => baton.cut(why),
            Self::Joined(shared) => shared.with(|conn, now| conn.handle_lost(why, None, now)),
        }
    }
}

impl<S> Clone for Breaker<S> {
    fn clone(&self) -> Self {
        match self {
            Self::Driven(baton) => Self::Driven(Arc::clone(baton)),
            Self::Joined(shared) => Self::Joined(Arc::clone(shared)),
        }
    }
}
