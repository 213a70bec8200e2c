//! HELLO, the floor before it, and rejections.

use super::*;
use crate::wire::frame::control::{Entry, Goaway, Hello, Reason};

fn fresh() -> Pair {
    Pair::fresh(settings(), settings())
}

/// A HELLO that is accepted.
fn hello() -> Hello {
    Hello {
        magic: Hello::MAGIC,
        version_min: 1,
        version_max: 1,
        max_frame: 64 << 10,
        max_message: 1 << 20,
        max_calls: 16,
        call_bytes: 64 << 10,
        send_bytes: 64 << 10,
        ..Hello::default()
    }
}

fn inject_hello(node: &mut Node, hello: &Hello, now: Time) {
    node.inject(Header::new(Kind::Hello, 0), &hello.encode_to_vec(), now);
}

#[test]
fn hello_is_the_first_frame_of_both_sides_and_says_the_limits() {
    let mut pair = fresh();
    pair.settle();
    for (node, peer) in [(&pair.client, &pair.server), (&pair.server, &pair.client)] {
        assert_eq!(node.kinds(), [Kind::Hello]);
        let hello = Hello::decode(node.seen[0].payload.clone()).unwrap();
        assert_eq!(hello.max_calls, peer.conn.settings.max_calls);
        assert_eq!(hello.ping_floor_ms, 10_000);
        assert_eq!(hello.software, "test");
    }
    assert!(matches!(pair.client.conn.state(), State::Open));
}

#[test]
fn the_side_that_accepts_is_silent_before_its_peer() {
    let mut pair = fresh();
    assert!(!pair.server.transmit(pair.now) && !pair.server.conn.wants_transmit());
    pair.client.transmit(pair.now);
    deliver(&mut pair.client, &mut pair.server, pair.now);
    assert!(pair.server.transmit(pair.now), "now it knows whom it talks to");
    // A peer that says nothing learns why it is cut off.
    let mut pair = fresh();
    pair.now += pair.server.conn.settings.handshake_timeout;
    pair.server.conn.handle_timeout(pair.now);
    pair.server.transmit(pair.now);
    deliver(&mut pair.server, &mut pair.client, pair.now);
    assert_eq!(pair.client.kinds(), [Kind::Hello, Kind::Goaway]);
}

#[test]
fn first_call_goes_with_the_hello() {
    let mut pair = fresh();
    let mut call = pair.start(Call::new(b"early"));
    pair.client.transmit(pair.now);
    deliver(&mut pair.client, &mut pair.server, pair.now);
    assert_eq!(pair.server.kinds(), [Kind::Hello, Kind::Call]);
    pair.echo();
    assert!(pair.poll(&mut call));
    pair.assert_quiescent();
}

#[test]
fn ready_is_reported_after_the_handshake() {
    let mut pair = fresh();
    let flag = Arc::new(Flag::default());
    let waker = Waker::from(Arc::clone(&flag));
    assert!(
        pair.client
            .conn
            .poll_ready(&mut Context::from_waker(&waker))
            .is_pending()
    );
    assert!(matches!(pair.client.conn.state(), State::Handshaking));
    pair.settle();
    assert!(flag.take());
    assert!(ready(|cx| pair.client.conn.poll_ready(cx)).is_ok());
}

#[test]
fn only_sixteen_calls_go_before_the_hello() {
    let mut pair = fresh();
    let mut calls: Vec<_> = (0..17).map(|_| pair.start(Call::new(b"x"))).collect();
    assert!(calls[15].id.is_some() && calls[16].is_waiting_in_queue());
    pair.settle();
    assert!(calls[16].flag.take());
    pair.poll(&mut calls[16]);
    assert!(calls[16].id.is_some());
}

#[test]
fn before_the_hello_each_charge_must_fit() {
    let mut pair = fresh();
    let calls = [
        pair.start(Call::new(vec![0; 40_000])),
        pair.start(Call::new(vec![0; 30_000])),
    ];
    assert!(calls[0].id.is_some() && calls[1].is_waiting_in_queue());
    let mut pair = fresh();
    let sends = [
        pair.start(Call::send(vec![0; 40_000])),
        pair.start(Call::send(vec![0; 30_000])),
    ];
    assert!(sends[0].outcome.is_some() && sends[1].is_waiting_in_queue());
}

