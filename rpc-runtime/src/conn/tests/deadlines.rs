//! Deadlines, on both ends.

use super::*;
use crate::{Phase, conn::Unwanted};

#[test]
fn expired_call_is_never_sent() {
    let mut pair = Pair::new();
    pair.now = secs(1);
    let call = pair.start(Call::new(b"x").deadline(secs(1)));
    assert!(matches!(call.failure().cause, Cause::Deadline));
    assert_eq!(
        (call.failure().phase, call.executed()),
        (Phase::Queue, Executed::No)
    );
    pair.settle();
    assert_eq!(pair.server.count(Kind::Call), 0);
}

#[test]
fn remaining_time_travels_rounded_up() {
    let mut pair = Pair::new();
    let _call = pair.start(Call::new(b"x").deadline(Time::from_nanos(1_500_001)));
    let _soon = pair.start(Call::new(b"x").deadline(Time::from_nanos(1)));
    let _never = pair.start(Call::new(b"x"));
    pair.settle();
    let timeouts: Vec<_> = pair.server.seen.iter().map(|frame| frame.timeout_us).collect();
    assert_eq!(timeouts[1..], [1501, 1, 0]);
}

#[test]
fn deadline_of_a_sent_call_resolves_it_and_its_slot_comes_back_with_the_reply() {
    let mut pair = Pair::new();
    let mut call = pair.start(Call::new(b"x").deadline(ms(50)));
    pair.settle();
    let arrived = pair.server.accept(pair.now);
    pair.advance(ms(50));
    assert!(call.flag.take());
    assert!(pair.poll(&mut call));
    assert!(matches!(call.failure().cause, Cause::Deadline));
    assert_eq!(
        (call.failure().phase, call.executed()),
        (Phase::Wait, Executed::Maybe)
    );
    assert_eq!(pair.server.count(Kind::Cancel), 1);
    assert_eq!(pair.client.conn.ours.credit().calls().0, 1);
    pair.server.conn.end(arrived.id, End::Dropped, pair.now);
    pair.settle();
    pair.assert_quiescent();
}

#[test]
fn call_that_expires_before_it_is_written_may_still_be_executed() {
    let mut pair = Pair::new();
    pair.client.open_window = 0;
    let mut call = pair.start(Call::new(b"x").deadline(ms(50)));
    pair.advance(ms(50));
    pair.poll(&mut call);
    assert_eq!(
        (call.failure().phase, call.executed()),
        (Phase::Write, Executed::Maybe)
    );
}

#[test]
fn call_that_expires_amid_its_fragments_is_never_executed() {
    let mut pair = Pair::new();
    pair.client.open_window = 100_000;
    let mut call = pair.start(Call::new(vec![0; 2 << 20]).deadline(ms(50)));
    pair.settle();
    pair.now += ms(50);
    pair.client.conn.handle_timeout(pair.now);
    pair.client.open_window = usize::MAX;
    assert!(pair.poll(&mut call));
    assert_eq!(
        (call.failure().phase, call.executed()),
        (Phase::Write, Executed::No)
    );
    pair.settle();
    assert!(!pair.server.has_request());
    pair.assert_quiescent();
}

#[test]
fn waiting_caller_expires_in_the_queue() {
    let few = Settings {
        max_calls: 16,
        ..settings()
    };
    let mut pair = Pair::with(settings(), few);
    let _open: Vec<_> = (0..16).map(|_| pair.start(Call::new(b"x"))).collect();
    let mut call = pair.start(Call::new(b"x").deadline(ms(30)));
    let mut behind = pair.start(Call::new(b"y"));
    pair.advance(ms(29));
    assert!(!call.flag.take());
    pair.advance(ms(1));
    assert!(call.flag.take());
    assert!(pair.poll(&mut call));
    assert!(matches!(call.failure().cause, Cause::Deadline));
    assert_eq!(
        (call.failure().phase, call.executed()),
        (Phase::Queue, Executed::No)
    );
    pair.echo();
    assert!(behind.flag.take());
    pair.poll(&mut behind);
    assert!(behind.id.is_some());
}

