//! Channel: one connection at a time to one address; connects, connects again, and says why it cannot.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
    task::AbortHandle,
    time::{Instant, timeout_at},
};
use tracing::debug;

use super::{
    backoff::Backoff,
    connected::Connected,
    deadline::Deadline,
    failure::{self, Obstacle},
    keeper::{Held, Hold, Keeper, Target, Watch},
};
use crate::{
    Code, Error, Executed, Phase,
    conn::{Cause, Settings, State as ConnState, Uncovered},
    driver::Link,
};

/// One connection at a time to one address.
///
/// ```text
/// Idle ──a call──▶ Connecting ──transport is there──▶ Open ──handshake──▶ Open, ready
///   ▲                  │ failed: back off              │ failed: back off    │ lost, draining
///   └──────────────────┴───────────────────────────────┴─────────────────────┘
/// any ──close()──▶ Closed
/// ```
pub(super) struct Channel {
    target: Target,
    address: Arc<str>,
    settings: Settings,
    connect_timeout: Duration,
    state: Mutex<State>,
    /// Told whenever the stage changes; waiters look at the state itself.
    changed: watch::Sender<()>,
}

struct State {
    stage: Stage,
    backoff: Backoff,
    /// When the next attempt may begin.
    not_before: Option<Instant>,
    /// Why there is no connection, as far as is known.
    obstacle: Option<Obstacle>,
    /// How many callers wait for a connection.
    waiting: usize,
    /// Connections that take no more calls, but carry sends that no barrier has covered.
    retired: Vec<Arc<Connected>>,
    /// Sends of ended connections that no barrier had covered, until a flush or a barrier tells of them.
    lost: Uncovered,
}

enum Stage {
    Idle,
    /// Dropping the hold gives the attempt up.
    Connecting(Hold),
    Open {
        connected: Arc<Connected>,
        /// Whether the handshake is done: calls go out before, but only then did the attempt succeed.
        ready: bool,
    },
    Closed(Option<Arc<Connected>>),
}

/// What a caller waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// A connection that takes calls, through as many attempts as it needs.
    Calls,
    /// The end of one attempt, handshake included.
    FirstAttempt,
}

/// What a caller finds.
enum Look {
    There(Arc<Connected>),
    Wait,
    Stop(Error),
}

/// Construction.
impl Channel {
    /// A channel that does nothing until the first call; `random` spreads its attempts to connect.
    pub(super) fn new(
        target: Target,
        address: Arc<str>,
        settings: Settings,
        connect_timeout: Duration,
        random: fastrand::Rng,
    ) -> Arc<Self> {
        let state = State {
            stage: Stage::Idle,
            backoff: Backoff::new(random),
            not_before: None,
            obstacle: None,
            waiting: 0,
            retired: Vec::new(),
            lost: Uncovered::default(),
        };
        let changed = watch::Sender::new(());
        Arc::new(Self {
            target,
            address,
            settings,
            connect_timeout,
            state: Mutex::new(state),
            changed,
        })
    }
}

/// What callers ask.
impl Channel {
    /// The address that the channel connects to, as text.
    pub(super) fn address(&self) -> &Arc<str> {
        &self.address
    }

    /// The connection, if there is one; it may turn out to take no more calls.
    pub(super) fn current(&self) -> Option<Arc<Connected>> {
        match &self.lock().stage {
            Stage::Open { connected, .. } => Some(Arc::clone(connected)),
            _ => None,
        }
    }

    /// Waits for what is wanted, and has it brought about.
    ///
    /// # Errors
    ///
    /// DEADLINE_EXCEEDED with the last obstacle; that obstacle itself if trying again does not help.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the attempt to the others, and to the next call.
    pub(super) async fn connected(
        self: &Arc<Self>,
        want: Want,
        deadline: Deadline,
    ) -> Result<Arc<Connected>, Error> {
        let result = self.wait_connected(want, deadline).await;
        result.map_err(|error| {
            error
                .with_peer(Arc::clone(&self.address))
                .with_phase(Phase::Connect)
        })
    }

    async fn wait_connected(
        self: &Arc<Self>,
        want: Want,
        deadline: Deadline,
    ) -> Result<Arc<Connected>, Error> {
        if let Target::Bad(error) = &self.target {
            return Err(error.clone());
        }
        // Asked first, because a timer outside of a runtime panics.
        let runtime = failure::check_runtime()?;
        let mut changed = self.changed.subscribe();
        match self.look(want, Waited::No, &runtime) {
            Look::There(connected) => return Ok(connected),
            Look::Stop(error) => return Err(error),
            Look::Wait => {}
        }
        let _waiting = Waiting::join(self)?;
        let wait = async {
            loop {
                // The sender is the channel's, so it outlives us.
                let _ = changed.changed().await;
                match self.look(want, Waited::Yes, &runtime) {
                    Look::There(connected) => return Ok(connected),
                    Look::Stop(error) => return Err(error),
                    Look::Wait => {}
                }
            }
        };
        let Some(at) = deadline.at() else {
            return wait.await;
        };
        timeout_at(at, wait)
            .await
            .unwrap_or_else(|_| Err(self.late(&deadline)))
    }

