//! Packed frames of one-way requests.

use std::collections::VecDeque;

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    conn::{Uncovered, Unwanted, theirs::IntakeUse},
    wire::frame::{
        control::{Goaway, Progress},
        row::{MAX_ROW, row},
    },
};

pub(super) fn packed(id: u64) -> Header<'static> {
    header(Kind::Send, id, Flags::PACKED | Flags::END)
}

/// A server that has read a packed frame, with ids from 1.
pub(super) fn with_row<M: AsRef<[u8]>>(settings: Settings, messages: &[M]) -> Pair {
    let mut pair = Pair::with(super::settings(), settings);
    pair.server.inject(packed(1), &row(messages), pair.now);
    pair
}

pub(super) fn account(pair: &Pair) -> Progress {
    pair.server.conn.theirs.account().progress()
}

/// How many requests of the peer have missed their deadline.
pub(super) fn missed_deadlines(pair: &Pair) -> u64 {
    pair.server.conn.snapshot(pair.now).missed_deadlines
}

pub(super) fn dropped(pair: &Pair, reason: DropReason) -> u64 {
    let dropped = account(pair).dropped.into_iter();
    dropped
        .filter(|dropped| dropped.reason == reason.number())
        .map(|dropped| dropped.count)
        .sum()
}

/// What the peer lacks of its credit, and whether anything is left of its requests.
pub(super) fn assert_left(pair: &Pair) {
    let requests = pair.server.conn.theirs.requests();
    assert_eq!(requests.held(&settings()), (0, 0, 0));
    assert_eq!(requests.all_kept(), IntakeUse::default());
    assert_eq!(pair.server.conn.open_requests(), 0);
    assert_eq!(pair.server.conn.running_handlers(), 0);
}

/// Starts one-way requests of the client with these messages.
fn send<M: AsRef<[u8]>>(pair: &mut Pair, messages: &[M]) {
    for message in messages {
        let call = pair.start(Call::send(message.as_ref()));
        assert!(call.outcome.is_some_and(|outcome| outcome.is_ok()));
    }
}

/// The frames of one-way requests that the server has read: the first id, whether it is packed, and how long its payload is.
fn frames(pair: &Pair) -> Vec<(u64, bool, usize)> {
    let frames = pair.server.seen.iter().filter(|frame| frame.kind == Kind::Send);
    frames
        .map(|frame| (frame.id, frame.flags.contains(Flags::PACKED), frame.payload.len()))
        .collect()
}

#[test]
fn each_request_of_a_packed_frame_has_its_own_id_and_end() {
    let mut pair = with_row(settings(), &[&b"dog"[..], b"", b"cat", b"x"]);
    assert_eq!(pair.server.conn.open_requests(), 4);
    assert_eq!(pair.server.conn.waiting_requests(), 4);
    let arrived: Vec<_> = (0..4).map(|_| pair.server.accept(pair.now)).collect();
    let taken: Vec<_> = arrived
        .iter()
        .map(|arrived| (arrived.id.0, arrived.one_way, &arrived.payload.bytes()[..]))
        .collect();
    assert_eq!(
        taken,
        [
            (1, true, &b"dog"[..]),
            (3, true, b""),
            (5, true, b"cat"),
            (7, true, b"x")
        ]
    );
    let status = status(Code::Internal, "no");
    pair.server.reply(&arrived[0], b"", pair.now);
    pair.server
        .conn
        .end(arrived[1].id, End::Failed(&status), pair.now);
    pair.server.conn.end(arrived[2].id, refused(&status), pair.now);
    pair.server.conn.end(arrived[3].id, End::Dropped, pair.now);
    let account = account(&pair);
    assert_eq!((account.last_id, account.received), (7, 4));
    assert_eq!((account.handled, account.failed), (1, 1));
    assert_eq!(dropped(&pair, DropReason::UnknownProcedure), 1);
    assert_eq!(dropped(&pair, DropReason::Aborted), 1);
    assert_left(&pair);
    // The next id is free, and none that was used.
    pair.server
        .inject(header(Kind::Send, 9, Flags::END), b"next", pair.now);
    assert_eq!(pair.server.accept(pair.now).id, CallId(9));
    pair.server
        .inject(header(Kind::Send, 7, Flags::END), b"again", pair.now);
    assert!(matches!(pair.server.conn.state(), State::Closing));
}

