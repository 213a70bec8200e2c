//! What becomes of the last one-way requests of a connection that ends well: the peer says that it has read them.

use super::*;
use crate::{
    conn::Uncovered,
    wire::frame::control::{Goaway, Pong, Reason},
};

fn drain(pair: &mut Pair) {
    pair.server
        .conn
        .begin_drain(Reason::Drain, "restart", secs(30), pair.now);
}

/// Handles all requests that are there, and lets both sides end.
fn finish(pair: &mut Pair) {
    while let Poll::Ready(Some(arrived)) = poll(|cx| pair.server.conn.poll_request(cx)) {
        pair.server.conn.started(arrived.id, pair.now).unwrap();
        pair.server.reply(&arrived, b"", pair.now);
        pair.settle();
    }
    assert!(pair.client.conn.is_closed() && pair.server.conn.is_closed());
}

fn deliver_byte(from: &mut Node, to: &mut Node, now: Time) {
    if from.wire.is_empty() {
        return deliver(from, to, now);
    }
    let byte = from.wire.split_to(1);
    if !to.conn.is_closed() {
        to.read(&byte, now);
    }
}

fn told(pair: &Pair) -> (u64, u64) {
    let Uncovered { no, maybe } = pair.client.conn.uncovered();
    (no, maybe)
}

#[test]
fn last_sends_are_covered_when_the_peer_goes() {
    let mut pair = Pair::new();
    for _ in 0..3 {
        pair.start(Call::send(b"x"));
    }
    pair.settle();
    assert_eq!(told(&pair), (0, 3));
    drain(&mut pair);
    pair.settle();
    assert_eq!(told(&pair), (0, 0));
    finish(&mut pair);
    assert_eq!(pair.server.count(Kind::Ping), 1);
}

#[test]
fn last_sends_are_covered_when_this_side_closes() {
    let mut pair = Pair::new();
    pair.start(Call::send(vec![0; 1 << 20]));
    pair.start(Call::send(b"x"));
    pair.client.conn.close(pair.now);
    pair.settle();
    assert_eq!(told(&pair), (0, 0));
    assert!(matches!(pair.client.cause(), Cause::Closed));
    finish(&mut pair);
}

#[test]
fn sends_that_cross_the_goaway_are_covered_byte_by_byte() {
    // However the bytes are cut, and however soon the handlers are done.
    let mut pair = Pair::new();
    pair.start(Call::send(b"1"));
    drain(&mut pair);
    pair.start(Call::send(b"2"));
    for _ in 0..10_000 {
        pair.client.transmit(pair.now);
        pair.server.transmit(pair.now);
        deliver_byte(&mut pair.client, &mut pair.server, pair.now);
        deliver_byte(&mut pair.server, &mut pair.client, pair.now);
        if let Poll::Ready(Some(arrived)) = poll(|cx| pair.server.conn.poll_request(cx)) {
            pair.server.conn.started(arrived.id, pair.now).unwrap();
            pair.server.reply(&arrived, b"", pair.now);
        }
    }
    assert!(pair.client.conn.is_closed() && pair.server.conn.is_closed());
    assert_eq!(told(&pair), (0, 0));
}

#[test]
fn last_fragments_are_covered_even_if_their_handler_is_quick() {
    let mut pair = Pair::new();
    pair.client.open_window = 300_000;
    pair.start(Call::send(vec![0; 1 << 20]));
    pair.settle();
    drain(&mut pair);
    pair.advance(secs(3));
    // All of the request, but not the ping behind it.
    let missing = pair.client.conn.outbox.backlog();
    assert!(!missing.is_empty());
    pair.client.open_window = usize::MAX;

    while pair.client.transmit(pair.now) {}
    let mut last = pair.client.wire.split_off(pair.client.wire.len() - 5);
    deliver(&mut pair.client, &mut pair.server, pair.now);
    let arrived = pair.server.accept(pair.now);
    pair.server.reply(&arrived, b"", pair.now);
    assert!(!pair.server.conn.end.is_live(), "it need not be asked");
    pair.client.wire.unsplit(std::mem::take(&mut last));
    deliver(&mut pair.client, &mut pair.server, pair.now);
    pair.settle();
    assert_eq!(told(&pair), (0, 0));
    finish(&mut pair);
}

