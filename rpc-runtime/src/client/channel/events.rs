//! Events: what the keeper of a connection reports to its channel.

use std::{sync::Arc, time::Duration};

use tokio::{sync::oneshot, time::Instant};
use tracing::debug;

use super::{
    Channel, ChannelStage, ChannelState, ConnectAttempt, Ownership,
    addresses::ConnectTarget,
    connect::{Winner, WinsAt},
    connection::{self, ClientConnection, ConnectionGuard},
    keeper::{AttemptPlan, AttemptReason},
};
use crate::{
    base::ordered_wakes::Subscriber,
    client::connection_failure::ConnectionFailure,
    conn::{Cause, Uncovered},
    driver::{Clock, SharedConnection, Wakes},
    net::Spot,
};

/// What the keeper asks and reports.
impl Channel {
    /// Resolves when the stage changes, or the end of a pause.
    pub(super) fn changes(&self) -> Subscriber {
        self.changed.subscribe()
    }

    /// The end of the pause before the next attempt, if there is one.
    pub(super) fn pause_end(&self) -> Option<Instant> {
        self.lock().not_before
    }

    /// Begins an attempt: returns what to try, or none if the attempt is no longer wanted.
    pub(super) fn plan(&self, attempt: u64) -> Option<AttemptPlan> {
        let mut state = self.lock();
        let plan = match state.role(attempt)? {
            AttemptRole::Only => {
                state.not_before = None;
                // A peer that never says HELLO may have executed calls that went ahead of the handshake. With another
                // address, calls wait for the handshake instead.
                let is_early = state.failure.is_none() && self.addresses == 1;
                AttemptPlan {
                    addresses: state.addresses.next_round(),
                    wins_at: if is_early {
                        WinsAt::Transport
                    } else {
                        WinsAt::Handshake
                    },
                }
            }
            AttemptRole::Beside(place) => AttemptPlan {
                addresses: state.addresses.others(place),
                wins_at: WinsAt::Handshake,
            },
        };
        debug!(addresses = ?plan.addresses, "connecting");
        self.publish(state);
        Some(plan)
    }

    /// Reports that one address of an attempt failed; `spot` is the last endpoint behind it that was tried.
    pub(super) fn failed(&self, attempt: u64, place: usize, spot: Option<Spot>, failure: ConnectionFailure) {
        let mut state = self.lock();
        let Some(role) = state.role(attempt) else { return };
        if let Some(spot) = spot {
            state.addresses.note_spot(place, spot);
        }
        match role {
            AttemptRole::Only => {
                state.fail(place, failure);
                if state.addresses.is_over() {
                    if let Some(totals) = self.totals() {
                        totals.connect_failures.add();
                    }
                    state.is_down = true;
                    state.stage = ChannelStage::Idle;
                }
            }
            AttemptRole::Beside(_) => {
                debug!(%failure, "no other connection");
                state.addresses.fail(place, failure);
            }
        }
        self.notify(state);
    }

    /// Reports that no address works. If there was no connection, `failed` has reported each of them before.
    pub(super) fn gave_up(&self, attempt: u64) {
        let mut state = self.lock();
        if let Some(AttemptRole::Beside(place)) = state.role(attempt) {
            state.stop_doubting(place);
            state.no_other_before = Some(Instant::now() + NO_OTHER);
            self.notify(state);
        }
    }

    /// Reports that the task of the attempt is gone, because its runtime shut down.
    pub(super) fn abandoned(&self, attempt: u64) {
        let mut state = self.lock();
        match state.role(attempt) {
            Some(AttemptRole::Only) => {
                state.stage = ChannelStage::Idle;
                let place = state.addresses.next();
                state.fail(place, ConnectionFailure::abandoned());
            }
            Some(AttemptRole::Beside(place)) => state.stop_doubting(place),
            None => return,
        }
        self.notify(state);
    }

