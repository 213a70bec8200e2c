//! Tuning: the constants of a connection that are not settings.
//!
//! | name | value | balances | measured |
//! |---|---|---|---|
//! | [`FRAGMENT`] | 128 KiB | few writes and frames, against the time that a short message waits behind a fragment | not measured |
//! | [`PIECE`] | 16 KiB | frames worth their header, against short messages that wait for a remainder | not measured |
//! | [`SHORT_MESSAGE`] | 8 KiB | messages that go whole at any time, against remainders that starve | with pacing of short messages: a small call beside two transfers of 4 MiB, p50 1.7 to 0.10 ms, p99 4.6 to 0.82 ms |
//! | [`BEGINNING`] | 4 KiB | a long message is known to the peer early, against short ones behind it | not measured |
//! | [`PACK_UNTIL`] | 16 KiB less a header | few frames for many short messages, against a frame that goes whole at any time | not measured |
//! | [`PACKABLE`] | 4 KiB | messages that are worth less than a frame of their own, against copies | not measured |
//! | [`PACKED_TIME`] | 1/1000 of the time | one-way requests that waited a little share a frame, against time that they lose | not measured |
//! | [`MAX_BATCH`] | 1 MiB | long writes on a fast link, each short one wakes the reader, against what cannot be overtaken | long batches and fragments read in place: 1 MiB with 4 in flight, 0.49 to 0.64 of the limit L1 |
//! | [`PATIENCE`] | 7 turns | higher priorities first, against lower ones that starve: one turn in eight is a lower one's | not measured |
//! | [`PACED_FRAGMENT`] | 16 KiB | bytes that an urgent message waits behind, against the rate of long ones | with pacing, p50 of a heartbeat beside 4 MiB messages fell from 13.6 ms to 1.3 ms on a busy machine (ARCHITECTURE.md) |
//! | [`PACED_QUEUED`] | 32 KiB | a link that is never idle, against what waits on its way | as above |
//! | [`PACING_LEAST`], [`PACING_MOST`] | 64 KiB, 64 MiB | one fragment is read while the next is on its way; links with a long round trip | as above |
//! | [`PACING_MARKS`] | 2 PINGs per window | quick knowledge of the round trip, against PINGs | as above |
//! | [`URGENT_REMEMBERED`] | 30 s | urgent messages come again: long ones stay paced, against full speed for them | not measured |
//! | [`SHORT_REMEMBERED`] | 1 s | as above, for short messages beside long ones | as `SHORT_MESSAGE` |
//! | [`WOKEN_AT_ONCE`] | 16 waiters | room used at once, against tasks woken for nothing | not measured |
//! | [`WAKE_AGAIN_AFTER`] | 5 ms | time for woken waiters to poll, against room that is unused if they never do | not measured |
//! | [`REFUSED_FRAGMENTS`] | 8 fragments | room for whole messages of others, against long fragments | not measured |
//! | [`LONG_REPLIES`] | 2 replies | handlers kept busy, against replies that wait in memory | not measured |
//! | [`FAST_HALF_WINDOW`] | 100 ms | a wide window for a fast reader on a fast link, against memory for slow ones | not measured |
//! | [`REPORT_STEP`] | 16 KiB | a true count of the memory of all connections, against an atomic for each call, which would be one cache line for all cores | not measured |
//! | [`PINNED`] | 64 payloads | slices without a copy, against read buffers that they pin | not measured |
//! | [`BUFFER_BUDGET`] | 8 MiB per connection | one allocation for a long message, against memory that was only announced: two messages of the default limit | as `MAX_BATCH` |
//! | [`RING_LEAST`], [`RING_MOST`] | 2, 4096 places | a look-up without a hash, against memory of an idle connection | the ring in place of a map, with other changes: a call of a client, 5,756 to 4,132 instructions |
//! | [`STALL_LEAST`] | 64 KiB | the least rate of a peer, with the settings `write_stall` and `slow_frame`; the same both ways, so that no sender is too slow for one side and quick enough for the other | not measured |
//! | [`MEMORY_CHECK`] | 1 s | memory freed early when it is short, against peers that are slow for a moment | not measured |
//! | [`LATE_TIMER`], [`SLEEP_AGAIN`] | 1 s, 60 s | a process that was stopped blames no peer, against dead peers that stay | not measured |
//! | [`EMPTY_FRAMES`] | 100 frames | harmless peers, against frames that cost work and no bytes | not measured |
//! | [`GOOD_REQUESTS`] | 10 requests | a long connection forgives rare faults, against abuse | not measured |
//! | [`MAX_LATE`] | 64 MiB | fragments on their way when a request is refused, against a flood | not measured |
//! | [`PING_STRIKES`] | 3 PINGs | peers whose PINGs the network bunches, against floods | not measured |
//! | [`MAX_RUNS`], [`MAX_COVERING`] | 4096 runs, 64 PINGs | exact counts of lost one-way requests, against memory | not measured |
//! | [`MAX_DROP_REASONS`] | 64 | reasons kept of an account, which has five | not measured |
//! | [`MAX_WAITERS`], [`WAITERS_SEARCHED`] | 4096, 16 wakers | a list that cannot grow for ever, against the search for a waker that is in it | not measured |
//! | [`NOTICE`] | 1 s | calls on their way when a drain begins are taken, against a drain that waits for a mute peer | not measured |
//! | [`HANDLERS_GO`], [`CONTROL_ANSWERED`], [`ALL_CLOSED`] | 1 s, 2 s, 2.5 s | after the drain's time: handlers end, control calls are answered, the rest is written, against a stop that takes long | not measured |
//!
//! The numbers are from docs/explanation/performance.md, which says how they were measured.
//!
//! [`OVERHEAD`], the floors and [`MAX_FRAME`] are part of the protocol (docs/reference/wire.md): both sides must agree on them.

