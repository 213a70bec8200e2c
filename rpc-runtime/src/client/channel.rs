//! Channel: one connection at a time to one service; it connects, reconnects, and tells why it cannot.
//!
//! This file has what callers ask. `events` has what the keeper of a connection reports, `sends` what flush, barrier
//! and close need, `borrowed` the channel on a connection of a server.

pub(super) mod addresses;
pub(super) mod backoff;
mod borrowed;
mod connect;
pub(super) mod connection;
mod events;
mod inspected;
mod keeper;
pub(super) mod pool;
mod retry_budget;
mod sends;
mod state;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
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
    acceptor::CallbackServer, connection_failure::ConnectionFailure, deadline::Deadline, errors,
    known_procedures::KnownProcedures, timer,
};
use crate::{
    Code, Compression, Error, Phase, Procedure,
    base::ordered_wakes::Changes,
    conn::{Settings, Uncovered},
    inspect::Listed,
    message::growth::{Budget, Grows},
    metrics::{self, CallCounts, CalledMeter, ClientTotals, LiveClient, Protocol},
    wire::frame::control::Progress,
};

/// One connection at a time to one of the addresses of a service.
///
/// ```text
/// Idle ──a call──▶ Connecting ──transport is made──▶ Open ──handshake──▶ Open, ready
///   ▲                  │ all addresses failed            │ failed              │ lost, draining
///   └──────────────────┴─────────────────────────────────┴─────────────────────┘
/// Open, ready ──a deadline was missed in silence──▶ Open, beside ──another answers──▶ Open (that one), ready
///   ▲                                                     │ the peer is heard of, or no other answers
///   └─────────────────────────────────────────────────────┘
/// any ──close()──▶ Closed
/// ```
///
/// With several addresses, and after a failure, the handshake comes before the connection is open.
///
/// After a ready connection has ended, and after every address has failed once, there is a pause before the next
/// attempt. So clients that lose a server together do not come back in the same instant.
///
/// A channel on a borrowed connection is open until that ends. Then its stage is Gone.
pub(crate) struct Channel {
    /// All addresses, for errors.
    address: Arc<str>,
    /// The number of addresses.
    addresses: usize,
    /// Why there never will be a connection, such as an invalid address. Then every call fails.
    bad: Option<Error>,
    ownership: Ownership,
    /// What the peer may call on these connections.
    callbacks: Option<Arc<dyn CallbackServer>>,
    /// What may be called where the server speaks another protocol; none if each address is of our own.
    procedures: Option<Arc<KnownProcedures>>,
    settings: Arc<Settings>,
    compression: Option<Compression>,
    connect_timeout: Duration,
    retry_budget: RetryBudget,
    /// Finds where its calls are counted; none if they are not.
    meter: Option<CalledMeter>,
    state: Mutex<ChannelState>,
    /// Notified when the stage changes; waiters then look at the state.
    changed: Arc<Changes>,
    published: watch::Sender<PublishedState>,
    /// Held while a task waits for the end of sends, because a peer takes few such calls at once.
    settling: tokio::sync::Mutex<()>,
    /// Shows it to those who look into the process.
    listed: OnceLock<Listed>,
}

struct ChannelState {
    stage: ChannelStage,
    addresses: Addresses,
    backoff: Backoff,
    /// The end of the pause before the next attempt, if there is one.
    not_before: Option<Instant>,
    /// When an address failed last.
    failed_at: Option<Instant>,
    /// Why there is no connection, as far as is known.
    failure: Option<ConnectionFailure>,
    /// True if all addresses have failed since a connection was ready: then calls that fail fast do not wait for the
    /// end of a pause.
    is_down: bool,
    /// True once a connection was open.
    had_connection: bool,
    /// How many attempts were begun.
    attempts: u64,
    /// The earliest time to make another connection beside one that is in doubt.
    no_other_before: Option<Instant>,
    /// The number of callers that wait for a connection.
    waiting: usize,
    /// Connections that take no more calls, but carry sends that no barrier has covered.
    retired: Vec<Arc<ClientConnection>>,
    /// Sends of ended connections that no barrier had covered, until a flush or a barrier reports them.
    lost: Uncovered,
    /// The last account of the last connection that carried sends, once it has ended with all of them covered.
    account: Option<Progress>,
    /// The number of sends that were still running when their connection ended, as far as is known, until `settled`
    /// reports them.
    unsettled: u64,
    /// The state that users were told last.
    published: PublishedState,
}

enum ChannelStage {
    Idle,
    /// An attempt runs, or waits for the end of the pause before it.
    Connecting(ConnectAttempt),
    Open {
        connected: Arc<ClientConnection>,
        /// True if calls go out before the handshake. Not after a failure: an endpoint that accepts connections and
        /// ends them, such as a proxy without its server, would make each such call fail with an unknown outcome.
        early: bool,
        /// When the handshake finished. Only then has the attempt succeeded.
        ready: Option<Instant>,
        /// The attempt to make another connection while the peer may be gone. Calls wait until either answers.
        beside: Option<ConnectAttempt>,
    },
    Closed(Option<Arc<ClientConnection>>),
    /// The borrowed connection has ended, or takes no more calls.
    Gone,
}

