//! Channel: one connection at a time to one service; connects, connects again, and says why it cannot.
//!
//! What callers ask stands here; what the keeper of a connection tells is in `events`, and what flush, barrier and close
//! need in `sends`. A channel over a connection of somebody else is made in `borrowed`.

pub(super) mod addresses;
mod backoff;
mod borrowed;
mod connect;
pub(super) mod connection;
mod events;
mod keeper;
pub(super) mod pool;
mod retry_budget;
mod sends;
mod state;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
    time::Instant,
};

pub use self::state::{ConnectionState, StateWatch};
use self::{
    addresses::Addresses,
    backoff::Backoff,
    connection::{ClientConnection, ConnectionGuard, GuardReleased},
    keeper::{AttemptReason, EndReport, Keeper},
    retry_budget::RetryBudget,
    state::PublishedState,
};
use super::{
    acceptor::CallbackServer, connection_failure::ConnectionFailure, deadline::Deadline, errors, timer,
};
use crate::{
    Code, Compression, Error, Phase,
    base::changes::Changes,
    conn::{Settings, Uncovered},
    message::growth::{Budget, Grows},
    wire::frame::control::Progress,
};

/// One connection at a time to one of a service's addresses.
///
/// ```text
/// Idle ──a call──▶ Connecting ──transport is there──▶ Open ──handshake──▶ Open, ready
///   ▲                  │ all addresses failed            │ failed              │ lost, draining
///   └──────────────────┴─────────────────────────────────┴─────────────────────┘
/// Open, ready ──a deadline was missed in silence──▶ Open, beside ──another answers──▶ Open (that one), ready
///   ▲                                                     │ the peer is heard of, or no other answers
///   └─────────────────────────────────────────────────────┘
/// any ──close()──▶ Closed
/// ```
///
/// With several addresses, and after a failure, the handshake is done before there is an open connection.
///
/// There is a pause before the next attempt after every end of a connection that was ready, and when every address
/// has failed once: whoever loses a server, or finds none, does not come back in the same instant as all others.
///
/// A channel over a lent connection is open until that ends, and gone then.
pub(crate) struct Channel {
    /// All addresses, for errors.
    address: Arc<str>,
    /// How many they are.
    addresses: usize,
    /// Why there is no connection and never will be: one of them is bad, say. Then every call fails.
    bad: Option<Error>,
    ownership: Ownership,
    /// What the peer may call on our connections.
    callbacks: Option<Arc<dyn CallbackServer>>,
    settings: Arc<Settings>,
    compression: Option<Compression>,
    connect_timeout: Duration,
    retry_budget: RetryBudget,
    state: Mutex<ChannelState>,
    /// Told whenever the stage changes; waiters look at the state itself.
    changed: Arc<Changes>,
    published: watch::Sender<PublishedState>,
    /// GuardReleased by whoever waits for the end of sends: a peer takes few such calls at once.
    settling: tokio::sync::Mutex<()>,
}

struct ChannelState {
    stage: ChannelStage,
    addresses: Addresses,
    backoff: Backoff,
    /// When the pause before the next attempt is over, if there is one.
    not_before: Option<Instant>,
    /// When an address failed last.
    failed_at: Option<Instant>,
    /// Why there is no connection, as far as is known.
    failure: Option<ConnectionFailure>,
    /// Whether all addresses have failed since a connection was ready last: then calls that fail fast do not wait for
    /// the end of a pause.
    is_down: bool,
    /// How many attempts were begun.
    attempts: u64,
    /// When another connection may be made beside one that is in doubt.
    no_other_before: Option<Instant>,
    /// How many callers wait for a connection.
    waiting: usize,
    /// Connections that take no more calls, but carry sends that no barrier has covered.
    retired: Vec<Arc<ClientConnection>>,
    /// Sends of ended connections that no barrier had covered, until a flush or a barrier tells of them.
    lost: Uncovered,
    /// What became of the sends of the last connection that carried any, once it has ended with all of them covered.
    account: Option<Progress>,
    /// How many sends of ended connections were still running, as far as is known, until `settled` tells of them.
    unsettled: u64,
    /// What users were told of the stage.
    published: PublishedState,
}

