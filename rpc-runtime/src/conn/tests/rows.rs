//! Rows of messages, as their receiver takes them in: what they hold, what is granted for them, when they are idle.

use std::{collections::VecDeque, task::Poll};

use super::{
    streams::{Stream, shaped},
    *,
};
use crate::wire::frame::{
    Encoded,
    row::{MAX_ROW, Row, row},
};

/// A row of `len` bytes: one message, and a short length before it.
fn row_of(len: usize) -> Vec<u8> {
    let message = vec![7; len - 3];
    let bytes = row(&[&message]);
    assert_eq!(
        bytes.len(),
        len,
        "a message of 16 KiB or more has a length of three bytes"
    );
    bytes
}

fn packed(id: CallId) -> Header<'static> {
    header(Kind::Data, id.number(), Flags::PACKED)
}

/// The messages of what is read next, which must be a row.
#[track_caller]
fn next_row(node: &mut Node, id: CallId, now: Time) -> Vec<Vec<u8>> {
    match node.next(id, now) {
        Poll::Ready(Next::Message(item)) => messages(item),
        other => panic!("no row but {other:?}"),
    }
}

#[track_caller]
fn messages(item: Encoded) -> Vec<Vec<u8>> {
    assert!(item.is_row());
    let mut row = Row::new(item.into_bytes());
    let mut messages = Vec::new();
    while let Some(message) = row.read(<[u8]>::to_vec).unwrap() {
        messages.push(message);
    }
    messages
}

fn held(bytes: usize, messages: usize) -> InboxUse {
    InboxUse {
        bytes: bytes as u64,
        messages,
        ..InboxUse::default()
    }
}

#[test]
fn messages_of_a_row_come_in_order_between_others_at_both_ends() {
    let mut pair = Pair::new();
    let Stream { id, arrived } = pair.open(Shape::Both);
    let bytes = row(&[&b"two"[..], b"", b"four"]);
    for node in [&mut pair.client, &mut pair.server] {
        let plain = header(Kind::Data, id.number(), Flags::NONE);
        node.inject(plain, b"one", pair.now);
        node.inject(packed(id), &bytes, pair.now);
        node.inject(plain, b"five", pair.now);
        assert_eq!(
            node.conn.held(),
            held(3 + bytes.len() + 4, 3),
            "a row counts once"
        );
        let plain = |next| match next {
            Poll::Ready(Next::Message(item)) if !item.is_row() => item.into_bytes(),
            other => panic!("no message but {other:?}"),
        };
        assert_eq!(&plain(node.next(id, pair.now))[..], b"one");
        assert_eq!(next_row(node, id, pair.now), [&b"two"[..], b"", b"four"]);
        assert_eq!(&plain(node.next(id, pair.now))[..], b"five");
        assert!(node.next(id, pair.now).is_pending());
        assert_eq!(node.conn.held(), InboxUse::default());
    }
    pair.server.reply(&arrived.unwrap(), b"", pair.now);
}

#[test]
fn a_row_is_held_until_its_reader_looks_for_more() {
    let mut pair = Pair::new();
    let Stream { id, .. } = pair.open(Shape::RequestStream);
    let (first, second) = (row(&[b"1", b"2"]), row(&[b"3"]));
    pair.server.inject(packed(id), &first, pair.now);
    pair.server.inject(packed(id), &second, pair.now);
    next_row(&mut pair.server, id, pair.now);
    assert_eq!(pair.server.conn.held(), held(first.len() + second.len(), 2));
    next_row(&mut pair.server, id, pair.now);
    assert_eq!(pair.server.conn.held(), held(second.len(), 1));
    assert!(pair.server.next(id, pair.now).is_pending());
    assert_eq!(pair.server.conn.held(), InboxUse::default());
}

#[test]
fn a_row_in_the_hands_of_its_reader_is_not_held_after_the_call() {
    let mut pair = Pair::new();
    let Stream { id, arrived } = pair.open(Shape::ReplyStream);
    pair.client.inject(packed(id), &row(&[b"1", b"2"]), pair.now);
    next_row(&mut pair.client, id, pair.now);
    pair.client.conn.drop_call(id, pair.now);
    assert_eq!(pair.client.conn.held(), InboxUse::default());
    pair.settle();
    pair.server.conn.end(arrived.unwrap().id, End::Dropped, pair.now);
    pair.settle();
    pair.assert_quiescent();
}

#[test]
fn credit_for_a_row_is_its_length_and_256_once() {
    let mut pair = Pair::new();
    let Stream { id, .. } = pair.open(Shape::RequestStream);
    // Slowly, so that the window is not widened.
    pair.advance(secs(1));
    let lens = [20_000, 16_500];
    for len in lens {
        pair.server.inject(packed(id), &row_of(len), pair.now);
        next_row(&mut pair.server, id, pair.now);
    }
    pair.settle();
    // Though its reader has not looked for more.
    assert_eq!(pair.client.count(Kind::Credit), 1);
    let granted = pair.client.last(Kind::Credit).length;
    assert_eq!(granted, lens.map(|len| len as u64 + 256).iter().sum::<u64>());
}