#[test]
fn peer_without_a_processor_gets_the_account_of_its_sends_whenever_it_reads() {
    // It has sent these, and does nothing from then on.
    let mut pair = Pair::new();
    for _ in 0..100 {
        pair.start(Call::send(b"x"));
    }
    pair.start(Call::new(b"y"));
    pair.client.transmit(pair.now);
    deliver(&mut pair.client, &mut pair.server, pair.now);
    let mut arrived: Vec<_> = (0..101).map(|_| pair.server.accept(pair.now)).collect();
    let last = arrived.pop().unwrap();
    for arrived in &arrived {
        pair.server.reply(arrived, b"", pair.now);
    }
    drain(&mut pair);
    while !pair.server.conn.is_closed() {
        pair.server.transmit(pair.now);
        if pair.server.conn.end.is_live() && pair.now > secs(10) {
            pair.server.reply(&last, b"", pair.now);
            continue;
        }
        pair.now += secs(1);
        pair.server.conn.handle_timeout(pair.now);
    }
    assert!(pair.now < secs(30), "a peer that reads nothing holds no drain up");

    // Days later it goes on, and waits for its account meanwhile.
    let barrier = pair.client.conn.start_barrier(pair.now);
    pair.settle();
    let account = ready(|cx| pair.client.conn.poll_barrier(&barrier, cx)).unwrap();
    assert_eq!((account.received, account.handled), (100, 100));
    assert_eq!(told(&pair), (0, 0));
    assert_eq!(pair.client.conn.last_account(), Some(&account));
    assert!(pair.client.conn.is_closed());
}

#[test]
fn send_whose_rest_never_comes_is_in_the_last_account() {
    let mut pair = Pair::new();
    pair.start(Call::send(b"whole"));
    pair.client.open_window = 300_000;
    pair.start(Call::send(vec![0; 1 << 20]));
    pair.settle();
    let arrived = pair.server.accept(pair.now);
    pair.server.reply(&arrived, b"", pair.now);
    drain(&mut pair);
    pair.server.conn.abort_calls(pair.now);
    pair.settle();
    assert_eq!(told(&pair), (0, 0));
    let account = pair.client.conn.last_account().unwrap();
    assert_eq!(
        (account.received, account.handled, account.dropped[0].count),
        (2, 1, 1)
    );
}

#[test]
fn no_last_account_goes_out_if_the_peer_has_it_already() {
    let mut pair = Pair::new();
    pair.start(Call::send(b"x"));
    pair.settle();
    let arrived = pair.server.accept(pair.now);
    pair.server.reply(&arrived, b"", pair.now);
    let _barrier = pair.client.conn.start_barrier(pair.now);
    pair.settle();
    drain(&mut pair);
    pair.advance(secs(2));
    assert!(pair.client.conn.is_closed() && pair.server.conn.is_closed());
    assert_eq!(pair.client.conn.last_account().unwrap().handled, 1);
    assert_eq!(pair.client.count(Kind::Goaway), 2);
}

#[test]
fn sends_above_the_last_id_are_in_no_last_account() {
    let mut pair = Pair::new();
    pair.start(Call::send(b"taken"));
    pair.settle();
    let arrived = pair.server.accept(pair.now);
    pair.server.reply(&arrived, b"", pair.now);
    pair.start(Call::send(b"too late"));
    let barrier = pair.client.conn.start_barrier(pair.now);
    // Nothing of the second is read in time.
    drain(&mut pair);
    pair.server.conn.handle_timeout(secs(1));
    pair.server.transmit(secs(1));
    deliver(&mut pair.server, &mut pair.client, secs(1));
    assert_eq!(told(&pair), (1, 0));
    assert!(ready(|cx| pair.client.conn.poll_barrier(&barrier, cx)).is_err());
}

