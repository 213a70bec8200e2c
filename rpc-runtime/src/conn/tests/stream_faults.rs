//! What a peer may get wrong in a stream: the end of the call, never of the connection, and always counted.

use super::{
    streams::{Stream, shaped},
    *,
};
use crate::wire::frame::{control::Hello, row::MAX_ROW};

/// DATA of a stream.
fn data(id: CallId, flags: Flags) -> Header<'static> {
    header(Kind::Data, id.number(), flags)
}

/// The first fragment of a message of `length` bytes.
fn first(id: CallId, length: u64) -> Header<'static> {
    Header {
        length,
        ..data(id, Flags::MORE)
    }
}

/// The budget of faults before and after `f`: how many were counted.
fn faults(conn: &mut Node, f: impl FnOnce(&mut Node)) -> u32 {
    let left = conn.conn.peer.faults.left();
    f(conn);
    left - conn.conn.peer.faults.left()
}

/// The status that breaks the stream of a handler.
#[track_caller]
fn broken(node: &mut Node, id: CallId, now: Time) -> Status {
    match node.next(id, now) {
        Poll::Ready(Next::Broken(status)) => status,
        other => panic!("not broken but {other:?}"),
    }
}

/// How long an empty message of a stream is on the wire.
const DATA_LEN: usize = 8;

/// Frames that break a stream, the code of its failure, and what the text says.
type Case<'a> = (&'a str, Code, Vec<(Header<'static>, Vec<u8>)>);

const LYING_ROW: &str = "the lengths in a packed frame do not match its payload";
const ROW_IN_FRAGMENTS: &str = "a packed frame was a fragment";

/// Every way to break a stream of messages, beside the overrun.
fn cases(id: CallId) -> Vec<Case<'static>> {
    let (more, last) = (data(id, Flags::MORE), data(id, Flags::NONE));
    let packed = Header {
        encoding: 1,
        ..data(id, Flags::NONE)
    };
    let row = data(id, Flags::PACKED);
    let zeros = |len| vec![0; len];
    vec![
        (
            "10 bytes carried 8",
            Code::Internal,
            vec![(first(id, 10), zeros(4)), (last, zeros(4))],
        ),
        (
            "10 bytes carried 12",
            Code::Internal,
            vec![(first(id, 10), zeros(4)), (last, zeros(8))],
        ),
        (
            "10 bytes carried 12",
            Code::Internal,
            vec![(first(id, 10), zeros(4)), (more, zeros(8))],
        ),
        (
            "3 bytes carried 4",
            Code::Internal,
            vec![(first(id, 3), zeros(4))],
        ),
        (
            "10 bytes carried 4",
            Code::Internal,
            vec![(first(id, 10), zeros(4)), (last, zeros(0))],
        ),
        ("compression 1", Code::Internal, vec![(packed, zeros(4))]),
        (
            "message of 4194305 bytes exceeds limit of 4194304: the reader's Limits::max_message",
            Code::ResourceExhausted,
            vec![(first(id, (4 << 20) + 1), zeros(4))],
        ),
        (LYING_ROW, Code::Internal, vec![(row, zeros(0))]),
        (LYING_ROW, Code::Internal, vec![(row, b"\x03dog\x04cat".to_vec())]),
        (LYING_ROW, Code::Internal, vec![(row, b"\x03dog\x80".to_vec())]),
        (
            "packed frame of 65537 bytes exceeds limit of 65536",
            Code::ResourceExhausted,
            vec![(row, zeros(MAX_ROW + 1))],
        ),
        (
            ROW_IN_FRAGMENTS,
            Code::Internal,
            vec![(
                Header {
                    flags: Flags::PACKED | Flags::MORE,
                    ..first(id, 10)
                },
                zeros(4),
            )],
        ),
        (
            ROW_IN_FRAGMENTS,
            Code::Internal,
            vec![(first(id, 10), zeros(4)), (row, zeros(6))],
        ),
    ]
}

