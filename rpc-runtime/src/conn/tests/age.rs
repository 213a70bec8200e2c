//! Connections that are too old, or were idle for too long.

use super::*;
use crate::{
    conn::{Tally, Uncovered, Unwanted},
    wire::frame::control::{Goaway, Reason},
};

/// Old after 100 s; open calls get 20 s.
fn mortal() -> Settings {
    Settings {
        max_age: Some(secs(100)),
        max_age_grace: secs(20),
        ..settings()
    }
}

/// Goes after 100 s without use.
fn restless() -> Settings {
    Settings {
        max_idle: Some(secs(100)),
        ..settings()
    }
}

fn goaways(node: &Node) -> Vec<Goaway> {
    let frames = node.seen.iter().filter(|frame| frame.kind == Kind::Goaway);
    frames
        .map(|frame| Goaway::decode(frame.payload.clone()).unwrap())
        .collect()
}

fn assert_closed(pair: &Pair) {
    assert!(pair.client.conn.is_closed() && pair.server.conn.is_closed());
    for conn in [&pair.client.conn, &pair.server.conn] {
        assert_eq!(conn.leftovers(), [""; 0]);
    }
}

#[test]
fn old_connection_is_drained_and_says_why() {
    let mut pair = Pair::with(settings(), mortal());
    pair.advance(ms(99_999));
    assert!(goaways(&pair.client).is_empty());
    assert!(matches!(pair.server.conn.state(), State::Open));
    pair.advance(ms(1));
    let goaways = goaways(&pair.client);
    assert_eq!(goaways.len(), 2);
    for goaway in goaways {
        assert_eq!(goaway.reason, Reason::MaxAge.number());
        assert_eq!(goaway.text, "connection is 100s old: Limits::max_age");
        assert_eq!(goaway.drain_ms, 20_000);
    }
    assert!(matches!(pair.server.cause(), Cause::Closed));
    assert_closed(&pair);
}

#[test]
fn age_is_spread_by_ten_percent() {
    for (random, at) in [(0, ms(90_000)), (u32::MAX, ms(110_000))] {
        let mut pair = Pair::with(settings(), Settings { random, ..mortal() });
        pair.advance(at - ms(1));
        assert!(pair.server.conn.end.is_live(), "{random}");
        pair.advance(ms(1));
        assert!(pair.server.conn.is_closed(), "{random}");
    }
}

#[test]
fn call_that_crosses_the_first_goaway_of_age_is_taken() {
    let mut pair = Pair::with(settings(), mortal());
    pair.now = secs(100);
    pair.server.conn.handle_timeout(pair.now);
    pair.server.transmit(pair.now);
    let mut crossing = pair.start(Call::new(b"x"));
    pair.settle();
    assert!(!pair.client.conn.takes_calls());
    pair.echo();
    assert!(pair.poll(&mut crossing));
    assert_eq!(crossing.ok(), b"x");
    assert_closed(&pair);
}

#[test]
fn open_calls_get_the_grace_and_are_cut_after_it() {
    let mut pair = Pair::with(settings(), mortal());
    pair.advance(secs(90));
    let mut done = pair.call(b"done");
    let done_handler = pair.server.accept(pair.now);
    let mut cut = pair.call(b"cut");
    let cut_handler = pair.server.accept(pair.now);
    pair.advance(secs(29));
    pair.server.reply(&done_handler, b"done", pair.now);
    assert!(pair.poll(&mut done));
    assert_eq!(done.ok(), b"done");
    pair.advance(ms(999));
    assert!(poll(|cx| pair.server.conn.poll_unwanted(cut_handler.id, cx)).is_pending());
    pair.advance(ms(1));
    let unwanted = ready(|cx| pair.server.conn.poll_unwanted(cut_handler.id, cx));
    assert_eq!(unwanted, Unwanted::Drained);
    pair.server.conn.end(cut_handler.id, End::Dropped, pair.now);
    assert!(pair.poll(&mut cut));
    assert_eq!(
        (cut.status().code(), cut.executed()),
        (Code::Unavailable, Executed::Maybe)
    );
    assert_closed(&pair);
}

#[test]
fn report_of_a_drain_omits_calls_cut_by_age() {
    let mut pair = Pair::with(settings(), mortal());
    let mut calls: Vec<_> = (0..3).map(|_| pair.call(b"x")).collect();
    let handlers: Vec<_> = (0..3).map(|_| pair.server.accept(pair.now)).collect();
    pair.advance(secs(101));
    pair.server.reply(&handlers[0], b"", pair.now);
    assert_eq!(pair.server.conn.tally(), Tally::default());
    // From here on it is the server's own drain.
    pair.server
        .conn
        .begin_drain(Reason::Drain, "restart", secs(5), pair.now);
    pair.server.reply(&handlers[1], b"", pair.now);
    let tally = |completed, aborted| Tally {
        completed,
        aborted,
        one_way_dropped: 0,
    };
    assert_eq!(pair.server.conn.tally(), tally(1, 0));
    pair.advance(secs(5));
    assert_eq!(pair.server.conn.tally(), tally(1, 1));
    pair.server.conn.end(handlers[2].id, End::Dropped, pair.now);
    assert_eq!(pair.server.conn.tally(), tally(1, 1));
    pair.settle();

    pair.settle();
    assert!(calls.iter_mut().all(|call| pair.poll(call)));
    assert_eq!(goaways(&pair.client).len(), 2);
    assert_closed(&pair);
}