use std::time::Duration;

/// The most payload that one frame carries, in bytes.
pub(super) const FRAGMENT: usize = 128 * 1024;
/// The least that is worth a frame of its own if there is more, in bytes.
pub(super) const PIECE: usize = FRAGMENT / 8;
/// A message of at most this many bytes goes as a whole, whatever waits.
pub(super) const SHORT_MESSAGE: u64 = PIECE as u64 / 2;
/// How many bytes of a long message go at once.
pub(super) const BEGINNING: usize = 4 * 1024;
/// Short messages share a frame until their row is this long, in bytes: the frame is no longer than a [`PIECE`].
pub(super) const PACK_UNTIL: usize = PIECE - 128;
/// The longest message that shares a frame with others, in bytes.
pub(super) const PACKABLE: usize = 4 * 1024;
/// A one-way request joins a frame if that gives it at most so small a part less of its time.
pub(super) const PACKED_TIME: u64 = 1000;
/// The longest batch that goes to the OS at once, in bytes.
pub(super) const MAX_BATCH: u64 = 1024 * 1024;
/// After this many turns of others, a lower priority that waits has its turn.
pub(super) const PATIENCE: u8 = 7;

/// The longest fragment while an urgent message may have to wait behind it, in bytes.
pub(super) const PACED_FRAGMENT: usize = 16 * 1024;
/// How many bytes of the pacing window may wait on their way.
pub(super) const PACED_QUEUED: u64 = 2 * PACED_FRAGMENT as u64;
/// The narrowest pacing window, in bytes: one fragment is read while the next is on its way.
pub(super) const PACING_LEAST: u64 = 4 * PACED_FRAGMENT as u64;
/// The widest pacing window, in bytes.
pub(super) const PACING_MOST: u64 = 64 << 20;
/// How many PINGs mark one pacing window.
pub(super) const PACING_MARKS: u64 = 2;
/// How long after an urgent message the next one is expected.
pub(super) const URGENT_REMEMBERED: Duration = Duration::from_secs(30);
/// How long after a short message beside long ones the next one is expected.
pub(super) const SHORT_REMEMBERED: Duration = Duration::from_secs(1);

/// How many waiters for room are woken at once.
pub(super) const WOKEN_AT_ONCE: usize = 16;
/// How long woken waiters have to poll before others are woken.
pub(super) const WAKE_AGAIN_AFTER: Duration = Duration::from_millis(5);
/// How many fragments stay short after a message found no room.
pub(super) const REFUSED_FRAGMENTS: u8 = 8;
/// Above this many blocked long replies, only requests whose reply surely fits are dispatched.
pub(super) const LONG_REPLIES: usize = 2;

