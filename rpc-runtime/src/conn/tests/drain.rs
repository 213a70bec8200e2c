//! Drain: both GOAWAYs, what lies above the last id, and the end.

use super::*;
use crate::{
    conn::{Tally, Unwanted},
    wire::frame::control::{Goaway, Reason},
};

fn goaways(node: &Node) -> Vec<Goaway> {
    let frames = node.seen.iter().filter(|frame| frame.kind == Kind::Goaway);
    frames
        .map(|frame| Goaway::decode(frame.payload.clone()).unwrap())
        .collect()
}

fn drain(pair: &mut Pair, time: Time) {
    pair.server
        .conn
        .begin_drain(Reason::Drain, "restart", time, pair.now);
}

#[test]
fn idle_pair_drains_with_two_goaways_and_closes_both_ways() {
    let mut pair = Pair::new();
    let _id = pair.call(b"x");
    pair.echo();
    drain(&mut pair, secs(30));
    assert!(poll(|cx| pair.server.conn.poll_drained(cx)).is_pending());
    pair.settle();
    let goaways = goaways(&pair.client);
    assert_eq!(
        goaways.iter().map(|goaway| goaway.last_id).collect::<Vec<_>>(),
        [(1 << 63) - 1, 1]
    );
    assert!(
        goaways
            .iter()
            .all(|goaway| goaway.text == "restart" && goaway.drain_ms == 30_000)
    );
    ready(|cx| pair.server.conn.poll_drained(cx));
    assert!(matches!(pair.server.cause(), Cause::Closed));
    assert!(matches!(pair.client.cause(), Cause::Lost { .. }));
}

#[test]
fn draining_peer_finishes_open_calls_and_gets_no_new_ones() {
    let mut pair = Pair::new();
    let mut open = pair.call(b"slow");
    drain(&mut pair, secs(30));
    pair.settle();
    assert!(!pair.client.conn.takes_calls());
    assert!(matches!(pair.client.conn.state(), State::Draining));
    let goaway = pair.client.conn.peer_goaway().unwrap();
    assert_eq!(
        (goaway.reason, goaway.text.as_str(), goaway.drain),
        (Reason::Drain, "restart", secs(30))
    );
    let late = pair.start(Call::new(b"late"));
    assert!(matches!(
        &late.failure().cause,
        Cause::GoingAway {
            reason: Reason::Drain,
            ..
        }
    ));
    assert_eq!(late.executed(), Executed::No);
    pair.advance(secs(5));
    pair.echo();
    assert!(pair.poll(&mut open));
    assert_eq!(open.ok(), b"slow");
    pair.settle();
    assert!(pair.server.conn.is_closed() && pair.client.conn.is_closed());
    assert_eq!(
        pair.server.conn.tally(),
        Tally {
            completed: 1,
            ..Tally::default()
        }
    );
}

#[test]
fn second_goaway_goes_after_a_second_when_no_pong_comes() {
    let mut pair = Pair::new();
    drain(&mut pair, secs(30));
    pair.server.transmit(pair.now);
    pair.server.wire.clear();
    pair.now = ms(999);
    pair.server.conn.handle_timeout(pair.now);
    assert!(!pair.server.transmit(pair.now));
    pair.now = secs(1);
    pair.server.conn.handle_timeout(pair.now);
    assert!(pair.server.transmit(pair.now));
    assert!(matches!(pair.server.conn.state(), State::Closing));
}

#[test]
fn call_that_crosses_the_first_goaway_is_taken_and_one_above_the_last_id_is_not() {
    let mut pair = Pair::new();
    drain(&mut pair, secs(30));
    // Nothing of the server arrives: the client calls on.
    let mut taken = pair.start(Call::new(b"taken"));
    pair.client.transmit(pair.now);
    deliver(&mut pair.client, &mut pair.server, pair.now);
    pair.now += secs(1);
    pair.server.conn.handle_timeout(pair.now);
    let mut above = pair.start(Call::new(b"above"));
    pair.start(Call::send(b"above"));
    pair.client.transmit(pair.now);
    deliver(&mut pair.client, &mut pair.server, pair.now);
    assert_eq!(pair.server.conn.open_requests(), 1);

    pair.settle();
    assert!(above.flag.take(), "fails at once when the last id is known");
    assert!(pair.poll(&mut above));
    assert!(matches!(above.failure().cause, Cause::GoingAway { .. }));
    assert_eq!(above.executed(), Executed::No);
    assert_eq!(pair.client.conn.uncovered().no, 1);
    pair.echo();
    assert!(pair.poll(&mut taken));
    assert_eq!(taken.ok(), b"taken");
    assert_eq!(pair.client.count(Kind::Reply), 1);
}

