//! What holds for calls holds for streams: their order, silence, age, barriers, cancels.

use super::{
    keep_alive::{defaults, half_open},
    streams::{Stream, shaped},
    *,
};
use crate::conn::Unwanted;

/// Opens a call with streams, without a look at its other end.
fn start(pair: &mut Pair, shape: Shape) -> CallId {
    let (conn, now) = (&mut pair.client.conn, pair.now);
    ready(|cx| {
        let mut ticket = Ticket::default();
        conn.poll_call(&mut ticket, &shaped(shape), &Vec::<u8>::new(), now, cx)
    })
    .expect("it is taken")
}

#[test]
fn calls_with_streams_keep_their_place_among_calls_and_sends() {
    let mut pair = Pair::new();
    let _before = pair.start(Call::new(b"call"));
    start(&mut pair, Shape::Both);
    pair.start(Call::send(b"send"));
    start(&mut pair, Shape::ReplyStream);
    // Behind a long send, although that one's fragments come later than this CALL.
    pair.start(Call::send(vec![0; 300_000]));
    start(&mut pair, Shape::RequestStream);
    let _behind = pair.start(Call::new(b"call"));
    pair.settle();
    let order: Vec<_> = (0..7).map(|_| pair.server.take().id.0).collect();
    assert!(order.is_sorted(), "{order:?}");
}

#[test]
fn messages_wait_for_no_reader_of_another_stream_and_their_own_stay_in_order() {
    let mut pair = Pair::new();
    let [one, two] = [Shape::Both; 2].map(|shape| pair.open(shape).id);
    for number in 0..10u8 {
        for id in [one, two] {
            pair.client.must_put(id, &[number], pair.now);
        }
    }
    pair.settle();
    for id in [two, one] {
        for number in 0..10u8 {
            assert_eq!(pair.server.message(id, pair.now), [number]);
        }
    }
}

#[test]
fn half_open_peer_is_found_while_nothing_moves_on_a_stream() {
    let mut pair = defaults();
    let mut stream = None;
    let noticed = half_open(&mut pair, |pair| {
        stream.get_or_insert_with(|| start(pair, Shape::ReplyStream));
    });
    assert_eq!(noticed, secs(50));
    let id = stream.unwrap();
    assert!(pair.client.is_at_end(id, noticed));
    let failure = pair.client.outcome(id).unwrap_err();
    assert_eq!(failure.executed, Executed::Maybe);
}

#[test]
fn half_open_peer_is_found_in_time_however_much_of_a_stream_is_sent_to_it() {
    let mut pair = defaults();
    let id = start(&mut pair, Shape::RequestStream);
    pair.settle();
    let noticed = half_open(&mut pair, |pair| {
        let _ = pair.client.put(id, &[0; 100], pair.now);
    });
    assert!(noticed <= secs(51), "{noticed:?}");
    assert!(pair.client.outcome(id).is_err());
}

#[test]
fn server_finds_a_half_open_peer_whose_stream_it_waits_for() {
    let mut pair = defaults();
    let Stream { id, arrived } = pair.open(Shape::RequestStream);
    while let Some(next) = pair.server.conn.poll_timeout() {
        pair.now = next;
        pair.server.conn.handle_timeout(next);
        pair.server.transmit(next);
        if !pair.server.conn.end.is_live() {
            break;
        }
    }
    assert_eq!(pair.now, secs(140));
    // Never its end.
    assert!(matches!(
        pair.server.next(id, pair.now),
        Poll::Ready(Next::Broken(_))
    ));
    pair.server
        .conn
        .end(arrived.expect("it arrived").id, End::Dropped, pair.now);
    assert_eq!(pair.server.conn.leftovers(), [""; 0]);
}

#[test]
fn pings_between_messages_of_a_stream_are_no_strikes() {
    let mut pair = Pair::new();
    let Stream { id, .. } = pair.open(Shape::Both);
    for _ in 0..10 {
        pair.server
            .inject(header(Kind::Data, id.0, Flags::NONE), b"x", pair.now);
        pair.server.inject(Header::new(Kind::Ping, 0), &[0; 8], pair.now);
        pair.client
            .inject(header(Kind::Data, id.0, Flags::NONE), b"x", pair.now);
        pair.client.inject(Header::new(Kind::Ping, 0), &[0; 8], pair.now);
    }
    assert!(pair.server.conn.end.is_live() && pair.client.conn.end.is_live());
}