enum ChannelStage {
    Idle,
    /// An attempt is made, or the pause before it is waited for.
    Connecting(ConnectAttempt),
    Open {
        connected: Arc<ClientConnection>,
        /// Whether calls go out before the handshake is done. Not after a failure: something that takes connections
        /// and ends them, as a proxy whose server is away, would make each such call fail, and nobody could say
        /// whether it ran.
        early: bool,
        /// Since when the handshake is done: only then did the attempt succeed.
        ready: Option<Instant>,
        /// The attempt to make another, while the peer may be gone: until either answers, calls wait.
        beside: Option<ConnectAttempt>,
    },
    Closed(Option<Arc<ClientConnection>>),
    /// The connection that was lent has ended, or takes no more calls.
    Gone,
}

/// One attempt to connect, by all addresses that are to be tried.
struct ConnectAttempt {
    /// Tells it from later ones.
    number: u64,
    /// Dropping it gives the attempt up.
    guard: ConnectionGuard,
}

/// Who makes and ends a channel's connections.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ownership {
    /// The channel makes them and ends them.
    Own,
    /// A server lends the channel its only one.
    Borrowed,
}

/// What a caller waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum WaitFor {
    /// A connection that takes calls, through as many attempts as it needs.
    Connection,
    /// The same, but not while the channel pauses after a failed attempt.
    ConnectionNow,
    /// A handshake, or the failure of every address.
    FirstRound,
}

impl WaitFor {
    /// What a call wants.
    pub(super) fn of_calls(fails_fast: bool) -> Self {
        if fails_fast {
            Self::ConnectionNow
        } else {
            Self::Connection
        }
    }
}

/// Whether a call already had a connection when it waits for one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum HadConnection {
    No,
    /// It had one, and that takes calls no longer.
    Yes,
}

/// What a caller finds in the channel.
enum Lookup {
    Found(Arc<ClientConnection>),
    Wait,
    Stop(Error),
}

/// Construction.
impl Channel {
    /// A channel that does nothing until the first call; `random` spreads its attempts to connect.
    pub(super) fn new(
        addresses: Addresses,
        settings: Arc<Settings>,
        compression: Option<Compression>,
        connect_timeout: Duration,
        callbacks: Result<Option<Arc<dyn CallbackServer>>, Error>,
        random: fastrand::Rng,
    ) -> Arc<Self> {
        let (callbacks, wrong) = match callbacks {
            Ok(callbacks) => (callbacks, None),
            Err(error) => (None, Some(error)),
        };
        Arc::new(Self {
            address: addresses.name(),
            addresses: addresses.len(),
            bad: addresses.bad().cloned().or(wrong),
            ownership: Ownership::Own,
            callbacks,
            settings,
            compression,
            connect_timeout,
            retry_budget: RetryBudget::new(),
            state: Mutex::new(ChannelState::new(addresses, Backoff::new(random))),
            changed: Arc::default(),
            published: watch::Sender::new(PublishedState::NEW),
            settling: tokio::sync::Mutex::new(()),
        })
    }
}

/// What users ask.
impl Channel {
    /// How much memory messages of that type may take once they are decoded.
    #[inline]
    pub(super) fn budget(&self, grows: Option<Grows>) -> Budget {
        Budget::new(grows, self.settings.decode_bytes)
    }

    /// How requests are compressed for peers that take it.
    #[inline]
    pub(super) fn compression(&self) -> Option<Compression> {
        self.compression
    }

    /// The addresses that the channel connects to, as text.
    pub(super) fn address(&self) -> &Arc<str> {
        &self.address
    }

    /// How many addresses there are.
    pub(super) fn addresses(&self) -> usize {
        self.addresses
    }

