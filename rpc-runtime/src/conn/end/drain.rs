//! Drain: how a connection comes to its end without losing a call.
#![expect(
    clippy::needless_pass_by_ref_mut,
    reason = "`cx` has the shape that every poll function has"
)]

use std::{
    task::{Context, Poll},
    time::Duration,
};

use crate::conn::{
    Cause, Connection, Tally, Time, Unwanted,
    end::Life,
    ids::MAX_ID,
    ours::calls::Reach,
    theirs::account::Fate,
    theirs::requests::{Request, Stage, Withdrawn},
    types::earliest,
};
use crate::{
    Code,
    wire::frame::{
        Flags,
        control::{DropReason, Reason},
    },
};

/// The end that this side has begun.
///
/// ```text
/// begin_drain -> Announced -> Final -> (aborted) -> closing
/// close ---------------------/
/// ```
#[derive(Debug)]
pub(in crate::conn) struct Drain {
    pub(in crate::conn) reason: Reason,
    pub(in crate::conn) text: String,
    pub(in crate::conn) step: Step,
    /// How long open calls may take, as the peer is told.
    pub(in crate::conn) announced: Option<Duration>,
    /// When that time is over; none if their own deadlines are enough.
    pub(in crate::conn) until: Option<Time>,
    /// When it was over.
    pub(in crate::conn) aborted: Option<Time>,
    /// After that, when to look again whether everything is done.
    pub(in crate::conn) next_limit: Option<Time>,
    /// Whether our own calls are to end, too: no more are started.
    pub(in crate::conn) own: bool,
    /// Whether it is the whole side that ends, and not just this connection: then its report counts what becomes of
    /// the peer's requests.
    pub(in crate::conn) counts: bool,
    /// When nothing else is open: how long the peer is waited for to answer for our last one-way requests.
    pub(in crate::conn) answer_by: Option<Time>,
}

/// What the peer was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::conn) enum Step {
    /// To start no more; what it has started until this time, or until it has answered this ping, is still taken.
    Announced { until: Time, ping: Option<u64> },
    /// That nothing above this id is taken.
    Final { last_id: u64 },
}

/// How long the peer may take to notice the first GOAWAY.
const NOTICE: Duration = Duration::from_secs(1);
/// After the drain's time: how long handlers have to go, how long the calls of the control service have to be answered,
/// and when the connection is closed, whatever is left to write or read.
const HANDLERS_GO: Duration = Duration::from_secs(1);
const CONTROL_ANSWERED: Duration = Duration::from_millis(1500);
const ALL_CLOSED: Duration = Duration::from_millis(2500);

impl Drain {
    /// A drain that begins now, and gives open calls `time`.
    pub(in crate::conn) fn new(reason: Reason, text: &str, time: Duration, now: Time) -> Self {
        Self {
            reason,
            text: text.to_owned(),
            step: Step::Final { last_id: 0 },
            announced: Some(time),
            until: Some(now.saturating_add(time)),
            aborted: None,
            next_limit: None,
            own: false,
            counts: false,
            answer_by: None,
        }
    }

    /// That of a side that closes, and has read requests up to `last_id`: the deadlines of open calls are enough.
    fn of_close(last_id: u64) -> Self {
        Self {
            step: Step::Final { last_id },
            announced: None,
            until: None,
            own: true,
            ..Self::new(Reason::Drain, "", Duration::ZERO, Time::ZERO)
        }
    }

    /// When something is due.
    pub(in crate::conn) fn due(&self) -> Option<Time> {
        let step = match self.step {
            Step::Announced { until, .. } => Some(until),
            Step::Final { .. } => None,
        };
        match self.aborted {
            Some(_) => earliest([step, self.next_limit]),
            None => earliest([step, self.until, self.answer_by]),
        }
    }
}

