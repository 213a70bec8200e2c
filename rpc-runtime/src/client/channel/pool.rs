//! ChannelPool: the channels of one client, and which of them a call uses.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::{Channel, state::ConnectionState};

/// The channels of a client, one for each connection that it keeps.
///
/// One-way calls and built-in calls use the first one, so that one connection keeps their order, and a barrier covers
/// them. Calls with a reply or with streams take turns.
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
    /// Makes `count` channels by `make`, at least one.
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

    /// A pool of one channel.
    pub(in crate::client) fn one(channel: Arc<Channel>) -> Self {
        Self {
            first: channel,
            others: None,
        }
    }

    /// The first channel.
    #[inline]
    pub(in crate::client) fn first(&self) -> &Arc<Channel> {
        &self.first
    }

    /// All channels.
    pub(in crate::client) fn all(&self) -> impl Iterator<Item = &Arc<Channel>> {
        let others = self.others.iter().flat_map(|others| &others.channels);
        std::iter::once(&self.first).chain(others)
    }

    /// The channel of the next call with a reply.
    #[inline]
    pub(in crate::client) fn next(&self) -> &Arc<Channel> {
        match &self.others {
            None => &self.first,
            Some(others) => self.take_turn(others),
        }
    }

    /// A channel that is connected, if there is one: they take turns.
    pub(in crate::client) fn next_ready(&self) -> &Arc<Channel> {
        let Some(others) = &self.others else {
            return &self.first;
        };
        let own = self.take_turn(others);
        let is_ready = |channel: &&Arc<Channel>| channel.connection_state() == ConnectionState::Ready;
        let mut all = std::iter::once(own).chain(self.all());
        all.find(is_ready).unwrap_or(own)
    }

    /// Skips a channel that pauses before it reconnects, if another one is ready.
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