    /// Reports a new connection, perhaps before its handshake. False if it is no longer wanted.
    pub(super) fn opened(&self, attempt: u64, winner: &Winner) -> bool {
        let Winner {
            connection,
            place,
            spot,
        } = winner;
        let is_early = connection
            .shared
            .lock(Clock::Recent, Wakes::Waiters)
            .peer_hello()
            .is_none();
        let beside = self
            .beside(attempt)
            .map(|doubtful| KeepReasons::of(&doubtful.shared));
        let mut state = self.lock();
        let Some((guard, doubtful)) = state.take_attempt(attempt) else {
            return false;
        };
        state.addresses.note_spot(*place, *spot);
        let connected = Arc::new(ClientConnection {
            shared: Arc::clone(&connection.shared),
            peer: Arc::clone(&connection.peer),
            is_loopback: connection.is_loopback,
            transport: connection.transport,
            protocol: connection.protocol,
            breaker: Some(connection.breaker.clone()),
            place: *place,
            _guard: guard,
        });
        self.retry_budget.begin();
        if let Some(totals) = self.totals().filter(|_| state.had_connection) {
            totals.reconnects.add();
        }
        state.had_connection = true;
        state.stage = ChannelStage::Open {
            connected,
            early: is_early,
            ready: None,
            beside: None,
        };
        let Some(doubtful) = doubtful else {
            self.notify(state);
            return true;
        };
        debug!(peer = %doubtful.peer, "another address answered first");
        self.part(&mut state, &doubtful, &beside.unwrap_or_default());
        self.notify(state);
        doubtful.shared.with(|conn, now| conn.leave(now));
        true
    }

    /// The doubtful connection beside which an attempt is made.
    fn beside(&self, attempt: u64) -> Option<Arc<ClientConnection>> {
        let state = self.lock();
        match (state.role(attempt), &state.stage) {
            (Some(AttemptRole::Beside(_)), ChannelStage::Open { connected, .. }) => {
                Some(Arc::clone(connected))
            }
            _ => None,
        }
    }

    /// Reports that the handshake is done.
    pub(super) fn ready(&self, shared: &Arc<SharedConnection>) {
        let mut state = self.lock();
        match &mut state.stage {
            ChannelStage::Open { connected, ready, .. } if Arc::ptr_eq(&connected.shared, shared) => {
                *ready = Some(Instant::now());
                debug!(peer = %connected.peer, "connected");
            }
            _ => return,
        }
        if let ChannelStage::Open { connected, .. } = &state.stage {
            let place = connected.place;
            state.addresses.arrive(place);
        }
        state.failure = None;
        state.is_down = false;
        self.notify(state);
    }

    /// Reports that a call missed its deadline on a connection that has read nothing since the call began. If there is
    /// another address, calls wait until this peer is heard of, or until the other address answers.
    pub(super) fn doubted(self: &Arc<Self>, shared: &Arc<SharedConnection>) {
        let mut state = self.lock();
        let may = self.ownership == Ownership::Own
            && self.addresses > 1
            && state.no_other_before.is_none_or(|at| at <= Instant::now());
        let number = state.attempts + 1;
        match &mut state.stage {
            ChannelStage::Open {
                connected,
                ready: Some(_),
                beside: beside @ None,
                ..
            } if may && Arc::ptr_eq(&connected.shared, shared) => {
                debug!(peer = %connected.peer, "in doubt");
                let (guard, released) = oneshot::channel();
                *beside = Some(ConnectAttempt { number, guard });
                state.attempts = number;
                self.publish(state);
                tokio::spawn(
                    self.keeper(number, released, AttemptReason::DoubtfulConnection)
                        .run(),
                );
            }
            _ => {}
        }
    }

    /// Reports that the peer of a doubtful connection was heard of: calls use it again.
    pub(super) fn relieved(&self, shared: &Arc<SharedConnection>) {
        let mut state = self.lock();
        match &state.stage {
            ChannelStage::Open {
                connected,
                beside: Some(_),
                ..
            } if Arc::ptr_eq(&connected.shared, shared) => {
                let place = connected.place;
                state.stop_doubting(place);
                self.notify(state);
            }
            _ => {}
        }
    }

    /// Reports that the handshake failed.
    pub(super) fn rejected(&self, shared: &Arc<SharedConnection>, failure: ConnectionFailure) {
        self.leave(shared, LeaveWhen::Always, Some(failure));
    }

