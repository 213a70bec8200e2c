//! Compressed messages: what limits count, and what is refused. The bytes are anything: the protocol never decompresses.

use std::task::Poll;

use proptest::prelude::*;

use super::{streams::Stream, *};
use crate::{Code, Executed, wire::frame::Encoded};

/// Two that take encoding 7.
fn agreed() -> Pair {
    let settings = Settings {
        encodings: vec![7],
        ..settings()
    };
    Pair::with(settings.clone(), settings)
}

/// A message of `len` bytes, compressed into `compressed`.
fn message(compressed: usize, len: u64) -> Encoded {
    Encoded::new(vec![b'p'; compressed].into(), 7, len)
}

fn call(pair: &mut Pair, message: &Encoded) -> CallId {
    let request = Request {
        procedure: ECHO,
        ..Request::default()
    };
    let mut ticket = Ticket::default();
    let now = pair.now;
    ready(|cx| {
        pair.client
            .conn
            .poll_call(&mut ticket, &request, message, now, cx)
    })
    .unwrap()
}

#[test]
fn the_hello_lists_the_accepted_compressions() {
    let pair = agreed();
    assert!(pair.client.conn.peer_takes(7) && pair.server.conn.peer_takes(7));
    assert!(!pair.client.conn.peer_takes(8) && !pair.client.conn.peer_takes(0));
}

#[test]
fn a_compressed_message_travels_with_both_lengths() {
    let mut pair = agreed();
    // In one frame each, and in several.
    for (compressed, len) in [(40, 5000), (300_000, 3 << 20)] {
        let sent = message(compressed, len);
        let id = call(&mut pair, &sent);
        pair.settle();
        assert_eq!(pair.client.conn.ours.credit().calls(), (1, len + 256));
        let arrived = pair.server.accept(pair.now);
        assert_eq!(arrived.payload, sent);
        pair.server
            .conn
            .reply(arrived.id, &message(compressed + 1, len + 1), pair.now);
        pair.settle();
        assert_eq!(
            pair.client.conn.ours.calls().held(),
            (1, len + 1),
            "what is undelivered counts its length"
        );
        let reply = ready(|cx| pair.client.conn.poll_reply(id, cx)).unwrap();
        assert_eq!(reply.payload, message(compressed + 1, len + 1));
    }
    pair.assert_quiescent();
}

#[test]
fn a_compressed_one_way_request_is_charged_its_length() {
    let mut pair = agreed();
    let request = Request {
        procedure: ECHO,
        ..Request::default()
    };
    let before = pair.client.conn.ours.credit().send_balance();
    let (mut ticket, now) = (Ticket::default(), pair.now);
    ready(|cx| {
        pair.client
            .conn
            .poll_send(&mut ticket, &request, &message(40, 5000), now, cx)
    })
    .unwrap();
    assert_eq!(before - pair.client.conn.ours.credit().send_balance(), 5256);
    pair.settle();
    let arrived = pair.server.accept(pair.now);
    assert_eq!(arrived.payload, message(40, 5000));
    pair.server.reply(&arrived, b"", pair.now);
    pair.settle();
    pair.assert_quiescent();
}

#[test]
fn limits_count_the_length_before_compression() {
    let mut pair = agreed();
    let max = pair.server.conn.settings.max_message;
    let request = Request::default();
    let (mut ticket, now) = (Ticket::default(), pair.now);
    let too_long = message(40, max + 1);
    let result = poll(|cx| {
        pair.client
            .conn
            .poll_call(&mut ticket, &request, &too_long, now, cx)
    });
    let Poll::Ready(Err(failure)) = result else {
        panic!("it was taken: {result:?}");
    };
    assert!(matches!(failure.cause, Cause::TooLong { len, .. } if len == max + 1));

    // A peer that sends it all the same.
    pair.client.conn.ours.next_id();
    let mut call = header(Kind::Call, 1, Flags::END);
    (call.encoding, call.length) = (7, max + 1);
    pair.server.inject(call, b"short", pair.now);
    pair.settle();
    let reply = pair.client.last(Kind::Reply);
    assert_eq!(
        (reply.code, reply.flags),
        (Code::ResourceExhausted as u32, Flags::NOT_EXECUTED)
    );
}