#[test]
fn a_broken_stream_of_requests_fails_its_call_alone_and_holds_nothing() {
    let count = cases(CallId(1)).len();
    for index in 0..count {
        let mut pair = Pair::new();
        let Stream { id, arrived } = pair.open(Shape::RequestStream);
        let (text, code, frames) = cases(id).swap_remove(index);
        for (header, payload) in frames {
            pair.server.inject(header, &payload, pair.now);
        }
        let status = broken(&mut pair.server, id, pair.now);
        assert_eq!(status.code(), code, "{text}");
        assert!(status.message().contains(text), "{text}: {status}");
        assert_eq!(pair.server.conn.held(), InboxUse::default(), "{text}");
        // What else comes of it is forgotten, and the handler's own answer changes nothing.
        pair.server.inject(data(id, Flags::NONE), b"more", pair.now);
        assert_eq!(pair.server.conn.held(), InboxUse::default(), "{text}");
        pair.server.reply(&arrived.unwrap(), b"fine", pair.now);
        pair.settle();
        let failure = pair.client.outcome(id).unwrap_err();
        assert!(
            matches!(&failure.cause, Cause::Replied(told) if *told == status),
            "{failure:?}"
        );
        let mut call = pair.call(b"next");
        pair.echo();
        assert!(pair.poll(&mut call), "{text}");
        pair.assert_quiescent();
    }
}

#[test]
fn a_broken_stream_of_replies_fails_its_call_alone_and_cancels_it() {
    let count = cases(CallId(1)).len();
    for index in 0..count {
        let mut pair = Pair::new();
        let Stream { id, arrived } = pair.open(Shape::ReplyStream);
        pair.server.must_put(id, b"good", pair.now);
        pair.settle();
        let (text, code, frames) = cases(id).swap_remove(index);
        for (header, payload) in frames {
            pair.client.inject(header, &payload, pair.now);
        }
        assert!(pair.client.is_at_end(id, pair.now), "{text}");
        assert_eq!(pair.client.conn.held(), InboxUse::default(), "{text}");
        pair.client.inject(data(id, Flags::NONE), b"more", pair.now);
        let failure = pair.client.outcome(id).unwrap_err();
        assert_eq!(failure.executed, Executed::Maybe);
        assert_eq!(failure.phase, crate::Phase::Stream);
        assert!(failure.cause.to_string().contains(text), "{text}: {failure:?}");
        match failure.cause {
            Cause::Broken(status) => assert_eq!(status.code(), code),
            Cause::TooLong { .. } => assert_eq!(code, Code::ResourceExhausted),
            cause => panic!("{cause:?}"),
        }
        pair.settle();
        assert_eq!(pair.server.count(Kind::Cancel), 1, "{text}");
        pair.server.conn.end(arrived.unwrap().id, End::Dropped, pair.now);
        pair.settle();
        pair.assert_quiescent();
    }
}

#[test]
fn a_handlers_own_failure_does_not_hide_that_its_stream_was_broken() {
    let mut pair = Pair::new();
    let Stream { id, arrived } = pair.open(Shape::RequestStream);
    pair.server.inject(first(id, 3), &[0; 4], pair.now);
    let own = status(Code::Aborted, "what I make of it");
    pair.server
        .conn
        .end(arrived.unwrap().id, End::Failed(&own), pair.now);
    pair.settle();
    let failure = pair.client.outcome(id).unwrap_err();
    assert!(matches!(failure.cause, Cause::Replied(told) if told.code() == Code::Internal));
    pair.assert_quiescent();
}

#[test]
fn a_message_beyond_the_window_breaks_the_stream_unless_it_is_the_last() {
    let mut pair = Pair::new();
    let Stream { id, arrived } = pair.open(Shape::RequestStream);
    // One byte of credit is left for the second: it may be as long as it likes.
    let window = (64 << 10) - 1 - 256;
    pair.server
        .inject(data(id, Flags::NONE), &vec![0; window], pair.now);
    let counted = faults(&mut pair.server, |server| {
        server.inject(data(id, Flags::NONE), &[0; 100_000], pair.now);
    });
    assert_eq!(counted, 0);
    let counted = faults(&mut pair.server, |server| {
        server.inject(data(id, Flags::NONE), b"", pair.now);
    });
    assert_eq!(counted, 1);
    let status = broken(&mut pair.server, id, pair.now);
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(pair.server.conn.held(), InboxUse::default());
    pair.server
        .conn
        .end(arrived.unwrap().id, End::Failed(&status), pair.now);
    pair.settle();
    pair.client.outcome(id).unwrap_err();
}