#[test]
fn before_the_hello_no_frame_is_longer_than_64_kib() {
    let mut pair = fresh();
    let mut call = Call::new(vec![0; 60_000]);
    call.metadata.insert("k", vec![0; 8000]);
    let mut call = pair.start(call);
    assert!(call.is_waiting_in_queue());
    pair.settle();
    assert!(call.flag.take());
    pair.poll(&mut call);
    pair.settle();
    assert_eq!(pair.server.take().metadata.len(), 1);
}

#[test]
fn before_the_hello_only_requests_go() {
    let mut pair = fresh();
    let call = pair.start(Call::new(b"x"));
    call.abandon(&mut pair.client.conn, pair.now);
    pair.client.conn.start_barrier(pair.now);
    pair.client.conn.close(pair.now);
    pair.client.transmit(pair.now);
    let mut reader = BytesMut::from(&pair.client.wire[..]);
    let mut codec = FrameCodec::new(1 << 20);
    let mut kinds = Vec::new();
    while let Some(frame) = codec.decode(&mut reader).unwrap() {
        kinds.push(frame.kind);
    }
    assert_eq!(kinds, [Kind::Hello, Kind::Call]);
    pair.settle();
    assert_eq!(pair.server.kinds()[2..], [Kind::Cancel, Kind::Goaway, Kind::Ping]);
}

#[test]
fn nothing_is_dispatched_before_the_hello() {
    let mut pair = fresh();
    pair.server
        .inject(header(Kind::Call, 1, Flags::END), b"", pair.now);
    assert!(!pair.server.has_request());
    assert!(matches!(pair.server.conn.state(), State::Closing));
}

#[test]
fn hellos_that_are_not_acceptable_are_rejected() {
    let cases = [
        ("another protocol", Hello { magic: 7, ..hello() }),
        (
            "speaks versions",
            Hello {
                version_min: 2,
                version_max: 3,
                ..hello()
            },
        ),
        (
            "speaks versions",
            Hello {
                version_min: 0,
                version_max: 0,
                ..hello()
            },
        ),
        (
            "max_frame",
            Hello {
                max_frame: 65_535,
                ..hello()
            },
        ),
        (
            "max_calls",
            Hello {
                max_calls: 15,
                ..hello()
            },
        ),
        (
            "call_bytes",
            Hello {
                call_bytes: 65_535,
                ..hello()
            },
        ),
        (
            "send_bytes",
            Hello {
                send_bytes: 65_535,
                ..hello()
            },
        ),
        (
            "exceeds limit",
            Hello {
                software: "x".repeat(20_000),
                ..hello()
            },
        ),
    ];
    for (text, hello) in cases {
        let mut pair = fresh();
        inject_hello(&mut pair.server, &hello, pair.now);
        let Err(Cause::HelloRejected { text: found }) = ready(|cx| pair.server.conn.poll_ready(cx)) else {
            panic!("{text} was accepted");
        };
        assert!(found.contains(text), "{found}");
        pair.server.transmit(pair.now);
        deliver(&mut pair.server, &mut pair.client, pair.now);
        let goaway = Goaway::decode(pair.client.last(Kind::Goaway).payload.clone()).unwrap();
        assert_eq!(
            (goaway.reason, goaway.last_id),
            (Reason::HelloRejected.number(), 0)
        );
        assert!(goaway.text.contains(text));
    }
}

#[test]
fn later_versions_of_the_peer_settle_on_ours() {
    let mut pair = fresh();
    inject_hello(
        &mut pair.server,
        &Hello {
            version_max: 9,
            ..hello()
        },
        pair.now,
    );
    assert!(matches!(pair.server.conn.state(), State::Open));
}

#[test]
fn garbage_in_place_of_a_hello_is_rejected() {
    let mut pair = fresh();
    pair.server
        .inject(Header::new(Kind::Hello, 0), b"\xff\xff\xff", pair.now);
    assert!(matches!(
        ready(|cx| pair.server.conn.poll_ready(cx)),
        Err(Cause::HelloRejected { .. })
    ));
}

#[test]
fn peer_that_speaks_http_is_named() {
    let mut pair = fresh();
    pair.server.read(b"GET / HTTP/1.1\r\n\r\n", pair.now);
    let Err(Cause::HelloRejected { text }) = ready(|cx| pair.server.conn.poll_ready(cx)) else {
        panic!()
    };
    assert!(text.contains("HTTP/1"), "{text}");
}

