//! What those see who look at a connection.

use super::{streams::Stream, *};
use crate::{
    api::call_state::{CallState, CancelledBy},
    conn::{CallSnapshot, Called},
};

fn calls(node: &mut Node, now: Time) -> Vec<CallSnapshot> {
    let (mut calls, left_out) = node.lock().list_calls(Time::ZERO, 100, now);
    assert_eq!(left_out, 0);
    calls.sort_by_key(|call| call.id.0);
    calls
}

fn states(node: &mut Node, now: Time) -> Vec<CallState> {
    calls(node, now).iter().map(|call| call.state).collect()
}

#[test]
fn a_call_is_listed_at_both_ends_from_its_request_to_its_reply() {
    let mut pair = Pair::new();
    let mut call = pair.start(Call::new(b"dog").deadline(secs(9)));
    assert_eq!(states(&mut pair.client, pair.now), [CallState::Sending]);
    pair.settle();
    assert_eq!(states(&mut pair.client, pair.now), [CallState::WaitsForReply]);
    pair.now += secs(2);
    let [queued] = &calls(&mut pair.server, pair.now)[..] else {
        panic!("one call")
    };
    assert_eq!(
        (queued.state, queued.called),
        (CallState::Queued, Called::Id(ECHO))
    );
    assert_eq!(
        (queued.age, queued.remaining, queued.running),
        (secs(2), Some(secs(7)), None)
    );
    let arrived = pair.server.accept(pair.now);
    pair.now += secs(1);
    let [running] = &calls(&mut pair.server, pair.now)[..] else {
        panic!("one call")
    };
    assert_eq!(
        (running.state, running.running),
        (CallState::Running, Some(secs(1)))
    );
    assert_eq!(
        (running.is_ours, running.one_way, running.count),
        (false, false, 1)
    );
    assert_eq!(
        running.called,
        Called::Id(ECHO),
        "it is known after the request was handed out"
    );
    let snapshot = pair.server.lock().snapshot(pair.now);
    assert_eq!(
        (snapshot.served, snapshot.made, snapshot.limits.max_calls),
        (1, 0, 1)
    );
    assert_eq!(snapshot.silence, secs(3));

    pair.server.reply(&arrived, b"brown", pair.now);
    pair.settle();
    assert!(calls(&mut pair.server, pair.now).is_empty());
    assert_eq!(states(&mut pair.client, pair.now), [CallState::Answered]);
    assert!(pair.poll(&mut call));
    assert!(calls(&mut pair.client, pair.now).is_empty());
    let idle = pair.server.lock().snapshot(pair.now);
    assert_eq!(
        (idle.served, idle.one_ways, idle.waiting, idle.held),
        (0, 0, 0, 0)
    );
    assert_eq!((idle.backlog, idle.stalled), (0, None));
}

#[test]
fn a_call_that_is_given_up_says_so_at_both_ends() {
    let mut pair = Pair::new();
    let call = pair.call(b"x");
    let _arrived = pair.server.accept(pair.now);
    call.abandon(&mut pair.client.conn, pair.now);
    pair.settle();
    assert_eq!(states(&mut pair.client, pair.now), [CallState::GivenUp]);
    let [cancelled] = &calls(&mut pair.server, pair.now)[..] else {
        panic!("its handler runs still")
    };
    assert_eq!(
        (cancelled.state, cancelled.cancelled_by),
        (CallState::Running, Some(CancelledBy::Caller))
    );
}

#[test]
fn one_way_requests_of_one_frame_are_one_entry() {
    let mut pair = Pair::new();
    for number in 0..20u8 {
        pair.start(Call::send([number]));
    }
    pair.settle();
    pair.now += ms(5);
    let [row] = &calls(&mut pair.server, pair.now)[..] else {
        panic!("{:?}", calls(&mut pair.server, pair.now))
    };
    assert_eq!(
        (row.one_way, row.count, row.state, row.age),
        (true, 20, CallState::Queued, ms(5))
    );
    assert_eq!(pair.server.lock().snapshot(pair.now).one_ways, 20);
    let arrived = pair.server.conn.take_row(pair.now).unwrap();
    pair.now += ms(5);
    let [running] = &calls(&mut pair.server, pair.now)[..] else {
        panic!("one row")
    };
    assert_eq!(
        (running.count, running.state, running.running),
        (20, CallState::Running, Some(ms(5)))
    );
    // The third is pending: it has a record of its own.
    let third = CallId(arrived.first.0 + 4);
    pair.server.conn.part_from_row(third);
    let counts: Vec<usize> = calls(&mut pair.server, pair.now)
        .iter()
        .map(|call| call.count)
        .collect();
    assert_eq!(counts, [1, 17]);
}