#[test]
fn a_server_that_sends_beyond_the_window_has_its_call_cancelled() {
    let mut pair = Pair::new();
    let Stream { id, arrived } = pair.open(Shape::ReplyStream);
    for _ in 0..256 {
        pair.client.inject(data(id, Flags::NONE), b"", pair.now);
    }
    assert!(matches!(
        pair.client.next(id, pair.now),
        Poll::Ready(Next::Message(_))
    ));
    let counted = faults(&mut pair.client, |client| {
        client.inject(data(id, Flags::NONE), b"", pair.now);
    });
    assert_eq!(counted, 1);
    assert!(pair.client.is_at_end(id, pair.now), "the rest is dropped");
    let failure = pair.client.outcome(id).unwrap_err();
    assert!(matches!(failure.cause, Cause::Broken(status) if status.code() == Code::ResourceExhausted));
    pair.settle();
    assert_eq!(pair.server.count(Kind::Cancel), 1);
    pair.server.conn.end(arrived.unwrap().id, End::Dropped, pair.now);
    pair.settle();
    pair.assert_quiescent();
}

#[test]
fn an_unread_stream_gets_no_credit_and_its_flood_is_counted() {
    let mut pair = Pair::new();
    let Stream { id, .. } = pair.open(Shape::ReplyStream);
    pair.client.conn.drop_call(id, pair.now);
    // As much may have been on its way: the window, a message that began with its last byte, and the rest of one.
    let counted = faults(&mut pair.client, |client| {
        for _ in 0..84 {
            client.inject(first(id, 100_000), &vec![0; 100_000], pair.now);
        }
    });
    assert_eq!(counted, 0);
    assert_eq!(pair.client.conn.held(), InboxUse::default());
    let counted = faults(&mut pair.client, |client| {
        for _ in 0..10 {
            client.inject(data(id, Flags::NONE), &vec![0; 100_000], pair.now);
        }
    });
    assert_eq!(counted, 10);
    pair.settle();
    assert_eq!(pair.server.count(Kind::Credit), 0);
}

#[test]
fn an_end_with_a_payload_is_an_end_and_no_message() {
    let mut pair = Pair::new();
    let Stream { id, .. } = pair.open(Shape::RequestStream);
    let counted = faults(&mut pair.server, |server| {
        server.inject(data(id, Flags::END), b"what is this", pair.now);
    });
    assert_eq!(counted, 1);
    assert!(pair.server.is_at_end(id, pair.now));
    let Stream { id, .. } = pair.open(Shape::RequestStream);
    let counted = faults(&mut pair.server, |server| {
        server.inject(data(id, Flags::END | Flags::MORE), b"", pair.now);
    });
    assert_eq!(counted, 1);
    assert!(pair.server.is_at_end(id, pair.now));
}

#[test]
fn a_message_after_the_end_is_a_fault_and_changes_nothing() {
    let mut pair = Pair::new();
    let Stream { id, .. } = pair.open(Shape::RequestStream);
    pair.server.inject(data(id, Flags::NONE), b"one", pair.now);
    pair.server.inject(data(id, Flags::END), b"", pair.now);
    for flags in [Flags::NONE, Flags::MORE, Flags::END] {
        let counted = faults(&mut pair.server, |server| {
            server.inject(data(id, flags), b"", pair.now);
        });
        assert!(counted >= 1, "{flags:?}");
    }
    assert!(matches!(
        pair.server.next(id, pair.now),
        Poll::Ready(Next::Message(_))
    ));
    assert!(pair.server.is_at_end(id, pair.now));
}

#[test]
fn an_end_within_a_message_breaks_the_stream() {
    let mut pair = Pair::new();
    let Stream { id, .. } = pair.open(Shape::RequestStream);
    pair.server.inject(first(id, 10), &[0; 5], pair.now);
    pair.server.inject(data(id, Flags::END), b"", pair.now);
    let status = broken(&mut pair.server, id, pair.now);
    assert_eq!(status.code(), Code::Internal);
    assert_eq!(pair.server.conn.held(), InboxUse::default());
}