#[test]
fn rejected_calls_were_not_executed() {
    let mut pair = fresh();
    let mut call = pair.start(Call::new(b"x"));
    let goaway = Goaway {
        reason: Reason::HelloRejected.number(),
        text: "too old".to_owned(),
        ..Goaway::default()
    };
    pair.client.transmit(pair.now);
    inject_hello(&mut pair.client, &hello(), pair.now);
    pair.client
        .inject(Header::new(Kind::Goaway, 0), &goaway.encode_to_vec(), pair.now);
    assert!(call.poll(&mut pair.client.conn, pair.now));
    assert!(matches!(&call.failure().cause, Cause::HelloRejected { text } if text == "too old"));
    assert_eq!(call.executed(), Executed::No);
}

#[test]
fn peer_without_a_hello_is_cut_at_the_timeout() {
    let mut pair = fresh();
    let mut call = pair.start(Call::new(b"x"));
    pair.client.transmit(pair.now);
    pair.now = ms(9_999);
    pair.client.conn.handle_timeout(pair.now);
    assert!(pair.client.conn.end.is_live());
    assert_eq!(pair.client.conn.poll_timeout(), Some(secs(10)));
    pair.now = secs(10);
    pair.client.conn.handle_timeout(pair.now);
    assert!(call.poll(&mut pair.client.conn, pair.now));
    // It may have read all, and be slow to answer.
    assert_eq!(call.executed(), Executed::Maybe);
    pair.now += secs(1);
    pair.client.conn.handle_timeout(pair.now);
    assert!(matches!(pair.client.cause(), Cause::Lost { .. }));
}

#[test]
fn caller_with_a_too_long_request_lets_the_next_pass() {
    let mut pair = fresh();
    let mut long = pair.start(Call::new(vec![0; 5 << 20]));
    let mut behind = pair.start(Call::new(b"x"));
    assert!(long.is_waiting_in_queue() && behind.is_waiting_in_queue());
    pair.settle();
    assert!(long.flag.take());
    assert!(pair.poll(&mut long));
    assert!(matches!(long.failure().cause, Cause::TooLong { .. }));
    assert!(behind.flag.take());
    pair.poll(&mut behind);
    assert!(behind.id.is_some());
}

#[test]
fn entries_of_a_hello_are_kept_until_they_are_taken() {
    let entries = Metadata::from([
        ("X-Build", "7"),
        ("RPC-depth", "9"),
        ("authorization", "Bearer t"),
    ]);
    let mut pair = fresh();
    let with_entries = Hello {
        metadata: Entry::list(&entries),
        ..hello()
    };
    inject_hello(&mut pair.server, &with_entries, pair.now);
    let kept = pair.server.conn.take_peer_metadata();
    assert_eq!(
        kept,
        Metadata::from([("x-build", "7"), ("authorization", "Bearer t")])
    );
    assert!(pair.server.conn.take_peer_metadata().is_empty());
}

#[test]
fn a_hello_brings_the_entries_of_the_settings() {
    let metadata = Metadata::from([("x-build", "7")]);
    let client = Settings {
        metadata: metadata.clone(),
        ..settings()
    };
    let mut pair = Pair::fresh(client, settings());
    pair.settle();
    assert_eq!(pair.server.conn.take_peer_metadata(), metadata);
    assert!(pair.client.conn.take_peer_metadata().is_empty());
}

#[test]
fn a_hello_with_too_many_entries_is_rejected() {
    let long = Metadata::from([("k", vec![0; Metadata::MAX_LEN])]);
    let many = (0..65).map(|number| (format!("k{number}"), "")).collect();
    for entries in [long, many] {
        let mut pair = fresh();
        let with_entries = Hello {
            metadata: Entry::list(&entries),
            ..hello()
        };
        inject_hello(&mut pair.server, &with_entries, pair.now);
        pair.settle();
        assert!(pair.server.conn.take_peer_metadata().is_empty());
        let cause = pair.client.conn.state();
        assert!(
            matches!(cause, State::Closed(Cause::HelloRejected { .. })),
            "{cause:?}"
        );
    }
}