impl Connection {
    /// Wants no more calls: the two GOAWAYs of WIRE.md's Closing. `drain` is how long open calls may take.
    ///
    /// Of several drains the shortest counts.
    pub(crate) fn begin_drain(&mut self, reason: Reason, text: &str, drain: Duration, now: Time) {
        if !self.is_live() {
            return self.count_what_is_left();
        }
        match &mut self.end.drain {
            Some(old) => {
                let until = now.saturating_add(drain);
                old.until = Some(old.until.map_or(until, |old| old.min(until)));
                old.counts = true;
            }
            None => {
                let drain = Drain {
                    counts: true,
                    ..Drain::new(reason, text, drain, now)
                };
                self.start_drain(drain, now);
            }
        }
    }

    /// Tells the peer of a drain.
    pub(in crate::conn) fn start_drain(&mut self, drain: Drain, now: Time) {
        let (reason, text) = (drain.reason, drain.text.clone());
        self.set_drain(drain);
        if matches!(self.end.life, Life::Handshaking) {
            // Nothing was dispatched, so nothing has to be finished.
            self.put_goaway(reason, 0, &text);
            let limit = self.soon(now);
            return self.begin_closing(Cause::Closed, Reach::Output, limit, now);
        }
        self.put_goaway(reason, MAX_ID, &text);
        let is_allowed = self.health.keep_alive.allowed_at(self.peer_floor()) <= now;
        let ping = is_allowed.then(|| self.put_ping(now));
        self.set_step(Step::Announced {
            until: now + NOTICE,
            ping,
        });
        self.finish_if_idle(now);
    }

    /// The drain's time is over: handlers that run become unwanted, the others are refused, and the connection
    /// closes as soon as its output is written.
    ///
    /// Calls of the control service may still be answered, for a short time.
    pub(crate) fn abort_calls(&mut self, now: Time) {
        if !self.is_live() {
            self.count_what_is_left();
            for id in self.theirs.requests.select(|request| request.one_way) {
                self.abort_request(id, now);
            }
            return;
        }
        if self.end.drain.is_none() {
            self.begin_drain(Reason::Drain, "", Duration::ZERO, now);
        }
        self.finalise_drain();
        let Some(drain) = &mut self.end.drain else { return };
        if drain.aborted.is_some() {
            return;
        }
        drain.aborted = Some(now);
        drain.next_limit = Some(now + HANDLERS_GO);
        for id in self.theirs.requests.select(|_| true) {
            self.abort_request(id, now);
        }
        self.finish_if_idle(now);
    }

    /// Ready when this side has begun the connection's end: handlers that can end early are to do so.
    pub(crate) fn poll_draining(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_draining() {
            return Poll::Ready(());
        }
        self.wakes
            .waiters
            .others()
            .draining
            .register(cx, &mut self.wakes.woken);
        Poll::Pending
    }

    /// Whether this side has begun the connection's end.
    pub(crate) fn is_draining(&self) -> bool {
        self.end.drain.is_some()
    }

