//! Peers that do not go on with what they have begun; and a process that sleeps, which is not their fault.

use super::{budgets::goaway, *};
use crate::{conn::Cut, wire::frame::control::Reason};

/// The beginning of a frame of `len` bytes, of which `here` have come.
fn begin(pair: &mut Pair, len: usize, here: usize) {
    let mut bytes = (len as u32).to_be_bytes().to_vec();
    bytes.resize(here, 0x0a);
    pair.server.read(&bytes, pair.now);
}

/// A call or one-way request in fragments, of which the first is in its opening frame.
fn open(pair: &mut Pair, kind: Kind, id: u64, length: u64) {
    let mut request = header(kind, id, Flags::END | Flags::MORE);
    request.length = length;
    request.timeout_us = 10_000_000_000;
    pair.server.inject(request, b"x", pair.now);
}

fn fragment(pair: &mut Pair, id: u64, len: usize, flags: Flags) {
    let bytes = vec![7; len];
    pair.server
        .inject(header(Kind::Data, id, flags), &bytes, pair.now);
}

fn assert_timed_out(pair: &mut Pair, text: &str) {
    assert_eq!(pair.server.conn.cut(), Some(Cut::SlowFrame));
    let (reason, found) = goaway(pair);
    assert_eq!(reason, Some(Reason::Timeout));
    assert!(found.contains(text), "{found}");
    pair.advance(secs(2));
    assert!(pair.server.conn.is_closed());
    let counters = pair.server.conn.settings.counts.read();
    assert_eq!(counters.ended_by_slow_frame, 1, "it is counted once");
}

#[test]
fn a_frame_that_has_begun_comes_within_30_s_for_each_64_kib() {
    for (len, time) in [(1, 30), (65_532, 30), (65_533, 60), (140 << 10, 90)] {
        let mut pair = Pair::new();
        begin(&mut pair, len, 4);
        pair.advance(secs(time) - ms(1));
        assert!(pair.server.conn.end.is_live(), "{len}");
        pair.advance(ms(1));
        assert_timed_out(&mut pair, "did not come to its end in time: Limits::slow_frame");
    }
}

#[test]
fn a_byte_a_second_does_not_keep_a_frame_alive() {
    let mut pair = Pair::new();
    begin(&mut pair, 1000, 4);
    let mut secs_taken = 0;
    while pair.server.conn.end.is_live() {
        pair.server.read(b"x", pair.now);
        pair.advance(secs(1));
        secs_taken += 1;
    }
    assert_eq!(secs_taken, 30);
    assert_timed_out(&mut pair, "1004 bytes");
}

#[test]
fn a_length_that_comes_in_pieces_is_the_beginning_of_a_frame() {
    let mut pair = Pair::new();
    pair.server.read(&[0, 0], pair.now);
    pair.advance(secs(30));
    assert_timed_out(&mut pair, "did not come to its end in time: Limits::slow_frame");
}

#[test]
fn each_frame_has_its_own_time() {
    let mut pair = Pair::new();
    // Each read ends one frame and begins the next.
    let mut bytes = Output::new();
    header(Kind::Other(64), 0, Flags::NONE).encode_bytes(Bytes::from_static(b"??"), &mut bytes);
    let frame = bytes.copy_to_bytes(bytes.len());
    let (first, rest) = frame.split_at(3);
    pair.server.read(first, pair.now);
    for _ in 0..20 {
        pair.advance(secs(20));
        pair.server.read(&[rest, first].concat(), pair.now);
    }
    assert!(pair.server.conn.end.is_live());
    pair.server.read(rest, pair.now);
    pair.advance(secs(100));
    assert!(pair.server.conn.end.is_live(), "nothing is begun any more");
}

#[test]
fn a_stalled_message_ends_the_connection() {
    for kind in [Kind::Call, Kind::Send] {
        let mut pair = Pair::new();
        open(&mut pair, kind, 1, 1 << 20);
        // Other frames of the peer's are no progress.
        for _ in 0..29 {
            pair.advance(secs(1));
            pair.server
                .inject(header(Kind::Other(64), 0, Flags::NONE), b"", pair.now);
        }
        pair.advance(secs(1) - ms(1));
        assert!(pair.server.conn.end.is_live());
        pair.advance(ms(1));
        assert_timed_out(&mut pair, "unfinished messages");
    }
}

#[test]
fn a_message_that_comes_slowly_is_no_offence() {
    let mut pair = Pair::new();
    open(&mut pair, Kind::Call, 1, 1 << 20);
    for _ in 0..15 {
        pair.advance(secs(29));
        fragment(&mut pair, 1, 64 << 10, Flags::MORE);
    }
    assert!(pair.server.conn.end.is_live());
    pair.advance(secs(29));
    fragment(&mut pair, 1, (64 << 10) - 1, Flags::NONE);
    pair.advance(secs(200));
    assert!(pair.server.conn.end.is_live());
    pair.server.take();
}

#[test]
fn a_message_that_waits_for_others_of_its_sender_is_no_offence() {
    let mut pair = Pair::new();
    open(&mut pair, Kind::Call, 1, 1 << 20);
    open(&mut pair, Kind::Call, 3, 4 << 20);
    for _ in 0..40 {
        pair.advance(secs(29));
        fragment(&mut pair, 3, 100 << 10, Flags::MORE);
    }
    assert!(pair.server.conn.end.is_live());
    fragment(&mut pair, 3, (4 << 20) - 1 - 40 * (100 << 10), Flags::NONE);
    pair.advance(secs(61));
    assert_timed_out(&mut pair, "unfinished messages");
}

