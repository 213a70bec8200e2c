//! What the keeper of a connection tells its channel.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::debug;

use super::{Channel, Ours, Stage, State};
use crate::{
    changes::Subscriber,
    client::{
        connected::{self, Connected},
        failure::Obstacle,
        keeper::Target,
    },
    conn::{Cause, Uncovered},
    driver::{Baton, Link},
    transport::Stream,
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

    /// An attempt begins, on the address that is returned.
    pub(in crate::client) fn begin(&self) -> Target {
        let mut state = self.lock();
        state.not_before = None;
        let target = state.route.target().clone();
        debug!(?target, "connecting");
        self.publish(state);
        target
    }

    /// The attempt did not bring a transport about. True if another address is to be tried at once.
    pub(in crate::client) fn failed(&self, obstacle: Obstacle) -> bool {
        let mut state = self.lock();
        if !matches!(state.stage, Stage::Connecting(_)) {
            return false;
        }
        state.fail(obstacle);
        let goes_on = !state.route.is_over();
        if !goes_on {
            state.stage = Stage::Idle;
        }
        self.tell(state);
        goes_on
    }

    /// The task that makes the attempts is gone: its runtime shut down.
    pub(in crate::client) fn abandoned(&self) {
        let mut state = self.lock();
        if matches!(state.stage, Stage::Connecting(_)) {
            state.stage = Stage::Idle;
            state.fail(Obstacle::abandoned());
            self.tell(state);
        }
    }

    /// The transport is there. False if nobody wants it any more.
    pub(in crate::client) fn opened(
        &self,
        link: &Arc<Link>,
        peer: Arc<str>,
        baton: Arc<Baton<Stream>>,
    ) -> bool {
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
            baton: Some(baton),
            _hold: hold,
        });
        self.standing.begin();
        state.stage = Stage::Open {
            connected,
            early: state.obstacle.is_none(),
            ready: None,
        };
        self.tell(state);
        true
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
        state.route.arrive();
        state.obstacle = None;
        self.tell(state);
    }

    /// The handshake failed.
    pub(in crate::client) fn rejected(&self, link: &Arc<Link>, cause: &Cause) {
        self.leave(link, Leave::Always, Some(Obstacle::of(cause)));
    }

    /// The connection is over.
    pub(crate) fn ended(&self, link: &Arc<Link>) {
        let obstacle = connected::obstacle(link);
        let (uncovered, pending) = link.with(|conn, _| (conn.uncovered(), conn.pending_sends()));
        match &obstacle {
            Some(obstacle) => debug!(address = %self.address, %obstacle, "connection ended"),
            None => debug!(address = %self.address, "connection closed"),
        }
        self.leave(link, Leave::Always, obstacle);
        let mut state = self.lock();
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
        let (carries, is_lent) = link.with(|conn, _| {
            let carries = conn.uncovered() != Uncovered::default() || conn.pending_sends() > 0;
            (carries, conn.lent_until().is_some())
        });
        let mut state = self.lock();
        let (connected, ready) = match &state.stage {
            Stage::Open { connected, ready, .. }
                if Arc::ptr_eq(&connected.link, link) && (ready.is_some() || leave == Leave::Always) =>
            {
                (Arc::clone(connected), *ready)
            }
            _ => return,
        };
        // Some are kept for peers that drain, whose handlers may still call us.
        let is_lent = is_lent && self.ours == Ours::Yes && state.retired.len() < MAX_LENT;
        if carries || is_lent {
            state.retired.push(connected);
        }
        if self.ours == Ours::No {
            state.stage = Stage::Gone;
            state.obstacle = obstacle;
            return self.tell(state);
        }
        state.stage = Stage::Idle;
        match ready {
            Some(since) => state.end(obstacle, since, self.standing.is_proven()),
            None => state.fail(obstacle.unwrap_or_else(|| Obstacle::of(&Cause::Closed))),
        }
        self.tell(state);
        link.with(|conn, now| conn.leave(now));
    }
}

impl State {
    /// The address that was tried does not work.
    fn fail(&mut self, obstacle: Obstacle) {
        let now = Instant::now();
        self.note(obstacle, now);
        if self.route.is_over() {
            self.pause(now);
        }
    }

    /// A connection that was ready `since` has ended, by our own doing if there is no `obstacle`.
    ///
    /// It has done well if a reply came on it, or if it lived for longer than the pause before the next attempt may
    /// last. Then the pauses begin anew. A handshake alone proves nothing: a server that ends each connection right
    /// behind its HELLO would be asked without an end.
    fn end(&mut self, obstacle: Option<Obstacle>, since: Instant, is_proven: bool) {
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
        let is_local = matches!(self.route.target(), Target::InProcess(_));
        self.note(obstacle, now);
        // Within the process nobody has to be spared, and a server that has gone says so at once.
        if !is_local {
            self.pause(now);
        }
    }

    fn note(&mut self, obstacle: Obstacle, now: Instant) {
        debug!(%obstacle, "no connection");
        self.obstacle = Some(self.route.fail(obstacle));
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

/// Whether a connection is left whose handshake is not over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leave {
    IfReady,
    Always,
}