#[test]
fn fragments_of_a_call_below_the_last_id_are_still_read() {
    let mut pair = Pair::new();
    pair.client.open_window = 200_000;
    let mut call = pair.start(Call::new(vec![5; 1 << 20]));
    pair.settle();
    drain(&mut pair, secs(30));
    pair.advance(secs(1));
    pair.client.open_window = usize::MAX;
    pair.settle();
    pair.echo();
    assert!(pair.poll(&mut call));
    assert_eq!(call.ok().len(), 1 << 20);
}

#[test]
fn waiting_callers_of_a_draining_peer_fail_as_not_executed() {
    let few = Settings {
        max_calls: 16,
        ..settings()
    };
    let mut pair = Pair::with(settings(), few);
    let mut calls: Vec<_> = (0..17).map(|_| pair.start(Call::new(b"x"))).collect();
    pair.settle();
    drain(&mut pair, secs(30));
    pair.settle();
    assert!(calls[16].flag.take() && pair.poll(&mut calls[16]));
    assert_eq!(
        (calls[16].failure().phase, calls[16].executed()),
        (crate::Phase::Queue, Executed::No)
    );
}

#[test]
fn both_sides_may_drain_at_once() {
    let mut pair = Pair::new();
    let mut there = pair.call(b"there");
    let mut back = Call::new(b"back");
    back.poll(&mut pair.server.conn, pair.now);
    pair.settle();
    drain(&mut pair, secs(30));
    pair.client
        .conn
        .begin_drain(Reason::Drain, "me too", secs(30), pair.now);
    pair.settle();
    assert!(pair.client.conn.end.is_live() && pair.server.conn.end.is_live());
    pair.echo();
    assert!(pair.poll(&mut there));
    assert!(pair.server.conn.end.is_live(), "its own call is open");
    let arrived = pair.client.accept(pair.now);
    pair.client.reply(&arrived, b"done", pair.now);
    pair.settle();
    assert!(back.poll(&mut pair.server.conn, pair.now));
    assert_eq!(back.ok(), b"done");
    pair.advance(secs(2));
    assert!(pair.client.conn.is_closed() && pair.server.conn.is_closed());
}

#[test]
fn handlers_of_a_draining_side_may_still_call_the_peer() {
    let mut pair = Pair::new();
    let _open = pair.call(b"slow");
    drain(&mut pair, secs(30));
    pair.settle();
    assert!(pair.server.conn.takes_calls());
    let mut back = Call::new(b"back");
    back.poll(&mut pair.server.conn, pair.now);
    pair.settle();
    let arrived = pair.client.accept(pair.now);
    pair.client.reply(&arrived, b"", pair.now);
    pair.settle();
    assert!(back.poll(&mut pair.server.conn, pair.now));
}

#[test]
fn open_control_call_is_answered_and_does_not_count() {
    let mut pair = Pair::new();
    let mut stop = pair.start(Call::control(b"stop"));
    let _work = pair.start(Call::new(b"work"));
    pair.settle();
    let control = pair.server.accept(pair.now);
    let flag = Arc::new(Flag::default());
    let waker = Waker::from(Arc::clone(&flag));
    drain(&mut pair, secs(30));
    pair.settle();
    assert!(
        pair.server
            .conn
            .poll_drained(&mut Context::from_waker(&waker))
            .is_pending()
    );
    pair.echo();
    assert!(flag.take());
    ready(|cx| pair.server.conn.poll_drained(cx));
    pair.advance(secs(3));
    assert!(
        pair.server.conn.end.is_live(),
        "closed before the control call is answered"
    );
    pair.server.reply(&control, b"report", pair.now);
    assert!(pair.poll(&mut stop));
    assert_eq!(stop.ok(), b"report");
    assert!(pair.server.conn.is_closed());
}