#[test]
fn streams_on_an_old_connection_get_the_grace_and_are_cut_after_it() {
    let mortal = Settings {
        max_age: Some(secs(100)),
        max_age_grace: secs(20),
        ..settings()
    };
    let mut pair = Pair::with(settings(), mortal);
    pair.advance(secs(90));
    let done = pair.open(Shape::Both);
    let cut = pair.open(Shape::Both);
    pair.advance(secs(29));
    // It goes on in both directions while it has the time.
    pair.client.must_put(done.id, b"late", pair.now);
    pair.client.conn.finish_data(done.id, pair.now);
    pair.settle();
    assert_eq!(pair.server.message(done.id, pair.now), b"late");
    assert!(pair.server.is_at_end(done.id, pair.now));
    for id in [done.id, cut.id] {
        pair.server.must_put(id, b"last", pair.now);
    }
    pair.server.conn.reply(done.id, &(), pair.now);
    pair.settle();
    assert_eq!(pair.client.message(done.id, pair.now), b"last");
    assert!(pair.client.is_at_end(done.id, pair.now));
    assert!(pair.client.outcome(done.id).is_ok());
    pair.advance(secs(1));
    let unwanted = ready(|cx| pair.server.conn.poll_unwanted(cut.id, cx));
    assert_eq!(unwanted, Unwanted::Drained);
    pair.server.conn.end(cut.id, End::Dropped, pair.now);
    pair.settle();
    // What came before is not lost, and it is no success.
    assert_eq!(pair.client.message(cut.id, pair.now), b"last");
    assert!(pair.client.is_at_end(cut.id, pair.now));
    let failure = pair.client.outcome(cut.id).unwrap_err();
    assert_eq!(failure.executed, Executed::Maybe);
    for conn in [&pair.client.conn, &pair.server.conn] {
        assert!(conn.is_closed());
        assert_eq!(conn.leftovers(), [""; 0]);
    }
}

#[test]
fn an_open_stream_counts_as_use() {
    let restless = Settings {
        max_idle: Some(secs(100)),
        ..settings()
    };
    let mut pair = Pair::with(restless.clone(), restless);
    let stream = pair.open(Shape::ReplyStream);
    pair.advance(secs(300));
    assert!(pair.client.conn.end.is_live() && pair.server.conn.end.is_live());
    pair.server.conn.reply(stream.id, &(), pair.now);
    pair.settle();
    assert!(pair.client.is_at_end(stream.id, pair.now) && pair.client.outcome(stream.id).is_ok());
    pair.advance(ms(99_999));
    assert!(pair.client.conn.end.is_live());
    pair.advance(ms(1));
    assert!(pair.client.conn.is_closed() && pair.server.conn.is_closed());
}

#[test]
fn a_barrier_and_a_flush_wait_for_no_stream() {
    let mut pair = Pair::new();
    let Stream { id, .. } = pair.open(Shape::RequestStream);
    while pair.client.put(id, &[0; 1000], pair.now).is_ready() {
        pair.settle();
    }
    pair.start(Call::send(b"x"));
    let barrier = pair.client.conn.start_barrier(pair.now);
    let flush = pair.client.conn.start_flush();
    pair.settle();
    let account = ready(|cx| pair.client.conn.poll_barrier(&barrier, cx)).expect("nothing was lost");
    assert_eq!(account.received, 1);
    assert!(ready(|cx| pair.client.conn.poll_flush(&flush, cx)).is_ok());
}

#[test]
fn flood_of_cancelled_streams_keeps_nothing() {
    let mut pair = Pair::new();
    for _ in 0..2000 {
        let Stream { id, .. } = pair.open(Shape::Both);
        pair.client.must_put(id, &[0; 2000], pair.now);
        pair.server.must_put(id, &[0; 2000], pair.now);
        pair.client.conn.drop_call(id, pair.now);
        pair.settle();
        assert!(matches!(
            pair.server.next(id, pair.now),
            Poll::Ready(Next::Broken(_))
        ));
        pair.server.conn.end(id, End::Dropped, pair.now);
        pair.settle();
    }
    pair.assert_quiescent();
}

#[test]
fn a_second_end_and_a_second_outcome_of_a_stream_do_not_come() {
    let mut pair = Pair::new();
    let Stream { id, .. } = pair.open(Shape::ReplyStream);
    pair.server.must_put(id, b"x", pair.now);
    pair.server.conn.reply(id, &(), pair.now);
    // The handler is gone: what it says now is of no account.
    assert!(matches!(
        pair.server.put(id, b"y", pair.now),
        Poll::Ready(Err(Unsent::Over(_)))
    ));
    pair.server.conn.end(id, End::Dropped, pair.now);
    pair.settle();
    assert_eq!(pair.client.message(id, pair.now), b"x");
    assert!(pair.client.is_at_end(id, pair.now));
    assert!(pair.client.outcome(id).is_ok());
    assert!(pair.client.is_at_end(id, pair.now));
    pair.assert_quiescent();
}