#[test]
fn a_packed_frame_is_charged_once_and_pays_back_as_much() {
    // A length that takes more bytes than needed counts as it came.
    let mut bytes = row(&[&b"dog"[..], b""]);
    bytes.extend_from_slice(b"\x82\x80\x00ab");
    let mut pair = Pair::new();
    pair.server.inject(packed(1), &bytes, pair.now);
    let lacking = |pair: &Pair| pair.server.conn.theirs.requests().held(&settings()).2;
    assert_eq!(lacking(&pair), bytes.len() as i128 + 256);
    for left in [6, 5, 0] {
        let arrived = pair.server.accept(pair.now);
        pair.server.reply(&arrived, b"", pair.now);
        assert_eq!(lacking(&pair), left);
    }
    assert_left(&pair);
}

#[test]
fn a_frame_of_empty_messages_takes_no_more_memory_than_its_bytes() {
    let count = MAX_ROW as u64;
    let mut pair = with_row(settings(), &vec![b""; MAX_ROW]);
    assert_eq!(pair.server.conn.waiting_requests(), MAX_ROW);
    let requests = pair.server.conn.theirs.requests();
    assert_eq!((requests.held(&settings()).0, requests.capacity()), (0, 0));
    assert_eq!(requests.all_kept().bytes, count + 256);
    let mut batch = VecDeque::new();
    let now = pair.now;
    let first = ready(|cx| pair.server.conn.take_requests(&mut batch, 16, now, cx)).expect("requests");
    batch.push_front(first.first);
    assert_eq!(pair.server.conn.theirs.requests().held(&settings()).0, 16);
    pair.server.conn.take_back(&mut batch, pair.now);
    // The drain drops all of them, and those that were taken, too.
    pair.server.conn.abort_calls(pair.now);
    assert_eq!(account(&pair).received, count);
    assert_eq!(dropped(&pair, DropReason::Draining), count);
    assert_eq!(pair.server.conn.open_requests(), 0);
}

#[test]
fn handlers_of_one_packed_frame_are_no_more_than_a_peer_may_have() {
    let server = Settings {
        max_calls: 16,
        ..settings()
    };
    let mut pair = with_row(server, &vec![b""; 1000]);
    let running: Vec<_> = (0..32).map(|_| pair.server.accept(pair.now)).collect();
    assert!(!pair.server.has_request());
    pair.server.reply(&running[5], b"", pair.now);
    assert_eq!(pair.server.accept(pair.now).id, CallId(65));
    assert!(!pair.server.has_request());
}