#[test]
fn a_reply_within_a_message_is_never_a_complete_stream() {
    let mut pair = Pair::new();
    let Stream { id, .. } = pair.open(Shape::ReplyStream);
    pair.client.inject(data(id, Flags::NONE), b"whole", pair.now);
    pair.client.inject(first(id, 10), &[0; 5], pair.now);
    pair.client
        .inject(header(Kind::Reply, id.number(), Flags::NONE), b"", pair.now);
    assert!(matches!(
        pair.client.next(id, pair.now),
        Poll::Ready(Next::Message(_))
    ));
    assert!(pair.client.is_at_end(id, pair.now));
    let failure = pair.client.outcome(id).unwrap_err();
    assert!(matches!(failure.cause, Cause::Broken(status) if status.code() == Code::Internal));
    assert_eq!(pair.client.conn.ours.calls().held(), (0, 0));
}

#[test]
fn a_refusal_within_a_message_is_the_refusal() {
    let mut pair = Pair::new();
    let Stream { id, .. } = pair.open(Shape::ReplyStream);
    pair.client.inject(first(id, 10), &[0; 5], pair.now);
    let mut reply = header(Kind::Reply, id.number(), Flags::NONE);
    reply.code = Code::Aborted as u32;
    pair.client.inject(reply, b"", pair.now);
    assert!(pair.client.is_at_end(id, pair.now));
    let failure = pair.client.outcome(id).unwrap_err();
    assert!(matches!(failure.cause, Cause::Replied(status) if status.code() == Code::Aborted));
    assert_eq!(pair.client.conn.ours.calls().held(), (0, 0));
}

#[test]
fn a_message_in_the_reply_of_a_stream_fails_the_call() {
    for flags in [Flags::NONE, Flags::MORE] {
        let mut pair = Pair::new();
        let Stream { id, .. } = pair.open(Shape::ReplyStream);
        let mut reply = header(Kind::Reply, id.number(), flags);
        reply.length = if flags == Flags::MORE { 10 } else { 0 };
        pair.client.inject(reply, b"12345", pair.now);
        assert!(pair.client.is_at_end(id, pair.now));
        let failure = pair.client.outcome(id).unwrap_err();
        assert!(matches!(failure.cause, Cause::Broken(status) if status.code() == Code::Internal));
        pair.client.inject(data(id, Flags::NONE), b"12345", pair.now);
        assert_eq!(pair.client.conn.ours.calls().held(), (0, 0));
    }
}

#[test]
fn a_stream_where_one_reply_was_expected_fails_the_call_and_cancels_it() {
    let mut pair = Pair::new();
    let mut call = pair.call(b"x");
    let arrived = pair.server.accept(pair.now);
    let counted = faults(&mut pair.client, |client| {
        for _ in 0..256 {
            client.inject(data(CallId(1), Flags::NONE), b"", pair.now);
        }
    });
    assert_eq!(counted, 0, "an honest mistake");
    assert!(pair.poll(&mut call));
    assert_eq!(call.status().code(), Code::Internal);
    assert_eq!(pair.server.count(Kind::Cancel), 1);
    pair.server.conn.end(arrived.id, End::Dropped, pair.now);
    pair.settle();
    pair.assert_quiescent();
}

#[test]
fn credit_for_a_plain_call_is_a_fault_and_for_an_ended_call_is_none() {
    let mut pair = Pair::new();
    let _unary = pair.call(b"x");
    pair.start(Call::send(b"y"));
    let Stream { id, .. } = pair.open(Shape::ReplyStream);
    let credit = |id| Header {
        length: 1,
        ..header(Kind::Credit, id, Flags::NONE)
    };
    // Neither sends anything: a unary call of ours, a call of ours with only a stream of replies, a one-way.
    for id in [1, id.number()] {
        let counted = faults(&mut pair.client, |client| {
            client.inject(credit(id), b"", pair.now)
        });
        assert_eq!(counted, 1, "{id}");
    }
    let mut done = pair.call(b"z");
    while let Poll::Ready(Some(arrived)) = poll(|cx| pair.server.conn.poll_request(cx)) {
        if arrived.id == done.id.unwrap() {
            pair.server.conn.started(arrived.id, pair.now).unwrap();
            pair.server.reply(&arrived, b"", pair.now);
        } else if arrived.one_way {
            let counted = faults(&mut pair.server, |server| {
                server.inject(credit(arrived.id.number()), b"", pair.now);
            });
            assert_eq!(counted, 1);
        }
    }
    let over = done.id.unwrap().number();
    assert!(pair.poll(&mut done));
    for node in [&mut pair.client, &mut pair.server] {
        assert_eq!(faults(node, |node| node.inject(credit(over), b"", pair.now)), 0);
    }
}

