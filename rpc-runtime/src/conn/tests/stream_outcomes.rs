//! What is said of a call with streams is true: refused, failed, dropped, lost, above the last id.

use super::{
    streams::{Stream, shaped},
    *,
};
use crate::{
    Phase,
    wire::frame::control::{Goaway, Reason},
};

const SHAPES: [Shape; 3] = [Shape::ReplyStream, Shape::RequestStream, Shape::Both];

/// Opens a call with streams, without a look at its other end.
fn start(pair: &mut Pair, shape: Shape) -> CallId {
    let (conn, now) = (&mut pair.client.conn, pair.now);
    ready(|cx| {
        let mut ticket = Ticket::default();
        conn.poll_call(&mut ticket, &shaped(shape), &Vec::<u8>::new(), now, cx)
    })
    .expect("it is taken")
}

/// Moves what the client has written, and nothing that the server has.
fn deliver_to_server(pair: &mut Pair) {
    pair.client.transmit(pair.now);
    deliver(&mut pair.client, &mut pair.server, pair.now);
}

fn drain(pair: &mut Pair) {
    pair.server
        .conn
        .begin_drain(Reason::Drain, "", secs(30), pair.now);
}

fn failure(pair: &mut Pair, id: CallId) -> CallFailure {
    assert!(pair.client.is_at_end(id, pair.now), "no message is left");
    pair.client.outcome(id).expect_err("it failed")
}

#[test]
fn refused_stream_was_not_executed_despite_messages_on_the_way() {
    for shape in SHAPES {
        let mut pair = Pair::new();
        let id = start(&mut pair, shape);
        pair.settle();
        let arrived = pair.server.take();
        if shape.has_request_stream() {
            for _ in 0..5 {
                pair.client.must_put(id, b"late", pair.now);
            }
            pair.client.conn.finish_data(id, pair.now);
        }
        let status = status(Code::Unimplemented, "no such procedure");
        pair.server.conn.end(arrived.id, refused(&status), pair.now);
        pair.settle();
        let failure = failure(&mut pair, id);
        assert_eq!(failure.executed, Executed::No, "{shape:?}");
        assert!(matches!(&failure.cause, Cause::Replied(told) if *told == status));
        assert!(pair.server.conn.end.is_live());
        pair.assert_quiescent();
    }
}

#[test]
fn failed_handler_of_a_stream_was_executed_and_its_whole_status_travels() {
    for shape in SHAPES {
        let mut pair = Pair::new();
        let Stream { id, .. } = pair.open(shape);
        let metadata: Metadata = [("retry", "never")].into_iter().collect();
        let status = status(Code::NotFound, "no key")
            .with_details_bytes(&b"typed"[..])
            .with_metadata(metadata);
        if shape.has_reply_stream() {
            pair.server.must_put(id, b"before", pair.now);
        }
        pair.server.conn.end(id, End::Failed(&status), pair.now);
        pair.settle();
        if shape.has_reply_stream() {
            assert_eq!(pair.client.message(id, pair.now), b"before");
        }
        let failure = failure(&mut pair, id);
        assert_eq!(failure.executed, Executed::Yes, "{shape:?}");
        assert!(matches!(&failure.cause, Cause::Replied(told) if *told == status));
        pair.assert_quiescent();
    }
}

#[test]
fn dropped_handler_of_a_stream_may_have_executed() {
    for shape in SHAPES {
        let mut pair = Pair::new();
        let Stream { id, .. } = pair.open(shape);
        pair.server.conn.end(id, End::Dropped, pair.now);
        pair.settle();
        assert_eq!(failure(&mut pair, id).executed, Executed::Maybe, "{shape:?}");
        pair.assert_quiescent();
    }
}

#[test]
fn stream_is_not_executed_as_long_as_a_byte_of_its_call_was_not_taken() {
    for shape in SHAPES {
        // How long its CALL is.
        let mut pair = Pair::new();
        start(&mut pair, shape);
        pair.client.transmit(pair.now);
        let len = pair.client.wire.len();
        for written in 0..=len + 1 {
            let mut pair = Pair::new();
            let id = start(&mut pair, shape);
            if shape.has_request_stream() {
                pair.client.must_put(id, b"message", pair.now);
            }
            pair.client.open_window = written;
            pair.client.transmit(pair.now);
            pair.client.conn.handle_eof(pair.now);
            let failure = failure(&mut pair, id);
            let expected = if written < len {
                Executed::No
            } else {
                Executed::Maybe
            };
            assert_eq!(
                failure.executed, expected,
                "{shape:?}: {written} of {len} bytes were taken"
            );
            let moved = shape.has_request_stream();
            assert_eq!(failure.phase == Phase::Stream, moved, "{failure:?}");
        }
    }
}

#[test]
fn stream_that_crosses_the_first_goaway_is_taken_and_one_above_the_last_id_is_not() {
    let mut pair = Pair::new();
    drain(&mut pair);
    // Nothing of the server arrives: the client calls on.
    let taken = start(&mut pair, Shape::Both);
    deliver_to_server(&mut pair);
    pair.now += secs(1);
    pair.server.conn.handle_timeout(pair.now);
    let above = start(&mut pair, Shape::Both);
    for id in [taken, above] {
        pair.client.must_put(id, b"message", pair.now);
        pair.client.conn.finish_data(id, pair.now);
    }
    deliver_to_server(&mut pair);
    assert_eq!(pair.server.conn.open_requests(), 1);
    pair.settle();
    let failure = failure(&mut pair, above);
    assert!(matches!(failure.cause, Cause::GoingAway { .. }));
    assert_eq!(failure.executed, Executed::No);
    // The other one goes on to its end: its messages are read below the last id, and after it.
    let arrived = pair.server.accept(pair.now);
    assert_eq!(pair.server.message(arrived.id, pair.now), b"message");
    assert!(pair.server.is_at_end(arrived.id, pair.now));
    pair.server.must_put(arrived.id, b"answer", pair.now);
    pair.server.conn.reply(arrived.id, &(), pair.now);
    pair.settle();
    assert_eq!(pair.client.message(taken, pair.now), b"answer");
    assert!(pair.client.is_at_end(taken, pair.now));
    assert!(pair.client.outcome(taken).is_ok());
    assert_eq!(pair.client.count(Kind::Reply), 1);
}