#[test]
fn calls_cut_by_age_are_in_no_report() {
    let mut pair = Pair::with(settings(), mortal());
    let mut running_call = pair.call(b"running");
    let running = pair.server.accept(pair.now);
    let mut queued = pair.call(b"queued");
    pair.start(Call::send(b"queued"));
    pair.advance(secs(120));
    assert_eq!(pair.server.conn.tally(), Tally::default());
    pair.server.conn.end(running.id, End::Dropped, pair.now);
    assert!(pair.poll(&mut running_call) && pair.poll(&mut queued));
    assert_eq!(
        (running_call.executed(), queued.executed()),
        (Executed::Maybe, Executed::No)
    );
    assert_eq!(pair.server.conn.tally(), Tally::default());
    assert_closed(&pair);
}

#[test]
fn age_does_nothing_to_a_handshake_or_a_drain() {
    let young = Settings {
        max_age: Some(secs(3)),
        ..settings()
    };
    let mut pair = Pair::fresh(settings(), young.clone());
    pair.now = secs(5);
    pair.server.conn.handle_timeout(pair.now);
    assert!(matches!(pair.server.conn.state(), State::Handshaking));
    pair.settle();
    assert_eq!(pair.client.count(Kind::Hello), 1);
    // Too old already: it goes as soon as it may, and in the usual way.
    pair.advance(ms(0));
    assert_eq!(goaways(&pair.client).len(), 2);
    assert_closed(&pair);

    let mut pair = Pair::with(settings(), young);
    let mut call = pair.call(b"x");
    pair.server
        .conn
        .begin_drain(Reason::Drain, "restart", secs(30), pair.now);
    pair.advance(secs(10));
    let reasons: Vec<_> = goaways(&pair.client).iter().map(|goaway| goaway.reason).collect();
    assert_eq!(reasons, [Reason::Drain.number(); 2]);
    pair.echo();
    assert!(pair.poll(&mut call));
    assert_eq!(pair.server.conn.tally().completed, 1);
    assert_closed(&pair);
}

#[test]
fn message_that_is_half_sent_when_the_connection_is_old_arrives() {
    let mut pair = Pair::with(settings(), mortal());
    pair.advance(secs(99));
    pair.client.open_window = 300_000;
    let mut call = pair.start(Call::new(vec![5; 1 << 20]));
    pair.start(Call::send(vec![6; 1 << 20]));
    pair.settle();
    pair.advance(secs(5));
    assert_eq!(
        goaways(&pair.client).len(),
        2,
        "the PONG cannot go: after a second it is final"
    );
    pair.client.open_window = usize::MAX;
    pair.settle();
    let one = pair.server.accept(pair.now);
    let other = pair.server.accept(pair.now);
    for arrived in [one, other] {
        let message = Vec::<u8>::decode(arrived.payload.bytes().clone()).unwrap();
        assert_eq!(message.len(), 1 << 20);
        pair.server.reply(&arrived, &message, pair.now);
    }
    assert!(pair.poll(&mut call));
    assert_eq!(call.ok().len(), 1 << 20);
    assert_eq!(pair.client.conn.uncovered(), Uncovered::default());
    assert_closed(&pair);
}

#[test]
fn client_that_finds_its_connection_old_starts_no_more_and_finishes_what_is_open() {
    let mut pair = Pair::with(mortal(), settings());
    pair.advance(secs(95));
    let mut open = pair.call(b"open");
    pair.start(Call::send(b"sent"));
    pair.advance(secs(5));
    assert!(!pair.client.conn.takes_calls());
    let late = pair.start(Call::new(b"late"));
    assert_eq!(late.executed(), Executed::No);
    assert_eq!(goaways(&pair.server)[0].reason, Reason::MaxAge.number());
    pair.advance(secs(10));
    pair.echo();
    pair.echo();
    assert!(pair.poll(&mut open));
    assert_eq!(open.ok(), b"open");
    assert_eq!(pair.client.conn.uncovered(), Uncovered::default());
    assert_closed(&pair);
}

#[test]
fn calls_of_an_old_client_are_cut_after_the_grace() {
    let mut pair = Pair::with(mortal(), settings());
    let mut open = pair.call(b"open");
    let handler = pair.server.accept(pair.now);
    pair.advance(ms(119_999));
    assert!(!pair.poll(&mut open));
    pair.advance(ms(1));
    assert!(pair.poll(&mut open));
    assert!(matches!(open.failure().cause, Cause::Closed));
    assert_eq!(open.executed(), Executed::Maybe);
    pair.advance(secs(2));
    pair.server.conn.end(handler.id, End::Dropped, pair.now);
    assert_closed(&pair);
}