#[test]
fn a_reply_that_would_fill_the_inbox_when_decompressed_fails_its_call() {
    let mut pair = agreed();
    Arc::make_mut(&mut pair.client.conn.settings).inbox_bytes = 10_000;
    let id = call(&mut pair, &message(10, 2000));
    pair.settle();
    let arrived = pair.server.accept(pair.now);
    pair.server.conn.reply(arrived.id, &message(10, 10_001), pair.now);
    pair.settle();
    let failure = ready(|cx| pair.client.conn.poll_reply(id, cx)).unwrap_err();
    assert!(matches!(failure.cause, Cause::InboxFull { max: 10_000 }));
    pair.assert_quiescent();
}

#[test]
fn packed_bytes_that_exceed_the_length_fail_their_call() {
    let mut pair = agreed();
    // A request in one frame, and in several.
    let mut whole = header(Kind::Call, 1, Flags::END);
    (whole.encoding, whole.length) = (7, 4);
    pair.server.inject(whole, b"12345", pair.now);
    let mut first = header(Kind::Call, 3, Flags::END | Flags::MORE);
    (first.encoding, first.length) = (7, 4);
    pair.server.inject(first, b"123", pair.now);
    pair.server
        .inject(header(Kind::Data, 3, Flags::NONE), b"45", pair.now);
    pair.client.conn.ours.next_id();
    pair.client.conn.ours.next_id();
    pair.settle();
    assert_eq!(pair.client.count(Kind::Reply), 2);
    for reply in pair.client.seen.iter().filter(|frame| frame.kind == Kind::Reply) {
        assert_eq!(
            (reply.code, reply.flags),
            (Code::Internal as u32, Flags::NOT_EXECUTED)
        );
    }
    assert!(!pair.server.has_request());

    // A reply.
    for more in [false, true] {
        let mut call = pair.call(b"x");
        let id = call.id.unwrap().0;
        let mut reply = header(Kind::Reply, id, if more { Flags::MORE } else { Flags::NONE });
        (reply.encoding, reply.length) = (7, 4);
        pair.client.inject(reply, b"12345", pair.now);
        if more {
            pair.client
                .inject(header(Kind::Data, id, Flags::NONE), b"6", pair.now);
        }
        assert!(pair.poll(&mut call));
        assert_eq!(
            (call.status().code(), call.executed()),
            (Code::Internal, Executed::Yes)
        );
        let arrived = pair.server.take();
        pair.server.conn.end(arrived.id, End::Dropped, pair.now);
    }
}

#[test]
fn a_compressed_message_may_come_in_fewer_bytes_than_its_length_and_nothing_is_left_of_it() {
    let mut pair = agreed();
    let mut first = header(Kind::Call, 1, Flags::END | Flags::MORE);
    (first.encoding, first.length) = (7, 3 << 20);
    pair.server.inject(first, b"123", pair.now);
    let kept = pair
        .server
        .conn
        .theirs
        .requests()
        .held(&pair.server.conn.settings)
        .2;
    assert!(kept < 1024, "{kept} bytes for three");
    pair.server
        .inject(header(Kind::Data, 1, Flags::NONE), b"45", pair.now);
    let arrived = pair.server.accept(pair.now);
    assert_eq!(arrived.payload, Encoded::new(b"12345"[..].into(), 7, 3 << 20));
}

/// Takes the next message of a stream, which must be there.
fn take(node: &mut Node, id: CallId, now: Time) -> Encoded {
    match node.next(id, now) {
        Poll::Ready(Next::Message(message)) => message,
        other => panic!("no message but {other:?}"),
    }
}

fn put(node: &mut Node, id: CallId, message: &Encoded, now: Time) -> Poll<Result<(), Unsent>> {
    let sent = poll(|cx| node.conn.poll_data(id, message, now, cx));
    node.wake();
    sent
}

