//! Slots, credit and the queue in front of them.

use super::*;

/// Limits at the floor.
fn narrow() -> Settings {
    Settings {
        max_calls: 16,
        call_bytes: 64 << 10,
        send_bytes: 64 << 10,
        ..settings()
    }
}

fn narrow_pair() -> Pair {
    Pair::with(settings(), narrow())
}

#[test]
fn calls_beyond_the_slots_wait_and_go_in_order() {
    let mut pair = narrow_pair();
    let mut calls: Vec<_> = (0..18u8).map(|index| pair.start(Call::new([index]))).collect();
    assert!(calls[16].is_waiting_in_queue() && calls[17].is_waiting_in_queue());
    pair.settle();
    pair.echo();
    assert!(calls[16].flag.take());
    assert!(!calls[17].flag.take(), "woken without a slot");
    pair.poll(&mut calls[16]);
    pair.settle();
    pair.echo();
    assert!(calls[17].flag.take());
    pair.poll(&mut calls[17]);
    pair.settle();
    for _ in 0..16 {
        pair.echo();
    }
    assert!(calls.iter_mut().all(|call| pair.poll(call)));
    pair.assert_quiescent();
}

#[test]
fn no_caller_overtakes_an_earlier_waiter() {
    let mut pair = narrow_pair();
    let _open: Vec<_> = (0..16).map(|_| pair.start(Call::new(b"x"))).collect();
    let mut first = pair.start(Call::new(b"1"));
    let mut second = pair.start(Call::new(b"2"));
    pair.settle();
    pair.echo();
    // The second is polled first, and the newcomer comes when there is a slot.
    assert!(!pair.poll(&mut second));
    assert!(second.is_waiting_in_queue());
    let newcomer = pair.start(Call::new(b"3"));
    assert!(newcomer.is_waiting_in_queue());
    pair.poll(&mut first);
    assert!(!first.is_waiting_in_queue());
    pair.echo();
    assert!(second.flag.take(), "polled too early and forgotten");
    pair.poll(&mut second);
    assert!(first.id.unwrap() < second.id.unwrap());
}

#[test]
fn a_dropped_first_waiter_lets_the_next_pass() {
    let mut pair = narrow_pair();
    let _open: Vec<_> = (0..16).map(|_| pair.start(Call::new(b"x"))).collect();
    let first = pair.start(Call::new(b"1"));
    let mut second = pair.start(Call::new(b"2"));
    pair.settle();
    pair.echo();
    assert!(first.flag.take() && !second.flag.take());
    first.abandon(&mut pair.client.conn, pair.now);
    pair.client.wake();
    assert!(second.flag.take());
    pair.poll(&mut second);
    assert!(second.id.is_some());
}

#[test]
fn too_many_waiting_callers_fail_at_once() {
    let small = Settings {
        max_waiting: 2,
        ..settings()
    };
    let mut pair = Pair::with(small, narrow());
    let _open: Vec<_> = (0..18).map(|_| pair.start(Call::new(b"x"))).collect();
    let call = pair.start(Call::new(b"x"));
    assert!(matches!(call.failure().cause, Cause::QueueFull { max: 2 }));
    assert_eq!(
        (call.failure().phase, call.executed()),
        (crate::Phase::Queue, Executed::No)
    );
}

#[test]
fn call_may_overdraw_and_its_bytes_come_back_with_its_reply() {
    let mut pair = narrow_pair();
    let mut large = pair.start(Call::new(vec![0; 200 << 10]));
    let mut next = pair.start(Call::new(b"x"));
    assert!(large.id.is_some() && next.is_waiting_in_queue());
    pair.settle();
    pair.echo();
    assert!(next.flag.take());
    pair.poll(&mut next);
    pair.settle();
    pair.echo();
    assert!(pair.poll(&mut large) && pair.poll(&mut next));
    pair.assert_quiescent();
}

#[test]
fn one_ways_draw_on_their_credit_and_it_comes_back_when_half_is_owed() {
    let mut pair = narrow_pair();
    let len = 1000;
    let charge = 1003 + 256;
    let mut sends = 0;
    while pair.start(Call::send(vec![0; len])).outcome.is_some() {
        sends += 1;
        // Each has a frame of its own.
        pair.client.transmit(pair.now);
    }
    assert_eq!(sends, (64_u64 << 10).div_ceil(charge));
    pair.settle();
    let half = (32_u64 << 10).div_ceil(charge);
    for index in 1..=half {
        assert_eq!(pair.client.count(Kind::Credit), 0, "after {index}");
        let arrived = pair.server.accept(pair.now);
        pair.server.reply(&arrived, b"", pair.now);
        pair.settle();
    }
    assert_eq!(pair.client.last(Kind::Credit).length, half * charge);
    let send = pair.start(Call::send(b"x"));
    // The first that waited was dropped without a word: its place is still there.
    assert!(send.is_waiting_in_queue());
}

#[test]
fn one_way_may_overdraw_and_the_next_waits_until_it_is_gone() {
    let mut pair = narrow_pair();
    let large = pair.start(Call::send(vec![0; 300 << 10]));
    assert!(large.outcome.is_some());
    let mut next = pair.start(Call::send(b"x"));
    assert!(next.is_waiting_in_queue());
    pair.settle();
    assert!(!next.flag.take());
    let arrived = pair.server.accept(pair.now);
    pair.server.reply(&arrived, b"", pair.now);
    pair.settle();
    assert!(next.flag.take());
    assert!(pair.poll(&mut next));
    pair.settle();
    pair.server.accept(pair.now);
}

