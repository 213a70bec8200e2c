//! Pings, their floor, silence, and a peer that takes nothing.

use super::*;
use crate::conn::{Cut, News};
use crate::wire::frame::control::{Goaway, Pong, Reason};

fn watchful() -> Settings {
    Settings {
        keep_alive: Some(secs(30)),
        ..settings()
    }
}

/// Nobody calls it.
fn mere_caller(settings: Settings) -> Settings {
    Settings {
        serves: false,
        ..settings
    }
}

#[test]
fn connector_pings_after_silence_only_while_calls_are_open() {
    let mut pair = Pair::with(mere_caller(watchful()), settings());
    pair.advance(secs(100));
    assert_eq!(pair.server.count(Kind::Ping), 0);
    let _call = pair.call(b"x");
    assert_eq!(
        pair.server.kinds()[1..],
        [Kind::Call, Kind::Ping],
        "at once after a silence"
    );
    pair.advance(secs(29));
    assert_eq!(pair.server.count(Kind::Ping), 1);
    pair.advance(secs(2));
    assert_eq!(pair.server.count(Kind::Ping), 2);
}

#[test]
fn connector_that_serves_always_pings_after_silence() {
    let mut pair = Pair::with(watchful(), settings());
    pair.advance(secs(29));
    assert_eq!(pair.server.count(Kind::Ping), 0);
    pair.advance(secs(1));
    assert_eq!(pair.server.count(Kind::Ping), 1);
    pair.advance(secs(100));
    assert_eq!(pair.server.count(Kind::Ping), 4);
    assert!(pair.client.conn.end.is_live());
}

#[test]
fn acceptor_always_pings_after_silence() {
    let mut pair = Pair::with(settings(), watchful());
    pair.advance(secs(29));
    assert_eq!(pair.client.count(Kind::Ping), 0);
    pair.advance(secs(1));
    assert_eq!(pair.client.count(Kind::Ping), 1);
    assert_eq!(pair.server.count(Kind::Pong), 1);
}

#[test]
fn peer_that_does_not_answer_is_dead() {
    let mut pair = Pair::with(watchful(), settings());
    let mut call = pair.call(b"x");
    let mut now = secs(30);
    pair.client.conn.handle_timeout(now);
    pair.client.transmit(now);
    now += ms(19_999);
    pair.client.conn.handle_timeout(now);
    assert!(pair.client.conn.end.is_live());
    now += ms(1);
    pair.client.conn.handle_timeout(now);
    let Cause::Lost { text, .. } = pair.client.cause() else {
        panic!()
    };
    assert!(text.contains("20s"), "{text}");
    assert!(call.poll(&mut pair.client.conn, now));
    assert_eq!(call.executed(), Executed::Maybe);
}

#[test]
fn deadline_missed_in_silence_pings_at_once() {
    let mut pair = Pair::with(watchful(), settings());
    let mut call = pair.start(Call::new(b"x").deadline(ms(50)));
    pair.settle();
    pair.now = ms(50);
    pair.client.conn.handle_timeout(pair.now);
    assert!(call.poll(&mut pair.client.conn, pair.now));
    let news = |pair: &mut Pair, known| {
        let mut cx = Context::from_waker(Waker::noop());
        pair.client.conn.poll_news(known, &mut cx)
    };
    assert_eq!(news(&mut pair, 0), Poll::Ready(News::Doubts(1)));
    assert!(news(&mut pair, 1).is_pending());
    // What is heard ends the doubt.
    pair.settle();
    assert_eq!(pair.server.kinds()[1..], [Kind::Call, Kind::Cancel, Kind::Ping]);
    assert_eq!(news(&mut pair, 1), Poll::Ready(News::Heard));
    assert!(news(&mut pair, 0).is_pending());
}

#[test]
fn peer_that_missed_a_deadline_in_silence_is_dead_when_it_does_not_answer() {
    let mut pair = Pair::with(watchful(), settings());
    let _call = pair.start(Call::new(b"x").deadline(secs(5)));
    pair.settle();
    pair.client.conn.handle_timeout(secs(5));
    pair.client.transmit(secs(5));
    assert_eq!(pair.client.conn.poll_timeout(), Some(secs(25)));
}

#[test]
fn deadline_missed_while_the_peer_sends_pings_nothing() {
    let mut pair = Pair::with(watchful(), settings());
    let _call = pair.start(Call::new(b"x").deadline(ms(50)));
    pair.settle();
    let arrived = pair.server.accept(pair.now);
    let other = pair.call(b"y");
    let answered = pair.server.accept(pair.now);
    pair.server.conn.reply(answered.id, &Bytes::new(), pair.now);
    pair.settle();
    drop(other);
    pair.advance(ms(50));
    assert_eq!(pair.server.count(Kind::Cancel), 1);
    assert_eq!(pair.server.count(Kind::Ping), 0);
    pair.server.conn.end(arrived.id, End::Dropped, pair.now);
    pair.settle();
}