#[test]
fn compressed_messages_of_streams_travel_with_both_lengths_in_frames_and_fragments() {
    let mut pair = agreed();
    let Stream { id, arrived } = pair.open(Shape::Both);
    let sent = [
        message(40, 5000),
        message(300_000, 3 << 20),
        Encoded::plain(b"plain"[..].into()),
    ];
    let (client, server) = (&mut pair.client, &mut pair.server);
    assert!(matches!(put(client, id, &sent[0], pair.now), Poll::Ready(Ok(()))));
    assert!(matches!(put(server, id, &sent[1], pair.now), Poll::Ready(Ok(()))));
    pair.settle();
    assert_eq!(
        pair.server.conn.held().bytes,
        5000,
        "what nobody has taken counts its length"
    );
    assert_eq!(pair.client.conn.held().bytes, 3 << 20);
    assert_eq!(take(&mut pair.server, id, pair.now), sent[0]);
    assert_eq!(take(&mut pair.client, id, pair.now), sent[1]);
    assert!(matches!(
        put(&mut pair.client, id, &sent[2], pair.now),
        Poll::Ready(Ok(()))
    ));
    pair.client.conn.finish_data(id, pair.now);
    pair.settle();
    assert_eq!(take(&mut pair.server, id, pair.now), sent[2]);
    assert!(pair.server.is_at_end(id, pair.now));
    pair.server.reply(&arrived.unwrap(), b"", pair.now);
    pair.settle();
    drop(pair.client.outcome(id));
    pair.assert_quiescent();
}

#[test]
fn a_compressed_message_of_a_stream_uses_up_the_window_by_its_length() {
    let mut pair = agreed();
    let Stream { id, .. } = pair.open(Shape::RequestStream);
    let window = pair.server.conn.settings.stream_window;
    assert!(matches!(
        put(&mut pair.client, id, &message(10, window), pair.now),
        Poll::Ready(Ok(()))
    ));
    assert!(put(&mut pair.client, id, &message(10, 2000), pair.now).is_pending());
    pair.settle();
    assert!(
        put(&mut pair.client, id, &message(10, 2000), pair.now).is_pending(),
        "nobody has read it"
    );
    take(&mut pair.server, id, pair.now);
    pair.settle();
    assert!(matches!(
        put(&mut pair.client, id, &message(10, 2000), pair.now),
        Poll::Ready(Ok(()))
    ));
}

#[test]
fn a_message_of_a_stream_that_is_too_long_when_decompressed_breaks_it_and_nothing_is_held() {
    let mut pair = agreed();
    Arc::make_mut(&mut pair.server.conn.settings).inbox_bytes = 10_000;
    let max = pair.server.conn.settings.max_message;
    // Longer than a message may be, than the inbox, than itself; in one frame, and in two.
    for (length, code) in [
        (max + 1, Code::ResourceExhausted),
        (10_001, Code::ResourceExhausted),
        (4, Code::Internal),
    ] {
        for more in [false, true] {
            let Stream { id, arrived } = pair.open(Shape::RequestStream);
            let mut data = header(Kind::Data, id.0, if more { Flags::MORE } else { Flags::NONE });
            (data.encoding, data.length) = (7, length);
            pair.server
                .inject(data, if more { b"123" } else { b"12345" }, pair.now);
            pair.server
                .inject(header(Kind::Data, id.0, Flags::NONE), b"45", pair.now);
            let next = pair.server.next(id, pair.now);
            let Poll::Ready(Next::Broken(status)) = next else {
                panic!("{length} {more}: {next:?}");
            };
            assert_eq!(status.code(), code, "{status}");
            assert_eq!(pair.server.conn.held(), InboxUse::default());
            pair.server.reply(&arrived.unwrap(), b"", pair.now);
            pair.settle();
            let failure = pair.client.outcome(id).unwrap_err();
            assert!(matches!(failure.cause, Cause::Replied(status) if status.code() == code));
        }
    }
}