#[test]
fn one_message_after_the_other_is_no_offence() {
    let mut pair = Pair::new();
    for n in 0..20 {
        open(&mut pair, Kind::Call, 2 * n + 1, 3);
        pair.advance(secs(25));
        fragment(&mut pair, 2 * n + 1, 2, Flags::NONE);
    }
    assert!(pair.server.conn.end.is_live());
}

#[test]
fn a_peer_that_hoards_unfinished_messages_is_found_despite_finished_ones() {
    let mut pair = Pair::new();
    for n in 0..100 {
        open(&mut pair, Kind::Call, 2 * n + 1, 100_000);
    }
    pair.advance(secs(29));
    fragment(&mut pair, 1, 99_999, Flags::NONE);
    assert!(pair.server.take().id.0 == 1);
    pair.advance(secs(31));
    assert_timed_out(&mut pair, "unfinished messages");
}

#[test]
fn a_server_that_does_not_go_on_with_its_reply_is_given_up() {
    let mut pair = Pair::new();
    let mut call = pair.call(b"x");
    let id = call.id.unwrap().0;
    let mut reply = header(Kind::Reply, id, Flags::MORE);
    reply.length = 1 << 20;
    pair.client.inject(reply, b"x", pair.now);
    pair.advance(secs(30));
    assert_eq!(pair.client.conn.cut(), Some(Cut::SlowFrame));
    assert!(pair.poll(&mut call));
    assert_eq!(call.executed(), Executed::Maybe);
}

#[test]
fn half_a_message_of_a_stream_is_given_up() {
    let mut pair = Pair::new();
    pair.server
        .inject(header(Kind::Call, 1, Flags::NONE), b"", pair.now);
    let _arrived = pair.server.accept(pair.now);
    let mut message = header(Kind::Data, 1, Flags::MORE);
    message.length = 3000;
    pair.server.inject(message, b"x", pair.now);
    pair.advance(secs(30));
    assert_timed_out(&mut pair, "unfinished messages");
}

#[test]
fn call_abandoned_amid_its_fragments_is_no_offence() {
    let mut pair = Pair::new();
    pair.client.conn.ours.next_id();
    open(&mut pair, Kind::Call, 1, 1 << 20);
    pair.server
        .inject(header(Kind::Cancel, 1, Flags::NONE), b"", pair.now);
    pair.advance(secs(100));
    assert!(pair.server.conn.end.is_live());
}

/// A pair whose server asks after 2 min of silence, and sleeps for a minute while it waits for the answer.
fn asleep() -> Pair {
    let watchful = Settings {
        keep_alive: Some(secs(120)),
        ..settings()
    };
    let mut pair = Pair::with(settings(), watchful);
    // Nothing of the client's gets through from here on.
    pair.now = secs(120);
    pair.server.conn.handle_timeout(pair.now);
    pair.server.transmit(pair.now);
    pair.now += secs(60);
    pair
}

#[test]
fn bytes_that_came_during_a_sleep_are_read_before_the_peer_counts_as_dead() {
    let mut pair = asleep();
    // The timer comes first, and the answer only then.
    pair.server.conn.handle_timeout(pair.now);
    assert!(pair.server.conn.end.is_live());
    pair.settle();
    pair.advance(secs(10));
    assert!(pair.server.conn.end.is_live());
}

#[test]
fn a_peer_that_died_while_the_process_slept_is_dead_a_second_later() {
    let mut pair = asleep();
    pair.server.conn.handle_timeout(pair.now);
    assert_eq!(pair.server.conn.poll_timeout(), Some(pair.now + secs(1)));
    pair.server.conn.handle_timeout(pair.now + secs(1));
    assert_eq!(pair.server.conn.cut(), Some(Cut::Silence));
}

#[test]
fn a_process_that_is_never_on_time_finds_dead_peers_all_the_same() {
    let mut pair = asleep();
    pair.server.conn.handle_timeout(pair.now);
    pair.now += secs(5);
    pair.server.conn.handle_timeout(pair.now);
    assert!(pair.server.conn.is_closed());
}

#[test]
fn a_message_that_paused_during_a_sleep_goes_on() {
    let mut pair = Pair::new();
    pair.server.open_window = 0;
    let mut call = pair.start(Call::new(vec![1; 1000]).deadline(secs(20)));
    pair.settle();
    begin(&mut pair, 1000, 10);
    // A reply that was not taken, half a frame, and a call.
    pair.server.accept(pair.now);
    pair.now = secs(60);
    pair.fire();
    assert!(pair.poll(&mut call));
    assert!(matches!(call.failure().cause, Cause::Deadline));
    assert_eq!(call.completions, 1);
    assert!(pair.server.conn.end.is_live() && pair.client.conn.end.is_live());
    let rest = vec![0x0a; 994];
    pair.server.read(&rest, pair.now);
    assert_ne!(pair.server.conn.cut(), Some(Cut::SlowFrame));
    assert!(!pair.poll(&mut Call::new(b"")) || pair.client.conn.end.is_live());
    assert_eq!(call.completions, 1);
}
