//! ChannelPool: the connections of one client, and by which of them a call goes.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::{Channel, state::ConnectionState};

/// The channels of a client, one for each connection that it keeps.
///
/// One-way calls and the built-in ones go by the first, so that their order, and what a barrier tells of them, is that of one
/// connection. Calls with a reply and those with streams take turns.
#[derive(Clone)]
pub(in crate::client) struct ChannelPool {
    first: Arc<Channel>,
    others: Option<Arc<MoreChannels>>,
}

struct MoreChannels {
    channels: Vec<Arc<Channel>>,
    /// How many calls have taken their turn.
    turns: AtomicUsize,
}

impl ChannelPool {
    /// So many as `make` makes, at least one.
    pub(in crate::client) fn new(count: usize, make: impl Fn() -> Arc<Channel>) -> Self {
        let others = MoreChannels {
            channels: (1..count).map(|_| make()).collect(),
            turns: AtomicUsize::new(0),
        };
        Self {
            first: make(),
            others: (!others.channels.is_empty()).then(|| Arc::new(others)),
        }
    }

    /// Just one.
    pub(in crate::client) fn one(channel: Arc<Channel>) -> Self {
        Self {
            first: channel,
            others: None,
        }
    }

    /// The first.
    #[inline]
    pub(in crate::client) fn first(&self) -> &Arc<Channel> {
        &self.first
    }

    /// All.
    pub(in crate::client) fn all(&self) -> impl Iterator<Item = &Arc<Channel>> {
        let others = self.others.iter().flat_map(|others| &others.channels);
        std::iter::once(&self.first).chain(others)
    }

    /// The one whose turn it is, for a call with a reply.
    #[inline]
    pub(in crate::client) fn next(&self) -> &Arc<Channel> {
        match &self.others {
            None => &self.first,
            Some(others) => self.take_turn(others),
        }
    }

    /// Goes past one that pauses before it connects again, if another is ready.
    fn take_turn<'a>(&'a self, others: &'a MoreChannels) -> &'a Arc<Channel> {
        let turn = others.turns.fetch_add(1, Ordering::Relaxed);
        let count = 1 + others.channels.len();
        let at = |turn: usize| match turn % count {
            0 => &self.first,
            other => &others.channels[other - 1],
        };
        let own = at(turn);
        if own.connection_state() != ConnectionState::BackingOff {
            return own;
        }
        let mut next = (1..count).map(|step| at(turn.wrapping_add(step)));
        next.find(|channel| channel.connection_state() == ConnectionState::Ready)
            .unwrap_or(own)
    }
}
