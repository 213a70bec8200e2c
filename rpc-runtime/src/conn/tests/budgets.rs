//! What floods cost: each has an end, a reason and a counter.

use super::*;
use crate::{
    conn::Cut,
    counters::Counters,
    frame::control::{Goaway, Reason},
};

/// What a server has counted.
fn counters(pair: &Pair) -> Counters {
    pair.server.conn.settings.counts.read()
}

/// The reason and the text of the GOAWAY that the client has read.
pub(super) fn goaway(pair: &mut Pair) -> (Option<Reason>, String) {
    pair.settle();
    let goaway = Goaway::decode(pair.client.last(Kind::Goaway).payload.clone()).unwrap();
    (Reason::from_number(goaway.reason), goaway.text)
}

/// Sends one thing again and again until it is too much; `send` is given a fresh id.
///
/// Returns how often it took.
fn flood(pair: &mut Pair, mut send: impl FnMut(&mut Pair, u64)) -> u64 {
    let mut times = 0;
    while pair.server.conn.is_live() {
        assert!(times < 3000, "no end to it");
        send(pair, 2 * times + 101);
        times += 1;
    }
    let (reason, _) = goaway(pair);
    assert_eq!(reason, Some(Reason::Excess));
    assert_eq!(pair.server.conn.cut(), Some(Cut::Excess));
    assert_eq!(counters(pair).ended_by_excess, 1);
    times
}

/// What only the server reads: the client never sent it, and may not take the answers.
fn inject(pair: &mut Pair, header: Header<'_>, payload: &[u8]) {
    pair.server.inject(header, payload, pair.now);
    forget_answers(pair);
}

/// All but those of the end.
fn forget_answers(pair: &mut Pair) {
    if pair.server.conn.is_live() {
        pair.server.transmit(pair.now);
        pair.server.wire.clear();
    }
}

/// A call whose handler never starts.
fn refuse(pair: &mut Pair, id: u64, one_way: bool, reason: DropReason) {
    let kind = if one_way { Kind::Send } else { Kind::Call };
    inject(pair, header(kind, id, Flags::END), b"");
    let arrived = pair.server.take();
    let status = &status(Code::Unimplemented, "no");
    let end = End::Refused { status, reason };
    pair.server.conn.end(arrived.id, end, pair.now);
    forget_answers(pair);
}

#[test]
fn calls_over_the_limits_come_to_an_end() {
    let mut pair = Pair::new();
    let times = flood(&mut pair, |pair, id| {
        let mut call = header(Kind::Call, id, Flags::END | Flags::MORE);
        call.length = 5 << 20;
        inject(pair, call, b"");
    });
    assert_eq!(times, 1024);
    assert_eq!(counters(&pair).calls_refused, 1024);
}

#[test]
fn calls_of_unknown_procedures_come_to_an_end() {
    for one_way in [false, true] {
        let mut pair = Pair::new();
        let unknown = DropReason::UnknownProcedure;
        let times = flood(&mut pair, |pair, id| refuse(pair, id, one_way, unknown));
        assert!((1024..1200).contains(&times), "{times}");
        assert_eq!(counters(&pair).unknown_procedures, times);
    }
}

#[test]
fn messages_that_cannot_be_parsed_come_to_an_end() {
    for one_way in [false, true] {
        let mut pair = Pair::new();
        let bad = DropReason::BadPayload;
        let times = flood(&mut pair, |pair, id| refuse(pair, id, one_way, bad));
        assert!((1024..1200).contains(&times), "{times}");
        assert_eq!(counters(&pair).malformed_messages, times);
    }
}

#[test]
fn overload_of_the_whole_server_is_no_fault_of_the_peers() {
    let mut pair = Pair::new();
    for n in 0..2000 {
        refuse(&mut pair, 2 * n + 101, false, DropReason::Overload);
    }
    assert!(pair.server.conn.is_live());
    assert_eq!(counters(&pair).calls_refused, 2000);
}