    fn late(&self, deadline: &Deadline) -> Error {
        match &self.lock().obstacle {
            Some(obstacle) => obstacle.late_error(deadline),
            None => Error::local(
                Code::DeadlineExceeded,
                format!("no connection within {deadline}: the peer has not answered yet"),
            ),
        }
    }

    /// Looks whether the connection is there; begins an attempt if there is none and nobody makes one.
    fn look(self: &Arc<Self>, want: Want, waited: Waited, runtime: &Handle) -> Look {
        let taking = self.current().filter(|connected| self.takes_calls(connected));
        let mut state = self.lock();
        match &state.stage {
            Stage::Closed(_) => return Look::Stop(failure::closed()),
            Stage::Connecting(_) => return Look::Wait,
            Stage::Open { connected, ready } => {
                let usable = taking.is_some_and(|taking| Arc::ptr_eq(&taking, connected));
                // One that fails in its handshake is the keeper's to clear away: only it knows the cause.
                return match (want, usable, ready) {
                    (Want::Calls, true, _) | (Want::FirstAttempt, _, true) => {
                        Look::There(Arc::clone(connected))
                    }
                    _ => Look::Wait,
                };
            }
            Stage::Idle => {}
        }
        if let Some(obstacle) = &state.obstacle {
            let tried = waited == Waited::Yes;
            let pausing = state.not_before.is_some_and(|at| Instant::now() < at);
            if (tried && want == Want::FirstAttempt) || (obstacle.is_permanent() && (tried || pausing)) {
                return Look::Stop(obstacle.error());
            }
        }
        let (hold, held) = oneshot::channel();
        state.stage = Stage::Connecting(hold);
        let keeper = self.keeper(held, state.not_before.take());
        debug!(address = %self.address, failures = state.backoff.failures(), "connecting");
        drop(state);
        runtime.spawn(keeper.run());
        Look::Wait
    }

    fn keeper(self: &Arc<Self>, held: Held, not_before: Option<Instant>) -> Keeper {
        Keeper {
            watch: Watch::new(Arc::downgrade(self)),
            target: self.target.clone(),
            settings: self.settings.clone(),
            connect_timeout: self.connect_timeout,
            not_before,
            held,
        }
    }

    /// Whether `connected` takes calls; if not, and its handshake is done, it makes room for the next.
    pub(super) fn takes_calls(&self, connected: &Arc<Connected>) -> bool {
        let takes = connected.takes_calls();
        if !takes {
            self.leave(&connected.link, Leave::IfReady, connected.obstacle());
        }
        takes
    }
}

/// What a keeper tells.
impl Channel {
    /// The transport is there; calls may go out while the handshake is on its way. False if nobody wants it any more.
    pub(super) fn opened(&self, link: &Arc<Link>, peer: Arc<str>, driver: AbortHandle) -> bool {
        let mut state = self.lock();
        let hold = match std::mem::replace(&mut state.stage, Stage::Idle) {
            Stage::Connecting(hold) => hold,
            stage => {
                state.stage = stage;
                return false;
            }
        };
        let connected = Arc::new(Connected {
            link: Arc::clone(link),
            peer,
            driver,
            _hold: hold,
        });
        state.stage = Stage::Open {
            connected,
            ready: false,
        };
        self.tell(state);
        true
    }

    /// The handshake is done.
    pub(super) fn ready(&self, link: &Arc<Link>) {
        let mut state = self.lock();
        match &mut state.stage {
            Stage::Open { connected, ready } if Arc::ptr_eq(&connected.link, link) => {
                *ready = true;
                debug!(peer = %connected.peer, "connected");
            }
            _ => return,
        }
        state.backoff.reset();
        state.obstacle = None;
        self.tell(state);
    }

    /// The attempt did not bring a transport about.
    pub(super) fn failed(&self, obstacle: Obstacle) {
        let mut state = self.lock();
        if matches!(state.stage, Stage::Connecting(_)) {
            state.stage = Stage::Idle;
            self.back_off(&mut state, obstacle);
            self.tell(state);
        }
    }

    /// The handshake failed.
    pub(super) fn rejected(&self, link: &Arc<Link>, cause: &Cause) {
        self.leave(link, Leave::Always, Obstacle::of(cause));
    }

    /// The connection is over.
    pub(super) fn ended(&self, link: &Arc<Link>) {
        let (cause, uncovered) = link.with(|conn, _| (conn.state(), conn.uncovered()));
        let cause = if let ConnState::Closed(cause) = cause {
            cause
        } else {
            Cause::Closed
        };
        debug!(address = %self.address, %cause, "connection ended");
        self.leave(link, Leave::Always, Obstacle::of(&cause));
        let mut state = self.lock();
        state
            .retired
            .retain(|connected| !Arc::ptr_eq(&connected.link, link));
        if let Stage::Closed(last) = &mut state.stage {
            // Whoever closes without a barrier does not ask what becomes of the last sends. An earlier connection may
            // end before the last one, on which others still wait.
            if last.as_ref().is_some_and(|last| Arc::ptr_eq(&last.link, link)) {
                *last = None;
            }
        } else {
            state.lost.no = state.lost.no.saturating_add(uncovered.no);
            state.lost.maybe = state.lost.maybe.saturating_add(uncovered.maybe);
        }
        self.tell(state);
    }