#[test]
fn credit_for_a_row_of_empty_messages_is_that_of_one_frame() {
    let mut pair = Pair::new();
    let Stream { id, .. } = pair.open(Shape::RequestStream);
    pair.advance(secs(1));
    pair.server.inject(packed(id), &vec![0; MAX_ROW], pair.now);
    assert_eq!(pair.server.conn.held(), held(MAX_ROW, 1));
    assert_eq!(next_row(&mut pair.server, id, pair.now).len(), MAX_ROW);
    pair.settle();
    assert_eq!(pair.client.last(Kind::Credit).length, MAX_ROW as u64 + 256);
}

#[test]
fn a_row_may_come_while_the_balance_is_above_0_and_the_next_one_may_not() {
    let mut pair = Pair::new();
    let Stream { id, .. } = pair.open(Shape::RequestStream);
    let left = pair.server.conn.peer.faults.left();
    // One byte of the window is left.
    let first = row_of((64 << 10) - 1 - 256);
    pair.server.inject(packed(id), &first, pair.now);
    pair.server.inject(packed(id), &row_of(MAX_ROW), pair.now);
    assert_eq!(pair.server.conn.peer.faults.left(), left);
    pair.server.inject(packed(id), &row(&[b""]), pair.now);
    assert_eq!(pair.server.conn.peer.faults.left(), left - 1);
    let Poll::Ready(Next::Broken(status)) = pair.server.next(id, pair.now) else {
        panic!("its stream is broken");
    };
    assert!(
        status
            .message()
            .contains("more of the stream than it was granted: the reader's Limits::stream_window")
    );
    assert_eq!(pair.server.conn.held(), InboxUse::default());
}

/// A server that takes short messages only.
fn strict(change: impl FnOnce(&mut Settings)) -> Pair {
    let mut server = settings();
    server.max_message = 1000;
    change(&mut server);
    Pair::with(settings(), server)
}

#[test]
fn the_limit_of_a_message_holds_for_each_in_a_row_and_not_for_the_row() {
    let mut pair = strict(|_| {});
    let Stream { id, .. } = pair.open(Shape::RequestStream);
    let longest = &[7; 1000][..];
    pair.server.inject(packed(id), &row(&[longest; 60]), pair.now);
    assert_eq!(next_row(&mut pair.server, id, pair.now).len(), 60);
    pair.server
        .inject(packed(id), &row(&[&b"fine"[..], &[7; 1001], b"fine"]), pair.now);
    let Poll::Ready(Next::Broken(status)) = pair.server.next(id, pair.now) else {
        panic!("its stream is broken");
    };
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(
        status.message(),
        "message of 1001 bytes exceeds limit of 1000: the reader's Limits::max_message"
    );
}

#[test]
fn a_row_for_which_the_inbox_has_no_room_breaks_its_stream() {
    let mut pair = strict(|settings| settings.inbox_bytes = 5000);
    let Stream { id, .. } = pair.open(Shape::RequestStream);
    let left = pair.server.conn.peer.faults.left();
    pair.server
        .inject(packed(id), &row(&[&[7; 900][..]; 3]), pair.now);
    pair.server
        .inject(packed(id), &row(&[&[7; 900][..]; 3]), pair.now);
    let Poll::Ready(Next::Broken(status)) = pair.server.next(id, pair.now) else {
        panic!("its stream is broken");
    };
    assert!(status.message().contains("exceed the limit of 5000 bytes"));
    assert_eq!(pair.server.conn.peer.faults.left(), left, "the peer cannot know");
}

#[test]
fn rows_on_their_way_to_a_reader_that_left_are_no_fault() {
    let mut pair = strict(|_| {});
    let Stream { id, .. } = pair.open(Shape::RequestStream);
    let left = pair.server.conn.peer.faults.left();
    pair.server
        .conn
        .break_stream(id, Status::new(Code::Internal, "no more"), pair.now);
    assert_eq!(pair.server.conn.peer.faults.left(), left - 1);
    // The window, and a row that begins with its last byte.
    pair.server
        .inject(packed(id), &row_of((64 << 10) - 1 - 256), pair.now);
    pair.server.inject(packed(id), &row_of(MAX_ROW), pair.now);
    assert_eq!(pair.server.conn.peer.faults.left(), left - 1);
    assert_eq!(pair.server.conn.held(), InboxUse::default());
}