    /// Reports that the connection has ended.
    pub(crate) fn ended(&self, shared: &Arc<SharedConnection>) {
        let failure = connection::failure(shared);
        let (uncovered, pending, account) = shared.with(|conn, _| {
            let account = conn.last_account().cloned();
            (conn.uncovered(), conn.pending_sends(), account)
        });
        match &failure {
            Some(failure) => debug!(address = %self.address, %failure, "connection ended"),
            None => debug!(address = %self.address, "connection closed"),
        }
        self.leave(shared, LeaveWhen::Always, failure);
        let mut state = self.lock();
        if uncovered != Uncovered::default() {
            state.account = None;
        } else if account.is_some() {
            state.account = account;
        }
        let connections_with_sends = state.retired.len();
        state
            .retired
            .retain(|connected| !Arc::ptr_eq(&connected.shared, shared));
        let carried = state.retired.len() < connections_with_sends;
        if self.ownership == Ownership::Borrowed && !carried {
            // The end of a borrowed connection may be reported twice.
            return self.notify(state);
        }
        if let ChannelStage::Closed(last) = &mut state.stage {
            // A caller that closes without a barrier does not ask about the last sends. An earlier connection may end
            // before the last one, on which others still wait.
            if last
                .as_ref()
                .is_some_and(|last| Arc::ptr_eq(&last.shared, shared))
            {
                *last = None;
            }
        } else {
            state.lost.no = state.lost.no.saturating_add(uncovered.no);
            state.lost.maybe = state.lost.maybe.saturating_add(uncovered.maybe);
            state.unsettled = state.unsettled.saturating_add(pending);
        }
        self.notify(state);
    }

    /// Makes room for the next connection, because this one takes no more calls; not before its handshake is over.
    pub(super) fn retire(&self, connected: &Arc<ClientConnection>) {
        self.leave(&connected.shared, LeaveWhen::IfReady, connected.failure());
    }

    /// Takes this connection out of the channel, if it is the current one. It closes when its calls are done.
    fn leave(&self, shared: &Arc<SharedConnection>, leave: LeaveWhen, failure: Option<ConnectionFailure>) {
        let ties = KeepReasons::of(shared);
        let mut state = self.lock();
        let is_it = match &state.stage {
            ChannelStage::Open { connected, ready, .. } => {
                Arc::ptr_eq(&connected.shared, shared) && (ready.is_some() || leave == LeaveWhen::Always)
            }
            _ => false,
        };
        if !is_it {
            return;
        }
        let ChannelStage::Open {
            connected,
            ready,
            beside,
            ..
        } = std::mem::replace(&mut state.stage, ChannelStage::Idle)
        else {
            return;
        };
        let place = connected.place;
        self.part(&mut state, &connected, &ties);
        if self.ownership == Ownership::Borrowed {
            state.stage = ChannelStage::Gone;
            state.failure = failure;
            return self.notify(state);
        }
        match ready {
            Some(since) => state.end(place, failure, since, self.retry_budget.is_proven()),
            None => {
                state.fail(
                    place,
                    failure.unwrap_or_else(|| ConnectionFailure::of(&Cause::Closed)),
                );
                state.is_down = state.addresses.is_over();
            }
        }
        if let Some(attempt) = beside {
            // An attempt to make another connection runs already.
            state.stage = ChannelStage::Connecting(attempt);
            state.not_before = None;
        }
        self.notify(state);
        shared.with(|conn, now| conn.leave(now));
    }

    /// Keeps a connection that was taken out, if it carries sends or its peer may still call this client.
    fn part(&self, state: &mut ChannelState, connected: &Arc<ClientConnection>, ties: &KeepReasons) {
        // Some are kept for peers that drain: their handlers may still call this client.
        let is_lent = ties.is_lent && self.ownership == Ownership::Own && state.retired.len() < MAX_LENT;
        if ties.carries || is_lent {
            state.retired.push(Arc::clone(connected));
        }
    }
}

/// Why a connection is kept that takes no more calls. Read it without the channel's lock, because reading wakes others.
#[derive(Clone, Copy, Debug, Default)]
struct KeepReasons {
    /// It carries sends that no barrier has covered, or that had not ended by the peer's last account.
    carries: bool,
    /// Its peer drains, and may call this client.
    is_lent: bool,
}