#[test]
fn a_stream_without_credit_waits_for_it() {
    let mut pair = Pair::new();
    let Stream { id, .. } = pair.open(Shape::RequestStream);
    while pair.client.put(id, &[0; 10_000], pair.now).is_ready() {
        pair.settle();
    }
    assert_eq!(states(&mut pair.client, pair.now), [CallState::WaitsForCredit]);
    assert_eq!(pair.server.message(id, pair.now).len(), 10_000);
}

#[test]
fn a_peer_that_takes_nothing_leaves_a_backlog_and_replies_that_wait_for_room() {
    let mut pair = Pair::new();
    pair.server.open_window = 0;
    let _calls: Vec<_> = (0..5).map(|_| pair.call(&[0; 1000])).collect();
    // Without room for replies no further handler would start.
    let arrived: Vec<_> = (0..5).map(|_| pair.server.accept(pair.now)).collect();
    let mut waiting = 0;
    for arrived in arrived {
        let len = 400_000;
        let (conn, id) = (&mut pair.server.conn, arrived.id);
        match poll(|cx| conn.poll_room(id, len, cx)) {
            Poll::Ready(()) => pair.server.reply(&arrived, &[0; 400_000], pair.now),
            Poll::Pending => waiting += 1,
        }
        pair.settle();
    }
    assert!(waiting > 0);
    pair.now += secs(10);
    let snapshot = pair.server.lock().snapshot(pair.now);
    assert_eq!(snapshot.stalled, Some(secs(10)));
    assert!(
        snapshot.backlog > 400_000 && snapshot.held > snapshot.backlog,
        "{snapshot:?}"
    );
    assert_eq!(snapshot.waiting, waiting);
    let waits = states(&mut pair.server, pair.now);
    let waits = waits.iter().filter(|state| **state == CallState::WaitsForRoom);
    assert_eq!(waits.count(), waiting);
}

#[test]
fn bytes_that_were_taken_and_the_round_trip_of_a_ping_are_told() {
    let mut pair = Pair::new();
    pair.now += secs(1);
    let before = pair.client.lock().snapshot(pair.now);
    assert_eq!(before.round_trip, None);
    let _call = pair.call(&[0; 1000]);
    assert!(pair.client.lock().snapshot(pair.now).sent > before.sent + 1000);
    // A barrier sends a PING, which is answered 30 ms later.
    let (conn, now) = (&mut pair.client.conn, pair.now);
    let send = &mut Call::send(b"x");
    send.poll(conn, now);
    let _barrier = conn.start_barrier(now);
    pair.client.transmit(pair.now);
    pair.now += ms(30);
    pair.settle();
    let after = pair.client.lock().snapshot(pair.now);
    assert_eq!(after.round_trip, Some(ms(30)));
}

#[test]
fn a_list_has_a_bound_and_may_leave_out_what_is_young() {
    let mut pair = Pair::new();
    let _old: Vec<_> = (0..3).map(|_| pair.call(b"old")).collect();
    pair.now += secs(1);
    let _young: Vec<_> = (0..3).map(|_| pair.call(b"young")).collect();
    let list = |node: &mut Node, older_than, most, now| {
        let (calls, left_out) = node.lock().list_calls(older_than, most, now);
        (calls.len(), left_out)
    };
    assert_eq!(list(&mut pair.server, Time::ZERO, 100, pair.now), (6, 0));
    assert_eq!(list(&mut pair.server, Time::ZERO, 4, pair.now), (4, 2));
    assert_eq!(list(&mut pair.server, ms(1), 100, pair.now), (3, 0));
    assert_eq!(list(&mut pair.client, ms(1), 2, pair.now), (2, 1));
}

#[test]
fn each_missed_deadline_is_counted_once_at_each_end() {
    let mut pair = Pair::new();
    let _running = pair.start(Call::new(b"x").deadline(ms(50)));
    pair.settle();
    let _arrived = pair.server.accept(pair.now);
    let _queued = pair.start(Call::new(b"x").deadline(ms(50)));
    let _patient = pair.start(Call::new(b"x").deadline(secs(50)));
    pair.settle();
    pair.now += ms(60);
    let missed = |node: &mut Node, now| {
        node.lock().handle_timeout(now);
        node.lock().snapshot(now).missed_deadlines
    };
    assert_eq!(missed(&mut pair.server, pair.now), 2);
    assert_eq!(missed(&mut pair.client, pair.now), 2);
    pair.now += ms(60);
    assert_eq!(missed(&mut pair.server, pair.now), 2);
    assert_eq!(missed(&mut pair.client, pair.now), 2);
}