#[test]
fn any_byte_of_the_peer_keeps_it_alive() {
    let mut pair = Pair::with(watchful(), settings());
    let _call = pair.call(b"x");
    pair.client.conn.handle_timeout(secs(30));
    pair.client.transmit(secs(30));
    pair.client.conn.handle_read(secs(45));
    pair.client.conn.handle_timeout(secs(60));
    assert!(pair.client.conn.end.is_live());
    assert_eq!(pair.client.conn.poll_timeout(), Some(secs(65)));
}

#[test]
fn progress_of_a_write_that_had_to_wait_keeps_the_peer_alive() {
    let mut pair = Pair::new();
    pair.client.conn.put_ping(pair.now);
    pair.client.transmit(pair.now);
    let _call = pair.start(Call::new(vec![0; 1000]));
    pair.client.open_window = 1;
    pair.client.transmit(secs(10));
    pair.client.open_window = 1;
    pair.client.transmit(secs(15));
    pair.client.conn.handle_timeout(ms(34_999));
    assert!(pair.client.conn.end.is_live());
    pair.client.conn.handle_timeout(secs(35));
    assert!(matches!(pair.client.cause(), Cause::Lost { .. }));
}

#[test]
fn pong_answers_the_newest_ping_only() {
    let mut pair = Pair::new();
    for number in 1..=3u64 {
        pair.server
            .inject(Header::new(Kind::Ping, 0), &number.to_le_bytes(), pair.now);
        pair.server
            .inject(header(Kind::Send, 1 + 2 * number, Flags::END), b"", pair.now);
    }
    pair.server.transmit(pair.now);
    pair.client.conn.health.send_ping(pair.now);
    pair.client.conn.health.send_ping(pair.now);
    pair.client.conn.health.send_ping(pair.now);
    deliver(&mut pair.server, &mut pair.client, pair.now);
    assert_eq!(pair.client.count(Kind::Pong), 1);
    let pong = Pong::decode(pair.client.last(Kind::Pong).payload.clone()).unwrap();
    assert_eq!(pong.ping[..], 3u64.to_le_bytes());
    assert_eq!(pong.progress.unwrap().received, 3);
}

#[test]
fn peer_that_pings_below_the_floor_again_and_again_is_sent_away() {
    let mut pair = Pair::new();
    let ping = |pair: &mut Pair| {
        pair.server.inject(Header::new(Kind::Ping, 0), &[0; 8], pair.now);
        pair.server.conn.end.is_live()
    };
    // The first is free, the next two are strikes.
    assert!(ping(&mut pair) && ping(&mut pair) && ping(&mut pair));
    assert!(!ping(&mut pair));
    pair.server.transmit(pair.now);
    pair.client.conn.health.send_ping(pair.now);
    deliver(&mut pair.server, &mut pair.client, pair.now);
    let goaway = Goaway::decode(pair.client.last(Kind::Goaway).payload.clone()).unwrap();
    assert_eq!(goaway.reason, Reason::Excess.number());
}

#[test]
fn pings_between_requests_are_no_strikes() {
    let mut pair = Pair::new();
    for index in 0..10 {
        pair.server
            .inject(header(Kind::Send, 1 + 2 * index, Flags::END), b"", pair.now);
        pair.server.inject(Header::new(Kind::Ping, 0), &[0; 8], pair.now);
    }
    assert!(pair.server.conn.end.is_live());
}

#[test]
fn pings_between_fragments_of_a_reply_are_no_strikes() {
    let mut pair = Pair::new();
    let _call = pair.call(b"x");
    let mut reply = header(Kind::Reply, 1, Flags::MORE);
    reply.length = 1000;
    pair.client.inject(reply, b"x", pair.now);
    for _ in 0..10 {
        pair.client
            .inject(header(Kind::Data, 1, Flags::MORE), b"x", pair.now);
        pair.client.inject(Header::new(Kind::Ping, 0), &[0; 8], pair.now);
    }
    assert!(pair.client.conn.end.is_live());
}

#[test]
fn pings_above_the_floor_are_no_strikes() {
    let mut pair = Pair::new();
    for _ in 0..10 {
        pair.server.inject(Header::new(Kind::Ping, 0), &[0; 8], pair.now);
        pair.now += secs(6);
    }
    assert!(pair.server.conn.end.is_live());
}