    /// The peer's address, or where the channel connects to while there is no peer.
    pub(super) fn peer_or_address(&self) -> Arc<str> {
        match self.current() {
            Some(connected) => Arc::clone(&connected.peer),
            None => Arc::clone(&self.address),
        }
    }

    pub(super) fn connection_state(&self) -> ConnectionState {
        self.lock().connection_state()
    }

    pub(super) fn watch_state(&self) -> StateWatch {
        StateWatch::new(self.published.subscribe())
    }

    /// Why there is no connection; none if there is one, or if nothing has failed.
    pub(super) fn last_failure(&self) -> Option<Error> {
        let error = match &self.bad {
            Some(error) => error.clone(),
            None => self.lock().failure.as_ref()?.error_of_call(),
        };
        Some(self.locate(error))
    }

    /// Which run of a server the connection leads to, if its handshake is done.
    pub(super) fn instance(&self) -> Option<Bytes> {
        self.current()?.instance()
    }
}

/// What callers ask.
impl Channel {
    /// The connection, if there is one for calls; it may turn out to take no more.
    pub(super) fn current(&self) -> Option<Arc<ClientConnection>> {
        match &self.lock().stage {
            ChannelStage::Open {
                connected,
                early,
                ready,
                beside: None,
            } if *early || ready.is_some() => Some(Arc::clone(connected)),
            _ => None,
        }
    }

    /// What replies have earned.
    #[inline]
    pub(super) fn retry_budget(&self) -> &RetryBudget {
        &self.retry_budget
    }