    /// Ready when the drain's second GOAWAY is out and no request of the peer is open, control calls left out.
    pub(crate) fn poll_drained(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let is_final = self
            .end
            .drain
            .as_ref()
            .is_some_and(|drain| matches!(drain.step, Step::Final { .. }));
        if self.is_live() && !(is_final && self.theirs.requests.open() == 0) {
            self.wakes
                .waiters
                .others()
                .drained
                .register(cx, &mut self.wakes.woken);
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Ready when no request of the peer is open, control calls left out: those of a lost peer that still run, say.
    pub(crate) fn poll_no_request(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.theirs.requests.open() > 0 {
            self.wakes
                .waiters
                .others()
                .drained
                .register(cx, &mut self.wakes.woken);
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// How many requests of the peer are open, control calls left out: queued and running, calls and one-ways.
    pub(crate) fn open_requests(&self) -> usize {
        self.theirs.requests.open()
    }

    /// How many handlers are started and not gone, control calls left out.
    pub(crate) fn running_handlers(&self) -> usize {
        self.theirs.requests.running()
    }

    /// What became of the peer's requests here, for the report. Handlers that should go and have not yet are counted
    /// as if they had.
    pub(crate) fn tally(&self) -> Tally {
        let is_cut = |request: &Request| request.unwanted == Some(Unwanted::Drained) && !request.control;
        if !self.is_counting() {
            return Tally::default();
        }
        let one_ways = self
            .theirs
            .requests
            .count(|request| is_cut(request) && request.one_way) as u64;
        let calls = self
            .theirs
            .requests
            .count(|request| is_cut(request) && !request.one_way) as u64;
        Tally {
            completed: self.end.tally.completed,
            aborted: self.end.tally.aborted + calls,
            one_way_dropped: self.end.tally.one_way_dropped + one_ways,
        }
    }

    /// Takes no more calls, lets those of both sides finish, then half-closes, lingers and closes.
    pub(crate) fn close(&mut self, now: Time) {
        if !self.is_live() {
            return;
        }
        match &mut self.end.drain {
            Some(drain) => {
                drain.own = true;
                if drain.announced.is_none() {
                    // It was only left.
                    self.finalise_drain();
                }
            }
            None => {
                let last_id = self.theirs.requests.last_id();
                self.set_drain(Drain::of_close(last_id));
                // Before the peer's HELLO only requests may be sent: then this follows when it comes.
                if matches!(self.end.life, Life::Open) {
                    self.put_goaway(Reason::Drain, last_id, "");
                }
            }
        }
        self.put_pings(now);
        self.finish_if_idle(now);
    }

    /// Closes, unless the peer drains and may call us: then its handlers may go on doing so until its time is over, and it
    /// is for the peer to close.
    pub(crate) fn leave(&mut self, now: Time) {
        let Some(until) = self.lent_until().filter(|until| *until > now) else {
            return self.close(now);
        };
        let step = Step::Announced { until, ping: None };
        self.set_drain(Drain {
            step,
            ..Drain::of_close(0)
        });
        self.put_pings(now);
    }

    /// Until when a peer that drains may call us on a connection that we have no use for.
    pub(crate) fn lent_until(&self) -> Option<Time> {
        let is_ours = self.end.drain.is_none() && self.settings.serves && matches!(self.end.life, Life::Open);
        let goaway = self.peer.goaway.as_ref().filter(|_| is_ours)?;
        Some(goaway.at.saturating_add(goaway.drain).saturating_add(ALL_CLOSED))
    }

    /// The peer's HELLO has come behind a `close`: now it can be told.
    pub(in crate::conn) fn announce_close(&mut self) {
        if self.end.drain.is_some() {
            self.put_goaway(Reason::Drain, self.theirs.requests.last_id(), "");
        }
    }

    /// The second GOAWAY goes out, if it has not yet.
    pub(in crate::conn) fn finalise_drain(&mut self) {
        let Some(drain) = &self.end.drain else { return };
        if matches!(drain.step, Step::Final { .. }) {
            return;
        }
        let (reason, text) = (drain.reason, drain.text.clone());
        let last_id = self.theirs.requests.last_id();
        self.put_goaway(reason, last_id, &text);
        self.set_step(Step::Final { last_id });
        self.note_drained();
    }

    /// A PONG came: it may say that the peer has noticed the first GOAWAY.
    pub(in crate::conn) fn pong_for_drain(&mut self, answered: u64) {
        let step = self.end.drain.as_ref().map(|drain| drain.step);
        if matches!(step, Some(Step::Announced { ping: Some(ping), .. }) if ping <= answered) {
            self.finalise_drain();
        }
    }

    /// Does what is due.
    pub(in crate::conn) fn run_drain(&mut self, now: Time) {
        let Some(drain) = &mut self.end.drain else { return };
        if let Some(aborted) = drain.aborted {
            if drain.next_limit.is_some_and(|limit| limit <= now) {
                let last = aborted + CONTROL_ANSWERED;
                drain.next_limit = (last > now).then_some(last);
            }
            return;
        }
        if drain.until.is_some_and(|until| until <= now) {
            return self.abort_calls(now);
        }
        if matches!(drain.step, Step::Announced { until, .. } if until <= now) {
            self.finalise_drain();
        }
    }

    /// Whether an id of the peer lies above what it was told is taken.
    pub(in crate::conn) fn is_above_last(&self, id: u64) -> bool {
        match self.end.drain.as_ref().map(|drain| drain.step) {
            Some(Step::Final { last_id }) => id > last_id,
            Some(Step::Announced { .. }) | None => false,
        }
    }

    /// Whether our own calls are to end, too.
    pub(in crate::conn) fn is_closing_own(&self) -> bool {
        self.end
            .drain
            .as_ref()
            .is_some_and(|drain| drain.own || drain.aborted.is_some())
    }

    /// Half-closes when this side has said that it takes no more and nothing is open: to be called after whatever may
    /// have ended something.
    pub(in crate::conn) fn finish_if_idle(&mut self, now: Time) {
        let Some(drain) = &self.end.drain else { return };
        if !self.is_live() || matches!(drain.step, Step::Announced { .. }) {
            return;
        }
        let is_over = drain.aborted.is_some_and(|aborted| {
            let only_stuck = self.theirs.requests.control_calls() == 0 && now >= aborted + HANDLERS_GO;
            let is_answered = (self.theirs.requests.is_idle() || only_stuck) && !self.outbox.bulk.has_reply();
            is_answered || now >= aborted + CONTROL_ANSWERED
        });
        if !is_over && !self.is_accounted_for(now) {
            return;
        }
        // The last that can be said, and somebody may wait for it, whenever it is read.
        self.count_unfinished_sends();
        let has_news = self.theirs.account.has_news();
        self.put_pong();
        if has_news {
            self.put_last_account();
        }
        let soon = self.soon(now);
        let until = match (self.hard_limit(), self.drain_until()) {
            (Some(limit), _) => limit,
            (None, Some(until)) => until.max(soon),
            (None, None) => now.saturating_add(self.settings.write_stall),
        };
        self.begin_closing(Cause::Closed, Reach::Output, until, now);
    }

    /// Whether nothing is open any more, and this side knows what became of its one-way requests, or the peer had time
    /// enough to answer: nothing comes back for those, so their sender asks by a last ping (G4). The peer need not ask for
    /// its own, for it is told at the end.
    fn is_accounted_for(&mut self, now: Time) -> bool {
        let is_quiet = self.is_quiet();
        let is_in_doubt = is_quiet && self.ours.sends.is_in_doubt();
        if is_in_doubt {
            self.put_pings(now);
        }
        let dead_after = self.settings.dead_after;
        let Some(drain) = &mut self.end.drain else {
            return is_quiet;
        };
        let by = is_in_doubt.then(|| drain.answer_by.unwrap_or_else(|| now.saturating_add(dead_after)));
        drain.answer_by = by;
        is_quiet && by.is_none_or(|by| by <= now)
    }

    /// Counts the peer's one-way requests that will never be complete: what was decided of them is their end.
    fn count_unfinished_sends(&mut self) {
        for (id, fate) in self.theirs.requests.discarded_sends() {
            self.theirs.account.received(id);
            self.theirs.account.ended(fate);
        }
    }

    /// Tells the peer unasked what became of all its one-way requests up to the last id, behind everything else: it may
    /// have no processor at the moment, and this side be gone when it gets one.
    fn put_last_account(&mut self) {
        let Some(Drain {
            reason,
            text,
            step: Step::Final { last_id },
            ..
        }) = self.end.drain.as_deref()
        else {
            return;
        };
        let (reason, text, last_id) = (*reason, text.clone(), *last_id);
        let account = self.theirs.account.tell();
        self.put_last_goaway(reason, last_id, &text, account);
    }

    /// Whether nothing is open or unfinished, one-way requests left out that were sent whole.
    pub(in crate::conn) fn is_quiet(&self) -> bool {
        self.theirs.requests.is_idle() && self.outbox.bulk.is_empty() && self.is_done_calling()
    }

    /// Whether nobody on this side waits for anything of the peer.
    pub(in crate::conn) fn is_done_calling(&self) -> bool {
        self.ours.calls.awaited() == 0
            && self.ours.lines.is_empty()
            && self.ours.lines.is_service_empty()
            && self.ours.barriers.is_empty()
    }

    /// Whether a ping is to go out behind our last one-way requests, because one of the sides goes.
    pub(in crate::conn) fn wants_last_ping(&self) -> bool {
        if self.end.drain.is_none() && self.peer.goaway.is_none() {
            return false;
        }
        let is_last = self.peer.goaway.is_some() || self.is_closing_own() || self.is_quiet();
        is_last
            && self.ours.sends.is_uncovered()
            && self.ours.lines.is_empty()
            && self.outbox.bulk.first_send().is_none()
            && self.ours.sends.is_without_ping()
    }

    /// Whether what becomes of the peer's requests is counted for a report.
    pub(in crate::conn) fn is_counting(&self) -> bool {
        self.end.drain.as_ref().is_some_and(|drain| drain.counts)
    }

    /// When the connection is closed at the latest, once the drain's time is over.
    pub(in crate::conn) fn hard_limit(&self) -> Option<Time> {
        let drain = self.end.drain.as_ref()?;
        drain.aborted.map(|aborted| aborted + ALL_CLOSED)
    }

    /// When the drain's time is over, as the peer was told.
    pub(in crate::conn) fn drain_until(&self) -> Option<Time> {
        self.end.drain.as_ref()?.until
    }

    /// One-way requests may outlive their connection: what becomes of them belongs into the report, too.
    fn count_what_is_left(&mut self) {
        let last_id = self.theirs.requests.last_id();
        let drain = self.end.drain.take();
        let drain = drain.map_or_else(|| Drain::of_close(last_id), |drain| *drain);
        self.set_drain(Drain {
            counts: true,
            ..drain
        });
    }

    /// Wakes those who wait for the end of all requests, if that is what happened.
    pub(in crate::conn) fn note_drained(&mut self) {
        if self.theirs.requests.open() == 0 {
            if let Some(others) = &mut self.wakes.waiters.others {
                others.drained.wake(&mut self.wakes.woken);
            }
        }
    }

    fn set_drain(&mut self, drain: Drain) {
        self.end.drain = Some(Box::new(drain));
        if let Some(others) = &mut self.wakes.waiters.others {
            others.draining.wake(&mut self.wakes.woken);
        }
    }

    fn set_step(&mut self, step: Step) {
        if let Some(drain) = &mut self.end.drain {
            drain.step = step;
        }
    }

    /// The drain's time is over for a request.
    fn abort_request(&mut self, id: u64, now: Time) {
        let Some(request) = self.theirs.requests.get(id) else {
            return;
        };
        match (&request.stage, request.one_way) {
            (Stage::Discarding(_), _) => {}
            (Stage::Queued(_) | Stage::Taken | Stage::Running(_), _) if request.control => {}
            (Stage::Taken | Stage::Running(_), _) => {
                self.theirs
                    .requests
                    .unwant(id, Unwanted::Drained, &mut self.wakes.woken);
            }
            (Stage::Receiving(_), true) => {
                self.theirs
                    .requests
                    .discard(id, Fate::Dropped(DropReason::Draining));
                self.end.tally.one_way_dropped += u64::from(self.is_counting());
            }
            (Stage::Queued(_), true) => {
                self.theirs.requests.remove(id);
                self.theirs.account.ended(Fate::Dropped(DropReason::Draining));
                self.end.tally.one_way_dropped += u64::from(self.is_counting());
            }
            (&Stage::Withdrawn(Withdrawn { code, text, .. }), _) => {
                self.refuse_call(id, code, text, Flags::NOT_EXECUTED, now);
            }
            (stage @ (Stage::Receiving(_) | Stage::Queued(_)), false) => {
                if let Stage::Receiving(partial) = stage {
                    self.peer.abuse.expect_late(partial.assembly.missing());
                }
                self.end.tally.aborted += u64::from(self.is_counting());
                let text = "server is draining";
                self.refuse_call(id, Code::Unavailable, text, Flags::NOT_EXECUTED, now);
            }
        }
        self.note_drained();
    }
}
