//! Packed frames of one-way requests whose handlers run one after the other.

use super::{
    packed_sends::{account, assert_left, dropped, missed_deadlines, packed, with_row},
    *,
};
use crate::{
    conn::{ArrivedRow, Tally, Unwanted},
    wire::frame::{control::Reason, row::row},
};

/// Takes the row that is next.
fn take_row(pair: &mut Pair) -> ArrivedRow {
    let (procedure, depth) = pair.server.conn.next_row().expect("a row");
    assert_eq!((procedure, depth), (ECHO, 0));
    pair.server.conn.take_row(pair.now).expect("a row")
}

fn put_back(pair: &mut Pair, next: u64) {
    pair.server.conn.put_row_back(CallId(next), pair.now);
}

fn part(pair: &mut Pair, id: u64) {
    pair.server.conn.part_from_row(CallId(id));
}

fn handled(pair: &mut Pair, id: u64) {
    pair.server.conn.handled(CallId(id), pair.now);
}

/// How many requests the peer knows of: handled, failed, expired and aborted.
fn ends(pair: &Pair) -> (u64, u64, u64, u64) {
    let account = account(pair);
    let aborted = dropped(pair, DropReason::Aborted);
    (account.handled, account.failed, account.expired, aborted)
}

fn is_unwanted(pair: &mut Pair, id: u64) -> Option<Unwanted> {
    match poll(|cx| pair.server.conn.poll_unwanted(CallId(id), cx)) {
        Poll::Ready(unwanted) => Some(unwanted),
        Poll::Pending => None,
    }
}

#[test]
fn requests_whose_handlers_end_well_are_counted_together() {
    let mut pair = with_row(settings(), &[&b"dog"[..], b"", b"cat", b"x"]);
    let mut taken = take_row(&mut pair);
    assert_eq!(taken.first, CallId(1));
    let messages: Vec<_> = std::iter::from_fn(|| taken.row.take().unwrap()).collect();
    assert_eq!(messages, [&b"dog"[..], b"", b"cat", b"x"]);
    assert_eq!(
        (
            pair.server.conn.open_requests(),
            pair.server.conn.running_handlers()
        ),
        (4, 1)
    );
    assert_eq!(pair.server.conn.load().one_ways, 4);
    put_back(&mut pair, 9);
    assert_eq!(ends(&pair), (4, 0, 0, 0));
    assert!(!pair.server.has_request());
    assert_left(&pair);
}

#[test]
fn a_row_that_stops_is_next_again_with_the_rest_of_its_charge() {
    let messages = [&b"dog"[..], b"", b"cat", b"x"];
    let mut pair = with_row(settings(), &messages);
    let lacking = |pair: &Pair| pair.server.conn.theirs.requests().held(&settings()).2;
    let first = pair.server.accept(pair.now);
    take_row(&mut pair);
    put_back(&mut pair, 5);
    assert_eq!(ends(&pair), (1, 0, 0, 0));
    // The first one runs, and two wait.
    assert_eq!(lacking(&pair), 4 + 256 + 4 + 2);
    assert_eq!(pair.server.conn.waiting_requests(), 2);
    let mut rest = take_row(&mut pair);
    assert_eq!(rest.first, CallId(5));
    assert_eq!(rest.row.take(), Ok(Some(Bytes::from_static(b"cat"))));
    put_back(&mut pair, 9);
    assert_eq!(lacking(&pair), 4 + 256);
    pair.server.reply(&first, b"", pair.now);
    assert_eq!(ends(&pair), (4, 0, 0, 0));
    assert_left(&pair);
}

#[test]
fn a_row_of_which_no_handler_started_is_next_again() {
    let mut pair = with_row(settings(), &[b"a", b"b"]);
    take_row(&mut pair);
    put_back(&mut pair, 1);
    assert_eq!(ends(&pair), (0, 0, 0, 0));
    let ids: Vec<_> = (0..2).map(|_| pair.server.take().id.0).collect();
    assert_eq!(ids, [1, 3]);
}