#[test]
fn end_of_the_drain_drops_and_refuses_what_is_open() {
    let mut pair = Pair::new();
    let mut running = pair.call(b"running");
    let handler = pair.server.accept(pair.now);
    pair.start(Call::send(b"running"));
    pair.settle();
    let one_way = pair.server.accept(pair.now);
    let mut queued = pair.start(Call::new(b"queued"));
    pair.start(Call::send(b"queued"));
    pair.settle();
    drain(&mut pair, secs(5));
    pair.advance(ms(4_999));
    assert!(poll(|cx| pair.server.conn.poll_unwanted(handler.id, cx)).is_pending());
    pair.advance(ms(1));
    assert_eq!(
        ready(|cx| pair.server.conn.poll_unwanted(handler.id, cx)),
        Unwanted::Drained
    );
    assert_eq!(
        ready(|cx| pair.server.conn.poll_unwanted(one_way.id, cx)),
        Unwanted::Drained
    );
    assert_eq!(
        (
            pair.server.conn.open_requests(),
            pair.server.conn.running_handlers()
        ),
        (2, 2)
    );
    let tally = Tally {
        completed: 0,
        aborted: 2,
        one_way_dropped: 2,
    };
    assert_eq!(pair.server.conn.tally(), tally);
    pair.server.conn.end(handler.id, End::Dropped, pair.now);
    pair.server.conn.end(one_way.id, End::Dropped, pair.now);
    assert_eq!(pair.server.conn.tally(), tally);
    ready(|cx| pair.server.conn.poll_drained(cx));
    assert!(pair.poll(&mut running) && pair.poll(&mut queued));
    assert_eq!(
        (running.status().code(), running.executed()),
        (Code::Unavailable, Executed::Maybe)
    );
    assert_eq!(
        (queued.status().code(), queued.executed()),
        (Code::Unavailable, Executed::No)
    );
    assert!(pair.server.conn.is_closed() && pair.client.conn.is_closed());
}

#[test]
fn stuck_handlers_and_a_peer_that_does_not_read_delay_no_drain() {
    let mut pair = Pair::new();
    let _call = pair.call(b"stuck");
    let _handler = pair.server.accept(pair.now);
    let _stop = pair.start(Call::control(b"stop"));
    pair.settle();
    let _control = pair.server.accept(pair.now);
    drain(&mut pair, secs(5));
    pair.server.open_window = 0;
    // Nobody answers the control call, nothing is taken, the peer never ends.
    for _ in 0..1000 {
        pair.server.transmit(pair.now);
        let Some(next) = pair.server.conn.poll_timeout() else {
            break;
        };
        pair.now = pair.now.max(next);
        pair.server.conn.handle_timeout(pair.now);
        if pair.server.conn.is_closed() {
            break;
        }
    }
    assert!(pair.server.conn.is_closed());
    assert!(pair.now <= ms(7_500), "{:?}", pair.now);
    assert_eq!(pair.server.conn.running_handlers(), 1);
}

#[test]
fn drain_whose_time_is_over_at_once_still_answers_the_control_call() {
    let mut pair = Pair::new();
    let mut call = pair.call(b"x");
    let handler = pair.server.accept(pair.now);
    let mut stop = pair.start(Call::control(b"stop"));
    pair.settle();
    let control = pair.server.accept(pair.now);
    drain(&mut pair, Time::ZERO);
    pair.server.conn.abort_calls(pair.now);
    pair.server.conn.end(handler.id, End::Dropped, pair.now);
    pair.advance(ms(900));
    pair.server.reply(&control, b"report", pair.now);
    pair.settle();
    assert!(pair.poll(&mut stop) && pair.poll(&mut call));
    assert_eq!(stop.ok(), b"report");
}

#[test]
fn replies_that_were_finished_before_the_end_are_delivered_to_a_slow_reader() {
    let mut pair = Pair::new();
    let mut call = pair.call(b"x");
    let handler = pair.server.accept(pair.now);
    pair.server.open_window = 0;
    pair.server.reply(&handler, &vec![1; 2 << 20], pair.now);
    drain(&mut pair, secs(10));
    for _ in 0..100 {
        pair.server.open_window = 50_000;
        pair.advance(ms(90));
    }
    assert!(pair.poll(&mut call));
    assert_eq!(call.ok().len(), 2 << 20);
}

#[test]
fn shorter_of_two_drains_counts_and_there_are_no_more_goaways() {
    let mut pair = Pair::new();
    let _call = pair.call(b"x");
    let handler = pair.server.accept(pair.now);
    drain(&mut pair, secs(30));
    drain(&mut pair, secs(2));
    drain(&mut pair, secs(60));
    pair.advance(secs(2));
    assert_eq!(
        ready(|cx| pair.server.conn.poll_unwanted(handler.id, cx)),
        Unwanted::Drained
    );
    assert_eq!(goaways(&pair.client).len(), 2);
}

#[test]
fn drain_before_the_handshake_closes_at_once_and_nothing_was_executed() {
    let mut pair = Pair::fresh(settings(), settings());
    let mut call = pair.start(Call::new(b"x"));
    drain(&mut pair, secs(30));
    ready(|cx| pair.server.conn.poll_drained(cx));
    pair.settle();
    assert!(pair.poll(&mut call));
    assert_eq!(call.executed(), Executed::No);
    assert!(pair.server.conn.is_closed() && pair.client.conn.is_closed());
}

