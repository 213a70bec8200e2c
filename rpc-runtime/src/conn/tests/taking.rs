//! Requests that the server takes several at a time.

use super::*;
use crate::conn::{Tally, handler::TakenRequests};

/// Takes up to `most` requests.
fn take(pair: &mut Pair, most: usize) -> Vec<Arrived> {
    let mut batch = Vec::new();
    let taken = ready(|cx| pair.server.conn.take_requests(&mut batch, most, cx));
    let expected = TakenRequests {
        count: batch.len(),
        ask_before_start: false,
    };
    assert_eq!(taken, Some(expected));
    batch
}

#[test]
fn several_requests_are_taken_at_once_in_their_order() {
    let mut pair = Pair::new();
    let calls: Vec<_> = (0..5).map(|_| pair.start(Call::new(b"x"))).collect();
    pair.settle();
    let first = take(&mut pair, 3);
    let rest = take(&mut pair, 3);
    let ids = |batch: &[Arrived]| batch.iter().map(|arrived| arrived.id.0).collect::<Vec<_>>();
    assert_eq!((ids(&first), ids(&rest)), (vec![1, 3, 5], vec![7, 9]));
    assert!(poll(|cx| pair.server.conn.take_requests(&mut Vec::new(), 3, cx)).is_pending());
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
    assert_eq!(pair.server.conn.running_handlers(), 0);
    pair.server.conn.began(batch[0].id, began);
    // A second time changes nothing.
    pair.server.conn.began(batch[0].id, pair.now);
    assert_eq!(pair.server.conn.running_handlers(), 1);
    pair.server.reply(&batch[0], b"y", pair.now);
    assert_eq!(pair.server.conn.running_handlers(), 0);
    pair.settle();
    assert!(pair.poll(&mut call));
    let reply = pair.client.last(Kind::Reply);
    assert_eq!((reply.queue_us, reply.run_us), (7_000, 5_000));
    pair.assert_quiescent();
}

#[test]
fn a_dropped_call_is_aborted_if_started_and_else_not_executed() {
    for (began, flag) in [(true, Flags::ABORTED), (false, Flags::NOT_EXECUTED)] {
        let mut pair = Pair::new();
        let _call = pair.call(b"x");
        let batch = take(&mut pair, 8);
        if began {
            pair.server.conn.began(batch[0].id, pair.now);
        }
        pair.server.conn.end(batch[0].id, End::Dropped, pair.now);
        pair.settle();
        assert!(pair.client.last(Kind::Reply).flags.contains(flag), "{began}");
    }
}

#[test]
fn no_more_requests_are_taken_than_short_replies_fit() {
    let mut pair = Pair::new();
    let _calls: Vec<_> = (0..100).map(|_| pair.start(Call::new(b"x"))).collect();
    pair.settle();
    // One batch of output is 128 KiB, and a short reply has 8 KiB.
    assert_eq!(take(&mut pair, 100).len(), 16);
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
        pair.server.conn.began(arrived.id, pair.now);
        pair.server.conn.handled(arrived.id, pair.now);
    }
    let end = ready(|cx| pair.server.conn.take_requests(&mut Vec::new(), 8, cx));
    assert_eq!(end, None);
    assert_eq!(pair.server.conn.tally(), Tally::default());
}