#[test]
fn a_request_that_is_parted_ends_on_its_own() {
    let mut pair = with_row(settings(), &[b"a", b"b", b"c", b"d"]);
    take_row(&mut pair);
    part(&mut pair, 5);
    part(&mut pair, 5);
    assert_eq!(ends(&pair), (2, 0, 0, 0));
    assert_eq!(pair.server.conn.running_handlers(), 2);
    put_back(&mut pair, 7);
    assert_eq!(
        (
            pair.server.conn.running_handlers(),
            pair.server.conn.open_requests()
        ),
        (1, 2)
    );
    take_row(&mut pair);
    // Another dispatcher has the rest: this changes nothing.
    part(&mut pair, 5);
    put_back(&mut pair, 9);
    assert_eq!(ends(&pair), (3, 0, 0, 0));
    let failed = status(Code::Internal, "no");
    pair.server.conn.end(CallId(5), End::Failed(&failed), pair.now);
    assert_eq!(ends(&pair), (3, 1, 0, 0));
    assert_left(&pair);
}

#[test]
fn a_row_that_is_late_expires_where_its_handlers_did_not_start() {
    let mut header = packed(1);
    header.timeout_us = 5_000;
    let mut pair = Pair::new();
    let messages = row(&[b"a", b"b", b"c", b"d"]);
    pair.server.inject(header, &messages, pair.now);
    take_row(&mut pair);
    assert_eq!(pair.server.conn.poll_timeout(), Some(ms(5)));
    pair.advance(ms(5));
    assert_eq!(ends(&pair), (0, 0, 0, 0));
    assert_eq!(missed_deadlines(&pair), 4);
    part(&mut pair, 3);
    assert_eq!(is_unwanted(&mut pair, 3), Some(Unwanted::Deadline));
    put_back(&mut pair, 5);
    assert_eq!(ends(&pair), (1, 0, 2, 0));
    pair.server.conn.end(CallId(3), End::Dropped, pair.now);
    assert_eq!(ends(&pair), (1, 0, 3, 0));
    assert_eq!(missed_deadlines(&pair), 4);
    assert!(!pair.server.has_request());
    assert_left(&pair);
}

#[test]
fn the_end_of_a_drain_counts_the_requests_of_a_running_row() {
    let mut pair = with_row(settings(), &[b"a", b"b", b"c", b"d"]);
    take_row(&mut pair);
    pair.server.conn.begin_drain(Reason::Drain, "", secs(5), pair.now);
    assert_eq!(is_unwanted(&mut pair, 1), None);
    pair.server.conn.abort_calls(pair.now);
    let tally = |completed, one_way_dropped| Tally {
        completed,
        aborted: 0,
        one_way_dropped,
    };
    assert_eq!(pair.server.conn.tally(), tally(0, 4));
    assert_eq!(is_unwanted(&mut pair, 1), Some(Unwanted::Drained));
    part(&mut pair, 3);
    put_back(&mut pair, 5);
    assert_eq!(pair.server.conn.tally(), tally(1, 3));
    assert_eq!(ends(&pair), (1, 0, 0, 0));
    assert_eq!(dropped(&pair, DropReason::Draining), 2, "they have not started");
    handled(&mut pair, 3);
    assert_eq!(pair.server.conn.tally(), tally(2, 2));
    assert_eq!(pair.server.conn.open_requests(), 0);
}

#[test]
fn a_task_that_waits_until_a_request_of_a_row_is_unwanted_learns_of_its_end() {
    let mut pair = with_row(settings(), &[b"a", b"b", b"c"]);
    take_row(&mut pair);
    let flag = Arc::new(Flag::default());
    let waker = Waker::from(Arc::clone(&flag));
    let mut cx = Context::from_waker(&waker);
    for id in [1, 3] {
        let unwanted = pair.server.conn.poll_unwanted(CallId(id), &mut cx);
        assert!(unwanted.is_pending());
    }
    assert_eq!(pair.server.conn.load().one_ways, 3);
    // The first has ended, and the second is pending.
    part(&mut pair, 3);
    pair.server.wake();
    assert!(flag.take());
    assert_eq!(is_unwanted(&mut pair, 1), Some(Unwanted::Disconnected));
    assert_eq!(is_unwanted(&mut pair, 3), None);
    handled(&mut pair, 3);
    pair.server.wake();
    assert!(flag.take());
    assert_eq!(is_unwanted(&mut pair, 5), None);
    put_back(&mut pair, 7);
    assert_eq!(is_unwanted(&mut pair, 5), Some(Unwanted::Disconnected));
    assert_eq!(ends(&pair), (3, 0, 0, 0));
    assert_left(&pair);
}

