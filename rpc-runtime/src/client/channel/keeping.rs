//! What the keeper of a connection tells its channel.

use std::{sync::Arc, time::Duration};

use tokio::{sync::oneshot, time::Instant};
use tracing::debug;

use super::{Attempt, Channel, Ours, Stage, State};
use crate::{
    base::changes::Subscriber,
    client::{
        connected::{self, Connected},
        failure::Obstacle,
        keeper::{Beside, Hold, Plan, Target},
        race::{Finish, Winner},
    },
    conn::{Cause, Uncovered},
    driver::{Clock, Link, Wakes},
    net::Spot,
};

/// What the keeper tells.
impl Channel {
    /// Tells when the stage changes, or the end of a pause.
    pub(in crate::client) fn changes(&self) -> Subscriber {
        self.changed.subscribe()
    }

    /// When the pause before the next attempt is over, if there is one.
    pub(in crate::client) fn pause_end(&self) -> Option<Instant> {
        self.lock().not_before
    }

    /// An attempt begins: what is to be tried, unless nobody wants it any more.
    pub(in crate::client) fn plan(&self, attempt: u64) -> Option<Plan> {
        let mut state = self.lock();
        let plan = match state.role(attempt)? {
            Role::Only => {
                state.not_before = None;
                // Calls that went ahead to a peer which never says HELLO may have been executed: where there is
                // another address, they wait for the handshake instead.
                let is_early = state.obstacle.is_none() && self.addresses == 1;
                Plan {
                    lanes: state.route.lanes(),
                    finish: if is_early {
                        Finish::Transport
                    } else {
                        Finish::Handshake
                    },
                }
            }
            Role::Beside(place) => Plan {
                lanes: state.route.others(place),
                finish: Finish::Handshake,
            },
        };
        debug!(lanes = ?plan.lanes, "connecting");
        self.publish(state);
        Some(plan)
    }

    /// One of the addresses of an attempt does not work; `spot` is which place behind it was tried last.
    pub(in crate::client) fn failed(
        &self,
        attempt: u64,
        place: usize,
        spot: Option<Spot>,
        obstacle: Obstacle,
    ) {
        let mut state = self.lock();
        let Some(role) = state.role(attempt) else { return };
        if let Some(spot) = spot {
            state.route.note_spot(place, spot);
        }
        match role {
            Role::Only => {
                state.fail(place, obstacle);
                if state.route.is_over() {
                    state.is_down = true;
                    state.stage = Stage::Idle;
                }
            }
            Role::Beside(_) => {
                debug!(%obstacle, "no other connection");
                state.route.fail(place, obstacle);
            }
        }
        self.tell(state);
    }

    /// No address works. An attempt that is the only one has been told of each.
    pub(in crate::client) fn gave_up(&self, attempt: u64) {
        let mut state = self.lock();
        if let Some(Role::Beside(place)) = state.role(attempt) {
            state.stop_doubting(place);
            state.no_other_before = Some(Instant::now() + NO_OTHER);
            self.tell(state);
        }
    }

    /// The task that makes the attempts is gone: its runtime shut down.
    pub(in crate::client) fn abandoned(&self, attempt: u64) {
        let mut state = self.lock();
        match state.role(attempt) {
            Some(Role::Only) => {
                state.stage = Stage::Idle;
                let place = state.route.next();
                state.fail(place, Obstacle::abandoned());
            }
            Some(Role::Beside(place)) => state.stop_doubting(place),
            None => return,
        }
        self.tell(state);
    }

    /// The transport is there, perhaps the handshake done. False if nobody wants it any more.
    pub(in crate::client) fn opened(&self, attempt: u64, winner: &Winner) -> bool {
        let Winner {
            candidate,
            place,
            spot,
        } = winner;
        let is_early = candidate
            .link
            .lock(Clock::Recent, Wakes::Waiters)
            .peer_hello()
            .is_none();
        let beside = self.beside(attempt).map(|doubtful| Ties::of(&doubtful.link));
        let mut state = self.lock();
        let Some((hold, doubtful)) = state.take_attempt(attempt) else {
            return false;
        };
        state.route.note_spot(*place, *spot);
        let connected = Arc::new(Connected {
            link: Arc::clone(&candidate.link),
            peer: Arc::clone(&candidate.peer),
            baton: Some(Arc::clone(&candidate.baton)),
            place: *place,
            _hold: hold,
        });
        self.standing.begin();
        state.stage = Stage::Open {
            connected,
            early: is_early,
            ready: None,
            beside: None,
        };
        let Some(doubtful) = doubtful else {
            self.tell(state);
            return true;
        };
        debug!(peer = %doubtful.peer, "another address answered first");
        self.part(&mut state, &doubtful, &beside.unwrap_or_default());
        self.tell(state);
        doubtful.link.with(|conn, now| conn.leave(now));
        true
    }

    /// The doubtful connection beside which an attempt is made.
    fn beside(&self, attempt: u64) -> Option<Arc<Connected>> {
        let state = self.lock();
        match (state.role(attempt), &state.stage) {
            (Some(Role::Beside(_)), Stage::Open { connected, .. }) => Some(Arc::clone(connected)),
            _ => None,
        }
    }