#[test]
fn a_call_that_is_refused_at_once_makes_no_fault_of_its_stream() {
    // Refused because of too many calls, because nobody serves, and at the drain's end.
    for refusal in ["full", "serves nothing", "drain"] {
        let server = Settings {
            max_calls: 16,
            serves: refusal != "serves nothing",
            ..settings()
        };
        let mut pair = Pair::with(settings(), server);
        if refusal == "full" {
            for _ in 0..16 {
                pair.call(b"x");
            }
            // As a peer that does not keep to the limit.
            let mut hello = Hello::decode(pair.client.seen[0].payload.clone()).unwrap();
            hello.max_calls = 32;
            pair.client.conn.ours.credit_mut().accept(&hello);
        }
        if refusal == "drain" {
            // A handler that does not go at once keeps the connection.
            let _busy = pair.call(b"busy");
            pair.server.accept(pair.now);
        }
        let request = shaped(Shape::RequestStream);
        let mut ticket = Ticket::default();
        let now = pair.now;
        let conn = &mut pair.client.conn;
        let id = ready(|cx| conn.poll_call(&mut ticket, &request, &(), now, cx)).unwrap();
        for _ in 0..256 {
            pair.client.must_put(id, b"", pair.now);
            pair.client.conn.outbox.close_frame();
        }
        let before = pair.server.conn.peer.faults.left();
        if refusal == "drain" {
            pair.client.transmit(pair.now);
            // The call is read, and its messages come when it is refused.
            let call = pair.client.wire.split_to(pair.client.wire.len() - 256 * DATA_LEN);
            pair.server.read(&call, pair.now);
            assert_eq!(pair.server.count(Kind::Data), 0);
            pair.server.conn.abort_calls(pair.now);
            let late = pair.client.wire.split();
            pair.server.read(&late, pair.now);
            assert_eq!(pair.server.count(Kind::Data), 256);
            assert!(pair.server.conn.end.is_live());
        }
        pair.settle();
        let counted = before - pair.server.conn.peer.faults.left();
        assert_eq!(counted, u32::from(refusal == "full"), "{refusal}");
        assert_eq!(
            pair.client.outcome(id).unwrap_err().executed,
            Executed::No,
            "{refusal}"
        );
    }
}

#[test]
fn calls_to_a_side_without_services_never_end_the_connection() {
    let deaf = Settings {
        serves: false,
        ..settings()
    };
    let mut pair = Pair::with(settings(), deaf);
    for _ in 0..2000 {
        let mut call = pair.call(b"x");
        assert!(pair.poll(&mut call));
        assert_eq!(call.status().code(), Code::Unimplemented);
    }
    pair.assert_quiescent();
}

#[test]
fn a_side_without_services_keeps_at_most_one_refusal_per_slot() {
    let deaf = Settings {
        serves: false,
        max_calls: 16,
        high_water: 1000,
        ..settings()
    };
    let mut pair = Pair::with(settings(), deaf);
    pair.server.open_window = 0;
    for number in 0..200 {
        pair.server
            .inject(header(Kind::Call, 2 * number + 1, Flags::END), b"", pair.now);
    }
    assert!(pair.server.conn.outbox.len() < 1000 + 200 * 100);
    assert_eq!(pair.server.conn.theirs.requests().held(&settings()).0, 16);
}

#[test]
fn a_message_that_comes_with_the_call_is_refused() {
    let mut pair = Pair::new();
    for (id, flags) in [(1, Flags::NONE), (3, Flags::MORE)] {
        let mut call = header(Kind::Call, id, flags);
        call.length = if flags == Flags::MORE { 10 } else { 0 };
        pair.server.inject(call, b"12345", pair.now);
    }
    assert!(!pair.server.has_request());
    for _ in 0..2 {
        pair.client.conn.ours.next_id();
    }
    pair.settle();
    for reply in pair.client.seen.iter().filter(|frame| frame.kind == Kind::Reply) {
        assert_eq!(
            (reply.code, reply.flags),
            (Code::Internal as u32, Flags::NOT_EXECUTED)
        );
    }
    assert_eq!(pair.client.count(Kind::Reply), 2);
}