#[test]
fn empty_fragments_in_a_row_come_to_an_end() {
    let mut pair = Pair::new();
    let mut send = header(Kind::Send, 1, Flags::END | Flags::MORE);
    send.length = 1000;
    inject(&mut pair, send, b"x");
    let empty = header(Kind::Data, 1, Flags::MORE);
    for _ in 0..100 {
        inject(&mut pair, empty, b"");
    }
    // What is not empty ends the row.
    inject(&mut pair, empty, b"x");
    let times = flood(&mut pair, |pair, _| inject(pair, empty, b""));
    assert_eq!(times, 101);
    assert_eq!(counters(&pair).empty_frames, 201);
    assert!(goaway(&mut pair).1.contains("empty frames in a row"));
}

#[test]
fn empty_credit_comes_to_an_end() {
    let mut pair = Pair::new();
    let credit = header(Kind::Credit, 0, Flags::NONE);
    assert_eq!(flood(&mut pair, |pair, _| inject(pair, credit, b"")), 101);
}

#[test]
fn frames_of_unknown_kinds_come_to_an_end() {
    let mut pair = Pair::new();
    let other = header(Kind::Other(64), 0, Flags::NONE);
    assert_eq!(flood(&mut pair, |pair, _| inject(pair, other, b"??")), 1024);
    assert_eq!(counters(&pair).ignored_frames, 1024);
}

#[test]
fn frames_for_calls_that_are_over_come_to_an_end() {
    let mut pair = Pair::new();
    refuse(&mut pair, 1, false, DropReason::Overload);
    let late = header(Kind::Data, 1, Flags::MORE);
    assert_eq!(flood(&mut pair, |pair, _| inject(pair, late, b"x")), 1024);
    assert_eq!(counters(&pair).late_frames, 1024);
}

#[test]
fn pings_come_to_an_end() {
    let mut pair = Pair::new();
    let ping = header(Kind::Ping, 0, Flags::NONE);
    let times = flood(&mut pair, |pair, _| inject(pair, ping, b"12345678"));
    assert_eq!(times, 4, "the first is not too early");
    assert_eq!(counters(&pair).early_pings, 3);
    assert_eq!(goaway(&mut pair).1, "too many PINGs");
}

#[test]
fn faults_that_are_allowed_are_a_setting() {
    let strict = Settings {
        max_faults: 3,
        ..settings()
    };
    let mut pair = Pair::with(settings(), strict);
    let other = header(Kind::Other(64), 0, Flags::NONE);
    assert_eq!(flood(&mut pair, |pair, _| inject(pair, other, b"??")), 3);
}

#[test]
fn a_protocol_error_is_counted_once() {
    let mut pair = Pair::new();
    for _ in 0..3 {
        inject(&mut pair, header(Kind::Other(11), 0, Flags::NONE), b"");
    }
    assert_eq!(pair.server.conn.cut(), Some(Cut::Protocol));
    assert_eq!(counters(&pair).ended_by_protocol, 1);
    assert_eq!(counters(&pair).to_string(), "ended_by_protocol=1");
}

#[test]
fn a_connection_that_is_as_it_should_be_counts_nothing() {
    let mut pair = Pair::new();
    for n in 0..100u8 {
        let mut call = pair.call(&vec![n; 1000 * usize::from(n)]);
        pair.echo();
        assert!(pair.poll(&mut call));
        pair.advance(secs(10));
    }
    pair.client.conn.close(pair.now);
    pair.settle();
    assert!(pair.server.conn.is_closed());
    assert_eq!(counters(&pair), Counters::default());
    assert_eq!(pair.server.conn.cut(), None);
}

/// What replies to refused calls may hold of a peer that reads nothing.
#[test]
fn refusals_of_a_peer_that_reads_nothing_are_few_bytes() {
    let mut pair = Pair::new();
    pair.server.open_window = 0;
    let mut most = 0;
    for n in 0..20_000 {
        // Ten that are as they should be make up for one that is not.
        let mut call = header(Kind::Call, 2 * n + 1, Flags::END);
        if n % 11 == 0 {
            call.flags = Flags::END | Flags::MORE;
            call.length = 5 << 20;
        }
        pair.server.inject(call, b"", pair.now);
        pair.server.transmit(pair.now);
        most = most.max(pair.server.conn.backlog().output);
    }
    assert!(!pair.server.conn.is_live());
    assert!(most < 256 << 10, "{most} bytes wait");
}