    /// The handshake is done.
    pub(in crate::client) fn ready(&self, link: &Arc<Link>) {
        let mut state = self.lock();
        match &mut state.stage {
            Stage::Open { connected, ready, .. } if Arc::ptr_eq(&connected.link, link) => {
                *ready = Some(Instant::now());
                debug!(peer = %connected.peer, "connected");
            }
            _ => return,
        }
        if let Stage::Open { connected, .. } = &state.stage {
            let place = connected.place;
            state.route.arrive(place);
        }
        state.obstacle = None;
        state.is_down = false;
        self.tell(state);
    }

    /// A call has missed its deadline on a connection from which nothing was read since it began. If there is another
    /// address, calls wait until either the peer is heard of, or that answers.
    pub(in crate::client) fn doubted(self: &Arc<Self>, link: &Arc<Link>) {
        let mut state = self.lock();
        let may = self.ours == Ours::Yes
            && self.addresses > 1
            && state.no_other_before.is_none_or(|at| at <= Instant::now());
        let number = state.attempts + 1;
        match &mut state.stage {
            Stage::Open {
                connected,
                ready: Some(_),
                beside: beside @ None,
                ..
            } if may && Arc::ptr_eq(&connected.link, link) => {
                debug!(peer = %connected.peer, "in doubt");
                let (hold, held) = oneshot::channel();
                *beside = Some(Attempt { number, hold });
                state.attempts = number;
                self.publish(state);
                tokio::spawn(self.keeper(number, held, Beside::Doubtful).run());
            }
            _ => {}
        }
    }

    /// The peer of a doubtful connection is heard of: calls go on by it.
    pub(in crate::client) fn relieved(&self, link: &Arc<Link>) {
        let mut state = self.lock();
        match &state.stage {
            Stage::Open {
                connected,
                beside: Some(_),
                ..
            } if Arc::ptr_eq(&connected.link, link) => {
                let place = connected.place;
                state.stop_doubting(place);
                self.tell(state);
            }
            _ => {}
        }
    }

    /// The handshake failed.
    pub(in crate::client) fn rejected(&self, link: &Arc<Link>, obstacle: Obstacle) {
        self.leave(link, Leave::Always, Some(obstacle));
    }

    /// The connection is over.
    pub(crate) fn ended(&self, link: &Arc<Link>) {
        let obstacle = connected::obstacle(link);
        let (uncovered, pending, account) = link.with(|conn, _| {
            let account = conn.last_account().cloned();
            (conn.uncovered(), conn.pending_sends(), account)
        });
        match &obstacle {
            Some(obstacle) => debug!(address = %self.address, %obstacle, "connection ended"),
            None => debug!(address = %self.address, "connection closed"),
        }
        self.leave(link, Leave::Always, obstacle);
        let mut state = self.lock();
        if uncovered != Uncovered::default() {
            state.account = None;
        } else if account.is_some() {
            state.account = account;
        }
        let carriers = state.retired.len();
        state
            .retired
            .retain(|connected| !Arc::ptr_eq(&connected.link, link));
        let carried = state.retired.len() < carriers;
        if self.ours == Ours::No && !carried {
            // It may be told twice of the end of a connection that is not its own.
            return self.tell(state);
        }
        if let Stage::Closed(last) = &mut state.stage {
            // Whoever closes without a barrier does not ask what becomes of the last sends. An earlier connection may
            // end before the last one, on which others still wait.
            if last.as_ref().is_some_and(|last| Arc::ptr_eq(&last.link, link)) {
                *last = None;
            }
        } else {
            state.lost.no = state.lost.no.saturating_add(uncovered.no);
            state.lost.maybe = state.lost.maybe.saturating_add(uncovered.maybe);
            state.unsettled = state.unsettled.saturating_add(pending);
        }
        self.tell(state);
    }

    /// A connection takes no more calls: it makes room for the next, unless its handshake is not over.
    pub(super) fn retire(&self, connected: &Arc<Connected>) {
        self.leave(&connected.link, Leave::IfReady, connected.obstacle());
    }

    /// Takes the connection of `link` out of the channel, if it is still the one; it closes when its calls are done.
    fn leave(&self, link: &Arc<Link>, leave: Leave, obstacle: Option<Obstacle>) {
        let ties = Ties::of(link);
        let mut state = self.lock();
        let is_it = match &state.stage {
            Stage::Open { connected, ready, .. } => {
                Arc::ptr_eq(&connected.link, link) && (ready.is_some() || leave == Leave::Always)
            }
            _ => false,
        };
        if !is_it {
            return;
        }
        let Stage::Open {
            connected,
            ready,
            beside,
            ..
        } = std::mem::replace(&mut state.stage, Stage::Idle)
        else {
            return;
        };
        let place = connected.place;
        self.part(&mut state, &connected, &ties);
        if self.ours == Ours::No {
            state.stage = Stage::Gone;
            state.obstacle = obstacle;
            return self.tell(state);
        }
        match ready {
            Some(since) => state.end(place, obstacle, since, self.standing.is_proven()),
            None => {
                state.fail(place, obstacle.unwrap_or_else(|| Obstacle::of(&Cause::Closed)));
                state.is_down = state.route.is_over();
            }
        }
        if let Some(attempt) = beside {
            // Another connection is on its way already.
            state.stage = Stage::Connecting(attempt);
            state.not_before = None;
        }
        self.tell(state);
        link.with(|conn, now| conn.leave(now));
    }