#[test]
fn one_more_last_goaway_is_a_fault() {
    let mut pair = Pair::new();
    let goaway = Goaway {
        reason: Reason::Drain.number(),
        account: Some(Default::default()),
        ..Goaway::default()
    };
    let before = pair.client.conn.peer.faults.left();
    for faults in [0, 1, 2] {
        pair.client
            .inject(Header::new(Kind::Goaway, 0), &goaway.encode_to_vec(), pair.now);
        assert_eq!(pair.client.conn.peer.faults.left(), before - faults);
    }
}

#[test]
fn peer_that_does_not_read_is_awaited_until_the_drain_ends() {
    for blocked in [false, true] {
        let mut pair = Pair::new();
        let _call = pair.call(b"x");
        let arrived = pair.server.accept(pair.now);
        drain(&mut pair);
        pair.settle();
        pair.server.reply(&arrived, &[0; 10_000], pair.now);
        if blocked {
            pair.server.open_window = 1000;
            pair.server.transmit(pair.now);
            pair.server.open_window = usize::MAX;
        }
        while pair.server.transmit(pair.now) {}
        // All is written, and the client reads nothing.
        let limit = pair.server.conn.poll_timeout().unwrap();
        assert_eq!(limit, if blocked { secs(30) } else { secs(1) });
        deliver(&mut pair.server, &mut pair.client, pair.now);
        pair.settle();
        assert!(pair.server.conn.is_closed());
    }
}

#[test]
fn peer_that_does_not_answer_holds_a_close_up_for_20_s_only() {
    // It goes on sending, so it does not count as dead.
    let mut pair = Pair::new();
    pair.start(Call::send(b"x"));
    pair.settle();
    pair.client.conn.close(pair.now);
    pair.client.transmit(pair.now);
    for _ in 0..19 {
        pair.now += secs(1);
        pair.client
            .inject(header(Kind::Other(70), 0, Flags::NONE), b"", pair.now);
        pair.client.conn.handle_timeout(pair.now);
        assert!(pair.client.conn.end.is_live());
    }
    assert_eq!(pair.client.conn.poll_timeout(), Some(secs(20)));
    pair.client.conn.handle_timeout(secs(20));
    assert!(!pair.client.conn.end.is_live());
    assert_eq!(told(&pair), (0, 1));
}

#[test]
fn end_of_the_drains_time_waits_for_no_account() {
    let mut pair = Pair::new();
    pair.start(Call::send(b"x"));
    pair.settle();
    let mut back = Call::send(b"back");
    back.poll(&mut pair.server.conn, pair.now);
    drain(&mut pair);
    pair.server.conn.abort_calls(pair.now);
    assert!(!pair.server.conn.end.is_live());
    // The answer to a ping that was there goes out all the same: the requests were read before it.
    assert_eq!(pair.server.conn.theirs.requests().open(), 0);
}

#[test]
fn last_ping_before_the_end_is_answered() {
    let mut pair = Pair::new();
    let _call = pair.call(b"x");
    let arrived = pair.server.accept(pair.now);
    pair.start(Call::send(b"y"));
    drain(&mut pair);
    pair.settle();
    let send = pair.server.accept(pair.now);
    pair.server.reply(&send, b"", pair.now);
    pair.settle();
    // One read: the ping and, before any write, the end of the last handler.
    pair.client.conn.put_ping(pair.now);
    pair.client.transmit(pair.now);
    deliver(&mut pair.client, &mut pair.server, pair.now);
    let before = pair.client.count(Kind::Pong);
    pair.server.reply(&arrived, b"", pair.now);
    assert!(!pair.server.conn.end.is_live());
    pair.settle();
    assert_eq!(pair.client.count(Kind::Pong), before + 1);
}

