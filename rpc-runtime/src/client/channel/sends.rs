//! Sends: the connections that carry one-way calls, and what became of these.

use std::sync::Arc;

use super::{Channel, ChannelStage, Ownership, connection::ClientConnection};
use crate::{
    Code, Error, Executed, Load, LostSends,
    conn::{Cause, State as ConnState, Uncovered},
    driver::{Clock, Wakes},
    wire::frame::control::Progress,
};

/// For flush, barrier and close.
impl Channel {
    /// The connections that carry sends, beginning with those that take no more calls.
    pub(in crate::client) fn connections_with_sends(&self) -> Vec<Arc<ClientConnection>> {
        let state = self.lock();
        let mut connections_with_sends = state.retired.clone();
        if let ChannelStage::Open { connected, .. } = &state.stage {
            connections_with_sends.push(Arc::clone(connected));
        }
        connections_with_sends
    }

    /// The load of all connections; one that takes no more calls counts only if it carries sends.
    pub(in crate::client) fn load(&self) -> Load {
        let state = self.lock();
        let waiting = Load {
            waiting: state.waiting,
            ..Load::default()
        };
        let current = match &state.stage {
            ChannelStage::Open { connected, .. } | ChannelStage::Closed(Some(connected)) => Some(connected),
            _ => None,
        };
        let all: Vec<_> = state.retired.iter().chain(current).cloned().collect();
        drop(state);
        let loads = all
            .iter()
            .map(|one| one.shared.lock(Clock::Recent, Wakes::Waiters).load());
        loads.fold(waiting, Load::and)
    }

    /// Waits until the keeper has noticed the end of `connected`, so that its lost sends are counted.
    pub(in crate::client) async fn settled(&self, connected: &ClientConnection) {
        let mut changed = self.changed.subscribe();
        while self.holds(connected) {
            changed.changed().await;
        }
    }

    fn holds(&self, connected: &ClientConnection) -> bool {
        let state = self.lock();
        let current = match &state.stage {
            ChannelStage::Open { connected, .. } | ChannelStage::Closed(Some(connected)) => Some(connected),
            _ => None,
        };
        state
            .retired
            .iter()
            .chain(current)
            .any(|held| Arc::ptr_eq(&held.shared, &connected.shared))
    }

    /// The last account of the last connection that carried sends, if that has ended with all of them covered; none for
    /// a closed channel.
    pub(in crate::client) fn last_account(&self) -> Option<Progress> {
        let state = self.lock();
        if matches!(state.stage, ChannelStage::Closed(_)) {
            return None;
        }
        state.account.clone()
    }

    /// True if it never had a connection, and may still make one: nothing was sent on it.
    pub(in crate::client) fn is_unused(&self) -> bool {
        let state = self.lock();
        let is_usable =
            self.bad.is_none() && !matches!(state.stage, ChannelStage::Closed(_) | ChannelStage::Gone);
        is_usable && !state.had_connection
    }

    /// Reports, once, the sends that ended connections may have lost.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE with their numbers, if there are any.
    pub(in crate::client) fn report_lost(&self) -> Result<(), Error> {
        let mut state = self.lock();
        let Uncovered { no, maybe } = std::mem::take(&mut state.lost);
        if no == 0 && maybe == 0 {
            return Ok(());
        }
        let lost = LostSends::new(no, maybe);
        let text = format!("a connection ended before a barrier had covered all its sends: {lost}");
        let executed = if maybe == 0 { Executed::No } else { Executed::Maybe };
        Err(Error::local(Code::Unavailable, text)
            .with_peer(Arc::clone(&self.address))
            .with_executed(executed)
            .with_lost_sends(lost))
    }

    /// Reports, once, the sends that were still running when their connection ended, as far as is known.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE with their number, if there are any.
    pub(in crate::client) fn report_unsettled(&self) -> Result<(), Error> {
        let unsettled = std::mem::take(&mut self.lock().unsettled);
        if unsettled == 0 {
            return Ok(());
        }
        let text = format!(
            "a connection ended while {unsettled} one-way calls were still running, by the last account of its server: their \
             outcome is unknown"
        );
        Err(Error::local(Code::Unavailable, text)
            .with_peer(Arc::clone(&self.address))
            .with_executed(Executed::Maybe))
    }

    /// Held while a task waits for the end of sends.
    pub(in crate::client) fn settling(&self) -> &tokio::sync::Mutex<()> {
        &self.settling
    }

    /// Takes no more calls, and begins to close the connections that there are; returns them.
    pub(in crate::client) fn close(&self) -> Vec<Arc<ClientConnection>> {
        let mut state = self.lock();
        if self.ownership == Ownership::Borrowed {
            // The connection goes on without this channel.
            state.stage = ChannelStage::Closed(None);
            state.retired = Vec::new();
            self.notify(state);
            return Vec::new();
        }
        let current = match std::mem::replace(&mut state.stage, ChannelStage::Closed(None)) {
            ChannelStage::Open { connected, .. } | ChannelStage::Closed(Some(connected)) => Some(connected),
            // An attempt ends with its guard.
            ChannelStage::Idle
            | ChannelStage::Connecting(_)
            | ChannelStage::Closed(None)
            | ChannelStage::Gone => None,
        };
        state.stage = ChannelStage::Closed(current.clone());
        let mut all = state.retired.clone();
        self.notify(state);
        all.extend(current);
        for connected in &all {
            connected.shared.with(|conn, now| conn.close(now));
        }
        all
    }

    /// Waits until `connected` has ended.
    pub(in crate::client) async fn over(&self, connected: &ClientConnection) -> Cause {
        let mut changed = self.changed.subscribe();
        loop {
            if let ConnState::Closed(cause) = connected.shared.with(|conn, _| conn.state()) {
                return cause;
            }
            changed.changed().await;
        }
    }
}