/// A window is widened if its half was used up within this time.
pub(super) const FAST_HALF_WINDOW: Duration = Duration::from_millis(100);
/// A connection reports what it holds in steps of at least this many bytes.
pub(super) const REPORT_STEP: u64 = 16 * 1024;
/// How many short payloads may wait as slices; further ones are copied unless they came by the same read. Each slice may
/// pin a read buffer.
pub(super) const PINNED: usize = 64;
/// How many bytes of memory a connection may take for announced messages before their bytes have come.
pub(super) const BUFFER_BUDGET: usize = 8 << 20;
/// The fewest places of a table's ring, once there are any.
pub(super) const RING_LEAST: usize = 2;
/// The most places of a table's ring.
pub(super) const RING_MOST: usize = 4096;

/// How many bytes the peer must take of what is written, and bring of what it has begun, within the time that the settings
/// allow; less if there is less.
pub(super) const STALL_LEAST: u64 = 64 * 1024;
/// How long a peer may take nothing while memory is short and its connection holds much.
pub(super) const MEMORY_CHECK: Duration = Duration::from_secs(1);
/// A timer that is this late shows that the process has slept; it reads in as much time what the peer did meanwhile.
pub(super) const LATE_TIMER: Duration = Duration::from_secs(1);
/// How long after such a sleep the next one counts: a process that is never on time still finds dead peers.
pub(super) const SLEEP_AGAIN: Duration = Duration::from_secs(60);

/// How many empty frames may come in a row.
pub(super) const EMPTY_FRAMES: u32 = 100;
/// How many good requests make up for one fault.
pub(super) const GOOD_REQUESTS: u32 = 10;
/// How many late bytes are expected at most.
pub(super) const MAX_LATE: u64 = 64 << 20;
/// With this many PINGs below the floor the connection ends.
pub(super) const PING_STRIKES: u32 = 3;

/// How many runs of one-way requests are kept before the oldest are merged.
pub(super) const MAX_RUNS: usize = 4096;
/// How many PINGs that cover one-way requests are kept.
pub(super) const MAX_COVERING: usize = 64;
/// How many reasons for dropped one-way requests are kept of an account; there are five.
pub(super) const MAX_DROP_REASONS: usize = 64;
/// With more wakers than this in a list, all are woken before one more registers.
pub(super) const MAX_WAITERS: usize = 4096;
/// How many of the newest wakers are searched for one that is registered already.
pub(super) const WAITERS_SEARCHED: usize = 16;

/// How long the peer may take to notice the first GOAWAY.
pub(super) const NOTICE: Duration = Duration::from_secs(1);
/// After the drain's time: how long handlers have to end.
pub(super) const HANDLERS_GO: Duration = Duration::from_secs(1);
/// After the drain's time: how long calls of the control service have to be answered.
pub(super) const CONTROL_ANSWERED: Duration = Duration::from_secs(2);
/// After the drain's time: when the connection is closed, whatever is left to write or read.
pub(super) const ALL_CLOSED: Duration = Duration::from_millis(2500);

/// What every message is charged beside its length, in bytes.
pub(super) const OVERHEAD: u64 = 256;
/// How many calls may go before the peer's HELLO is here; also the least that a HELLO may announce.
pub(super) const FLOOR_CALLS: u32 = 16;
/// How many bytes each of CALL and SEND may go before the peer's HELLO is here; also the least that a HELLO may announce.
pub(super) const FLOOR_BYTES: u64 = 64 * 1024;
/// The longest frame before the peer's HELLO is here, in bytes.
pub(super) const FLOOR_FRAME: u32 = 64 * 1024;
/// No frame is longer, whatever is announced: so the first byte of every length is 0.
pub(super) const MAX_FRAME: u32 = (16 << 20) - 1;
/// How many calls of the control service may be open.
pub(super) const CONTROL_CALLS: u32 = 4;
/// How many bytes a request of the control service may have.
pub(super) const CONTROL_BYTES: u64 = 4 * 1024;