    /// A connection is the channel's no longer: it is kept if it carries sends, or if its peer may still call us.
    fn part(&self, state: &mut State, connected: &Arc<Connected>, ties: &Ties) {
        // Some are kept for peers that drain, whose handlers may still call us.
        let is_lent = ties.is_lent && self.ours == Ours::Yes && state.retired.len() < MAX_LENT;
        if ties.carries || is_lent {
            state.retired.push(Arc::clone(connected));
        }
    }
}

/// Why a connection is kept that takes no more calls. To be looked at without the channel's lock, for that wakes others.
#[derive(Clone, Copy, Debug, Default)]
struct Ties {
    /// It carries sends that no barrier has covered, or that had not ended when the peer told of them last.
    carries: bool,
    /// Its peer drains, and may call us.
    is_lent: bool,
}

impl Ties {
    fn of(link: &Link) -> Self {
        link.with(|conn, _| Self {
            carries: conn.uncovered() != Uncovered::default() || conn.pending_sends() > 0,
            is_lent: conn.lent_until().is_some(),
        })
    }
}

/// Which attempt one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// There is no connection.
    Only,
    /// The connection at this place is in doubt.
    Beside(usize),
}

impl State {
    /// What an attempt is for; none if nobody wants it any more.
    fn role(&self, attempt: u64) -> Option<Role> {
        match &self.stage {
            Stage::Connecting(Attempt { number, .. }) if *number == attempt => Some(Role::Only),
            Stage::Open {
                connected,
                beside: Some(Attempt { number, .. }),
                ..
            } if *number == attempt => Some(Role::Beside(connected.place)),
            _ => None,
        }
    }

    /// Takes an attempt that has succeeded out of the stage, with the doubtful connection that it replaces.
    fn take_attempt(&mut self, attempt: u64) -> Option<(Hold, Option<Arc<Connected>>)> {
        self.role(attempt)?;
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Connecting(Attempt { hold, .. }) => Some((hold, None)),
            Stage::Open {
                connected,
                beside: Some(Attempt { hold, .. }),
                ..
            } => Some((hold, Some(connected))),
            // It has no role then.
            _ => None,
        }
    }

    /// Calls go by the connection to `place` again, and an attempt beside it ends.
    fn stop_doubting(&mut self, place: usize) {
        if let Stage::Open { beside, .. } = &mut self.stage {
            *beside = None;
        }
        self.route.arrive(place);
    }

    /// The address that was tried does not work.
    fn fail(&mut self, place: usize, obstacle: Obstacle) {
        let now = Instant::now();
        self.note(place, obstacle, now);
        if self.route.is_over() {
            self.pause(now);
        }
    }

    /// A connection that was ready `since` has ended, by our own doing if there is no `obstacle`.
    ///
    /// It has done well if a reply came on it, or if it lived for longer than the pause before the next attempt may
    /// last. Then the pauses begin anew. A handshake alone proves nothing: a server that ends each connection right
    /// behind its HELLO would be asked without an end.
    fn end(&mut self, place: usize, obstacle: Option<Obstacle>, since: Instant, is_proven: bool) {
        let now = Instant::now();
        let did_well = is_proven || now.saturating_duration_since(since) > self.backoff.ceiling();
        if did_well {
            self.backoff.reset();
        }
        let Some(obstacle) = obstacle.or_else(|| (!did_well).then(|| Obstacle::of(&Cause::Closed))) else {
            // We closed it ourselves: the server has done nothing to be spared for.
            self.obstacle = None;
            return;
        };
        let is_local = matches!(self.route.target(place), Target::InProcess(_));
        self.note(place, obstacle, now);
        // Within the process nobody has to be spared, and a server that has gone says so at once.
        if !is_local {
            self.pause(now);
        }
    }

    fn note(&mut self, place: usize, obstacle: Obstacle, now: Instant) {
        debug!(%obstacle, "no connection");
        self.obstacle = Some(self.route.fail(place, obstacle));
        self.failed_at = Some(now);
    }

    fn pause(&mut self, now: Instant) {
        let end = self.backoff.pause(now);
        debug!(pause = ?end.saturating_duration_since(now), "backing off");
        self.not_before = Some(end);
    }
}

/// So many connections at most are kept for peers that drain.
const MAX_LENT: usize = 16;

/// How long a doubtful connection is left in peace when no other address has answered.
const NO_OTHER: Duration = Duration::from_secs(10);

/// Whether a connection is left whose handshake is not over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leave {
    IfReady,
    Always,
}