#[test]
fn sender_of_a_stream_above_the_last_id_fails_and_writes_no_further() {
    let mut pair = Pair::new();
    drain(&mut pair);
    pair.now += secs(1);
    pair.server.conn.handle_timeout(pair.now);
    let above = start(&mut pair, Shape::RequestStream);
    pair.client.must_put(above, &[0; 300_000], pair.now);
    // Its first fragment goes out before the last id is known.
    pair.client.open_window = 1000;
    pair.client.transmit(pair.now);
    pair.server.transmit(pair.now);
    deliver(&mut pair.server, &mut pair.client, pair.now);
    assert!(matches!(
        pair.client.put(above, b"x", pair.now),
        Poll::Ready(Err(Unsent::Over(Some(_))))
    ));
    assert_eq!(failure(&mut pair, above).executed, Executed::No);
    pair.client.open_window = usize::MAX;
    pair.settle();
    // What was begun ends with its frame.
    assert!(pair.server.count(Kind::Data) < 2, "{:?}", pair.server.kinds());
}

#[test]
fn streams_ahead_of_a_hello_that_is_rejected_were_not_executed() {
    let mut pair = Pair::fresh(settings(), settings());
    let ahead = start(&mut pair, Shape::ReplyStream);
    let mut ticket = Ticket::default();
    let request = shaped(Shape::RequestStream);
    let (conn, now) = (&mut pair.client.conn, pair.now);
    let mut open =
        |conn: &mut Connection| poll(|cx| conn.poll_call(&mut ticket, &request, &Vec::<u8>::new(), now, cx));
    assert!(
        open(conn).is_pending(),
        "a stream of requests waits for the HELLO"
    );
    let goaway = Goaway {
        reason: Reason::HelloRejected.number(),
        text: "too old".to_owned(),
        ..Goaway::default()
    };
    pair.client.transmit(pair.now);
    deliver(&mut pair.client, &mut pair.server, pair.now);
    pair.server.transmit(pair.now);
    deliver(&mut pair.server, &mut pair.client, pair.now);
    pair.client
        .inject(Header::new(Kind::Goaway, 0), &goaway.encode_to_vec(), pair.now);
    assert_eq!(failure(&mut pair, ahead).executed, Executed::No);
    match open(&mut pair.client.conn) {
        Poll::Ready(Err(failure)) => assert_eq!(failure.executed, Executed::No),
        other => panic!("{other:?}"),
    }
}

#[test]
fn loss_wakes_all_waiters_of_a_stream() {
    let mut pair = Pair::new();
    let Stream { id, .. } = pair.open(Shape::Both);
    while pair.client.put(id, &[0; 10_000], pair.now).is_ready() {}
    while pair.server.put(id, &[0; 10_000], pair.now).is_ready() {}
    pair.settle();
    while pair.client.next(id, pair.now).is_ready() {}
    while pair.server.next(id, pair.now).is_ready() {}
    // All credit is used up again, and nothing arrives.
    for node in [&mut pair.client, &mut pair.server] {
        while node.put(id, &[0; 10_000], pair.now).is_ready() {}
    }
    let now = pair.now;
    for node in [&mut pair.client, &mut pair.server] {
        let flags = [Arc::new(Flag::default()), Arc::new(Flag::default())];
        let [reader, sender] = flags.clone().map(Waker::from);
        let next = node
            .conn
            .poll_message(id, None, now, &Context::from_waker(&reader));
        assert!(next.is_pending());
        let sent = node
            .conn
            .poll_data(id, &vec![0u8], now, &Context::from_waker(&sender));
        assert!(sent.is_pending());
        node.conn.handle_eof(now);
        node.wake();
        assert!(
            flags.iter().all(|flag| flag.take()),
            "reader and sender are woken"
        );
    }
    assert!(matches!(pair.server.next(id, now), Poll::Ready(Next::Broken(_))));
    pair.server.conn.end(id, End::Dropped, now);
    assert!(matches!(failure(&mut pair, id).cause, Cause::Lost { .. }));
    for conn in [&pair.client.conn, &pair.server.conn] {
        assert_eq!(conn.leftovers(), [""; 0]);
    }
}

#[test]
fn messages_that_were_read_survive_the_loss() {
    let mut pair = Pair::new();
    let Stream { id, .. } = pair.open(Shape::ReplyStream);
    for number in 0..3 {
        pair.server.must_put(id, &[number], pair.now);
    }
    pair.settle();
    // A part of the next one: it is nothing.
    pair.server.must_put(id, &[3; 200_000], pair.now);
    pair.server.open_window = 70_000;
    pair.settle();
    pair.client.conn.handle_eof(pair.now);
    for number in 0..3 {
        assert_eq!(pair.client.message(id, pair.now), [number]);
    }
    let failure = failure(&mut pair, id);
    assert_eq!(
        (failure.phase, failure.executed),
        (Phase::Stream, Executed::Maybe)
    );
}
