//! What floods cost: each has an end, a reason and a counter.

use std::{collections::VecDeque, sync::Arc};

use super::*;
use crate::{
    api::{counters::Counters, server_limit::ServerLimit},
    conn::{
        Cut, Unstarted,
        memory::{Memory, Share},
    },
    wire::frame::control::{Goaway, Reason},
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
    while pair.server.conn.end.is_live() {
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
    if pair.server.conn.end.is_live() {
        pair.server.transmit(pair.now);
        pair.server.wire.clear();
    }
}

/// A call whose handler never starts.
fn refuse(pair: &mut Pair, id: u64, one_way: bool, reason: RefusalReason) {
    let kind = if one_way { Kind::Send } else { Kind::Call };
    inject(pair, header(kind, id, Flags::END), b"");
    let arrived = pair.server.take();
    let status = &status(Code::Unimplemented, "no");
    let end = End::Refused { status, reason };
    pair.server.conn.end(arrived.id, end, pair.now);
    forget_answers(pair);
}

#[test]
fn endless_calls_over_the_limits_end_the_connection() {
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
fn endless_calls_of_unknown_procedures_end_the_connection() {
    for one_way in [false, true] {
        let mut pair = Pair::new();
        let unknown = RefusalReason::UnknownProcedure;
        let times = flood(&mut pair, |pair, id| refuse(pair, id, one_way, unknown));
        assert!((1024..1200).contains(&times), "{times}");
        assert_eq!(counters(&pair).unknown_procedures, times);
    }
}

#[test]
fn endless_malformed_messages_end_the_connection() {
    for one_way in [false, true] {
        let mut pair = Pair::new();
        let bad = RefusalReason::BadPayload;
        let times = flood(&mut pair, |pair, id| refuse(pair, id, one_way, bad));
        assert!((1024..1200).contains(&times), "{times}");
        assert_eq!(counters(&pair).malformed_messages, times);
    }
}

#[test]
fn overload_of_the_whole_server_is_no_fault_of_the_peer() {
    let mut pair = Pair::new();
    for n in 0..2000 {
        refuse(
            &mut pair,
            2 * n + 101,
            false,
            RefusalReason::Over(ServerLimit::MaxWaitingHandlers),
        );
    }
    assert!(pair.server.conn.end.is_live());
    assert_eq!(counters(&pair).calls_refused, 2000);
}

#[test]
fn endless_empty_fragments_end_the_connection() {
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
fn endless_empty_credit_ends_the_connection() {
    let mut pair = Pair::new();
    let credit = header(Kind::Credit, 0, Flags::NONE);
    assert_eq!(flood(&mut pair, |pair, _| inject(pair, credit, b"")), 101);
}

#[test]
fn endless_unknown_frames_end_the_connection() {
    let mut pair = Pair::new();
    let other = header(Kind::Other(64), 0, Flags::NONE);
    assert_eq!(flood(&mut pair, |pair, _| inject(pair, other, b"??")), 1024);
    assert_eq!(counters(&pair).ignored_frames, 1024);
}

#[test]
fn endless_frames_for_ended_calls_end_the_connection() {
    let mut pair = Pair::new();
    refuse(
        &mut pair,
        1,
        false,
        RefusalReason::Over(ServerLimit::MaxWaitingHandlers),
    );
    let late = header(Kind::Data, 1, Flags::MORE);
    assert_eq!(flood(&mut pair, |pair, _| inject(pair, late, b"x")), 1024);
    assert_eq!(counters(&pair).late_frames, 1024);
}

#[test]
fn endless_pings_end_the_connection() {
    let mut pair = Pair::new();
    let ping = header(Kind::Ping, 0, Flags::NONE);
    let times = flood(&mut pair, |pair, _| inject(pair, ping, b"12345678"));
    assert_eq!(times, 4, "the first is not too early");
    assert_eq!(counters(&pair).early_pings, 3);
    assert_eq!(
        goaway(&mut pair).1,
        "too many PINGs, less than 10s apart: Limits::ping_floor"
    );
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
fn a_peer_that_stalls_while_it_is_sent_away_is_counted_once() {
    let mut pair = Pair::new();
    pair.server.open_window = 0;
    let _call = pair.call(b"x");
    let arrived = pair.server.accept(pair.now);
    pair.server.reply(&arrived, b"y", pair.now);
    pair.advance(ms(29_500));
    pair.server
        .inject(header(Kind::Other(11), 0, Flags::NONE), b"", pair.now);
    pair.advance(secs(10));
    assert!(pair.server.conn.is_closed());
    assert_eq!(counters(&pair).to_string(), "ended_by_protocol=1");
}

#[test]
fn a_healthy_connection_counts_no_faults() {
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
        most = most.max(pair.server.conn.outbox.backlog().output);
    }
    assert!(!pair.server.conn.end.is_live());
    assert!(most < 256 << 10, "{most} bytes wait");
}

/// A server that takes so much metadata, and the settings of its peer.
fn little_metadata(bytes: u64) -> Pair {
    let server = Settings {
        metadata_bytes: bytes,
        ..settings()
    };
    Pair::with(settings(), server)
}

fn with_metadata(mut call: Call, len: usize) -> Call {
    call.metadata.insert("k", vec![0; len]);
    call
}

#[test]
fn metadata_of_open_requests_has_its_own_limit() {
    let makes: [fn(&'static [u8]) -> Call; 2] = [|message| Call::new(message), |message| Call::send(message)];
    for make in makes {
        let mut pair = little_metadata(40_000);
        let mut calls: Vec<_> = (0..10)
            .map(|_| pair.start(with_metadata(make(b"x"), 8000)))
            .collect();
        pair.settle();
        for _ in 0..4 {
            let arrived = pair.server.accept(pair.now);
            assert_eq!(arrived.metadata.byte_len(), 8001);
            pair.server.reply(&arrived, b"y", pair.now);
        }
        assert!(!pair.server.has_request(), "six are refused");
        pair.settle();
        let refused = calls.iter_mut().filter_map(|call| {
            assert!(call.poll(&mut pair.client.conn, pair.now));
            (!call.one_way && matches!(call.outcome, Some(Err(_)))).then_some(call)
        });
        for call in refused {
            assert_eq!(call.status().code(), Code::ResourceExhausted);
            assert_eq!(call.executed(), Executed::No);
        }
        let Counters {
            calls_refused,
            sends_refused,
            ..
        } = counters(&pair);
        assert_eq!(calls_refused + sends_refused, 6);
        assert_eq!(sends_refused > 0, calls[0].one_way);
        // It comes back, and nobody was blamed.
        let mut call = pair.start(with_metadata(Call::new(b"x"), 8000));
        pair.settle();
        pair.echo();
        assert!(pair.poll(&mut call));
        assert_eq!(call.ok(), b"x");
        assert_eq!(pair.server.conn.peer.faults.left(), 1024);
        pair.assert_quiescent();
    }
}

#[test]
fn requests_without_metadata_need_no_room_for_it() {
    let mut pair = little_metadata(0);
    let mut call = pair.call(b"x");
    pair.echo();
    assert!(pair.poll(&mut call));
    assert_eq!(call.ok(), b"x");
}

/// Two pairs of one server, which may hold so much.
fn two(max: u64) -> [Pair; 2] {
    let server = Settings {
        memory: Arc::new(Memory::new(max)),
        ..settings()
    };
    [(); 2].map(|()| Pair::with(settings(), server.clone()))
}

fn held(pair: &Pair) -> u64 {
    pair.server.conn.settings.memory.held()
}

#[test]
fn at_nine_tenths_only_large_holders_are_refused() {
    let [mut one, mut other] = two(1_000_000);
    let _long = one.start(Call::new(vec![0; 920_000]));
    one.settle();
    assert!((920_000..1_000_000).contains(&held(&one)));
    let mut more = one.call(b"x");
    assert!(one.poll(&mut more));
    assert_eq!(more.status().code(), Code::ResourceExhausted);
    assert_eq!(more.executed(), Executed::No);
    let mut call = other.call(b"x");
    other.echo();
    assert!(other.poll(&mut call));
    assert_eq!(call.ok(), b"x");
}

#[test]
fn unwritten_replies_that_hold_much_memory_delay_new_handlers() {
    let [mut one, _other] = two(20_000_000);
    one.server.open_window = 0;
    let _calls: Vec<_> = (0..30).map(|_| one.start(Call::new(b"x"))).collect();
    one.settle();
    let (mut waiting, mut refused) = (0, 0);
    // Their handlers have tasks, which all begin at once.
    let arrived: Vec<_> = (0..30).map(|_| one.server.take()).collect();
    for arrived in arrived {
        if one.server.conn.started(arrived.id, one.now) == Err(Unstarted::Memory) {
            refused += 1;
            continue;
        }
        match poll(|cx| one.server.conn.poll_room(arrived.id, 900_000, cx)) {
            Poll::Ready(()) => one.server.reply(&arrived, &vec![7; 900_000], one.now),
            Poll::Pending => waiting += 1,
        }
    }
    assert!(waiting > 0 && refused > 0, "{waiting} {refused}");
    let third = 20_000_000 / 3;
    assert!((third..third + 900_000).contains(&held(&one)), "{}", held(&one));
    assert!(one.server.conn.lacks_memory());
}

#[test]
fn while_memory_is_short_a_request_is_taken_alone_and_asks() {
    let [mut one, _other] = two(20_000_000);
    let _calls: Vec<_> = (0..30).map(|_| one.start(Call::new(b"x"))).collect();
    let _urgent: Vec<_> = (0..2).map(|_| one.start(Call::control(b"x"))).collect();
    one.settle();
    let take = |one: &mut Pair, most| {
        let (mut rest, now) = (VecDeque::new(), one.now);
        let taken = ready(|cx| one.server.conn.take_requests(&mut rest, most, now, cx)).unwrap();
        (taken, rest)
    };
    let (taken, mut rest) = take(&mut one, 30);
    assert!(!taken.asks && rest.len() == 29);
    rest.push_front(taken.first);
    for arrived in rest {
        match poll(|cx| one.server.conn.poll_room(arrived.id, 900_000, cx)) {
            Poll::Ready(()) => one.server.reply(&arrived, &vec![7; 900_000], one.now),
            Poll::Pending => {}
        }
    }
    let (taken, rest) = take(&mut one, 2);
    assert!(taken.asks && rest.is_empty(), "{rest:?}");
    assert_eq!(one.server.conn.started(taken.first.id, one.now), Ok(()));
}

#[test]
fn a_large_holder_that_reads_nothing_is_cut_early_when_memory_is_short() {
    let [mut one, mut other] = two(1_000_000);
    one.server.open_window = 0;
    let mut call = one.start(Call::new(b"x"));
    one.settle();
    let arrived = one.server.accept(one.now);
    one.server.reply(&arrived, &vec![7; 600_000], one.now);
    one.advance(secs(5));
    assert!(one.server.conn.end.is_live(), "nobody needs it");
    other.server.open_window = 0;
    let _slow = other.start(Call::new(vec![0; 350_000]));
    other.settle();
    one.advance(secs(1));
    assert!(!one.server.conn.end.is_live());
    assert_eq!(counters(&one).to_string(), "ended_by_write_stall=1");
    assert!(one.poll(&mut call));
    assert!(other.server.conn.end.is_live());
}

#[test]
fn calls_are_refused_while_other_connections_hold_all_memory() {
    let [mut one, mut other] = two(1_000_000);
    one.server.open_window = 0;
    let mut long = one.start(Call::new(b"x"));
    one.settle();
    let arrived = one.server.accept(one.now);
    one.server.reply(&arrived, &vec![7; 1_000_000], one.now);
    assert!(held(&one) >= 1_000_000);
    let mut call = other.call(b"x");
    assert!(other.poll(&mut call));
    assert_eq!(call.status().code(), Code::ResourceExhausted);
    assert!(call.status().message().contains("the server holds"));
    assert_eq!(call.executed(), Executed::No);
    assert_eq!(counters(&other).calls_refused, 1);
    assert_eq!(other.server.conn.peer.faults.left(), 1024);
    // Who wants to terminate it gets in.
    other.start(Call::control(b"stop"));
    other.settle();
    assert_eq!(other.server.take().procedure, CONTROL);
    // When the reply is written, there is room again.
    one.server.open_window = usize::MAX;
    one.settle();
    assert!(one.poll(&mut long));
    assert_eq!(held(&one), 0);
    let _call = other.call(b"x");
    other.server.take();
}

#[test]
fn from_nine_tenths_on_only_whole_requests_are_taken() {
    let [_one, mut other] = two(10_000_000);
    let mut rest = Share::new(Arc::clone(&other.server.conn.settings.memory));
    let fails = |other: &mut Pair| {
        let mut call = other.start(Call::new(vec![0; 500_000]));
        other.settle();
        assert!(other.poll(&mut call));
        assert_eq!(call.status().code(), Code::ResourceExhausted);
        assert_eq!(call.executed(), Executed::No);
    };
    // The first part is taken, and is too much with the second.
    rest.hold(8_900_000);
    fails(&mut other);
    // The first part is refused.
    rest.hold(9_050_000);
    other.client.open_window = 100_000;
    fails(&mut other);
    other.client.open_window = usize::MAX;
    other.settle();
    let _whole = other.call(b"x");
    other.server.take();
}

#[test]
fn a_fragment_that_finds_no_memory_fails_its_call() {
    let [mut one, mut other] = two(1_000_000);
    other.client.open_window = 200_000;
    let mut call = other.start(Call::new(vec![0; 500_000]));
    let mut send = other.start(Call::send(vec![0; 500_000]));
    other.client.transmit(other.now);
    other.settle();
    let _long = one.start(Call::new(vec![0; 880_000]));
    one.settle();
    assert!(held(&one) >= 1_000_000);
    other.client.open_window = usize::MAX;
    other.settle();
    assert!(other.poll(&mut call) && other.poll(&mut send));
    assert_eq!(call.status().code(), Code::ResourceExhausted);
    assert_eq!(call.executed(), Executed::No);
    assert!(!other.server.has_request());
    let progress = other.server.conn.theirs.account().progress();
    assert_eq!(progress.received, 1);
    assert_eq!(progress.dropped[0].reason, DropReason::Overload.number());
    assert_eq!(other.server.conn.peer.faults.left(), 1024, "nobody is to blame");
    assert!(held(&one) < 900_000, "nothing is left of them");
}

#[test]
fn unread_messages_of_a_stream_count_as_held() {
    let [mut one, _other] = two(100_000);
    one.client.conn.ours.next_id();
    one.server
        .inject(header(Kind::Call, 1, Flags::NONE), b"", one.now);
    let arrived = one.server.accept(one.now);
    for _ in 0..200 {
        one.server
            .inject(header(Kind::Data, 1, Flags::NONE), b"", one.now);
    }
    // 256 bytes each, however short they are.
    assert!(held(&one) >= 200 * 256 - (16 << 10), "{}", held(&one));
    let mut long = header(Kind::Data, 1, Flags::NONE);
    long.length = 60_000;
    one.server.inject(long, &vec![0; 60_000], one.now);
    let next = ready(|cx| one.server.conn.poll_message(arrived.id, None, one.now, cx));
    assert!(matches!(next, Next::Broken(status) if status.code() == Code::ResourceExhausted));
    one.server.conn.end(arrived.id, End::Dropped, one.now);
    one.settle();
    assert_eq!(held(&one), 0);
}

#[test]
fn metadata_of_replies_fills_the_inbox_too() {
    let small = Settings {
        inbox_bytes: 300_000,
        ..settings()
    };
    let mut pair = Pair::with(small, settings());
    let mut calls: Vec<_> = (0..6).map(|_| pair.start(Call::new(b"x"))).collect();
    pair.settle();
    let status = status(Code::NotFound, "no").with_details_bytes(Bytes::from(vec![7; 100_000]));
    for _ in 0..5 {
        let arrived = pair.server.accept(pair.now);
        pair.server.conn.end(arrived.id, End::Failed(&status), pair.now);
        pair.settle();
    }
    let mut last = calls.pop().unwrap();
    let full = |call: &mut Call| {
        assert!(call.poll(&mut pair.client.conn, pair.now));
        assert_eq!(call.executed(), Executed::Yes);
        matches!(call.failure().cause, Cause::InboxFull { max: 300_000 })
    };
    let full: Vec<_> = calls.iter_mut().map(full).collect();
    assert_eq!(full, [false, false, false, true, true]);
    // Whoever takes a failure makes room, and one that brings nothing needs none.
    let arrived = pair.server.accept(pair.now);
    pair.server.conn.end(arrived.id, End::Failed(&status), pair.now);
    assert!(pair.poll(&mut last));
    assert_eq!(last.status().details().len(), 100_000);
    pair.assert_quiescent();
}

#[test]
fn tiny_messages_of_a_stream_use_up_its_window() {
    let mut pair = Pair::new();
    pair.client.conn.ours.next_id();
    pair.server
        .inject(header(Kind::Call, 1, Flags::NONE), b"", pair.now);
    let _arrived = pair.server.accept(pair.now);
    for _ in 0..1000 {
        pair.server
            .inject(header(Kind::Data, 1, Flags::NONE), b"x", pair.now);
        assert!(pair.server.conn.held().messages <= (64 << 10) / 257 + 1);
    }
}

#[test]
fn unwritten_replies_count_as_held() {
    let [mut one, other] = two(10_000_000);
    one.server.open_window = 0;
    let mut call = one.call(b"x");
    let arrived = one.server.accept(one.now);
    one.server.reply(&arrived, &vec![0; 3_000_000], one.now);
    one.settle();
    assert!(held(&other) >= 3_000_000);
    one.server.open_window = usize::MAX;
    one.settle();
    assert!(one.poll(&mut call));
    assert_eq!(held(&other), 0);
}

#[test]
fn a_lost_connection_holds_no_memory() {
    let [mut one, other] = two(10_000_000);
    one.server.open_window = 0;
    let _answered = one.call(b"x");
    let answered = one.server.accept(one.now);
    one.server.reply(&answered, &vec![0; 100_000], one.now);
    let _call = one.start(Call::new(vec![0; 1_000_000]));
    let _send = one.start(Call::send(vec![0; 1_000_000]));
    one.settle();
    assert!(held(&other) >= 2_000_000);
    one.server.conn.handle_lost("gone", None, one.now);
    assert!(held(&other) < 1_100_000, "the one-way call still runs");
    let send = one.server.take();
    assert!(send.one_way);
    one.server.conn.end(send.id, End::Dropped, one.now);
    assert_eq!(held(&other), 0);
}

#[test]
fn one_way_calls_take_at_most_their_share_of_the_handlers() {
    let few = Settings {
        max_calls: 16,
        ..settings()
    };
    let mut pair = Pair::with(settings(), few);
    for _ in 0..40 {
        pair.start(Call::send(b"x"));
    }
    pair.settle();
    let mut running: Vec<_> = (0..32).map(|_| pair.server.accept(pair.now)).collect();
    assert!(
        !pair.server.has_request(),
        "more than twice the slots are at work"
    );
    // What is urgent is no part of it.
    pair.start(Call::control(b"stop"));
    pair.settle();
    let urgent = pair.server.accept(pair.now);
    assert_eq!(urgent.procedure, CONTROL);
    pair.server.reply(&urgent, b"", pair.now);
    assert!(!pair.server.has_request());
    // One after the other, and none is lost.
    for _ in 32..40 {
        let ended = running.remove(0);
        pair.server.conn.handled(ended.id, pair.now);
        running.push(pair.server.accept(pair.now));
        assert!(!pair.server.has_request());
    }
    for ended in running {
        pair.server.conn.handled(ended.id, pair.now);
    }
    assert_eq!(pair.server.conn.theirs.account().progress().handled, 40);
}

#[test]
fn one_way_calls_that_outlive_their_connection_keep_the_share() {
    let few = Settings {
        max_calls: 16,
        ..settings()
    };
    let mut pair = Pair::with(settings(), few);
    for _ in 0..40 {
        pair.start(Call::send(b"x"));
    }
    pair.settle();
    let mut running: Vec<_> = (0..32).map(|_| pair.server.accept(pair.now)).collect();
    pair.server.conn.handle_lost("gone", None, pair.now);
    assert!(poll(|cx| pair.server.conn.poll_request(cx)).is_pending());
    for _ in 32..40 {
        pair.server.conn.handled(running.remove(0).id, pair.now);
        running.push(pair.server.accept(pair.now));
    }
    for ended in running {
        assert!(!matches!(
            poll(|cx| pair.server.conn.poll_request(cx)),
            Poll::Ready(Some(_))
        ));
        pair.server.conn.handled(ended.id, pair.now);
    }
    // Nobody is left to wait for.
    assert!(matches!(
        poll(|cx| pair.server.conn.poll_request(cx)),
        Poll::Ready(None)
    ));
    assert!(pair.server.conn.theirs.requests().is_empty());
}