#[test]
fn a_packed_frame_that_lies_ends_the_connection() {
    let with = |change: fn(&mut Header<'static>)| {
        let mut header = packed(3);
        change(&mut header);
        header
    };
    let fine = row(&[b"dog"]);
    let cases: [(&str, Header<'_>, Vec<u8>); 9] = [
        ("no message", packed(3), Vec::new()),
        ("a length beyond the end", packed(3), b"\x04dog".to_vec()),
        (
            "bytes behind the last message",
            packed(3),
            b"\x03dog\x80".to_vec(),
        ),
        ("a row that is too long", packed(3), row(&vec![b""; MAX_ROW + 1])),
        ("a message that is too long", packed(3), row(&[[7; 20], [7; 20]])),
        (
            "MORE",
            with(|header| header.flags = header.flags | Flags::MORE),
            fine.clone(),
        ),
        ("no END", header(Kind::Send, 3, Flags::PACKED), fine.clone()),
        ("compression", with(|header| header.encoding = 1), fine),
        ("ids beyond the last one", packed((1 << 63) - 1), row(&[b"", b""])),
    ];
    for (what, header, payload) in cases {
        let mut pair = Pair::with(
            settings(),
            Settings {
                max_message: 10,
                ..settings()
            },
        );
        pair.server.inject(packed(1), &row(&[b"0123456789"]), pair.now);
        pair.server.inject(header, &payload, pair.now);
        pair.server.transmit(pair.now);
        assert!(matches!(pair.server.conn.state(), State::Closing), "{what}");
        assert_eq!(account(&pair).received, 1, "{what}");
        pair.settle();
        let goaway = Goaway::decode(pair.client.last(Kind::Goaway).payload.clone()).unwrap();
        assert_eq!(goaway.last_id, 1, "{what}: nothing of the frame was taken");
    }
}

#[test]
fn a_packed_frame_with_metadata_ends_the_connection() {
    let mut pair = Pair::new();
    let mut metadata = Metadata::new();
    metadata.append("trace", &b"x"[..]);
    let mut header = packed(1);
    header.metadata = Some(&metadata);
    pair.server.inject(header, &row(&[b"dog"]), pair.now);
    assert!(matches!(pair.server.conn.state(), State::Closing));
}

#[test]
fn requests_of_a_packed_frame_without_credit_are_all_dropped() {
    let server = Settings {
        send_bytes: 64 << 10,
        ..settings()
    };
    let mut pair = Pair::with(settings(), server);
    let faults = pair.server.conn.peer.faults.left();
    pair.server
        .inject(header(Kind::Send, 1, Flags::END), &[0; 64 << 10], pair.now);
    pair.server.inject(packed(3), &row(&[b"a", b"b", b"c"]), pair.now);
    assert_eq!(dropped(&pair, DropReason::Overload), 3);
    assert_eq!(pair.server.conn.settings.counts.read().sends_refused, 3);
    assert_eq!(pair.server.conn.peer.faults.left(), faults - 1);
    assert_eq!(pair.server.conn.open_requests(), 1);
}

#[test]
fn a_side_that_serves_nothing_drops_all_requests_of_a_packed_frame() {
    let server = Settings {
        serves: false,
        ..settings()
    };
    let pair = with_row(server, &[b"a", b"b"]);
    assert_eq!(dropped(&pair, DropReason::UnknownProcedure), 2);
    assert_eq!(pair.server.conn.settings.counts.read().unknown_procedures, 2);
    assert_left(&pair);
}

#[test]
fn requests_of_a_packed_frame_expire_each_where_it_stands() {
    let mut header = packed(1);
    header.timeout_us = 5_000;
    let mut pair = Pair::new();
    pair.server
        .inject(header, &row(&[b"a", b"b", b"c", b"d"]), pair.now);
    let ended = pair.server.accept(pair.now);
    pair.server.reply(&ended, b"", pair.now);
    let runs = pair.server.accept(pair.now);
    assert_eq!(pair.server.conn.poll_timeout(), Some(ms(5)));
    pair.advance(ms(5));
    let unwanted = ready(|cx| pair.server.conn.poll_unwanted(runs.id, cx));
    assert_eq!(unwanted, Unwanted::Deadline);
    assert!(!pair.server.has_request());
    assert_eq!((account(&pair).handled, account(&pair).expired), (1, 2));
    pair.server.conn.end(runs.id, End::Dropped, pair.now);
    assert_eq!((account(&pair).handled, account(&pair).expired), (1, 3));
    assert_eq!(missed_deadlines(&pair), 3);
    assert_left(&pair);
}

#[test]
fn requests_of_a_packed_frame_run_after_the_end_of_their_connection() {
    let mut pair = with_row(settings(), &[b"a", b"b"]);
    let first = pair.server.accept(pair.now);
    pair.server.conn.handle_lost("gone", None, pair.now);
    let second = pair.server.accept(pair.now);
    pair.server.reply(&first, b"", pair.now);
    assert!(!pair.server.conn.leftovers().is_empty());
    pair.server.reply(&second, b"", pair.now);
    assert_eq!(pair.server.conn.leftovers(), Vec::<&str>::new());
    assert_eq!(account(&pair).handled, 2);
}

#[test]
fn a_packed_frame_waits_behind_an_unfinished_request() {
    let mut pair = Pair::new();
    let now = pair.now;
    let mut first = header(Kind::Send, 1, Flags::MORE | Flags::END);
    first.length = 4;
    pair.server.inject(first, b"ab", now);
    pair.server.inject(packed(3), &row(&[b"a", b"b"]), now);
    pair.server.inject(header(Kind::Call, 7, Flags::END), b"c", now);
    assert!(!pair.server.has_request());
    pair.server.inject(header(Kind::Data, 1, Flags::NONE), b"cd", now);
    let ids: Vec<_> = (0..4).map(|_| pair.server.take().id.0).collect();
    assert_eq!(ids, [1, 3, 5, 7]);
}

#[test]
fn requests_of_a_packed_frame_that_are_taken_back_come_first_again() {
    let mut pair = with_row(settings(), &[b"a", b"b", b"c", b"d", b"e"]);
    let now = pair.now;
    let mut batch = VecDeque::new();
    let first = ready(|cx| pair.server.conn.take_requests(&mut batch, 3, now, cx)).expect("requests");
    batch.push_front(first.first);
    batch.pop_front();
    pair.server.conn.take_back(&mut batch, now);
    let ids: Vec<_> = (0..4).map(|_| pair.server.take().id.0).collect();
    assert_eq!(ids, [3, 5, 7, 9]);
    assert!(!pair.server.has_request());
}

#[test]
fn a_settle_waits_for_all_requests_of_a_packed_frame() {
    let mut pair = with_row(settings(), &[b"a", b"b", b"c"]);
    let now = pair.now;
    let mut settle = header(Kind::Call, 7, Flags::END);
    settle.procedure = CONTROL;
    pair.server.inject(settle, b"", now);
    // Of three, one has been handed out when it asks.
    let mut request = pair.server.accept(now);
    let asked = CallId(7);
    for left in (0..3).rev() {
        assert!(poll(|cx| pair.server.conn.poll_settled(asked, cx)).is_pending());
        pair.server.reply(&request, b"", now);
        if left > 0 {
            request = pair.server.accept(now);
        }
    }
    let progress = ready(|cx| pair.server.conn.poll_settled(asked, cx));
    assert_eq!((progress.received, progress.handled), (3, 3));
}

#[test]
fn one_ways_that_would_wait_together_share_a_frame() {
    let mut pair = Pair::new();
    send(&mut pair, &[&b"a"[..], b"", b"ccc"]);
    pair.settle();
    send(&mut pair, &[b"alone"]);
    pair.settle();
    // Each message has a key and a length of its own, unless it is empty.
    assert_eq!(frames(&pair), [(1, true, 4 + 1 + 6), (7, false, 7)]);
    for message in [&b"a"[..], b"", b"ccc", b"alone"] {
        let arrived = pair.server.accept(pair.now);
        let arrived_message = Vec::<u8>::decode(arrived.payload.bytes().clone());
        assert_eq!(arrived_message.as_deref(), Ok(message));
        pair.server.reply(&arrived, b"", pair.now);
    }
    pair.settle();
    pair.assert_quiescent();
    let window = i128::from(settings().send_bytes);
    assert_eq!(
        pair.client.conn.ours.credit().send_balance(),
        window - (11 + 256) - (7 + 256)
    );
    let barrier = pair.client.conn.start_barrier(pair.now);
    pair.settle();
    let progress = ready(|cx| pair.client.conn.poll_barrier(&barrier, cx)).expect("an account");
    assert_eq!((progress.last_id, progress.received, progress.handled), (7, 4, 4));
}

#[test]
fn only_one_ways_of_a_kind_share_a_frame() {
    let other = |change: fn(&mut Call)| {
        let mut call = Call::send(b"b");
        change(&mut call);
        call
    };
    let second: [(&str, Call); 5] = [
        ("another procedure", other(|call| call.procedure = ECHO + 1)),
        ("nested", other(|call| call.nested = true)),
        ("a deadline", Call::send(b"b").deadline(secs(1))),
        ("metadata", other(|call| call.metadata.append("trace", &b"x"[..]))),
        ("long", Call::send(vec![0; 5000])),
    ];
    for (what, call) in second {
        let mut pair = Pair::new();
        send(&mut pair, &[b"a"]);
        pair.start(call);
        pair.settle();
        let ids: Vec<_> = frames(&pair)
            .iter()
            .map(|&(id, is_packed, _)| (id, is_packed))
            .collect();
        assert_eq!(ids, [(1, false), (3, false)], "{what}");
    }
}

#[test]
fn a_call_or_a_flush_between_one_ways_separates_them() {
    let mut pair = Pair::new();
    send(&mut pair, &[b"a"]);
    let _call = pair.start(Call::new(b"c"));
    send(&mut pair, &[b"b", b"c"]);
    pair.client.conn.start_flush();
    send(&mut pair, &[b"d"]);
    pair.settle();
    let ids: Vec<_> = frames(&pair)
        .iter()
        .map(|&(id, is_packed, _)| (id, is_packed))
        .collect();
    assert_eq!(ids, [(1, false), (5, true), (9, false)]);
}

#[test]
fn no_one_way_gets_more_time_in_a_packed_frame_than_it_has() {
    // The time of the first, of the second, and whether they share a frame, in microseconds.
    for (first, second, shares) in [
        (1_000_000, 1_000_000, true),
        (1_000_000, 1_001_000, true),
        (1_000_000, 1_001_001, false),
        (1_000_000, 999_999, false),
        (500, 501, false),
    ] {
        let mut pair = Pair::new();
        for time in [first, second] {
            pair.start(Call::send(b"x").deadline(pair.now + Duration::from_micros(time)));
        }
        pair.settle();
        let frames = frames(&pair);
        assert_eq!(frames[0].1, shares, "{first} {second}");
        assert_eq!(
            pair.server
                .seen
                .iter()
                .rfind(|frame| frame.kind == Kind::Send)
                .map(|frame| frame.timeout_us),
            Some(if shares { first } else { second })
        );
    }
}

#[test]
fn nothing_is_packed_before_the_hello_of_the_peer() {
    let mut pair = Pair::fresh(settings(), settings());
    send(&mut pair, &[b"a", b"b"]);
    pair.settle();
    send(&mut pair, &[b"c", b"d"]);
    pair.settle();
    let ids: Vec<_> = frames(&pair)
        .iter()
        .map(|&(id, is_packed, _)| (id, is_packed))
        .collect();
    assert_eq!(ids, [(1, false), (3, false), (5, true)]);
}

#[test]
fn a_packed_frame_that_was_cut_lost_all_of_its_requests() {
    for cut in [1, 0] {
        let mut pair = Pair::new();
        send(&mut pair, &[b"first"]);
        pair.settle();
        send(&mut pair, &[b"a", b"b", b"c"]);
        let waiting = pair.client.conn.outbox.len();
        pair.client.open_window = waiting - cut;
        pair.client.transmit(pair.now);
        pair.client.conn.handle_lost("gone", None, pair.now);
        let no = if cut > 0 { 3 } else { 0 };
        assert_eq!(pair.client.conn.uncovered(), Uncovered { no, maybe: 4 - no });
    }
}

#[test]
fn a_goaway_amid_a_packed_frame_cuts_the_requests_above_its_last_id() {
    let mut pair = Pair::new();
    send(&mut pair, &[b"a", b"b", b"c", b"d", b"e"]);
    pair.settle();
    pair.client.inject_goaway(5, pair.now);
    assert_eq!(pair.client.conn.uncovered(), Uncovered { no: 2, maybe: 3 });
}

#[test]
fn one_ways_beyond_the_credit_wait_although_their_frame_is_open() {
    let server = Settings {
        send_bytes: 64 << 10,
        ..settings()
    };
    let mut pair = Pair::with(settings(), server);
    // 15 frames of 4,096 bytes and their overhead are charged.
    for _ in 0..15 {
        send(&mut pair, &[[7; 4096]]);
    }
    let charged = (64 << 10) - pair.client.conn.ours.credit().send_balance();
    let left = (64 << 10) - charged;
    assert!(left > 0, "{left}");
    let mut messages = 0;
    while pair.client.conn.ours.credit().send_balance() > 0 {
        send(&mut pair, &[[7; 1000]]);
        messages += 1;
    }
    assert!(messages > 0);
    let waits = pair.start(Call::send(b"x"));
    assert!(waits.is_waiting_in_queue());
}

/// Handles all requests that arrive.
fn handle_all(pair: &mut Pair) {
    pair.settle();
    while let Poll::Ready(Some(arrived)) = poll(|cx| pair.server.conn.poll_request(cx)) {
        pair.server
            .conn
            .started(arrived.id, pair.now)
            .expect("it is wanted");
        pair.server.reply(&arrived, b"", pair.now);
    }
    pair.settle();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]

    #[test]
    fn both_ends_agree_on_the_credit_of_one_ways_to_the_byte(
        rounds in vec(vec(0_usize..5000, 1..40), 1..10),
    ) {
        let server = Settings {
            send_bytes: 64 << 10,
            ..settings()
        };
        let mut pair = Pair::with(settings(), server);
        for lens in rounds {
            let sends = lens.iter().map(|&len| Call::send(vec![5; len]));
            let mut sends: Vec<_> = sends.map(|send| pair.start(send)).collect();
            handle_all(&mut pair);
            // Those without credit waited until it came back.
            for send in &mut sends {
                for _ in 0..lens.len() {
                    if !pair.poll(send) {
                        handle_all(&mut pair);
                    }
                }
                prop_assert!(send.outcome.is_some(), "its credit never came back");
            }
            handle_all(&mut pair);
            let sent = pair.client.conn.ours.credit().sends();
            prop_assert_eq!(sent, pair.server.conn.theirs.requests().send_credit());
            pair.assert_quiescent();
            let begins_with_row = lens.len() > 1 && lens[..2].iter().all(|&len| len < 4000);
            let has_row = pair.server.seen.drain(..).any(|frame| frame.flags.contains(Flags::PACKED));
            prop_assert!(has_row || !begins_with_row, "short messages did not share a frame");
        }
    }
}