    /// Whether the user has closed it.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.lock().stage, ChannelStage::Closed(_))
    }

    /// Whether a call that failed may find another connection.
    pub(super) fn finds_another(&self) -> bool {
        self.ownership == Ownership::Own && !self.is_closed()
    }

    /// Waits for what is wanted, and has it brought about.
    ///
    /// # Errors
    ///
    /// That nothing came of it within the deadline, with the last failure; that failure itself if trying again does not
    /// help, or is not wanted.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the attempt to the others, and to the next call.
    pub(super) async fn connected(
        self: &Arc<Self>,
        want: WaitFor,
        before: HadConnection,
        deadline: Deadline,
    ) -> Result<Arc<ClientConnection>, Error> {
        let result = self.wait_connected(want, before, deadline).await;
        result.map_err(|error| self.locate(error))
    }

    async fn wait_connected(
        self: &Arc<Self>,
        want: WaitFor,
        before: HadConnection,
        deadline: Deadline,
    ) -> Result<Arc<ClientConnection>, Error> {
        if let Some(error) = &self.bad {
            return Err(error.clone());
        }
        // Asked first, because a timer outside of a runtime panics.
        let runtime = errors::check_runtime()?;
        let mut changed = self.changed.subscribe();
        let mut hurry = deadline.at();
        match self.look(want, Waited::No, &mut hurry, &runtime) {
            Lookup::Found(connected) => return Ok(connected),
            Lookup::Stop(error) => return Err(error),
            Lookup::Wait => {}
        }
        let _waiting = WaiterSlot::join(self)?;
        let wait = async {
            loop {
                changed.changed().await;
                // It may be polled in another runtime than before, and that one be gone.
                let runtime = errors::check_runtime()?;
                match self.look(want, Waited::Yes, &mut hurry, &runtime) {
                    Lookup::Found(connected) => return Ok(connected),
                    Lookup::Stop(error) => return Err(error),
                    Lookup::Wait => {}
                }
            }
        };
        let Some(at) = deadline.at() else {
            return wait.await;
        };
        timer::until(at, wait)
            .await
            .unwrap_or_else(|| Err(self.late(before, &deadline)))
    }

    fn late(&self, before: HadConnection, deadline: &Deadline) -> Error {
        // The server is away rather than slow, for a call that never had a connection.
        let code = match before {
            HadConnection::No => Code::Unavailable,
            HadConnection::Yes => Code::DeadlineExceeded,
        };
        match &self.lock().failure {
            Some(failure) => failure.late_error(code, deadline),
            None => Error::local(
                Code::DeadlineExceeded,
                format!("no connection within {deadline}: the peer has not answered yet"),
            ),
        }
    }

    /// Looks whether the connection is there; begins an attempt if there is none and nobody makes one. `hurry` is the
    /// deadline for which a pause may be cut.
    fn look(
        self: &Arc<Self>,
        want: WaitFor,
        waited: Waited,
        hurry: &mut Option<Instant>,
        runtime: &Handle,
    ) -> Lookup {
        let taking = self.current().filter(|connected| self.takes_calls(connected));
        let mut state = self.lock();
        match &state.stage {
            ChannelStage::Closed(_) => return Lookup::Stop(errors::closed()),
            ChannelStage::Gone => return Lookup::Stop(ConnectionFailure::of_caller(state.failure.as_ref())),
            ChannelStage::Connecting(_) => {
                if let Some(failure) = state.refuses(want) {
                    return Lookup::Stop(failure.error_of_call());
                }
                if state.hurry(hurry) {
                    self.notify(state);
                }
                return Lookup::Wait;
            }
            ChannelStage::Open { connected, ready, .. } => {
                let usable = taking.is_some_and(|taking| Arc::ptr_eq(&taking, connected));
                // One that fails in its handshake is the keeper's to clear away: only it knows the cause.
                return match (want, usable, ready) {
                    (WaitFor::Connection | WaitFor::ConnectionNow, true, _)
                    | (WaitFor::FirstRound, _, Some(_)) => Lookup::Found(Arc::clone(connected)),
                    _ => Lookup::Wait,
                };
            }
            ChannelStage::Idle => {}
        }
        if let Some(failure) = &state.failure {
            let tried = waited == Waited::Yes;
            let pausing = state.not_before.is_some_and(|at| Instant::now() < at);
            let all_failed = want == WaitFor::FirstRound && state.addresses.is_over();
            if (tried && all_failed) || (failure.is_permanent() && (tried || pausing)) {
                return Lookup::Stop(failure.error());
            }
            if let Some(failure) = state.refuses(want) {
                return Lookup::Stop(failure.error_of_call());
            }
        }
        let (guard, released) = oneshot::channel();
        state.attempts += 1;
        let number = state.attempts;
        state.stage = ChannelStage::Connecting(ConnectAttempt { number, guard });
        state.hurry(hurry);
        state.not_before = state.not_before.filter(|at| *at > Instant::now());
        self.publish(state);
        runtime.spawn(self.keeper(number, released, AttemptReason::NoConnection).run());
        Lookup::Wait
    }

    fn keeper(self: &Arc<Self>, attempt: u64, released: GuardReleased, beside: AttemptReason) -> Keeper {
        Keeper {
            watch: EndReport::new(Arc::downgrade(self), attempt),
            settings: Arc::clone(&self.settings),
            connect_timeout: self.connect_timeout,
            callbacks: self.callbacks.clone(),
            released,
            beside,
        }
    }

    /// Whether `connected` takes calls; if not, and its handshake is done, it makes room for the next.
    pub(super) fn takes_calls(&self, connected: &Arc<ClientConnection>) -> bool {
        let takes = connected.takes_calls();
        if !takes {
            self.retire(connected);
        }
        takes
    }

    fn locate(&self, error: Error) -> Error {
        let phase = match error.phase() {
            Some(Phase::Resolve) => Phase::Resolve,
            _ => Phase::Connect,
        };
        error.with_peer(Arc::clone(&self.address)).with_phase(phase)
    }

    /// Tells everybody who waits that the stage has changed.
    fn notify(&self, state: MutexGuard<'_, ChannelState>) {
        self.publish(state);
        self.changed.tell();
    }

    /// Shows users what has changed for them.
    fn publish(&self, mut state: MutexGuard<'_, ChannelState>) {
        let now = state.connection_state();
        state.published.set(now);
        drop(state);
        // Looked at once more under the watch's lock, so that of two who publish the later one shows the newest.
        self.published.send_if_modified(|published| {
            let now = self.lock().published;
            let is_news = *published != now;
            *published = now;
            is_news
        });
    }

    fn lock(&self) -> MutexGuard<'_, ChannelState> {
        // A panic under the lock is a bug of ownership; the state is whole between any two steps.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ChannelState {
    fn new(addresses: Addresses, backoff: Backoff) -> Self {
        Self {
            stage: ChannelStage::Idle,
            addresses,
            backoff,
            not_before: None,
            failed_at: None,
            failure: None,
            is_down: false,
            attempts: 0,
            no_other_before: None,
            waiting: 0,
            retired: Vec::new(),
            unsettled: 0,
            lost: Uncovered::default(),
            account: None,
            published: PublishedState::NEW,
        }
    }

    /// What the stage is for users: it changes by events only, never because time has passed.
    fn connection_state(&self) -> ConnectionState {
        match &self.stage {
            ChannelStage::Closed(_) | ChannelStage::Gone => ConnectionState::Closed,
            ChannelStage::Open {
                ready: Some(_),
                beside: None,
                ..
            } => ConnectionState::Ready,
            ChannelStage::Open { .. } => ConnectionState::Connecting,
            // Of those who wait, the first to look begins the next attempt.
            ChannelStage::Idle if self.waiting == 0 => ConnectionState::Idle,
            ChannelStage::Idle | ChannelStage::Connecting(_) if self.not_before.is_some() => {
                ConnectionState::BackingOff
            }
            ChannelStage::Idle | ChannelStage::Connecting(_) => ConnectionState::Connecting,
        }
    }

    /// Why a call that wants a connection now does not wait for one: an attempt has failed, and the pause before the next
    /// is not over. While an attempt is on its way it waits, for the server may be back.
    fn refuses(&self, want: WaitFor) -> Option<&ConnectionFailure> {
        let is_pausing = self.not_before.is_some_and(|at| Instant::now() < at);
        let refuses = want == WaitFor::ConnectionNow && self.is_down && is_pausing;
        self.failure.as_ref().filter(|_| refuses)
    }

    /// Ends the pause early for a caller whose deadline it would outlast, so that a server that is back is not
    /// missed: once for each caller, and for no more than one attempt a second. True if the pause ends earlier now.
    fn hurry(&mut self, caller: &mut Option<Instant>) -> bool {
        let (Some(end), Some(deadline)) = (self.not_before, *caller) else {
            return false;
        };
        if end < deadline {
            return false;
        }
        let early = self.backoff.before(deadline, Instant::now());
        let early = self.failed_at.map_or(early, |at| early.max(at + HURRY));
        let helps = early < deadline;
        if helps {
            *caller = None;
            self.not_before = Some(early);
        }
        helps
    }
}

/// How soon after a failure the next attempt may begin for a caller's deadline.
const HURRY: Duration = Duration::from_secs(1);

/// What tests ask.
#[cfg(test)]
impl Channel {
    pub(super) fn waiting(&self) -> usize {
        self.lock().waiting
    }

    pub(super) fn failed_at(&self) -> Option<Instant> {
        self.lock().failed_at
    }

    /// Makes the pauses those of `seed`.
    pub(super) fn seed(&self, seed: u64) {
        self.lock().backoff = Backoff::new(fastrand::Rng::with_seed(seed));
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Whether a caller has waited for an attempt to end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waited {
    No,
    Yes,
}

/// A place among those who wait for a connection.
struct WaiterSlot<'a>(&'a Channel);

impl<'a> WaiterSlot<'a> {
    fn join(channel: &'a Channel) -> Result<Self, Error> {
        let max = channel.settings.max_waiting;
        let mut state = channel.lock();
        if state.waiting >= max {
            return Err(errors::too_many_waiting(max));
        }
        state.waiting += 1;
        channel.publish(state);
        Ok(Self(channel))
    }
}

impl Drop for WaiterSlot<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.waiting -= 1;
        self.0.publish(state);
    }
}