#[test]
fn keep_alive_never_pings_below_the_peers_floor() {
    let hasty = Settings {
        keep_alive: Some(secs(1)),
        ..settings()
    };
    let mut pair = Pair::with(settings(), hasty);
    pair.advance(secs(60));
    let pings = pair.client.count(Kind::Ping);
    assert!((5..=7).contains(&pings), "{pings}");
    assert!(pair.client.conn.end.is_live());
}

#[test]
fn pong_without_a_ping_is_a_fault_but_not_the_end() {
    let mut pair = Pair::new();
    let pong = Pong {
        ping: Bytes::copy_from_slice(&9u64.to_le_bytes()),
        progress: None,
    };
    pair.client
        .inject(Header::new(Kind::Pong, 0), &pong.encode_to_vec(), pair.now);
    assert!(pair.client.conn.end.is_live());
}

#[test]
fn peer_that_takes_nothing_is_given_up() {
    let mut pair = Pair::new();
    pair.client.open_window = 100;
    let mut call = pair.start(Call::new(vec![0; 2000]));
    pair.client.transmit(pair.now);
    pair.now += ms(29_999);
    pair.client.conn.handle_timeout(pair.now);
    assert!(pair.client.conn.end.is_live());
    pair.now += ms(1);
    pair.client.conn.handle_timeout(pair.now);
    let Cause::Lost { text, .. } = pair.client.cause() else {
        panic!()
    };
    assert!(text.contains("65536 bytes in 30s"), "{text}");
    assert!(call.poll(&mut pair.client.conn, pair.now));
    assert_eq!(call.executed(), Executed::No);
}

#[test]
fn slow_peer_that_takes_64_kib_in_time_is_not_given_up() {
    let mut pair = Pair::new();
    pair.client.open_window = 0;
    let _call = pair.start(Call::new(vec![0; 1_000_000]));
    for _ in 0..10 {
        pair.client.open_window = 66_000;
        pair.client.transmit(pair.now);
        pair.now += secs(29);
        pair.client.conn.handle_timeout(pair.now);
        assert!(pair.client.conn.end.is_live());
    }
}

#[test]
fn idle_connection_holds_no_buffers() {
    let mut pair = Pair::with(settings(), watchful());
    let mut calls: Vec<_> = (0..500).map(|_| pair.start(Call::new(vec![0; 100]))).collect();
    pair.settle();
    for _ in 0..500 {
        pair.echo();
    }
    assert!(calls.iter_mut().all(|call| pair.poll(call)));
    pair.advance(secs(31));
    assert_eq!(pair.server.conn.theirs.requests().capacity(), 0);
}

#[test]
fn endless_settings_do_not_overflow() {
    let endless = Settings {
        one_way_timeout: Time::MAX,
        handshake_timeout: Time::MAX,
        keep_alive: Some(Time::MAX),
        dead_after: Time::MAX,
        ping_floor: Time::MAX,
        write_stall: Time::MAX,
        linger: Time::MAX,
        ..settings()
    };
    let mut pair = Pair::fresh(endless.clone(), endless);
    pair.now = secs(5);
    pair.settle();
    pair.start(Call::send(b"x"));
    pair.client.conn.start_barrier(pair.now);
    let mut call = pair.start(Call::new(b"x").deadline(Time::MAX));
    pair.settle();
    pair.server.inject(Header::new(Kind::Ping, 0), &[0; 8], pair.now);
    pair.server
        .conn
        .begin_drain(Reason::Drain, "", Time::MAX, pair.now);
    pair.client.conn.close(pair.now);
    pair.advance(secs(10));
    // Nothing is due: a call, a one-way request and a drain wait for their handlers.
    assert!(pair.client.conn.end.is_live() && pair.server.conn.end.is_live());
    assert!(!call.poll(&mut pair.client.conn, pair.now));
    assert_eq!(pair.server.conn.open_requests(), 2);
    pair.server
        .inject(header(Kind::Other(9), 0, Flags::NONE), b"", pair.now);
    assert_eq!(pair.server.conn.cut(), Some(Cut::Protocol));
    pair.advance(secs(10));
    assert!(pair.client.conn.is_closed(), "the peer has told it of the end");
    assert!(call.poll(&mut pair.client.conn, pair.now));
    assert_eq!(call.executed(), Executed::Maybe);
}

/// A pair with the defaults of a client and of a server.
pub(super) fn defaults() -> Pair {
    use crate::{
        Limits,
        api::limits::{CLIENT_KEEP_ALIVE, SERVER_KEEP_ALIVE},
    };
    let settings = |silence| Settings::new(&Limits::default(), silence, Bytes::new(), 0);
    Pair::with(
        mere_caller(settings(CLIENT_KEEP_ALIVE)),
        settings(SERVER_KEEP_ALIVE),
    )
}

