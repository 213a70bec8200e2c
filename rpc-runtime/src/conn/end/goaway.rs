//! Goaway: what the peer says when it goes, and what its end of file means then.

use prost::Message;

use super::ending::Ending;
use crate::{
    conn::{
        Cause, PeerGoaway, Time,
        ids::MAX_ID,
        step::{Violation, protocol},
        types::Reach,
    },
    wire::frame::{
        Frame, MAX_TEXT,
        control::{Goaway, Reason},
        cut,
    },
};

impl Ending<'_> {
    /// Takes in a GOAWAY of the peer: fails the calls that it does not take. False if it was not expected.
    #[must_use]
    pub(in crate::conn) fn receive_goaway(&mut self, goaway: Goaway) -> bool {
        let (new, is_expected) = follow(self.peer.goaway(), &goaway, self.now);
        let (last_id, cause) = (new.last_id, new.cause());
        if let Cause::HelloRejected { .. } = cause {
            self.begin_closing(cause, Reach::Nothing);
            return true;
        }
        self.peer.set_goaway(new);
        self.ours
            .cut_above(last_id, &cause, self.outbox, self.wakes.woken());
        if let Some(account) = goaway.account {
            self.ours.settle(account, self.wakes.woken());
        }
        is_expected
    }

    /// What an end of file means now.
    pub(in crate::conn) fn cause_of_eof(&self) -> Cause {
        if let Some(closing) = self.end.closing() {
            return closing.cause.clone();
        }
        let is_wanted = self.end.is_closing_own() && self.ours.is_done_calling() && !self.ours.is_in_doubt();
        cause_of_eof(self.peer.goaway(), is_wanted)
    }
}

/// The GOAWAY in a frame.
pub(in crate::conn) fn parse_goaway(frame: &Frame) -> Result<Goaway, Violation> {
    match Goaway::decode(frame.payload.clone()) {
        Ok(goaway) => Ok(goaway),
        Err(_) => protocol("GOAWAY cannot be parsed"),
    }
}

/// What is known of the peer's end after one more GOAWAY, and whether this one was expected.
///
/// A drain sends three: the first names the highest id that there is, the second the last id that is taken, the third brings
/// the last account.
fn follow(old: Option<&PeerGoaway>, goaway: &Goaway, now: Time) -> (PeerGoaway, bool) {
    let last_id = match old {
        Some(old) => old.last_id.min(goaway.last_id),
        None => goaway.last_id.min(MAX_ID),
    };
    let is_last = goaway.account.is_some();
    let is_second = |old: &PeerGoaway| old.last_id == MAX_ID && last_id < MAX_ID;
    let is_next = |old: &PeerGoaway| is_second(old) || (is_last && !old.is_last);
    let is_expected = old.is_none_or(is_next);
    let new = PeerGoaway {
        reason: Reason::from_number(goaway.reason).unwrap_or(Reason::Drain),
        text: cut(&goaway.text, MAX_TEXT).into_owned(),
        last_id,
        drain: Time::from_millis(goaway.drain_ms),
        at: old.map_or(now, |old| old.at),
        is_last: is_last || old.is_some_and(|old| old.is_last),
    };
    (new, is_expected)
}

/// What an end of file means that this side has not asked for.
///
/// `is_wanted` says that both sides want the end, and that nothing is lost by it.
fn cause_of_eof(goaway: Option<&PeerGoaway>, is_wanted: bool) -> Cause {
    let lost = |text: &str| Cause::Lost {
        text: text.to_owned(),
        source: None,
    };
    let Some(goaway) = goaway else {
        return lost("peer closed the connection");
    };
    match goaway.reason {
        Reason::Protocol => Cause::Protocol {
            text: format!("peer says: {}", goaway.text),
        },
        Reason::Drain | Reason::MaxAge if is_wanted => Cause::Closed,
        Reason::Drain | Reason::MaxAge => lost("peer closed the connection at the end of its drain"),
        _ => goaway.cause(),
    }
}
