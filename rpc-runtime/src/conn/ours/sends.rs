//! Sends: what is known of our one-way requests, for which nothing comes back; so whether a lost one may be sent again.

use std::collections::VecDeque;

use crate::{
    conn::{
        Uncovered,
        ids::MAX_ID,
        tuning::{MAX_COVERING, MAX_RUNS},
        types::Reach,
    },
    metrics::{FateLabel, SendCounts},
    wire::frame::control::Progress,
};

/// Our one-way requests that no PONG has covered yet.
#[derive(Debug)]
pub(in crate::conn) struct Sends {
    /// Their ids, as runs of neighbours; the oldest are merged when there are too many runs.
    runs: VecDeque<SendRun>,
    /// How many requests are uncovered.
    uncovered: u64,
    /// The frames in the output that the OS does not have yet.
    unwritten: VecDeque<UnwrittenFrame>,
    /// How many requests they have.
    unwritten_sends: usize,
    /// The last id that the peer takes.
    last_id: u64,
    /// How many up to `last_id` were never written whole.
    lost: u64,
    /// Our unanswered pings that each cover more than the one before.
    pings: VecDeque<CoveringPing>,
    /// What the peer last said of what became of them; none as long as it had received none.
    account: Option<Box<Progress>>,
    /// Where they are counted; none if they are not.
    counts: Option<&'static SendCounts>,
    /// How many are not counted yet.
    uncounted: u64,
}

/// A frame in the output with the end of one-way requests: of one, or of several with neighbouring ids. They are all written when
/// its last byte is.
#[derive(Clone, Copy, Debug)]
struct UnwrittenFrame {
    first: u64,
    last: u64,
    /// Where it ends.
    end: u64,
}

impl UnwrittenFrame {
    /// How many of its requests have ids up to `last_id`.
    fn count(&self, last_id: u64) -> u64 {
        match self.last.min(last_id).checked_sub(self.first) {
            None => 0,
            Some(span) => span / 2 + 1,
        }
    }
}

/// A run of one-way requests, perhaps with calls between them.
#[derive(Clone, Copy, Debug)]
struct SendRun {
    first: u64,
    last: u64,
    count: u64,
}

/// A ping that stands behind all one-way requests up to an id.
#[derive(Clone, Copy, Debug)]
struct CoveringPing {
    ping: u64,
    last_id: u64,
}

impl Default for Sends {
    fn default() -> Self {
        Self {
            runs: VecDeque::new(),
            uncovered: 0,
            unwritten: VecDeque::new(),
            unwritten_sends: 0,
            last_id: MAX_ID,
            lost: 0,
            pings: VecDeque::new(),
            account: None,
            counts: None,
            uncounted: 0,
        }
    }
}

impl SendRun {
    /// How many are above `id` at least.
    fn surely_above(&self, id: u64) -> u64 {
        match id.checked_sub(self.first) {
            None => self.count,
            Some(span) => self.count.saturating_sub(span / 2 + 1),
        }
    }

    /// How many are above `id` at most.
    fn perhaps_above(&self, id: u64) -> u64 {
        match self.last.checked_sub(id) {
            None => 0,
            Some(span) => self.count.min(span.div_ceil(2)),
        }
    }
}

impl Sends {
    /// Counts in `counts` from now on.
    pub(in crate::conn) fn measure(&mut self, counts: Option<&'static SendCounts>) {
        self.counts = counts;
    }

    /// Counts the requests that were added since the last call.
    #[inline]
    pub(in crate::conn) fn count_sent(&mut self) {
        if self.uncounted > 0 {
            let count = std::mem::take(&mut self.uncounted);
            if let Some(counts) = self.counts {
                counts.sent(count);
            }
        }
    }

    /// Adds a one-way request.
    pub(in crate::conn) fn start(&mut self, id: u64) {
        self.uncovered += 1;
        self.uncounted += 1;
        match self.runs.back_mut() {
            Some(run) if run.last + 2 == id => {
                run.last = id;
                run.count += 1;
            }
            _ => {
                if self.runs.len() == MAX_RUNS {
                    self.merge_oldest();
                }
                self.runs.push_back(SendRun {
                    first: id,
                    last: id,
                    count: 1,
                });
            }
        }
    }

    /// Notes that a one-way request is in the output as a whole, up to `end`.
    pub(in crate::conn) fn finish(&mut self, id: u64, end: u64) {
        self.unwritten_sends += 1;
        self.unwritten.push_back(UnwrittenFrame {
            first: id,
            last: id,
            end,
        });
    }

    /// Notes that a one-way request was added to the frame of the one before it, which now goes up to `end`.
    #[inline]
    pub(in crate::conn) fn join(&mut self, id: u64, end: u64) {
        self.start(id);
        match self.unwritten.back_mut() {
            Some(frame) if frame.last + 2 == id => {
                self.unwritten_sends += 1;
                (frame.last, frame.end) = (id, end);
            }
            _ => self.finish(id, end),
        }
    }

