//! Numbers that a `usize` of 32 bits cannot hold: budgets, and lengths of messages.

use super::*;
use crate::conn::memory::Memory;

const WIDE: u64 = 5 << 30;

/// Settings with budgets beyond 4 GiB, and this many calls at once.
fn wide(max_calls: u32) -> Settings {
    Settings {
        max_calls,
        call_bytes: WIDE,
        send_bytes: WIDE,
        inbox_bytes: WIDE,
        metadata_bytes: WIDE,
        decode_bytes: WIDE,
        stream_window: WIDE,
        max_stream_window: WIDE,
        memory: Arc::new(Memory::new(WIDE)),
        ..settings()
    }
}

#[test]
fn calls_run_under_the_widest_limits() {
    for max_calls in [1 << 31, u32::MAX] {
        let mut pair = Pair::with(wide(max_calls), wide(max_calls));
        let mut call = pair.call(b"x");
        pair.echo();
        assert!(pair.poll(&mut call));
        assert_eq!(call.ok(), b"x");
        pair.assert_quiescent();
    }
}

#[test]
fn a_peer_learns_of_a_budget_beyond_4_gib() {
    let pair = Pair::with(settings(), wide(1024));
    let (granted, sent) = pair.client.conn.ours.credit().sends();
    assert_eq!((granted, sent), (WIDE, 0));
}

#[test]
fn a_length_beyond_4_gib_is_no_short_length() {
    let mut pair = Pair::new();
    let mut call = pair.call(b"x");
    let mut reply = header(Kind::Reply, 1, Flags::MORE);
    reply.length = (1 << 32) + 9;
    pair.client.inject(reply, &[0; 9], pair.now);
    assert!(pair.poll(&mut call));
    assert!(matches!(
        call.failure().cause,
        Cause::TooLong {
            len: 0x1_0000_0009,
            ..
        }
    ));
}