#[test]
fn both_sides_may_be_old_at_once() {
    let mut pair = Pair::with(mortal(), mortal());
    pair.advance(secs(95));
    let mut there = pair.call(b"there");
    let mut back = Call::new(b"back");
    back.poll(&mut pair.server.conn, pair.now);
    pair.start(Call::send(b"there"));
    Call::send(b"back").poll(&mut pair.server.conn, pair.now);
    pair.advance(secs(5));
    assert_eq!((goaways(&pair.client).len(), goaways(&pair.server).len()), (2, 2));
    for _ in 0..2 {
        pair.echo();
        let arrived = pair.client.accept(pair.now);
        pair.client.reply(&arrived, b"done", pair.now);
        pair.settle();
    }
    assert!(pair.poll(&mut there) && back.poll(&mut pair.server.conn, pair.now));
    assert_eq!((there.ok(), back.ok()), (&b"there"[..], &b"done"[..]));
    for conn in [&pair.client.conn, &pair.server.conn] {
        assert_eq!(conn.uncovered(), Uncovered::default());
    }
    pair.advance(secs(2));
    assert_closed(&pair);
}

#[test]
fn idle_connection_is_drained() {
    let mut pair = Pair::with(settings(), restless());
    pair.advance(secs(60));
    let mut call = pair.call(b"x");
    pair.echo();
    assert!(pair.poll(&mut call));
    pair.advance(ms(99_999));
    assert!(pair.server.conn.end.is_live());
    pair.advance(ms(1));
    let goaways = goaways(&pair.client);
    assert_eq!(goaways[0].reason, Reason::MaxAge.number());
    assert_eq!(goaways[0].text, "connection was idle for 100s: Limits::max_idle");
    assert_closed(&pair);
}

#[test]
fn client_may_be_the_one_that_finds_its_connection_idle() {
    let mut pair = Pair::with(restless(), settings());
    pair.advance(secs(100));
    assert_eq!(
        goaways(&pair.server)[0].text,
        "connection was idle for 100s: Limits::max_idle"
    );
    assert_closed(&pair);
    let mut pair = Pair::with(restless(), restless());
    pair.advance(secs(101));
    assert_closed(&pair);
}

#[test]
fn open_calls_and_unfinished_messages_count_as_use() {
    // A call that runs long, and one that nobody waits for any more.
    let mut pair = Pair::with(restless(), restless());
    let abandoned = pair.call(b"x");
    let handler = pair.server.accept(pair.now);
    abandoned.abandon(&mut pair.client.conn, pair.now);
    pair.advance(secs(300));
    assert!(pair.client.conn.end.is_live() && pair.server.conn.end.is_live());
    pair.server.conn.end(handler.id, End::Dropped, pair.now);
    pair.settle();
    pair.advance(ms(99_999));
    assert!(pair.client.conn.end.is_live());
    pair.advance(ms(1));
    assert_closed(&pair);

    // A one-way request whose handler runs.
    let mut pair = Pair::with(settings(), restless());
    let mut send = Call::send(b"x").deadline(secs(1000));
    send.poll(&mut pair.client.conn, pair.now);
    pair.settle();
    let handler = pair.server.accept(pair.now);
    pair.advance(secs(300));
    assert!(pair.server.conn.end.is_live());
    pair.server.reply(&handler, b"", pair.now);
    pair.advance(secs(100));
    assert_closed(&pair);

    // A short message that the peer does not take.
    let impatient = Settings {
        max_idle: Some(secs(20)),
        ..settings()
    };
    let mut pair = Pair::with(impatient, settings());
    pair.client.open_window = 0;
    pair.start(Call::send(b"x"));
    pair.advance(secs(29));
    assert!(pair.client.conn.takes_calls());

    // A message of which the peer has not taken all, or not sent all.
    let mut pair = Pair::with(restless(), restless());
    pair.client.open_window = 200_000;
    pair.start(Call::send(vec![0; 1 << 20]).deadline(secs(1000)));
    for _ in 0..12 {
        pair.advance(secs(20));
        pair.client.open_window = 66_000;
    }
    assert!(goaways(&pair.client).is_empty() && goaways(&pair.server).is_empty());
}

#[test]
fn pings_do_not_count_as_use() {
    let watchful = Settings {
        keep_alive: Some(secs(30)),
        ..restless()
    };
    let mut pair = Pair::with(settings(), watchful);
    pair.advance(secs(100));
    assert!(pair.client.count(Kind::Ping) >= 3);
    assert_closed(&pair);
}

#[test]
fn unlimited_age_does_not_overflow() {
    let endless = Settings {
        max_age: Some(Time::MAX),
        max_age_grace: Time::MAX,
        max_idle: Some(Time::MAX),
        random: u32::MAX,
        ..settings()
    };
    let mut pair = Pair::with(endless.clone(), endless);
    pair.advance(secs(1000));
    assert!(pair.client.conn.end.is_live());
    let none = Settings {
        max_age: Some(Time::ZERO),
        max_age_grace: Time::ZERO,
        ..settings()
    };
    let mut pair = Pair::with(settings(), none);
    pair.advance(secs(3));
    assert_closed(&pair);
}