    /// Notes that the OS has everything up to `taken`.
    pub(in crate::conn) fn taken(&mut self, taken: u64) {
        while let Some(frame) = self.unwritten.front().filter(|frame| frame.end <= taken) {
            self.unwritten_sends -= frame.count(MAX_ID) as usize;
            self.unwritten.pop_front();
        }
    }

    /// Notes a ping that goes out; `unfinished` is the first one-way request with fragments to come.
    pub(in crate::conn) fn ping(&mut self, ping: u64, unfinished: Option<u64>) {
        let last = self.runs.back().map_or(0, |run| run.last);
        let last_id = unfinished.map_or(last, |id| last.min(id - 1));
        let known = self.pings.back().map_or(0, |covering| covering.last_id);
        if last_id > known {
            if self.pings.len() == MAX_COVERING {
                // What it covers, the next one covers too.
                self.pings.pop_front();
            }
            self.pings.push_back(CoveringPing { ping, last_id });
        }
    }

    /// Notes the answer to a ping, which answers all earlier ones: the peer has read what stood before it.
    pub(in crate::conn) fn pong(&mut self, ping: u64) {
        let mut covered = None;
        while let Some(covering) = self.pings.front().filter(|covering| covering.ping <= ping) {
            covered = Some(covering.last_id);
            self.pings.pop_front();
        }
        if let Some(last_id) = covered {
            self.cover(last_id.min(self.last_id));
        }
    }

    /// Notes the last account of the peer, which covers all that it takes.
    pub(in crate::conn) fn settle(&mut self) {
        self.pings.clear();
        self.cover(self.last_id);
    }

    /// Keeps the account of the peer.
    pub(in crate::conn) fn keep(&mut self, account: &Progress) {
        if account.received > 0 {
            let known = self.account.get_or_insert_default();
            if let Some(counts) = self.counts {
                count_news(counts, known, account);
            }
            **known = account.clone();
        }
    }

    /// What the peer last said of what became of them; none as long as it had received none.
    pub(in crate::conn) fn account(&self) -> Option<&Progress> {
        self.account.as_deref()
    }

    /// How many covered requests had not ended when the peer last gave its account.
    pub(in crate::conn) fn pending(&self) -> u64 {
        self.account().map_or(0, Progress::pending)
    }

    /// Notes that the peer says that all before call `id` have ended.
    pub(in crate::conn) fn settled(&mut self, id: u64, progress: &Progress) {
        self.cover(id.min(self.last_id));
        self.keep(progress);
    }

    /// Notes that the peer takes none above `last_id`.
    pub(in crate::conn) fn cut_above(&mut self, last_id: u64) {
        self.last_id = self.last_id.min(last_id);
    }

    /// True if the peer did not take some, and said so.
    pub(in crate::conn) fn is_cut(&self) -> bool {
        self.runs.back().is_some_and(|run| run.last > self.last_id)
    }

    /// Notes that the connection is over: `reach` says what may still be written, and `unfinished` requests are lost.
    pub(in crate::conn) fn lost(&mut self, reach: Reach, unfinished: impl Iterator<Item = u64>) {
        let last_id = self.last_id;
        self.lost += unfinished.filter(|&id| id <= last_id).count() as u64;
        match reach {
            Reach::Taken => {
                let unwritten = self.unwritten.drain(..);
                self.pings.clear();
                self.lost += unwritten.map(|frame| frame.count(last_id)).sum::<u64>();
                self.unwritten_sends = 0;
            }
            Reach::Output => {}
            Reach::Nothing => self.last_id = 0,
        }
    }

    /// True if a PONG would tell anything new.
    pub(in crate::conn) fn is_uncovered(&self) -> bool {
        self.uncovered > 0
    }

    /// True if the peer may have taken requests without saying so.
    pub(in crate::conn) fn is_in_doubt(&self) -> bool {
        self.uncovered > 0 && self.uncovered().maybe > 0
    }

    /// True if a request that the peer takes has no ping behind it.
    pub(in crate::conn) fn is_without_ping(&self) -> bool {
        let pinged = self.pings.back().map_or(0, |covering| covering.last_id);
        let mut runs = self.runs.iter();
        runs.any(|run| run.first <= self.last_id && run.perhaps_above(pinged) > 0)
    }

    /// The uncovered requests.
    pub(in crate::conn) fn uncovered(&self) -> Uncovered {
        let above: u64 = self.runs.iter().map(|run| run.surely_above(self.last_id)).sum();
        let no = (above + self.lost).min(self.uncovered);
        Uncovered {
            no,
            maybe: self.uncovered - no,
        }
    }

    /// How many requests the OS does not have yet.
    pub(in crate::conn) fn unwritten(&self) -> usize {
        self.unwritten_sends
    }

    /// How much is kept apart from the account.
    #[cfg(any(test, fuzzing))]
    pub(in crate::conn) fn kept(&self) -> usize {
        self.unwritten.len() + self.pings.len()
    }

    /// Notes that the peer has read all up to `last_id`.
    fn cover(&mut self, last_id: u64) {
        while let Some(run) = self.runs.front_mut().filter(|run| run.first <= last_id) {
            let left = run.perhaps_above(last_id);
            self.uncovered -= run.count - left;
            if left > 0 {
                // The next id of the same side.
                run.first += 2 * ((last_id - run.first) / 2 + 1);
                run.count = left;
                return;
            }
            self.runs.pop_front();
        }
    }

