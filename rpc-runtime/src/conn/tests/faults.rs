//! What the peer may get wrong: the end of the connection, or of one call.

use proptest::prelude::*;

use super::*;
use crate::wire::frame::control::{Goaway, Reason};

/// What a server says that is sent these frames after the handshake: the text of its GOAWAY.
fn protocol_error(frames: &[(Header<'_>, &[u8])]) -> String {
    let mut pair = Pair::new();
    // Ids that the client really opened are needed for some of the cases.
    let _open = pair.call(b"x");
    let mut back = Call::new(b"back");
    back.poll(&mut pair.server.conn, pair.now);
    pair.settle();
    for (header, payload) in frames {
        assert!(pair.server.conn.end.is_live());
        pair.server.inject(*header, payload, pair.now);
    }
    assert!(matches!(pair.server.conn.state(), State::Closing));
    back.poll(&mut pair.server.conn, pair.now);
    assert!(matches!(back.failure().cause, Cause::Protocol { .. }));
    pair.server.transmit(pair.now);
    deliver(&mut pair.server, &mut pair.client, pair.now);
    let goaway = Goaway::decode(pair.client.last(Kind::Goaway).payload.clone()).unwrap();
    assert_eq!(goaway.reason, Reason::Protocol.number());
    goaway.text
}

#[test]
fn protocol_errors_end_the_connection_with_a_text_that_says_why() {
    let none = Flags::NONE;
    let unknown = Kind::Other(11);
    let cases: [(&str, Header<'_>, &[u8]); 20] = [
        ("second HELLO", header(Kind::Hello, 0, none), b""),
        ("CALL has id 1, after 1", header(Kind::Call, 1, Flags::END), b""),
        ("CALL has id 4, after 1", header(Kind::Call, 4, Flags::END), b""),
        ("SEND has id 0", header(Kind::Send, 0, Flags::END), b""),
        (
            "CALL has id 9223372036854775809",
            header(Kind::Call, (1 << 63) + 1, Flags::END),
            b"",
        ),
        ("SEND 3 without END", header(Kind::Send, 3, none), b""),
        ("DATA for id 3", header(Kind::Data, 3, none), b"x"),
        ("DATA for id 4", header(Kind::Data, 4, none), b"x"),
        ("DATA for id 0", header(Kind::Data, 0, none), b"x"),
        ("REPLY for id 4", header(Kind::Reply, 4, none), b""),
        ("REPLY for id 1", header(Kind::Reply, 1, none), b""),
        ("CANCEL for id 3", header(Kind::Cancel, 3, none), b""),
        ("CANCEL for id 2", header(Kind::Cancel, 2, none), b""),
        ("PING has id 1", header(Kind::Ping, 1, none), b"12345678"),
        ("PING of 7 bytes", header(Kind::Ping, 0, none), b"1234567"),
        ("PONG with 0 bytes", header(Kind::Pong, 0, none), b""),
        ("PONG cannot be parsed", header(Kind::Pong, 0, none), b"\xff"),
        ("GOAWAY cannot be parsed", header(Kind::Goaway, 0, none), b"\xff"),
        ("unknown kind 11", header(unknown, 0, none), b""),
        ("unknown kind 0", header(Kind::Other(0), 0, none), b""),
    ];
    for (text, header, payload) in cases {
        let found = protocol_error(&[(header, payload)]);
        assert!(found.contains(text), "{text}: {found}");
    }
}

#[test]
fn credit_for_an_id_that_was_never_opened_ends_the_connection() {
    let mut credit = header(Kind::Credit, 99, Flags::NONE);
    credit.length = 1;
    assert!(protocol_error(&[(credit, b"")]).contains("CREDIT for id 99"));
}

#[test]
fn bytes_that_are_no_frame_end_the_connection() {
    let mut pair = Pair::new();
    pair.server.read(&[0, 0, 0, 1, 0xff], pair.now);
    assert!(matches!(pair.server.conn.state(), State::Closing));
    let mut pair = Pair::new();
    pair.server.read(&[0, 0xff, 0, 0], pair.now);
    assert!(matches!(pair.server.conn.state(), State::Closing));
}

#[test]
fn peer_of_a_protocol_error_learns_it_and_both_close() {
    let mut pair = Pair::new();
    let mut call = pair.call(b"x");
    pair.server
        .inject(header(Kind::Other(20), 0, Flags::NONE), b"", pair.now);
    pair.settle();
    assert!(matches!(&pair.client.cause(), Cause::Protocol { text } if text.contains("unknown kind 20")));
    assert!(matches!(pair.server.cause(), Cause::Protocol { .. }));
    assert!(pair.poll(&mut call));
    assert_eq!(call.executed(), Executed::Maybe);
}

#[test]
fn kinds_from_64_on_are_ignored_and_counted() {
    let mut pair = Pair::new();
    for _ in 0..1023 {
        pair.server
            .inject(header(Kind::Other(64), 3, Flags::NONE), b"??", pair.now);
    }
    assert!(pair.server.conn.end.is_live());
    pair.server
        .inject(header(Kind::Other(64), 3, Flags::NONE), b"??", pair.now);
    assert!(!pair.server.conn.end.is_live());
}

#[test]
fn a_side_without_services_refuses_every_request() {
    let deaf = Settings {
        serves: false,
        ..settings()
    };
    let mut pair = Pair::with(settings(), deaf);
    let mut call = pair.call(b"x");
    assert!(pair.poll(&mut call));
    assert_eq!(call.status().code(), Code::Unimplemented);
    assert_eq!(call.executed(), Executed::No);
    let mut send = pair.start(Call::send(b"y"));
    assert!(pair.poll(&mut send));
    pair.settle();
    assert!(!pair.server.has_request());
    pair.assert_quiescent();
}

#[test]
fn a_call_with_a_stream_that_brings_a_message_of_its_own_is_refused() {
    let mut pair = Pair::new();
    let now = pair.now;
    pair.server.inject(header(Kind::Call, 1, Flags::NONE), b"x", now);
    pair.settle();
    let reply = pair.client.last(Kind::Reply);
    assert_eq!(reply.code, Code::Internal as u32);
    assert_eq!(reply.flags, Flags::NOT_EXECUTED);
}

#[test]
fn compression_that_was_not_announced_fails_its_call() {
    let mut pair = Pair::new();
    pair.client.conn.ours.next_id();
    let mut call = header(Kind::Call, 1, Flags::END);
    call.encoding = 1;
    pair.server.inject(call, b"", pair.now);
    pair.settle();
    assert_eq!(pair.client.last(Kind::Reply).code, Code::Internal as u32);

    let mut call = pair.call(b"x");
    let mut reply = header(Kind::Reply, call.id.unwrap().0, Flags::NONE);
    reply.encoding = 2;
    pair.client.inject(reply, b"", pair.now);
    assert!(pair.poll(&mut call));
    assert_eq!(
        (call.status().code(), call.executed()),
        (Code::Internal, Executed::Yes)
    );
}

#[test]
fn request_over_our_limit_is_refused_with_both_sizes() {
    let mut pair = Pair::new();
    pair.client.conn.ours.next_id();
    let mut call = header(Kind::Call, 1, Flags::END | Flags::MORE);
    call.length = 5 << 20;
    pair.server.inject(call, b"x", pair.now);
    pair.settle();
    let reply = pair.client.last(Kind::Reply);
    assert_eq!(
        (reply.code, reply.flags),
        (Code::ResourceExhausted as u32, Flags::NOT_EXECUTED)
    );
    assert!(reply.extra.message.contains("5242880") && reply.extra.message.contains("4194304"));
}

#[test]
fn ids_may_have_gaps() {
    let mut pair = Pair::new();
    for id in [5, 1001, (1 << 63) - 1] {
        pair.server
            .inject(header(Kind::Send, id, Flags::END), b"", pair.now);
        assert_eq!(pair.server.accept(pair.now).id.0, id);
    }
}

#[test]
fn ids_that_collide_in_a_simple_hash_are_found_all_the_same() {
    let mut pair = Pair::new();
    for index in 1..=1024u64 {
        pair.server
            .inject(header(Kind::Call, (index << 40) | 1, Flags::END), b"", pair.now);
    }
    for _ in 0..1024 {
        let arrived = pair.server.accept(pair.now);
        pair.server.conn.end(arrived.id, End::Dropped, pair.now);
    }
    assert_eq!(pair.server.conn.open_requests(), 0);
}

/// How many of 200 requests are still slices of their read buffer when they are taken.
fn pinned(is_read_at_once: bool) -> usize {
    let mut pair = Pair::new();
    let buffer = Bytes::from(vec![0; 100_000]);
    pair.server.conn.handle_read(pair.now);
    for index in 0..200u64 {
        if !is_read_at_once {
            pair.server.conn.handle_read(pair.now);
        }
        let mut frame = Frame {
            kind: Kind::Send,
            id: 1 + 2 * index,
            flags: Flags::END,
            payload: buffer.slice(0..10),
            ..Frame::default()
        };
        pair.server.conn.handle_frame(&mut frame, pair.now);
    }
    let range = buffer.as_ptr_range();
    (0..200)
        .filter(|_| range.contains(&pair.server.take().payload.bytes().as_ptr()))
        .count()
}

#[test]
fn small_requests_in_a_long_queue_do_not_pin_the_read_buffers() {
    assert_eq!(pinned(false), 64);
}

#[test]
fn small_requests_of_one_read_buffer_are_not_copied() {
    assert_eq!(pinned(true), 200);
}

/// Any frame, mostly one that a peer could send.
fn frame() -> impl Strategy<Value = Frame> {
    let kind = prop_oneof![20 => 1..=10u32, 1 => 0..70u32].prop_map(Kind::from);
    let id = prop_oneof![10 => 0..40u64, 1 => any::<u64>()];
    let length = prop_oneof![5 => 0..100u64, 2 => 0..(8u64 << 20), 1 => any::<u64>()];
    let payload = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..30),
        1 => (0..70_000usize).prop_map(|len| vec![0; len]),
        1 => Just(vec![0; 8]),
        1 => (any::<u32>(), any::<u64>(), any::<u64>()).prop_map(|(reason, last_id, drain_ms)| {
            Goaway { reason: reason % 9, last_id: last_id >> (reason % 64), drain_ms, ..Default::default() }
                .encode_to_vec()
        }),
    ];
    (
        kind,
        id,
        0..16u32,
        any::<bool>(),
        length,
        payload,
        any::<u64>(),
        0..20u32,
        0..3u32,
    )
        .prop_map(
            |(kind, id, flags, control, length, payload, timeout, code, encoding)| Frame {
                kind,
                id,
                flags: Flags::from_bits(flags | if control { 2 } else { 0 }),
                procedure: if control && id % 5 == 0 { CONTROL } else { ECHO },
                timeout_us: if timeout % 3 == 0 {
                    timeout >> (timeout % 64)
                } else {
                    0
                },
                code: if code < 10 { 0 } else { code },
                length,
                encoding: encoding / 2,
                payload: payload.into(),
                ..Frame::default()
            },
        )
}

#[derive(Clone, Debug)]
enum Step {
    Frame(Frame),
    Take,
    End(u8),
    Call(usize),
    Advance(u64),
    Drain,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => frame().prop_map(Step::Frame),
        4 => Just(Step::Take),
        3 => any::<u8>().prop_map(Step::End),
        3 => (0..100_000usize).prop_map(Step::Call),
        2 => (0..5000u64).prop_map(Step::Advance),
        1 => Just(Step::Drain),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    // The fuzz targets `server` and `client` do the same with bytes. Most random bytes end the connection within a few frames, so
    // this test draws whole frames.
    #[test]
    fn no_sequence_of_frames_panics_or_exceeds_the_memory_limits(
        steps in prop::collection::vec(step(), 1..120),
        acceptor in any::<bool>(),
        greeted in prop::bool::weighted(0.95),
    ) {
        let side = if acceptor { Side::Acceptor } else { Side::Connector };
        let mut node = Node::new(side, Settings { send_bytes: 64 << 10, call_bytes: 64 << 10, ..settings() });
        let mut now = Time::ZERO;
        if greeted {
            let mut peer = Node::new(side.other(), settings());
            peer.transmit(now);
            deliver(&mut peer, &mut node, now);
        }
        let mut taken = Vec::new();
        let mut calls = Vec::new();
        for step in steps {
            match step {
                Step::Frame(mut frame) => node.conn.handle_frame(&mut frame, now),
                Step::Take => {
                    if let Poll::Ready(Some(arrived)) = poll(|cx| node.conn.poll_request(cx)) {
                        if node.conn.started(arrived.id, now).is_ok() {
                            taken.push(arrived.id);
                        } else {
                            node.conn.end(arrived.id, End::Dropped, now);
                        }
                    }
                }
                Step::End(index) => {
                    if !taken.is_empty() {
                        let id = taken.swap_remove(usize::from(index) % taken.len());
                        node.conn.reply(id, &vec![0; 3000 * usize::from(index)], now);
                    }
                }
                Step::Call(len) => {
                    let mut call = Call::new(vec![0; len]);
                    call.poll(&mut node.conn, now);
                    calls.push(call);
                }
                Step::Advance(millis) => {
                    now += ms(millis);
                    node.conn.handle_timeout(now);
                    prop_assert!(
                        node.conn.is_closed() || node.conn.poll_timeout().is_none_or(|next| next > now)
                    );
                }
                Step::Drain => node.conn.begin_drain(Reason::Drain, "", secs(1), now),
            }
            node.transmit(now);
            node.wire.clear();
            let (requests, call_bytes, _) = node.conn.theirs.requests().held(&node.conn.settings);
            prop_assert!(requests < 300 && call_bytes <= (4 << 20) + (128 << 10));
            prop_assert!(node.conn.theirs.requests().queued() < 500);
        }
        node.conn.handle_lost("end", None, now);
        for call in &mut calls {
            prop_assert!(call.poll(&mut node.conn, now));
            prop_assert_eq!(call.completions, 1);
        }
        while let Poll::Ready(Some(arrived)) = poll(|cx| node.conn.poll_request(cx)) {
            taken.push(arrived.id);
        }
        for id in taken {
            node.conn.end(id, End::Dropped, now);
        }
        prop_assert_eq!(node.conn.theirs.requests().all_kept(), IntakeUse::default());
        prop_assert_eq!(node.conn.settings.memory.held(), 0);
        prop_assert_eq!(node.conn.open_requests(), 0);
        prop_assert_eq!(node.conn.running_handlers(), 0);
        prop_assert_eq!(node.conn.ours.calls().held(), (0, 0));
    }
}

/// A server whose peer reads nothing, and of which 4 KiB may wait to be written.
fn unread() -> Pair {
    let server = Settings {
        high_water: 4096,
        ..settings()
    };
    let mut pair = Pair::with(settings(), server);
    pair.server.open_window = 0;
    pair
}

#[test]
fn a_peer_that_cancels_and_reads_nothing_does_not_fill_our_memory() {
    for expire in [false, true] {
        let mut pair = unread();
        for n in 0..50_000 {
            let id = 2 * n + 1;
            let mut call = header(Kind::Call, id, Flags::END);
            call.timeout_us = u64::from(expire);
            pair.server.inject(call, b"", pair.now);
            if expire {
                pair.now += Time::from_micros(1);
                pair.server.conn.handle_timeout(pair.now);
            } else {
                pair.server
                    .inject(header(Kind::Cancel, id, Flags::NONE), b"", pair.now);
            }
            pair.server.transmit(pair.now);
        }
        // Its calls kept their slots, so it ran over the limit, and was sent away.
        assert!(matches!(pair.server.conn.state(), State::Closing));
        let waiting = pair.server.conn.outbox.end() - pair.server.conn.outbox.taken();
        assert!(waiting < 128 * 1024, "{waiting} bytes wait");
    }
}

#[test]
fn a_peer_that_pings_and_reads_nothing_does_not_fill_our_memory() {
    let mut pair = unread();
    let mut send = header(Kind::Send, 1, Flags::END | Flags::MORE);
    send.length = 1_000_000;
    pair.server.inject(send, b"x", pair.now);
    for _ in 0..10_000 {
        // Each fragment allows a ping.
        pair.server
            .inject(header(Kind::Data, 1, Flags::MORE), b"x", pair.now);
        pair.server.inject(
            header(Kind::Ping, 0, Flags::NONE),
            b"\x01\0\0\0\0\0\0\0",
            pair.now,
        );
        pair.server.transmit(pair.now);
    }
    assert!(pair.server.conn.end.is_live());
    let waiting = pair.server.conn.outbox.end() - pair.server.conn.outbox.taken();
    assert!(waiting < 8 * 1024, "{waiting} bytes wait");
}

#[test]
fn calls_cancelled_while_there_is_no_room_are_replied_when_there_is() {
    let mut pair = unread();
    let calls: Vec<_> = (0..500).map(|_| pair.start(Call::new(b"x"))).collect();
    pair.settle();
    for call in calls {
        call.abandon(&mut pair.client.conn, pair.now);
    }
    pair.settle();
    assert!(pair.server.conn.open_requests() > 300, "the rest waits for room");
    assert!(!pair.server.has_request());
    pair.server.open_window = usize::MAX;
    pair.settle();
    assert_eq!(pair.client.count(Kind::Reply), 500);
    pair.assert_quiescent();
}

#[test]
fn endless_goaways_end_the_connection() {
    for falling in [false, true] {
        let mut pair = Pair::new();
        let mut sent = 0;
        while pair.client.conn.end.is_live() {
            sent += 1;
            assert!(sent < 2000);
            let goaway = Goaway {
                last_id: if falling { 1_000_000 - sent } else { u64::MAX },
                ..Goaway::default()
            };
            pair.client.inject(
                header(Kind::Goaway, 0, Flags::NONE),
                &goaway.encode_to_vec(),
                pair.now,
            );
        }
        assert!(sent > 1000, "{sent}");
    }
}

#[test]
fn a_second_pong_for_the_same_ping_is_a_fault() {
    let mut pair = Pair::new();
    pair.client.conn.put_ping(pair.now);
    pair.settle();
    let left = pair.client.conn.peer.faults.left();
    let pong = pair.client.last(Kind::Pong).payload.clone();
    pair.client
        .inject(header(Kind::Pong, 0, Flags::NONE), &pong, pair.now);
    assert_eq!(pair.client.conn.peer.faults.left(), left - 1);
}