#[test]
fn a_message_of_a_stream_in_a_compression_that_was_not_announced_breaks_it() {
    let mut pair = agreed();
    let Stream { id, .. } = pair.open(Shape::Both);
    let mut data = header(Kind::Data, id.0, Flags::NONE);
    (data.encoding, data.length) = (8, 100);
    pair.server.inject(data, b"12345", pair.now);
    let Poll::Ready(Next::Broken(status)) = pair.server.next(id, pair.now) else {
        panic!("it goes on");
    };
    assert_eq!(status.message(), "compression 8 was not announced");

    let Stream { id, .. } = pair.open(Shape::ReplyStream);
    let mut data = header(Kind::Data, id.0, Flags::NONE);
    (data.encoding, data.length) = (8, 100);
    pair.client.inject(data, b"12345", pair.now);
    assert!(pair.client.is_at_end(id, pair.now));
    let failure = pair.client.outcome(id).unwrap_err();
    assert!(matches!(failure.cause, Cause::Broken(status) if status.code() == Code::Internal));
}

/// A frame that may or may not fit to what is open.
#[derive(Clone, Debug)]
struct Stray {
    to_server: bool,
    kind: Kind,
    id: u64,
    flags: Flags,
    encoding: u32,
    length: u64,
    payload: usize,
}

fn stray() -> impl Strategy<Value = Stray> {
    let kind = prop_oneof![
        Just(Kind::Data),
        Just(Kind::Reply),
        Just(Kind::Call),
        Just(Kind::Send)
    ];
    let flags = prop_oneof![
        Just(Flags::NONE),
        Just(Flags::MORE),
        Just(Flags::END),
        Just(Flags::END | Flags::MORE)
    ];
    let length = prop_oneof![
        Just(0),
        Just(3),
        Just(1000),
        Just(9000),
        Just(10_001),
        Just(u64::MAX)
    ];
    let encoding = prop_oneof![3 => Just(7), 1 => Just(0), 1 => Just(8)];
    (
        any::<bool>(),
        kind,
        1..12_u64,
        flags,
        encoding,
        length,
        0..12_usize,
    )
        .prop_map(|(to_server, kind, id, flags, encoding, length, payload)| Stray {
            to_server,
            kind,
            id,
            flags,
            encoding,
            length,
            payload,
        })
}

proptest! {
    #[test]
    fn compressed_frames_of_any_kind_stay_within_the_limits_and_leave_nothing(
        strays in proptest::collection::vec(stray(), 1..40)
    ) {
        let mut pair = agreed();
        for node in [&mut pair.client, &mut pair.server] {
            Arc::make_mut(&mut node.conn.settings).inbox_bytes = 10_000;
        }
        let streams = [pair.open(Shape::Both), pair.open(Shape::ReplyStream), pair.open(Shape::RequestStream)];
        let calls: Vec<_> = (0..2).map(|_| pair.call(b"x")).collect();
        for (n, stray) in strays.into_iter().enumerate() {
            let mut header = header(stray.kind, stray.id, stray.flags);
            (header.encoding, header.length) = (stray.encoding, stray.length);
            let node = if stray.to_server { &mut pair.server } else { &mut pair.client };
            if !node.conn.is_closed() {
                node.inject(header, &vec![b'z'; stray.payload], pair.now);
            }
            if n % 5 == 0 {
                for stream in &streams {
                    let _ = pair.server.next(stream.id, pair.now);
                    let _ = pair.client.next(stream.id, pair.now);
                }
            }
            for node in [&pair.client, &pair.server] {
                prop_assert!(node.conn.held().bytes <= 10_000, "{:?}", node.conn.held());
            }
        }
        for node in [&mut pair.client, &mut pair.server] {
            node.conn.handle_lost("gone", None, pair.now);
        }
        let calls = calls.iter().filter_map(|call| call.id);
        for id in streams.iter().map(|stream| stream.id).chain(calls) {
            pair.client.conn.drop_call(id, pair.now);
            pair.server.conn.end(id, End::Dropped, pair.now);
        }
        while let Poll::Ready(Some(arrived)) = poll(|cx| pair.server.conn.poll_request(cx)) {
            pair.server.conn.end(arrived.id, End::Dropped, pair.now);
        }
        for node in [&pair.client, &pair.server] {
            prop_assert_eq!(node.conn.held(), InboxUse::default());
        }
        prop_assert_eq!(pair.client.conn.ours.calls().held(), (0, 0));
    }
}