    fn merge_oldest(&mut self) {
        if let (Some(oldest), Some(next)) = (self.runs.pop_front(), self.runs.front_mut()) {
            next.first = oldest.first;
            next.count += oldest.count;
        }
    }
}

/// Counts what an account says more than the one before.
fn count_news(counts: &SendCounts, old: &Progress, new: &Progress) {
    let count = |fate, old: u64, new: u64| {
        // No peer has handled more between two accounts than this, and none can make the counter overflow.
        let more = new.saturating_sub(old).min(u32::MAX.into());
        if more > 0 {
            counts.told(fate, more);
        }
    };
    count(FateLabel::HANDLED, old.handled, new.handled);
    count(FateLabel::FAILED, old.failed, new.failed);
    count(FateLabel::EXPIRED, old.expired, new.expired);
    for dropped in &new.dropped {
        let before = old.dropped.iter().find(|old| old.reason == dropped.reason);
        if let Some(fate) = FateLabel::dropped(dropped.reason) {
            count(fate, before.map_or(0, |before| before.count), dropped.count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(ids: &[u64]) -> Sends {
        let mut sends = Sends::default();
        ids.iter().for_each(|&id| sends.start(id));
        sends
    }

    fn told(sends: &Sends) -> (u64, u64) {
        let Uncovered { no, maybe } = sends.uncovered();
        (no, maybe)
    }

    #[test]
    fn each_pong_covers_the_sends_before_its_ping() {
        let mut sends = after(&[1, 3]);
        sends.ping(1, None);
        sends.start(7);
        sends.ping(2, None);
        sends.start(9);
        assert!(sends.is_without_ping());
        sends.pong(1);
        assert_eq!(told(&sends), (0, 2));
        sends.pong(2);
        assert_eq!(told(&sends), (0, 1));
        sends.ping(3, None);
        assert!(!sends.is_without_ping());
        sends.pong(3);
        assert_eq!(told(&sends), (0, 0));
    }

    #[test]
    fn ping_amid_the_fragments_of_a_send_covers_only_earlier_sends() {
        let mut sends = after(&[1, 3, 5, 7]);
        sends.ping(1, Some(5));
        sends.pong(1);
        assert_eq!(told(&sends), (0, 2));
    }

    #[test]
    fn sends_above_the_last_id_and_unwritten_sends_are_counted_once_each() {
        let mut sends = after(&[1, 3, 5, 9, 11]);
        sends.finish(3, 30);
        sends.finish(11, 110);
        sends.cut_above(5);
        assert_eq!(told(&sends), (2, 3));
        sends.lost(Reach::Taken, [1, 9].into_iter());
        assert_eq!(told(&sends), (4, 1));
    }

    #[test]
    fn a_frame_of_several_sends_is_lost_or_written_as_a_whole() {
        for (taken, last_id, expected) in [
            (59, MAX_ID, (4, 1)),
            (60, MAX_ID, (1, 4)),
            (59, 5, (4, 1)),
            (60, 5, (2, 3)),
        ] {
            let mut sends = after(&[1, 3]);
            sends.finish(1, 10);
            sends.finish(3, 30);
            sends.join(5, 45);
            sends.join(7, 60);
            sends.start(9);
            sends.finish(9, 80);
            assert_eq!(sends.unwritten(), 5);
            sends.taken(10);
            assert_eq!(sends.unwritten(), 4);
            sends.taken(taken);
            sends.cut_above(last_id);
            sends.lost(Reach::Taken, std::iter::empty());
            assert_eq!(told(&sends), expected, "{taken} {last_id}");
            assert_eq!(sends.unwritten(), 0);
        }
    }

    #[test]
    fn sends_left_in_the_output_were_not_executed() {
        let mut sends = after(&[1, 3]);
        sends.finish(1, 10);
        sends.finish(3, 30);
        sends.lost(Reach::Output, std::iter::empty());
        assert_eq!(told(&sends), (0, 2));
        sends.taken(10);
        sends.lost(Reach::Taken, std::iter::empty());
        assert_eq!(told(&sends), (1, 1));
    }

    #[test]
    fn counts_stay_true_when_there_are_too_many_runs() {
        // Every other id is a call's.
        let ids: Vec<u64> = (0..2 * MAX_RUNS as u64).map(|n| 1 + 4 * n).collect();
        let mut sends = after(&ids);
        assert_eq!(sends.runs.len(), MAX_RUNS);
        let total = ids.len() as u64;
        assert_eq!(told(&sends), (0, total));
        let middle = ids[ids.len() / 2 + 100];
        sends.ping(1, Some(middle + 2));
        sends.pong(1);
        assert_eq!(told(&sends), (0, total / 2 - 101));
        let early = ids[0];
        let mut sends = after(&ids);
        sends.cut_above(early);
        // Where exactly the merged ones lie is forgotten, so some may be in doubt that are not.
        let (no, maybe) = told(&sends);
        assert!(no < total && no + maybe == total, "{no} {maybe}");
    }
}
