//! Requests that the server takes several at a time.

use std::collections::VecDeque;

use super::*;
use crate::{conn::Tally, wire::frame::control::Reason};

/// Takes up to `most` requests, whose handlers start without asking.
fn take(pair: &mut Pair, most: usize) -> VecDeque<Arrived> {
    let mut batch = VecDeque::new();
    let now = pair.now;
    let taken =
        ready(|cx| pair.server.conn.take_requests(&mut batch, most, now, cx)).expect("no more requests");
    assert!(!taken.asks);
    batch.push_front(taken.first);
    batch
}

fn has_none(pair: &mut Pair) -> bool {
    let now = pair.now;
    let mut rest = VecDeque::new();
    poll(|cx| pair.server.conn.take_requests(&mut rest, 3, now, cx)).is_pending()
}

fn take_back(pair: &mut Pair, mut batch: VecDeque<Arrived>) {
    pair.server.conn.take_back(&mut batch, pair.now);
    assert!(batch.is_empty());
}

fn ids<'a>(batch: impl IntoIterator<Item = &'a Arrived>) -> Vec<u64> {
    batch.into_iter().map(|arrived| arrived.id.0).collect()
}

#[test]
fn several_requests_are_taken_at_once_in_their_order() {
    let mut pair = Pair::new();
    let calls: Vec<_> = (0..5).map(|_| pair.start(Call::new(b"x"))).collect();
    pair.settle();
    let first = take(&mut pair, 3);
    let rest = take(&mut pair, 3);
    assert_eq!((ids(&first), ids(&rest)), (vec![1, 3, 5], vec![7, 9]));
    assert!(has_none(&mut pair));
    for arrived in first.iter().chain(&rest) {
        pair.server.conn.began(arrived.id, pair.now);
        pair.server.reply(arrived, b"y", pair.now);
    }
    pair.settle();
    for mut call in calls {
        assert!(pair.poll(&mut call));
    }
    pair.assert_quiescent();
}

#[test]
fn the_time_of_the_start_comes_with_the_reply() {
    let mut pair = Pair::new();
    let mut call = pair.call(b"x");
    let batch = take(&mut pair, 8);
    let began = pair.now + ms(7);
    pair.now += ms(12);
    pair.server.conn.began(batch[0].id, began);
    pair.server.reply(&batch[0], b"y", pair.now);
    assert_eq!(pair.server.conn.running_handlers(), 0);
    pair.settle();
    assert!(pair.poll(&mut call));
    let reply = pair.client.last(Kind::Reply);
    assert_eq!((reply.queue_us, reply.run_us), (7_000, 5_000));
    pair.assert_quiescent();
}

#[test]
fn a_taken_call_counts_as_executed_unless_its_handler_did_not_start() {
    for (has_started, flag) in [(true, Flags::ABORTED), (false, Flags::NOT_EXECUTED)] {
        let mut pair = Pair::new();
        let _call = pair.call(b"x");
        let batch = take(&mut pair, 8);
        assert_eq!(pair.server.conn.running_handlers(), 1);
        if !has_started {
            pair.server.conn.not_started(batch[0].id);
            assert_eq!(pair.server.conn.running_handlers(), 0);
        }
        pair.server.conn.end(batch[0].id, End::Dropped, pair.now);
        assert_eq!(pair.server.conn.running_handlers(), 0);
        pair.settle();
        assert!(
            pair.client.last(Kind::Reply).flags.contains(flag),
            "{has_started}"
        );
    }
}

#[test]
fn a_handler_that_asked_and_started_is_not_forgotten() {
    let mut pair = Pair::new();
    let _call = pair.call(b"x");
    let batch = take(&mut pair, 8);
    pair.server.conn.started(batch[0].id, pair.now).unwrap();
    pair.server.conn.not_started(batch[0].id);
    pair.server.conn.end(batch[0].id, End::Dropped, pair.now);
    pair.settle();
    assert!(pair.client.last(Kind::Reply).flags.contains(Flags::ABORTED));
}

#[test]
fn requests_that_are_taken_back_are_the_next_ones() {
    let mut pair = Pair::new();
    pair.start(Call::send(b"x"));
    let calls: Vec<_> = (0..4).map(|_| pair.start(Call::new(b"x"))).collect();
    pair.settle();
    let mut batch = take(&mut pair, 4);
    let all = ids(&batch);
    let started = batch.pop_front().unwrap();
    take_back(&mut pair, batch);
    assert_eq!(pair.server.conn.running_handlers(), 1);
    let again = take(&mut pair, 8);
    assert_eq!(ids(&again)[..3], all[1..]);
    assert_eq!(again.len(), 4, "what came behind them is still behind them");
    pair.server.conn.handled(started.id, pair.now);
    for arrived in again {
        assert_eq!(arrived.payload.bytes(), &b"\n\x01x"[..]);
        pair.server.reply(&arrived, b"y", pair.now);
    }
    pair.settle();
    for mut call in calls {
        assert!(pair.poll(&mut call));
    }
    pair.assert_quiescent();
}