    /// Takes the connection of `link` out of the channel, if it is still the one; it closes when its calls are done.
    fn leave(&self, link: &Arc<Link>, leave: Leave, obstacle: Obstacle) {
        let carries = link.with(|conn, _| conn.uncovered()) != Uncovered::default();
        let mut state = self.lock();
        let (connected, was_ready) = match &state.stage {
            Stage::Open { connected, ready }
                if Arc::ptr_eq(&connected.link, link) && (*ready || leave == Leave::Always) =>
            {
                (Arc::clone(connected), *ready)
            }
            _ => return,
        };
        state.stage = Stage::Idle;
        if was_ready {
            // The peer was there a moment ago: the next call tries at once.
            state.obstacle = Some(obstacle);
        } else {
            self.back_off(&mut state, obstacle);
        }
        if carries {
            state.retired.push(connected);
        }
        self.tell(state);
        link.with(|conn, now| conn.close(now));
    }

    fn back_off(&self, state: &mut State, obstacle: Obstacle) {
        let wait = state.backoff.fail();
        debug!(address = %self.address, %obstacle, ?wait, "cannot connect");
        state.not_before = Some(Instant::now() + wait);
        state.obstacle = Some(obstacle);
    }
}

/// What flush, barrier and close need.
impl Channel {
    /// The connections that carry sends: those that take no more calls first.
    pub(super) fn carriers(&self) -> Vec<Arc<Connected>> {
        let state = self.lock();
        let mut carriers = state.retired.clone();
        if let Stage::Open { connected, .. } = &state.stage {
            carriers.push(Arc::clone(connected));
        }
        carriers
    }

    /// Waits until the keeper has noticed that `connected` is over, so that its lost sends are counted.
    pub(super) async fn settled(&self, connected: &Connected) {
        let mut changed = self.changed.subscribe();
        while self.holds(connected) {
            let _ = changed.changed().await;
        }
    }

    fn holds(&self, connected: &Connected) -> bool {
        let state = self.lock();
        let current = match &state.stage {
            Stage::Open { connected, .. } | Stage::Closed(Some(connected)) => Some(connected),
            _ => None,
        };
        state
            .retired
            .iter()
            .chain(current)
            .any(|held| Arc::ptr_eq(&held.link, &connected.link))
    }

    /// Tells of the sends that ended connections may have lost: once.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE with their counts, if there are any.
    pub(super) fn tell_lost(&self) -> Result<(), Error> {
        let mut state = self.lock();
        let Uncovered { no, maybe } = std::mem::take(&mut state.lost);
        if no == 0 && maybe == 0 {
            return Ok(());
        }
        let text = format!(
            "a connection ended before a barrier had covered all its sends: {no} never executed, {maybe} perhaps"
        );
        let executed = if maybe == 0 { Executed::No } else { Executed::Maybe };
        Err(Error::local(Code::Unavailable, text)
            .with_peer(Arc::clone(&self.address))
            .with_executed(executed))
    }

    /// Takes no more calls, and begins to close the connection; it is returned if there is one.
    pub(super) fn close(&self) -> Vec<Arc<Connected>> {
        let mut state = self.lock();
        let current = match std::mem::replace(&mut state.stage, Stage::Closed(None)) {
            Stage::Open { connected, .. } | Stage::Closed(Some(connected)) => Some(connected),
            // An attempt ends with its hold.
            Stage::Idle | Stage::Connecting(_) | Stage::Closed(None) => None,
        };
        state.stage = Stage::Closed(current.clone());
        let mut all = state.retired.clone();
        self.tell(state);
        if let Some(connected) = current {
            connected.link.with(|conn, now| conn.close(now));
            all.push(connected);
        }
        all
    }

    /// Waits until `connected` is over.
    pub(super) async fn over(&self, connected: &Connected) -> Cause {
        let mut changed = self.changed.subscribe();
        loop {
            if let ConnState::Closed(cause) = connected.link.with(|conn, _| conn.state()) {
                return cause;
            }
            let _ = changed.changed().await;
        }
    }

    fn tell(&self, state: MutexGuard<'_, State>) {
        drop(state);
        self.changed.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock is a bug of ours; the state is whole between any two steps.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Whether a connection is left whose handshake is not over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leave {
    IfReady,
    Always,
}

/// A place among those who wait for a connection.
struct Waiting<'a>(&'a Channel);

impl<'a> Waiting<'a> {
    fn join(channel: &'a Channel) -> Result<Self, Error> {
        let max = channel.settings.max_waiting;
        let mut state = channel.lock();
        if state.waiting >= max {
            return Err(failure::too_many_waiting(max));
        }
        state.waiting += 1;
        Ok(Self(channel))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}
