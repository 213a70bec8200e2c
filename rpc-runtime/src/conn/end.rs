//! End: how a connection comes to its end.
//!
//! The states of the connection stand here, and `ending` goes from one to the next. `drain_state` says how far
//! a drain has come and what is due next; `drain_goaways` tells the peer. What becomes of the open calls stands in
//! `theirs/open_at_drain`. `age` says when a connection drains by itself. `handshake` and `goaway` read what the
//! peer says of itself.

pub(super) mod age;
mod drain_goaways;
pub(super) mod drain_state;
pub(super) mod ending;
pub(super) mod goaway;
pub(super) mod handshake;

use self::drain_state::{Drain, DrainStep};
use super::{Cause, Cut, Settings, State, Time, outbox::Outbox};
use crate::wire::frame::control::Reason;

/// How far the connection is on the way to its end.
#[derive(Debug)]
pub(super) struct EndState {
    stage: LifeStage,
    /// Boxed, because few connections are at their end.
    drain: Option<Box<Drain>>,
    /// Why this side has ended the connection, if the peer is to blame.
    cut: Option<Cut>,
}

/// Where the connection stands, with what is true only there.
#[derive(Debug)]
pub(super) enum LifeStage {
    /// The peer's HELLO is not here.
    Handshaking,
    /// Frames go both ways.
    Open,
    /// Nothing new goes out; what is in the output is written, then the peer is given time to do the same.
    Closing(Closing),
    /// It is over.
    Closed(Cause),
}

/// What is left to do before the connection is closed.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) cause: Cause,
    /// When it is closed, done or not.
    pub(super) until: Time,
    /// True once everything is written, so that only the peer's end of file is awaited.
    pub(super) lingering: bool,
}

impl EndState {
    /// The beginning.
    pub(super) fn new() -> Self {
        Self {
            stage: LifeStage::Handshaking,
            drain: None,
            cut: None,
        }
    }

    /// Where the connection stands.
    #[inline]
    pub(super) fn stage(&self) -> &LifeStage {
        &self.stage
    }

    /// True while frames matter.
    #[inline]
    pub(super) fn is_live(&self) -> bool {
        matches!(self.stage, LifeStage::Handshaking | LifeStage::Open)
    }

    /// True while the peer's HELLO is not here.
    #[inline]
    pub(super) fn is_handshaking(&self) -> bool {
        matches!(self.stage, LifeStage::Handshaking)
    }

    /// True while frames go both ways.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        matches!(self.stage, LifeStage::Open)
    }

    /// True once the connection is over.
    #[inline]
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.stage, LifeStage::Closed(_))
    }

    /// What is left to do, while the connection is closing.
    pub(super) fn closing(&self) -> Option<&Closing> {
        match &self.stage {
            LifeStage::Closing(closing) => Some(closing),
            _ => None,
        }
    }

    /// Why nothing more can happen here, once that is so.
    pub(super) fn cause(&self) -> Option<&Cause> {
        match &self.stage {
            LifeStage::Handshaking | LifeStage::Open => None,
            LifeStage::Closing(closing) => Some(&closing.cause),
            LifeStage::Closed(cause) => Some(cause),
        }
    }

    /// The state that callers see.
    pub(super) fn state(&self, has_goaway: bool) -> State {
        match &self.stage {
            LifeStage::Closed(cause) => State::Closed(cause.clone()),
            LifeStage::Closing(_) => State::Closing,
            _ if self.drain.is_some() || has_goaway => State::Draining,
            LifeStage::Handshaking => State::Handshaking,
            LifeStage::Open => State::Open,
        }
    }

    /// The handshake has succeeded.
    pub(super) fn open(&mut self) {
        self.stage = LifeStage::Open;
    }

    /// Nothing new goes out any more.
    pub(super) fn begin_closing(&mut self, cause: Cause, until: Time) {
        self.stage = LifeStage::Closing(Closing {
            cause,
            until,
            lingering: false,
        });
    }

    /// Waits for the peer's end of file as soon as everything is written.
    ///
    /// If our OS took only part of the output, the rest is still in our buffer. If we close and the peer is still writing, the
    /// reset that it gets destroys that rest. So this side waits as long as the drain allows.
    #[inline]
    pub(super) fn linger_if_written(&mut self, outbox: &Outbox, settings: &Settings, now: Time) {
        let awaits_output = matches!(&self.stage, LifeStage::Closing(closing) if !closing.lingering);
        if awaits_output && outbox.is_taken() {
            self.linger(outbox, settings.soon(now));
        }
    }

    fn linger(&mut self, outbox: &Outbox, soon: Time) {
        let patient = self.drain_until().filter(|_| outbox.is_blocked());
        let until = match self.hard_limit() {
            Some(limit) => limit.min(soon),
            None => patient.map_or(soon, |until| until.max(soon)),
        };
        if let LifeStage::Closing(closing) = &mut self.stage {
            closing.lingering = true;
            closing.until = until;
        }
    }

    /// The connection is over.
    pub(super) fn close(&mut self, cause: Cause) {
        self.stage = LifeStage::Closed(cause);
    }

    /// Why this side has ended the connection, if the peer is to blame.
    pub(super) fn cut(&self) -> Option<Cut> {
        self.cut
    }

    /// Notes that this side ends the connection because of what the peer did or did not do. The first reason counts.
    pub(super) fn note_cut(&mut self, cut: Cut, settings: &Settings) {
        if self.cut.is_none() {
            cut.count(&settings.counts).add();
            self.cut = Some(cut);
        }
    }

    /// The end that this side has begun.
    #[inline]
    pub(super) fn drain(&self) -> Option<&Drain> {
        self.drain.as_deref()
    }

    /// The end that this side has begun.
    #[inline]
    pub(super) fn drain_mut(&mut self) -> Option<&mut Drain> {
        self.drain.as_deref_mut()
    }

    /// True if this side has begun the connection's end.
    #[inline]
    pub(super) fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// Begins the end, or changes how.
    pub(super) fn set_drain(&mut self, drain: Drain) {
        self.drain = Some(Box::new(drain));
    }

    /// Notes what the peer was told of the drain.
    pub(super) fn set_step(&mut self, step: DrainStep) {
        if let Some(drain) = self.drain_mut() {
            drain.step = step;
        }
    }

    /// Writes a GOAWAY.
    pub(super) fn put_goaway(&self, reason: Reason, last_id: u64, text: &str, outbox: &mut Outbox) {
        outbox.put_goaway(reason, last_id, text, self.announced(), None);
    }

    /// The time for open calls that the GOAWAY announces; zero if it announces none.
    pub(super) fn announced(&self) -> Time {
        self.drain()
            .and_then(|drain| drain.announced)
            .unwrap_or(Time::ZERO)
    }

    /// True if an id of the peer lies above the last one that is taken, as the peer was told.
    #[inline]
    pub(super) fn is_above_last(&self, id: u64) -> bool {
        match self.drain().map(|drain| drain.step) {
            Some(DrainStep::Final { last_id }) => id > last_id,
            Some(DrainStep::Announced { .. }) | None => false,
        }
    }

    /// True if our own calls are to end, too.
    pub(super) fn is_closing_own(&self) -> bool {
        self.drain()
            .is_some_and(|drain| drain.own || drain.aborted.is_some())
    }

    /// When the connection is closed at the latest, once the drain's time is over.
    pub(super) fn hard_limit(&self) -> Option<Time> {
        self.drain()?.hard_limit()
    }

    /// When the time for open calls is over, by our clock; none if there is no limit.
    pub(super) fn drain_until(&self) -> Option<Time> {
        self.drain()?.until
    }
}