#[test]
fn a_call_that_was_cancelled_before_it_is_taken_back_never_starts() {
    let mut pair = Pair::new();
    let mut calls: Vec<_> = (0..3).map(|_| pair.start(Call::new(b"x"))).collect();
    pair.settle();
    let batch = take(&mut pair, 8);
    calls.remove(1).abandon(&mut pair.client.conn, pair.now);
    pair.settle();
    take_back(&mut pair, batch);
    pair.settle();
    assert!(pair.client.last(Kind::Reply).flags.contains(Flags::NOT_EXECUTED));
    let again = take(&mut pair, 8);
    assert_eq!(ids(&again), [1, 5]);
}

#[test]
fn a_drain_that_is_over_refuses_what_is_taken_back() {
    let mut pair = Pair::new();
    let mut call = pair.call(b"x");
    pair.start(Call::send(b"x"));
    pair.settle();
    let batch = take(&mut pair, 8);
    pair.server.conn.begin_drain(Reason::Drain, "", secs(5), pair.now);
    pair.server.conn.abort_calls(pair.now);
    take_back(&mut pair, batch);
    let tally = Tally {
        completed: 0,
        aborted: 1,
        one_way_dropped: 1,
    };
    assert_eq!(pair.server.conn.tally(), tally);
    pair.settle();
    assert!(pair.poll(&mut call));
    assert_eq!(
        (call.status().code(), call.executed()),
        (Code::Unavailable, Executed::No)
    );
}

#[test]
fn no_more_are_taken_than_handlers_may_run() {
    let few = Settings {
        max_calls: 16,
        ..settings()
    };
    let mut pair = Pair::with(settings(), few);
    // 16 calls may be open, and one-ways take no slot.
    for _ in 0..40 {
        pair.start(Call::send(b"x"));
    }
    pair.settle();
    let batch = take(&mut pair, 100);
    assert_eq!(batch.len(), 32);
    assert!(has_none(&mut pair));
    for arrived in &batch {
        pair.server.conn.handled(arrived.id, pair.now);
    }
    assert_eq!(take(&mut pair, 100).len(), 8);
}

#[test]
fn a_handler_that_did_not_start_lets_the_next_one_start() {
    let few = Settings {
        max_calls: 16,
        ..settings()
    };
    let mut pair = Pair::with(settings(), few);
    for _ in 0..33 {
        pair.start(Call::send(b"x"));
    }
    pair.settle();
    let batch = take(&mut pair, 100);
    let flag = Arc::new(Flag::default());
    let waker = Waker::from(Arc::clone(&flag));
    let (mut rest, now) = (VecDeque::new(), pair.now);
    let mut cx = Context::from_waker(&waker);
    assert!(
        pair.server
            .conn
            .take_requests(&mut rest, 8, now, &mut cx)
            .is_pending()
    );
    pair.server.conn.not_started(batch[7].id);
    pair.server.wake();
    assert!(flag.take());
    assert_eq!(take(&mut pair, 100).len(), 1);
}

#[test]
fn one_is_taken_at_a_time_when_not_every_reply_has_room() {
    let mut pair = Pair::new();
    let _calls: Vec<_> = (0..4).map(|_| pair.start(Call::new(b"x"))).collect();
    pair.settle();
    let first = take(&mut pair, 1);
    pair.server.reply(&first[0], &vec![b'y'; 600 * 1024], pair.now);
    // The rest of that reply waits, and a short one has room.
    assert!(!pair.server.conn.has_room_for_all());
    assert_eq!(ids(&take(&mut pair, 8)), [3]);
}

#[test]
fn a_lost_connection_gives_its_one_way_calls_and_nothing_more() {
    let mut pair = Pair::new();
    pair.start(Call::send(b"x"));
    pair.start(Call::new(b"x"));
    pair.start(Call::send(b"x"));
    pair.settle();
    pair.server.conn.handle_lost("gone", None, pair.now);
    let batch = take(&mut pair, 8);
    assert!(batch.len() == 2 && batch.iter().all(|arrived| arrived.one_way));
    for arrived in &batch {
        pair.server.conn.handled(arrived.id, pair.now);
    }
    let mut rest = VecDeque::new();
    let now = pair.now;
    let end = ready(|cx| pair.server.conn.take_requests(&mut rest, 8, now, cx));
    assert!(end.is_none());
    assert_eq!(pair.server.conn.tally(), Tally::default());
}

#[test]
fn one_ways_of_a_lost_connection_are_taken_back_and_calls_are_gone() {
    let mut pair = Pair::new();
    pair.start(Call::send(b"x"));
    pair.start(Call::new(b"x"));
    pair.settle();
    let batch = take(&mut pair, 8);
    pair.server.conn.handle_lost("gone", None, pair.now);
    take_back(&mut pair, batch);
    let again = take(&mut pair, 8);
    assert!(again.len() == 1 && again[0].one_way);
    pair.server.conn.handled(again[0].id, pair.now);
    assert_eq!(pair.server.conn.open_requests(), 0);
    assert!(
        pair.server.conn.leftovers().is_empty(),
        "{:?}",
        pair.server.conn.leftovers()
    );
}
