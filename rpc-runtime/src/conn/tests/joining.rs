//! One-way requests that join the frame of the one before them at once.

use super::*;
use crate::{
    conn::{JoiningSend, Uncovered},
    wire::frame::control::Goaway,
};

const SEND: JoiningSend = JoiningSend {
    procedure: ECHO,
    timeout: None,
    priority: Priority::Normal,
};

fn joins(pair: &mut Pair, send: &JoiningSend, message: &str) -> bool {
    pair.client.conn.join_send(send, &message.to_owned())
}

fn send(pair: &mut Pair, call: Call) {
    assert!(pair.start(call).outcome.is_some_and(|outcome| outcome.is_ok()));
}

#[test]
fn requests_that_join_are_as_those_that_were_sent() {
    let mut pair = Pair::new();
    let balance = |pair: &Pair| pair.client.conn.ours.credit().send_balance();
    assert!(!joins(&mut pair, &SEND, "none"), "there is no frame");
    send(&mut pair, Call::send(b"a"));
    let before = balance(&pair);
    assert!(joins(&mut pair, &SEND, "bc") && joins(&mut pair, &SEND, ""));
    // The lengths of all three are added, of the first one, too.
    assert_eq!(before - balance(&pair), 1 + (1 + 4) + 1);
    assert_eq!(pair.client.conn.uncovered(), Uncovered { no: 0, maybe: 3 });
    pair.settle();
    assert!(!joins(&mut pair, &SEND, "late"), "the frame is written");
    let ids: Vec<_> = (0..3).map(|_| pair.server.accept(pair.now)).collect();
    for (arrived, id) in ids.iter().zip([1, 3, 5]) {
        assert_eq!((arrived.id, arrived.one_way), (CallId(id), true));
        pair.server.reply(arrived, b"", pair.now);
    }
    let barrier = pair.client.conn.start_barrier(pair.now);
    pair.settle();
    let progress = ready(|cx| pair.client.conn.poll_barrier(&barrier, cx)).expect("an account");
    assert_eq!((progress.last_id, progress.handled), (5, 3));
    pair.assert_quiescent();
}

#[test]
fn what_differs_from_the_frame_does_not_join() {
    let long = "x".repeat(5000);
    let other = |change: fn(&mut JoiningSend)| {
        let mut send = SEND;
        change(&mut send);
        send
    };
    let cases = [
        ("another procedure", other(|send| send.procedure += 1), "b"),
        ("a limit", other(|send| send.timeout = Some(secs(1))), "b"),
        ("long", SEND, long.as_str()),
    ];
    for (what, joining, message) in cases {
        let mut pair = Pair::new();
        send(&mut pair, Call::send(b"a"));
        assert!(!joins(&mut pair, &joining, message), "{what}");
        assert!(joins(&mut pair, &SEND, "b"), "{what}");
    }
}

#[test]
fn a_request_joins_a_frame_with_its_own_time() {
    let mut pair = Pair::new();
    let deadline = pair.now + ms(500);
    send(&mut pair, Call::send(b"a").deadline(deadline));
    let joining = |timeout| JoiningSend { timeout, ..SEND };
    assert!(joins(&mut pair, &joining(Some(ms(500))), "b"));
    assert!(!joins(&mut pair, &joining(Some(ms(499))), "b"));
    assert!(!joins(&mut pair, &joining(None), "b"));
}

#[test]
fn no_request_joins_a_connection_that_takes_none() {
    type End = (&'static str, fn(&mut Pair));
    let ends: [End; 3] = [
        ("closed", |pair| pair.client.conn.close(pair.now)),
        ("lost", |pair| {
            pair.client.conn.handle_lost("gone", None, pair.now)
        }),
        ("the peer goes", |pair| {
            let goaway = Goaway {
                reason: 1,
                last_id: 1,
                ..Default::default()
            };
            let header = Header::new(Kind::Goaway, 0);
            pair.client.inject(header, &goaway.encode_to_vec(), pair.now);
        }),
    ];
    for (what, end) in ends {
        let mut pair = Pair::new();
        send(&mut pair, Call::send(b"a"));
        end(&mut pair);
        assert!(!joins(&mut pair, &SEND, "b"), "{what}");
    }
}

#[test]
fn no_request_joins_ahead_of_one_that_waits() {
    let server = Settings {
        max_calls: 16,
        ..settings()
    };
    let mut pair = Pair::with(settings(), server);
    let _open: Vec<_> = (0..16).map(|_| pair.start(Call::new(b"x"))).collect();
    send(&mut pair, Call::send(b"a"));
    let waits = pair.start(Call::new(b"y"));
    assert!(waits.is_waiting_in_queue());
    assert!(!joins(&mut pair, &SEND, "b"));
    waits.abandon(&mut pair.client.conn, pair.now);
    assert!(joins(&mut pair, &SEND, "b"));
}

#[test]
fn no_request_joins_without_credit() {
    let server = Settings {
        send_bytes: 64 << 10,
        ..settings()
    };
    let mut pair = Pair::with(settings(), server);
    let message = "x".repeat(4000);
    while pair.client.conn.ours.credit().send_balance() > 4100 {
        if !joins(&mut pair, &SEND, &message) {
            send(&mut pair, Call::send(message.clone()));
        }
    }
    // A frame of its own.
    pair.client.conn.start_flush();
    send(&mut pair, Call::send(b"a"));
    while pair.client.conn.ours.credit().send_balance() > 0 {
        assert!(joins(&mut pair, &SEND, "a few more bytes"));
    }
    assert!(!joins(&mut pair, &SEND, "x"));
    pair.client.conn.ours.grant_sends(1 << 20);
    assert!(joins(&mut pair, &SEND, "x"));
}