/// One attempt to connect, to all addresses that are due.
struct ConnectAttempt {
    /// Distinguishes it from later ones.
    number: u64,
    /// Dropping it gives up the attempt.
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
    /// Nothing: there is a connection that takes calls, or the call fails at once. Another task sees to connections.
    Nothing,
}

impl WaitFor {
    /// What a call waits for.
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
    /// A channel that connects at its first call; `random` spreads its attempts.
    pub(super) fn new(
        addresses: Addresses,
        settings: Arc<Settings>,
        compression: Option<Compression>,
        connect_timeout: Duration,
        callbacks: Result<Option<Arc<dyn CallbackServer>>, Error>,
        procedures: Option<Arc<KnownProcedures>>,
        random: fastrand::Rng,
    ) -> Arc<Self> {
        let (callbacks, wrong) = match callbacks {
            Ok(callbacks) => (callbacks, None),
            Err(error) => (None, Some(error)),
        };
        let protocol = match &procedures {
            Some(_) => Protocol::Grpc,
            None => Protocol::Native,
        };
        let meter = settings.is_metered.then(|| CalledMeter::new(protocol));
        let channel = Arc::new(Self {
            address: addresses.name(),
            addresses: addresses.len(),
            bad: addresses.bad().cloned().or(wrong),
            ownership: Ownership::Own,
            callbacks,
            procedures,
            settings,
            compression,
            connect_timeout,
            retry_budget: RetryBudget::new(),
            meter,
            state: Mutex::new(ChannelState::new(addresses, Backoff::new(random))),
            changed: Arc::default(),
            published: watch::Sender::new(PublishedState::NEW),
            settling: tokio::sync::Mutex::new(()),
            listed: OnceLock::new(),
        });
        if channel.meter.is_some() {
            let client: Weak<Self> = Arc::downgrade(&channel);
            metrics::add_client(client);
        }
        channel
    }
}

/// What is counted.
impl Channel {
    /// Where calls of a procedure are counted; none if they are not.
    #[inline]
    pub(super) fn counts(&self, procedure: &'static Procedure) -> Option<&'static CallCounts> {
        let meter = self.meter.as_ref()?;
        Some(meter.find(procedure.id(), procedure.path()))
    }

    /// The counters of clients that speak its protocol; none if it does not count.
    pub(super) fn totals(&self) -> Option<&'static ClientTotals> {
        let meter = self.meter.as_ref()?;
        Some(ClientTotals::of(meter.protocol()))
    }
}

impl LiveClient for Channel {
    fn budget_left(&self) -> f64 {
        self.retry_budget.left()
    }
}

/// What users ask.
impl Channel {
    /// How much memory messages of that type may take once they are decoded.
    #[inline]
    pub(super) fn budget(&self, grows: Option<Grows>) -> Budget {
        Budget::new(grows, self.settings.decode_bytes)
    }

    /// How many bytes a message of a peer may have.
    pub(super) fn max_message(&self) -> u64 {
        self.settings.max_message
    }

    /// How requests are compressed for peers that accept it.
    #[inline]
    pub(super) fn compression(&self) -> Option<Compression> {
        self.compression
    }

    /// What may be called where the server speaks another protocol; none if each address is of our own.
    pub(super) fn procedures(&self) -> Option<&KnownProcedures> {
        self.procedures.as_deref()
    }

    /// The addresses that the channel connects to, as text.
    pub(super) fn address(&self) -> &Arc<str> {
        &self.address
    }

    /// The number of addresses.
    pub(super) fn addresses(&self) -> usize {
        self.addresses
    }

    /// The peer's address, or the channel's addresses while there is no peer.
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

    /// Shows a state that it does not have itself: it stands for the channels of several servers.
    pub(super) fn show(&self, state: ConnectionState) {
        self.published.send_if_modified(|published| {
            let before = published.changes;
            published.set(state);
            published.changes != before
        });
    }

    /// Why there is no connection; none if there is one, or if nothing has failed.
    pub(super) fn last_failure(&self) -> Option<Error> {
        let error = match &self.bad {
            Some(error) => error.clone(),
            None => self.lock().failure.as_ref()?.error_of_call(),
        };
        Some(self.locate(error))
    }

    /// True if there is no connection because the server drains.
    pub(super) fn drains(&self) -> bool {
        self.lock()
            .failure
            .as_ref()
            .is_some_and(ConnectionFailure::drains)
    }

    /// The instance of the server at the other end, if the handshake is done.
    pub(super) fn instance(&self) -> Option<Bytes> {
        self.current()?.instance()
    }
}

/// What callers ask.
impl Channel {
    /// The connection for calls, if there is one; it may turn out to take no more.
    #[inline(always)]
    pub(super) fn current(&self) -> Option<Arc<ClientConnection>> {
        self.with_current(Arc::clone)
    }