impl KeepReasons {
    fn of(shared: &SharedConnection) -> Self {
        shared.with(|conn, _| Self {
            carries: conn.uncovered() != Uncovered::default() || conn.pending_sends() > 0,
            is_lent: conn.lent_until().is_some(),
        })
    }
}

/// What an attempt is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AttemptRole {
    /// There is no connection.
    Only,
    /// The connection to the address at this index is in doubt.
    Beside(usize),
}

impl ChannelState {
    /// What an attempt is for; none if it is no longer wanted.
    fn role(&self, attempt: u64) -> Option<AttemptRole> {
        match &self.stage {
            ChannelStage::Connecting(ConnectAttempt { number, .. }) if *number == attempt => {
                Some(AttemptRole::Only)
            }
            ChannelStage::Open {
                connected,
                beside: Some(ConnectAttempt { number, .. }),
                ..
            } if *number == attempt => Some(AttemptRole::Beside(connected.place)),
            _ => None,
        }
    }

    /// Takes a successful attempt out of the stage, with the doubtful connection that it replaces.
    fn take_attempt(&mut self, attempt: u64) -> Option<(ConnectionGuard, Option<Arc<ClientConnection>>)> {
        self.role(attempt)?;
        match std::mem::replace(&mut self.stage, ChannelStage::Idle) {
            ChannelStage::Connecting(ConnectAttempt { guard, .. }) => Some((guard, None)),
            ChannelStage::Open {
                connected,
                beside: Some(ConnectAttempt { guard, .. }),
                ..
            } => Some((guard, Some(connected))),
            // Not reached: it has no role then.
            _ => None,
        }
    }

    /// Lets calls use the connection to `place` again, and ends an attempt beside it.
    fn stop_doubting(&mut self, place: usize) {
        if let ChannelStage::Open { beside, .. } = &mut self.stage {
            *beside = None;
        }
        self.addresses.arrive(place);
    }

    /// Notes that the address that was tried does not work.
    fn fail(&mut self, place: usize, failure: ConnectionFailure) {
        let now = Instant::now();
        self.note(place, failure, now);
        if self.addresses.is_over() {
            self.pause(now);
        }
    }

    /// Notes that a connection that was ready `since` has ended; without a `failure`, this side ended it.
    ///
    /// It did well if a reply arrived on it, or if it lived longer than the longest next pause. Then the pauses start
    /// again from the shortest. A handshake alone proves nothing: otherwise a server that ends each connection right
    /// after its HELLO would be asked without end.
    fn end(&mut self, place: usize, failure: Option<ConnectionFailure>, since: Instant, is_proven: bool) {
        let now = Instant::now();
        let did_well = is_proven || now.saturating_duration_since(since) > self.backoff.ceiling();
        if did_well {
            self.backoff.reset();
        }
        let Some(failure) = failure.or_else(|| (!did_well).then(|| ConnectionFailure::of(&Cause::Closed)))
        else {
            // This side closed it, so the server needs no pause.
            self.failure = None;
            return;
        };
        let is_local = matches!(self.addresses.target(place), ConnectTarget::InProcess(_));
        self.note(place, failure, now);
        // A server in this process needs no pause, and one that is gone says so at once.
        if !is_local {
            self.pause(now);
        }
    }

    fn note(&mut self, place: usize, failure: ConnectionFailure, now: Instant) {
        debug!(%failure, "no connection");
        self.failure = Some(self.addresses.fail(place, failure));
        self.failed_at = Some(now);
    }

    fn pause(&mut self, now: Instant) {
        let end = self.backoff.pause(now);
        debug!(pause = ?end.saturating_duration_since(now), "backing off");
        self.not_before = Some(end);
    }
}

/// The most connections that are kept for peers that drain.
const MAX_LENT: usize = 16;

/// How long a doubtful connection is not doubted again after no other address has answered.
const NO_OTHER: Duration = Duration::from_secs(10);

/// Whether a connection is taken out before its handshake is over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LeaveWhen {
    IfReady,
    Always,
}