#[test]
fn both_sides_may_close_at_once_and_both_are_answered() {
    let mut pair = Pair::new();
    pair.start(Call::send(b"there"));
    Call::send(b"back").poll(&mut pair.server.conn, pair.now);
    pair.settle();
    pair.client.conn.close(pair.now);
    pair.server.conn.close(pair.now);

    pair.settle();
    let arrived = pair.server.accept(pair.now);
    pair.server.reply(&arrived, b"", pair.now);
    pair.settle();
    let arrived = pair.client.accept(pair.now);
    pair.client.reply(&arrived, b"", pair.now);
    pair.advance(secs(2));
    for node in [&pair.client, &pair.server] {
        assert!(node.conn.is_closed());
        assert_eq!(node.conn.uncovered(), Uncovered::default());
        assert!(matches!(node.cause(), Cause::Closed), "{:?}", node.cause());
    }
}

#[test]
fn sends_above_the_last_id_are_not_waited_for() {
    let mut pair = Pair::new();
    pair.start(Call::send(b"taken"));
    pair.settle();
    let arrived = pair.server.accept(pair.now);
    pair.server.reply(&arrived, b"", pair.now);
    let goaway = Goaway {
        reason: Reason::Drain.number(),
        last_id: 1,
        ..Goaway::default()
    };
    pair.start(Call::send(b"above"));
    pair.client
        .inject(Header::new(Kind::Goaway, 0), &goaway.encode_to_vec(), pair.now);
    assert_eq!(told(&pair), (1, 1));
    let number = pair.client.conn.health.send_ping(pair.now) - 1;
    let pong = Pong {
        ping: Bytes::copy_from_slice(&number.to_le_bytes()),
        progress: None,
    };
    pair.client
        .inject(Header::new(Kind::Pong, 0), &pong.encode_to_vec(), pair.now);
    assert_eq!(told(&pair), (1, 0));
    pair.client.conn.close(pair.now);
    assert!(!pair.client.conn.end.is_live());
}

#[test]
fn close_before_the_handshake_covers_what_was_sent() {
    let mut pair = Pair::fresh(settings(), settings());
    pair.start(Call::send(b"x"));
    pair.client.conn.close(pair.now);
    assert!(pair.client.conn.end.is_live());
    pair.settle();
    assert_eq!(told(&pair), (0, 0));
    finish(&mut pair);
}

#[test]
fn second_goaway_with_a_higher_last_id_resurrects_nothing() {
    let mut pair = Pair::new();
    let mut calls: Vec<_> = (0..3).map(|_| pair.start(Call::new(b"x"))).collect();
    pair.start(Call::send(b"x"));
    pair.settle();
    let goaway = |last_id| {
        let goaway = Goaway {
            reason: Reason::Drain.number(),
            last_id,
            ..Goaway::default()
        };
        goaway.encode_to_vec()
    };
    pair.client
        .inject(Header::new(Kind::Goaway, 0), &goaway(3), pair.now);
    assert!(calls[2].poll(&mut pair.client.conn, pair.now));
    assert_eq!((calls[2].executed(), calls[2].completions), (Executed::No, 1));
    pair.client
        .inject(Header::new(Kind::Goaway, 0), &goaway(u64::MAX), pair.now);
    assert_eq!(pair.client.conn.peer_goaway().unwrap().last_id, 3);
    assert_eq!(told(&pair), (1, 0));
    // A reply to it is one for a call that is over.
    let before = pair.client.conn.peer.faults.left();
    pair.client
        .inject(header(Kind::Reply, 5, Flags::NONE), b"", pair.now);
    assert!(pair.client.conn.end.is_live());
    assert_eq!(pair.client.conn.peer.faults.left(), before - 1);
    assert!(calls[0].outcome.is_none() && !calls[0].poll(&mut pair.client.conn, pair.now));
}