#[test]
fn handler_is_dropped_at_its_deadline() {
    let mut pair = Pair::new();
    // The caller's timer does not fire: the server has its own.
    pair.server.inject(
        Header {
            timeout_us: 20_000,
            ..header(Kind::Call, 1, Flags::END)
        },
        b"",
        pair.now,
    );
    let arrived = pair.server.accept(pair.now);
    assert_eq!(arrived.deadline, Some(ms(20)));
    pair.now += ms(20);
    pair.server.conn.handle_timeout(pair.now);
    assert_eq!(
        ready(|cx| pair.server.conn.poll_unwanted(arrived.id, cx)),
        Unwanted::Deadline
    );
    pair.client.conn.ours.next_id();
    pair.server.conn.end(arrived.id, End::Dropped, pair.now);
    pair.settle();
    let reply = pair.client.last(Kind::Reply);
    assert_eq!(reply.code, Code::DeadlineExceeded as u32);
    assert_eq!(reply.flags, Flags::ABORTED);
}

#[test]
fn queued_call_that_expires_is_refused_as_not_executed() {
    let mut pair = Pair::new();
    let mut call = Header::new(Kind::Call, 1);
    call.flags = Flags::END;
    call.timeout_us = 20_000;
    pair.server.inject(call, b"", pair.now);
    pair.now += ms(20);
    pair.server.conn.handle_timeout(pair.now);
    assert!(!pair.server.has_request());
    pair.client.conn.ours.next_id();
    pair.settle();
    let reply = pair.client.last(Kind::Reply);
    assert_eq!(
        (reply.code, reply.flags),
        (Code::DeadlineExceeded as u32, Flags::NOT_EXECUTED)
    );
    assert_eq!(reply.queue_us, 20_000);
}

#[test]
fn one_ways_that_expire_are_counted() {
    let mut pair = Pair::new();
    for _ in 0..2 {
        pair.start(Call::send(b"x").deadline(ms(20)));
    }
    pair.settle();
    let arrived = pair.server.accept(pair.now);
    pair.advance(ms(20));
    assert_eq!(
        ready(|cx| pair.server.conn.poll_unwanted(arrived.id, cx)),
        Unwanted::Deadline
    );
    pair.server.conn.end(arrived.id, End::Dropped, pair.now);
    assert!(!pair.server.has_request());
    let progress = pair.server.conn.theirs.account().progress();
    assert_eq!((progress.received, progress.expired), (2, 2));
}

#[test]
fn one_way_without_a_deadline_has_the_default() {
    let mut pair = Pair::new();
    pair.start(Call::send(b"x"));
    let mut call = Call::new(b"x");
    call.poll(&mut pair.client.conn, pair.now);
    pair.settle();
    assert_eq!(pair.server.accept(pair.now).deadline, Some(secs(30)));
    assert_eq!(pair.server.accept(pair.now).deadline, None);
}

#[test]
fn endless_timeout_of_the_peer_saturates() {
    let mut pair = Pair::new();
    pair.now = secs(5);
    let mut call = header(Kind::Call, 1, Flags::END);
    call.timeout_us = u64::MAX;
    pair.server.inject(call, b"", pair.now);
    pair.server.accept(pair.now);
    pair.server.conn.handle_timeout(secs(10));
    assert!(pair.server.conn.end.is_live());
}

#[test]
fn reply_that_comes_after_the_deadline_is_swallowed() {
    let mut pair = Pair::new();
    let mut call = pair.start(Call::new(b"x").deadline(ms(50)));
    pair.settle();
    let arrived = pair.server.accept(pair.now);
    pair.now += ms(50);
    pair.client.conn.handle_timeout(pair.now);
    pair.server.reply(&arrived, b"late", pair.now);
    assert!(pair.poll(&mut call));
    assert!(matches!(call.failure().cause, Cause::Deadline));
    pair.settle();
    pair.assert_quiescent();
}

#[test]
fn half_a_reply_is_forgotten_at_the_deadline() {
    let mut pair = Pair::new();
    let _call = pair.start(Call::new(b"x").deadline(ms(50)));
    pair.settle();
    let mut reply = header(Kind::Reply, 1, Flags::MORE);
    reply.length = 1000;
    pair.client.inject(reply, &[0; 500], pair.now);
    assert_eq!(pair.client.conn.ours.calls().held(), (1, 500));
    pair.now += ms(50);
    pair.client.conn.handle_timeout(pair.now);
    assert_eq!(pair.client.conn.ours.calls().held(), (1, 0));
    pair.client
        .inject(header(Kind::Data, 1, Flags::NONE), &[0; 500], pair.now);
    assert_eq!(pair.client.conn.ours.credit().calls(), (0, 0));
}