#[test]
fn rows_that_cross_an_early_reply_are_no_fault() {
    let mut pair = strict(|_| {});
    let Stream { id, arrived } = pair.open(Shape::RequestStream);
    let left = pair.server.conn.peer.faults.left();
    pair.server.reply(&arrived.unwrap(), b"enough", pair.now);
    pair.server
        .inject(packed(id), &row_of((64 << 10) - 1 - 256), pair.now);
    pair.server.inject(packed(id), &row_of(MAX_ROW), pair.now);
    assert_eq!(pair.server.conn.peer.faults.left(), left);
}

#[test]
fn a_stream_is_not_idle_while_its_reader_has_a_row() {
    let mut pair = Pair::new();
    let request = Request {
        idle: Some(secs(5)),
        ..shaped(Shape::ReplyStream)
    };
    let Stream { id, arrived } = pair.open_as(&request);
    pair.client.inject(packed(id), &row(&[b"1", b"2"]), pair.now);
    next_row(&mut pair.client, id, pair.now);
    pair.advance(secs(20));
    assert!(pair.client.next(id, pair.now).is_pending());
    pair.advance(secs(4));
    assert!(pair.client.next(id, pair.now).is_pending());
    pair.advance(secs(1));
    assert!(pair.client.is_at_end(id, pair.now));
    let failure = pair.client.outcome(id).unwrap_err();
    assert!(matches!(failure.cause, Cause::Idle { .. }));
    pair.server.conn.end(arrived.unwrap().id, End::Dropped, pair.now);
    pair.settle();
    pair.assert_quiescent();
}

#[test]
fn short_rows_are_given_ahead_and_their_credit_comes_when_they_are_read() {
    let mut pair = Pair::new();
    let Stream { id, .. } = pair.open(Shape::ReplyStream);
    pair.advance(secs(1));
    let long = row_of(33_000);
    pair.client.inject(packed(id), &long, pair.now);
    let short = row(&[b"2", b"3"]);
    for _ in 0..2 {
        pair.client.inject(packed(id), &short, pair.now);
    }
    let mut ahead = VecDeque::new();
    let now = pair.now;
    let next = poll(|cx| pair.client.conn.poll_message(id, Some(&mut ahead), now, cx));
    assert!(matches!(next, Poll::Ready(Next::Message(item)) if item.is_row()));
    assert_eq!(ahead.len(), 2);
    for item in ahead {
        assert_eq!(messages(item), [b"2", b"3"]);
    }
    pair.settle();
    assert_eq!(pair.server.last(Kind::Credit).length, 33_000 + 256);
    assert_eq!(pair.client.conn.held(), held(33_000 + 2 * short.len(), 3));
    // They are read now: with the next row, more than half of the window is owed.
    pair.advance(secs(1));
    pair.client.inject(packed(id), &long, pair.now);
    next_row(&mut pair.client, id, pair.now);
    pair.settle();
    let owed = 33_000 + 256 + 2 * (short.len() as u64 + 256);
    assert_eq!(pair.server.last(Kind::Credit).length, owed);
}

#[test]
fn a_compressed_row_counts_its_length_before_compression() {
    let agreed = Settings {
        encodings: vec![7],
        ..settings()
    };
    let mut pair = Pair::with(agreed.clone(), agreed);
    let Stream { id, .. } = pair.open(Shape::RequestStream);
    let compressed = |length| Header {
        encoding: 7,
        length,
        ..packed(id)
    };
    pair.server.inject(compressed(50_000), &[7; 40], pair.now);
    assert_eq!(pair.server.conn.held(), held(50_000, 1));
    let Poll::Ready(Next::Message(item)) = pair.server.next(id, pair.now) else {
        panic!("no row");
    };
    assert_eq!((item.encoding(), item.len(), item.is_row()), (7, 50_000, true));
    // It would decompress to more than a row may have.
    pair.server
        .inject(compressed(MAX_ROW as u64 + 1), &[7; 40], pair.now);
    let Poll::Ready(Next::Broken(status)) = pair.server.next(id, pair.now) else {
        panic!("its stream is broken");
    };
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(
        status.message(),
        "packed frame of 65537 bytes exceeds limit of 65536"
    );
}

#[test]
fn the_flag_means_nothing_on_an_end_or_another_kind() {
    let mut pair = Pair::new();
    let Stream { id, .. } = pair.open(Shape::RequestStream);
    pair.server.inject(
        header(Kind::Data, id.number(), Flags::END | Flags::PACKED),
        b"",
        pair.now,
    );
    assert!(pair.server.is_at_end(id, pair.now));
    pair.client.conn.ours.next_id();
    pair.server.inject(
        header(Kind::Call, 3, Flags::END | Flags::PACKED),
        b"\x03dog",
        pair.now,
    );
    assert_eq!(&pair.server.accept(pair.now).payload.into_bytes()[..], b"\x03dog");
}