#[test]
fn a_look_whether_a_request_of_a_row_is_wanted_leaves_no_record() {
    let mut pair = with_row(settings(), &[b"a", b"b", b"c"]);
    take_row(&mut pair);
    let records = |pair: &Pair| pair.server.conn.theirs.requests().held(&settings()).0;
    for id in [1, 3, 5] {
        assert_eq!(pair.server.conn.unwanted(CallId(id)), None);
    }
    assert_eq!(records(&pair), 0);
    // A wait leaves one.
    assert_eq!(is_unwanted(&mut pair, 5), None);
    assert_eq!((records(&pair), pair.server.conn.unwanted(CallId(5))), (1, None));
    pair.server.conn.begin_drain(Reason::Drain, "", secs(5), pair.now);
    pair.server.conn.abort_calls(pair.now);
    for (id, unwanted) in [
        (1, Unwanted::Drained),
        (5, Unwanted::Drained),
        (7, Unwanted::Disconnected),
    ] {
        assert_eq!(pair.server.conn.unwanted(CallId(id)), Some(unwanted));
    }
    put_back(&mut pair, 7);
    assert_eq!(pair.server.conn.unwanted(CallId(5)), Some(Unwanted::Disconnected));
}

#[test]
fn a_settle_waits_for_the_requests_of_a_running_row() {
    let mut pair = with_row(settings(), &[b"a", b"b", b"c"]);
    take_row(&mut pair);
    assert_eq!(is_unwanted(&mut pair, 3), None);
    let mut settle = header(Kind::Call, 7, Flags::END);
    settle.procedure = CONTROL;
    pair.server.inject(settle, b"", pair.now);
    let asked = pair.server.accept(pair.now).id;
    assert!(poll(|cx| pair.server.conn.poll_settled(asked, cx)).is_pending());
    part(&mut pair, 3);
    assert!(poll(|cx| pair.server.conn.poll_settled(asked, cx)).is_pending());
    put_back(&mut pair, 7);
    assert!(poll(|cx| pair.server.conn.poll_settled(asked, cx)).is_pending());
    handled(&mut pair, 3);
    let progress = ready(|cx| pair.server.conn.poll_settled(asked, cx));
    assert_eq!((progress.received, progress.handled), (3, 3));
}

#[test]
fn a_running_row_goes_on_after_the_end_of_its_connection() {
    let mut pair = with_row(settings(), &[b"a", b"b", b"c"]);
    take_row(&mut pair);
    pair.server.conn.handle_lost("gone", None, pair.now);
    assert!(!pair.server.conn.leftovers().is_empty());
    put_back(&mut pair, 5);
    let last = pair.server.accept(pair.now);
    pair.server.reply(&last, b"", pair.now);
    assert_eq!(ends(&pair), (3, 0, 0, 0));
    assert_eq!(pair.server.conn.leftovers(), Vec::<&str>::new());
}

#[test]
fn a_row_is_not_taken_while_its_peer_has_as_many_handlers_as_it_may() {
    let server = Settings {
        max_calls: 16,
        ..settings()
    };
    let mut pair = with_row(server, &vec![b""; 100]);
    let running: Vec<_> = (0..32).map(|_| pair.server.accept(pair.now)).collect();
    assert!(pair.server.conn.next_row().is_none());
    pair.server.reply(&running[5], b"", pair.now);
    assert_eq!(take_row(&mut pair).first, CallId(65));
    put_back(&mut pair, 201);
    // One of those that run had ended, and then all of the row.
    assert_eq!(ends(&pair), (1 + 68, 0, 0, 0));
}

#[test]
fn requests_that_are_taken_one_by_one_stop_before_a_row() {
    let mut pair = Pair::new();
    let now = pair.now;
    pair.server
        .inject(header(Kind::Call, 1, Flags::END), b"call", now);
    pair.server.inject(packed(3), &row(&[b"a", b"b"]), now);
    assert!(pair.server.conn.next_row().is_none());
    let mut rest = VecDeque::new();
    let taken = ready(|cx| pair.server.conn.take_requests(&mut rest, 16, now, cx)).expect("requests");
    assert!(rest.is_empty() && taken.has_more);
    assert_eq!(
        (taken.first.id, take_row(&mut pair).first),
        (CallId(1), CallId(3))
    );
}