#[test]
fn close_lets_calls_finish_and_then_ends_both_sides() {
    let mut pair = Pair::new();
    let mut open = pair.call(b"x");
    pair.client.conn.close(pair.now);
    assert!(!pair.client.conn.takes_calls());
    let late = pair.start(Call::new(b"late"));
    assert!(matches!(late.failure().cause, Cause::Closed));
    pair.advance(secs(5));
    assert!(pair.client.conn.end.is_live());
    pair.echo();
    pair.settle();
    assert!(pair.poll(&mut open));
    assert_eq!(open.ok(), b"x");
    assert!(matches!(pair.client.cause(), Cause::Closed));
    assert!(pair.server.conn.is_closed());
}

#[test]
fn close_lets_earlier_waiters_pass() {
    let few = Settings {
        max_calls: 16,
        ..settings()
    };
    let mut pair = Pair::with(settings(), few);
    let mut calls: Vec<_> = (0..17).map(|_| pair.start(Call::new(b"x"))).collect();
    pair.settle();
    pair.client.conn.close(pair.now);
    for _ in 0..16 {
        pair.echo();
    }
    pair.poll(&mut calls[16]);
    pair.settle();
    pair.echo();
    assert!(calls.iter_mut().all(|call| pair.poll(call)));
    assert!(calls.iter().all(|call| call.outcome.as_ref().unwrap().is_ok()));
    assert!(pair.client.conn.is_closed());
}

#[test]
fn close_writes_one_ways_before_it_ends() {
    let mut pair = Pair::new();
    pair.start(Call::send(vec![0; 2 << 20]));
    pair.start(Call::send(b"last"));
    pair.client.conn.close(pair.now);
    pair.settle();
    assert!(pair.client.conn.is_closed());
    assert_eq!(pair.server.accept(pair.now).payload.len(), (2 << 20) + 5);
    assert_eq!(pair.server.accept(pair.now).payload.len(), 6);
}

#[test]
fn close_does_not_wait_for_cancelled_calls() {
    let mut pair = Pair::new();
    let call = pair.call(b"x");
    let _handler = pair.server.accept(pair.now);
    pair.client.conn.close(pair.now);
    call.abandon(&mut pair.client.conn, pair.now);
    pair.settle();
    assert!(pair.client.conn.is_closed());
}

#[test]
fn close_of_an_unused_connection_ends_it_even_before_the_handshake() {
    let mut pair = Pair::fresh(settings(), settings());
    pair.client.conn.close(pair.now);
    pair.settle();
    assert!(pair.client.conn.is_closed() && pair.server.conn.is_closed());
}

#[test]
fn side_that_has_half_closed_reads_until_the_peer_ends_or_a_second_is_over() {
    let mut pair = Pair::new();
    pair.client.conn.close(pair.now);
    pair.client.transmit(pair.now);
    assert!(pair.client.conn.wants_shutdown());
    assert!(!pair.client.conn.is_closed());
    assert_eq!(pair.client.conn.poll_timeout(), Some(secs(1)));
    pair.client.conn.handle_timeout(secs(1));
    assert!(pair.client.conn.is_closed());
}

#[test]
fn fragments_that_come_after_the_end_of_the_drain_are_no_faults() {
    let mut pair = Pair::new();
    for id in [1, 3] {
        let kind = if id == 1 { Kind::Call } else { Kind::Send };
        let mut first = header(kind, id, Flags::END | Flags::MORE);
        first.length = 3 << 20;
        pair.server.inject(first, b"x", pair.now);
    }
    let mut stop = header(Kind::Call, 5, Flags::END);
    stop.procedure = CONTROL;
    pair.server.inject(stop, b"", pair.now);
    drain(&mut pair, Time::ZERO);
    pair.server.conn.abort_calls(pair.now);
    assert!(pair.server.conn.end.is_live());
    let before = pair.server.conn.peer.faults.left();
    for _ in 0..20 {
        pair.server
            .inject(header(Kind::Data, 1, Flags::MORE), &[0; 100_000], pair.now);
        pair.server
            .inject(header(Kind::Data, 3, Flags::MORE), &[0; 100_000], pair.now);
    }
    assert_eq!(pair.server.conn.peer.faults.left(), before);
    let tally = Tally {
        completed: 0,
        aborted: 1,
        one_way_dropped: 1,
    };
    assert_eq!(pair.server.conn.tally(), tally);
}

#[test]
fn long_reply_that_is_being_written_when_the_time_is_over_is_finished() {
    let mut pair = Pair::new();
    let mut call = pair.call(b"x");
    let handler = pair.server.accept(pair.now);
    pair.server.open_window = 0;
    pair.server.reply(&handler, &vec![1; 2 << 20], pair.now);
    drain(&mut pair, secs(5));
    pair.advance(secs(5));
    pair.server.open_window = usize::MAX;
    assert!(pair.poll(&mut call));
    assert_eq!(call.ok().len(), 2 << 20);
}