/// Moves the client alone, whose peer takes everything and says nothing, until it is closed; tells when that was.
/// `step` is called every second.
pub(super) fn half_open(pair: &mut Pair, mut step: impl FnMut(&mut Pair)) -> Time {
    let end = pair.now + secs(300);
    let mut next_step = pair.now;
    while pair.now < end {
        if pair.now >= next_step {
            step(pair);
            next_step = pair.now + secs(1);
        }
        pair.client.transmit(pair.now);
        pair.client.wire.clear();
        let timer = pair.client.conn.poll_timeout().filter(|&at| at <= next_step);
        pair.now = timer.unwrap_or(next_step);
        if timer.is_some() {
            pair.client.conn.handle_timeout(pair.now);
        }
        if pair.client.conn.is_closed() {
            return pair.now;
        }
    }
    panic!("never noticed")
}

#[test]
fn client_pings_after_30_s_of_silence_and_a_server_after_2_min_by_default() {
    let mut pair = defaults();
    let _call = pair.call(b"x");
    pair.advance(ms(29_999));
    assert_eq!(pair.server.count(Kind::Ping), 0);
    pair.advance(ms(1));
    assert_eq!(pair.server.count(Kind::Ping), 1);

    let mut pair = defaults();
    pair.advance(ms(119_999));
    assert_eq!(pair.client.count(Kind::Ping), 0);
    pair.advance(ms(1));
    assert_eq!(
        (pair.client.count(Kind::Ping), pair.server.count(Kind::Ping)),
        (1, 0)
    );
}

#[test]
fn first_request_after_30_s_of_silence_pings_at_once_by_default() {
    let mut pair = defaults();
    pair.advance(ms(29_999));
    pair.start(Call::send(b"x"));
    pair.settle();
    assert_eq!(pair.server.count(Kind::Ping), 0);
    pair.advance(ms(1));
    assert_eq!(
        pair.server.count(Kind::Ping),
        1,
        "what is not covered is outstanding"
    );

    let mut pair = defaults();
    pair.advance(secs(30));
    let _call = pair.call(b"x");
    assert_eq!(pair.server.count(Kind::Ping), 1);
}

#[test]
fn half_open_peer_is_found_within_51_s_by_default() {
    // Nothing more comes from the peer right after its HELLO, and the client begins to ask something a bit later.
    let mut pair = defaults();
    let mut call = None;
    let noticed = half_open(&mut pair, |pair| {
        call.get_or_insert_with(|| pair.start(Call::new(b"x")));
    });
    assert_eq!(noticed, secs(50));
    let mut call = call.unwrap();
    assert!(call.poll(&mut pair.client.conn, noticed));
    assert_eq!(call.executed(), Executed::Maybe);
}

#[test]
fn half_open_peer_is_found_in_time_however_much_is_sent_to_it() {
    // The OS takes it all: that says nothing of the peer. Nor do pings that follow the first.
    let mut pair = defaults();
    let noticed = half_open(&mut pair, |pair| {
        pair.start(Call::send(vec![0; 1000]));
        pair.client.conn.start_barrier(pair.now);
    });
    assert!(noticed <= secs(51), "{noticed:?}");
}

#[test]
fn idle_half_open_peer_is_found_20_s_after_the_next_request() {
    let mut pair = defaults();
    pair.advance(secs(100));
    let mut call = None;
    let noticed = half_open(&mut pair, |pair| {
        call.get_or_insert_with(|| pair.start(Call::new(b"x")));
    });
    assert_eq!(noticed, secs(120));
}

#[test]
fn server_finds_a_half_open_peer_in_140_s_by_default() {
    let mut pair = defaults();
    while let Some(next) = pair.server.conn.poll_timeout() {
        pair.now = next;
        pair.server.conn.handle_timeout(next);
        pair.server.transmit(next);
    }
    assert!(matches!(pair.server.cause(), Cause::Lost { .. }));
    assert_eq!(pair.now, secs(140));
}

#[test]
fn floor_of_10_s_allows_pings_5_s_apart_and_sends_away_at_the_third_below_by_default() {
    let mut pair = defaults();
    let ping = |pair: &mut Pair, after: Time| {
        pair.now += after;
        pair.server.inject(Header::new(Kind::Ping, 0), &[0; 8], pair.now);
        pair.server.conn.end.is_live()
    };
    for _ in 0..10 {
        assert!(ping(&mut pair, secs(5)));
    }
    assert!(ping(&mut pair, ms(4_999)) && ping(&mut pair, ms(4_999)));
    assert!(!ping(&mut pair, ms(4_999)));
}