    /// Runs `f` on the connection for calls, if there is one. The channel is locked meanwhile, so `f` wakes nothing, and
    /// takes no lock but the connection's. A message that it encodes must not use the client.
    #[inline]
    pub(super) fn with_current<R>(&self, f: impl FnOnce(&Arc<ClientConnection>) -> R) -> Option<R> {
        match &self.lock().stage {
            ChannelStage::Open {
                connected,
                early,
                ready,
                beside: None,
            } if *early || ready.is_some() => Some(f(connected)),
            _ => None,
        }
    }

    /// The tokens for retries.
    #[inline]
    pub(super) fn retry_budget(&self) -> &RetryBudget {
        &self.retry_budget
    }

    /// True if the user has closed it.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.lock().stage, ChannelStage::Closed(_))
    }

    /// True if a failed call may find another connection.
    pub(super) fn finds_another(&self) -> bool {
        self.ownership == Ownership::Own && !self.is_closed()
    }

    /// Waits for what `want` says, and starts an attempt if none runs.
    ///
    /// # Errors
    ///
    /// No connection came within the deadline; the error tells the last failure. Or that failure itself, if another
    /// attempt would not help or the caller does not wait for one.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the attempt to other callers and to the next call.
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
        // Checked first, because a timer panics outside of a runtime.
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
                // Another runtime may poll it now, and the first one may be gone.
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
        // A call that never had a connection found the server away, not slow.
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

    /// Looks for a connection; begins an attempt if there is none and none runs. `hurry` is the deadline for which a
    /// pause may be shortened, once.
    fn look(
        self: &Arc<Self>,
        want: WaitFor,
        waited: Waited,
        hurry: &mut Option<Instant>,
        runtime: &Handle,
    ) -> Lookup {
        let taking = self.current().filter(|connected| self.takes_calls(connected));
        let mut state = self.lock();
        if want == WaitFor::Nothing && !matches!(state.stage, ChannelStage::Closed(_)) {
            return match taking {
                Some(taking) => Lookup::Found(taking),
                None => Lookup::Stop(match &state.failure {
                    Some(failure) => failure.error_of_call(),
                    None => errors::not_connected(),
                }),
            };
        }
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
                // The keeper clears away a connection that fails in its handshake, because only it knows the cause.
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

    /// True if `connected` takes calls. Otherwise it makes room for the next one, if its handshake is done.
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

    /// Wakes all waiters after a change of the stage.
    fn notify(&self, state: MutexGuard<'_, ChannelState>) {
        self.publish(state);
        self.changed.tell();
    }

    /// Publishes the state that users see, if it has changed.
    fn publish(&self, mut state: MutexGuard<'_, ChannelState>) {
        let now = state.connection_state();
        state.published.set(now);
        drop(state);
        // Read again under the watch's lock: of two tasks that publish, the later one publishes the newest state.
        self.published.send_if_modified(|published| {
            let now = self.lock().published;
            let is_news = *published != now;
            *published = now;
            is_news
        });
    }

    fn lock(&self) -> MutexGuard<'_, ChannelState> {
        // A message of a user may panic while it is encoded under the lock; the state is consistent between any two steps.
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
            had_connection: false,
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

    /// The state that users see. Only events change it, not the passing of time.
    fn connection_state(&self) -> ConnectionState {
        match &self.stage {
            ChannelStage::Closed(_) | ChannelStage::Gone => ConnectionState::Closed,
            ChannelStage::Open {
                ready: Some(_),
                beside: None,
                ..
            } => ConnectionState::Ready,
            ChannelStage::Open { .. } => ConnectionState::Connecting,
            // The first of the waiters to look begins the next attempt.
            ChannelStage::Idle if self.waiting == 0 => ConnectionState::Idle,
            ChannelStage::Idle | ChannelStage::Connecting(_) if self.not_before.is_some() => {
                ConnectionState::BackingOff
            }
            ChannelStage::Idle | ChannelStage::Connecting(_) => ConnectionState::Connecting,
        }
    }

    /// Why a call that fails fast does not wait for a connection: an attempt has failed, and the pause is not over.
    /// While an attempt runs, the call waits, because the server may be back.
    fn refuses(&self, want: WaitFor) -> Option<&ConnectionFailure> {
        let is_pausing = self.not_before.is_some_and(|at| Instant::now() < at);
        let refuses = want == WaitFor::ConnectionNow && self.is_down && is_pausing;
        self.failure.as_ref().filter(|_| refuses)
    }

    /// Shortens a pause that would outlast a caller's deadline, so that the caller does not miss a server that is back.
    /// Once for each caller, and for at most one attempt per second. True if the pause ends earlier now.
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

/// How soon after a failure an attempt may begin for a caller's deadline.
const HURRY: Duration = Duration::from_secs(1);

/// For tests.
#[cfg(test)]
impl Channel {
    pub(super) fn waiting(&self) -> usize {
        self.lock().waiting
    }

    pub(super) fn failed_at(&self) -> Option<Instant> {
        self.lock().failed_at
    }

    /// Draws the pauses from `seed`.
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

/// Whether a caller has waited for the end of an attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waited {
    No,
    Yes,
}

/// One of the callers that wait for a connection.
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