#[test]
fn call_behind_a_waiting_one_way_keeps_its_place() {
    let mut pair = narrow_pair();
    let _large = pair.start(Call::send(vec![0; 300 << 10]));
    let mut send = pair.start(Call::send(b"send"));
    let mut call = pair.start(Call::new(b"call"));
    pair.settle();
    assert!(call.is_waiting_in_queue());
    let arrived = pair.server.accept(pair.now);
    pair.server.reply(&arrived, b"", pair.now);
    pair.settle();
    assert!(send.flag.take() && call.flag.take());
    assert!(!pair.poll(&mut call));
    pair.poll(&mut send);
    pair.poll(&mut call);
    pair.settle();
    assert!(pair.server.take().one_way);
    assert!(!pair.server.take().one_way);
}

#[test]
fn credit_saturates() {
    let mut pair = Pair::new();
    for _ in 0..3 {
        let mut credit = header(Kind::Credit, 0, Flags::NONE);
        credit.length = u64::MAX;
        pair.client.inject(credit, b"", pair.now);
    }
    assert!(pair.start(Call::send(b"x")).outcome.is_some());
}

#[test]
fn control_calls_take_no_slot_and_pass_the_queue() {
    let mut pair = narrow_pair();
    let _open: Vec<_> = (0..20).map(|_| pair.start(Call::new(b"x"))).collect();
    let mut control: Vec<_> = (0..5).map(|_| pair.start(Call::control(b"stop"))).collect();
    assert!(control[3].id.is_some());
    assert!(control[4].is_waiting_in_queue(), "more than four at once");
    pair.settle();
    assert_eq!(pair.server.conn.open_requests(), 16);
    for _ in 0..16 {
        pair.server.take();
    }
    let arrived = pair.server.accept(pair.now);
    assert_eq!(arrived.procedure, CONTROL);
    assert_eq!(pair.server.conn.running_handlers(), 0);
    pair.server.reply(&arrived, b"", pair.now);
    pair.settle();
    assert!(control[4].flag.take());
    pair.poll(&mut control[4]);
    assert!(control[4].id.is_some());
}

#[test]
fn long_control_request_fails_locally() {
    let mut pair = Pair::new();
    let call = pair.start(Call::control(vec![0; 5000]));
    assert!(matches!(call.failure().cause, Cause::TooLong { max: 4096, .. }));
}

#[test]
fn peer_that_overruns_the_slots_is_refused_without_executing() {
    let mut pair = narrow_pair();
    for index in 0..17 {
        pair.server
            .inject(header(Kind::Call, 1 + 2 * index, Flags::END), b"", pair.now);
    }
    pair.server.transmit(pair.now);
    assert_eq!(pair.server.conn.open_requests(), 16);
    let mut reader = Node::new(Side::Connector, settings());
    read_raw(&mut reader, &mut pair.server);
    let reply = reader.last(Kind::Reply);
    assert_eq!((reply.id, reply.code), (33, Code::ResourceExhausted as u32));
    assert!(reply.flags.contains(Flags::NOT_EXECUTED));
}

#[test]
fn peer_that_overruns_its_one_way_credit_finds_it_in_the_account() {
    let mut pair = narrow_pair();
    for index in 0..3 {
        pair.server.inject(
            header(Kind::Send, 1 + 2 * index, Flags::END),
            &[0; 60 << 10],
            pair.now,
        );
    }
    let progress = pair.server.conn.theirs.account().progress();
    assert_eq!(progress.received, 3);
    assert_eq!(progress.dropped.len(), 1);
    assert_eq!(progress.dropped[0].reason, DropReason::Overload.number());
    assert_eq!(pair.server.conn.open_requests(), 2);
}

#[test]
fn more_than_four_control_calls_of_the_peer_are_refused() {
    let mut pair = Pair::new();
    for index in 0..5 {
        let mut call = header(Kind::Call, 1 + 2 * index, Flags::END);
        call.procedure = CONTROL;
        pair.server.inject(call, b"", pair.now);
    }
    for _ in 0..4 {
        pair.server.take();
    }
    assert!(!pair.server.has_request());
}

#[test]
fn peer_that_overruns_again_and_again_is_sent_away() {
    let mut pair = narrow_pair();
    let mut id = 1;
    while pair.server.conn.end.is_live() {
        pair.server
            .inject(header(Kind::Call, id, Flags::END), b"", pair.now);
        id += 2;
        assert!(id < 5000);
    }
    assert!(id / 2 >= 16 + 1023, "only {id}");
    let mut reader = Node::new(Side::Connector, settings());
    pair.server.transmit(pair.now);
    read_raw(&mut reader, &mut pair.server);
    let goaway =
        crate::wire::frame::control::Goaway::decode(reader.last(Kind::Goaway).payload.clone()).unwrap();
    assert_eq!(
        goaway.reason,
        crate::wire::frame::control::Reason::Excess.number()
    );
}

/// Decodes what `from` has written, without a connection that would object.
fn read_raw(reader: &mut Node, from: &mut Node) {
    reader.input.extend_from_slice(&from.wire.split());
    while let Some(frame) = reader.codec.decode(&mut reader.input).unwrap() {
        reader.seen.push(frame);
    }
}

#[test]
fn good_requests_make_up_for_faults() {
    let mut pair = Pair::new();
    for round in 0..2000u64 {
        pair.server
            .inject(header(Kind::Credit, 0, Flags::NONE), b"", pair.now);
        for call in 0..10 {
            pair.server.inject(
                header(Kind::Send, 1 + 2 * (10 * round + call), Flags::END),
                b"",
                pair.now,
            );
            let arrived = pair.server.accept(pair.now);
            pair.server.reply(&arrived, b"", pair.now);
        }
        pair.server.transmit(pair.now);
    }
    assert!(pair.server.conn.end.is_live());
}
