//! Sessions that are cut at every byte, in both directions, on either side: each call ends once, and it is true what
//! is said of it and of the one-way requests; both connections hold nothing afterwards, and the next one is served.

mod check;
mod host;
mod record;
mod session;
mod stream;
mod streams;
mod talk;

use std::ops::Range;

use self::{
    host::{COUNT, ECHO, FAIL, FILL, Host, LONG, NEVER, REFUSE, Ran, token},
    session::{Logs, Plan, Talks, serves_another, session},
    stream::{Cut, Fault, Log, Pace, Place},
    streams::*,
    talk::{Talk, act_long_streams, act_streams},
};
use super::*;

/// How many of the faults are tried at each place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Faults {
    All,
    /// One, the next at the next place.
    InTurn,
}

/// Runs a session without a fault, and then some with one at each place of the stream of `side` that is in `offsets`
/// of the bytes written, or read; returns how many.
async fn cut_everywhere(plan: Plan, faults: Faults, offsets: impl Fn(&[u8]) -> Vec<usize>) -> usize {
    let host = Arc::new(Host::default());
    let undisturbed = Plan {
        place: Place::Nowhere,
        ..plan.clone()
    };
    let Logs { client, server } = session(&undisturbed, &host).await;
    let golden = if plan.side == Side::Connector {
        client
    } else {
        server
    };
    let (written, read) = {
        let log = golden.lock().unwrap();
        (offsets(&log.counted), offsets(&log.read))
    };
    let mut sessions = 1;
    for (offsets, place, all) in [
        (written, Place::Written as fn(usize) -> Place, &FAULTS[..]),
        // Those that hit writes only have no place here.
        (read, Place::Read, &FAULTS[..3]),
    ] {
        for (index, offset) in offsets.into_iter().enumerate() {
            let next = index % all.len();
            let chosen = match faults {
                Faults::All => all,
                Faults::InTurn => &all[next..=next],
            };
            for &fault in chosen {
                let place = place(offset);
                let plan = Plan {
                    place,
                    fault,
                    ..plan.clone()
                };
                session(&plan, &host).await;
                serves_another(&host).await;
                sessions += 1;
            }
        }
    }
    sessions
}

const FAULTS: [Fault; 5] = [Fault::End, Fault::Reset, Fault::Stall, Fault::Broken, Fault::Leak];

/// A plan of calls without streams, to be changed.
fn plan() -> Plan {
    Plan {
        caller: Side::Connector,
        talk: Talks::Unary,
        side: Side::Connector,
        place: Place::Nowhere,
        fault: Fault::End,
        pace: Pace::Plain,
        keeps: false,
    }
}

/// The same with streams.
fn streaming_plan() -> Plan {
    Plan {
        talk: Talks::Streams,
        ..plan()
    }
}

/// Of the places where a session is cut, only each of this many is tried: the number in `CUT_STRIDE`, or each one. It is for machines on which
/// a session takes long, such as those under qemu.
fn cut_stride() -> usize {
    std::env::var("CUT_STRIDE").map_or(1, |stride| stride.parse().expect("CUT_STRIDE is a number"))
}

/// A session of short messages.
async fn cut_at_every_byte(plan: Plan, faults: Faults) {
    let faults = match std::env::var_os("CUT_ALL") {
        Some(_) => Faults::All,
        None => faults,
    };
    let stride = cut_stride();
    let sessions = cut_everywhere(plan, faults, |bytes| (0..=bytes.len()).step_by(stride).collect()).await;
    eprintln!("{sessions} sessions");
    assert!(sessions > 1200 / stride, "the session is too short: {sessions}");
}

/// A session of long messages: at every byte of every header, and here and there in their payloads. With `CUT_ALL` in the
/// environment, by every fault, and more often.
async fn cut_long_messages(plan: Plan, single: bool) {
    let zone_stride = match (single, plan.talk) {
        (true, Talks::LongStreams) => 13,
        (true, _) => 4,
        (false, _) => 1,
    };
    let (faults, stride, zone_stride) = match std::env::var_os("CUT_ALL") {
        Some(_) => (Faults::All, 1021, 1),
        None => (Faults::InTurn, 16_411, zone_stride),
    };
    let pace = if single {
        let Logs { client, .. } = session(&plan, &Arc::default()).await;
        let log = client.lock().unwrap();
        Pace::Zones([record::zones(&log.counted), record::zones(&log.read)])
    } else {
        Pace::Plain
    };
    let sessions = cut_everywhere(Plan { pace, ..plan }, faults, |bytes| {
        let zones = record::zones(bytes);
        let is_near = |at: &usize| zones.iter().any(|zone| zone.contains(at));
        let is_chosen = |at: &usize| at % stride == 0 || (at % zone_stride == 0 && is_near(at));
        let chosen = (0..=bytes.len()).filter(is_chosen);
        chosen.step_by(cut_stride()).collect()
    });
    let sessions = sessions.await;
    eprintln!("{sessions} sessions");
    assert!(
        sessions > 80 / cut_stride(),
        "the session is too short: {sessions}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_session_cut_at_any_byte_says_truly_what_ran() {
    cut_at_every_byte(plan(), Faults::All).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_cut_at_any_byte_of_its_server_says_truly_what_ran() {
    let plan = Plan {
        side: Side::Acceptor,
        ..plan()
    };
    cut_at_every_byte(plan, Faults::All).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_over_a_buffering_stream_cut_at_any_byte_says_truly_what_ran() {
    for side in [Side::Connector, Side::Acceptor] {
        let plan = Plan {
            side,
            keeps: true,
            ..plan()
        };
        cut_at_every_byte(plan, Faults::All).await;
    }
}

#[tokio::test(start_paused = true)]
async fn streams_over_a_buffering_stream_cut_at_any_byte_are_never_a_short_success() {
    let plan = Plan {
        keeps: true,
        ..streaming_plan()
    };
    cut_at_every_byte(plan, Faults::InTurn).await;
}

#[tokio::test(start_paused = true)]
async fn long_messages_over_a_buffering_stream_cut_anywhere_say_truly_what_ran() {
    let plan = Plan {
        keeps: true,
        ..long(plan())
    };
    cut_long_messages(plan, false).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_of_single_bytes_cut_at_any_byte_says_truly_what_ran() {
    let plan = Plan {
        pace: Pace::Single,
        ..plan()
    };
    cut_at_every_byte(plan, Faults::All).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_of_single_bytes_cut_at_any_byte_of_its_server_says_truly_what_ran() {
    let plan = Plan {
        side: Side::Acceptor,
        pace: Pace::Single,
        ..plan()
    };
    cut_at_every_byte(plan, Faults::All).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_of_long_messages_cut_anywhere_says_truly_what_ran() {
    cut_long_messages(long(plan()), false).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_of_long_messages_cut_anywhere_at_its_server_says_truly_what_ran() {
    let plan = Plan {
        side: Side::Acceptor,
        ..long(plan())
    };
    cut_long_messages(plan, false).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_of_long_messages_with_headers_in_single_bytes_says_truly_what_ran() {
    cut_long_messages(long(plan()), true).await;
}

#[tokio::test(start_paused = true)]
async fn streams_cut_at_any_byte_are_never_a_short_success() {
    cut_at_every_byte(streaming_plan(), Faults::All).await;
}

#[tokio::test(start_paused = true)]
async fn streams_cut_at_any_byte_of_their_server_are_never_a_short_success() {
    let plan = Plan {
        side: Side::Acceptor,
        ..streaming_plan()
    };
    cut_at_every_byte(plan, Faults::InTurn).await;
}

#[tokio::test(start_paused = true)]
async fn streams_of_single_bytes_cut_at_any_byte_are_never_a_short_success() {
    let plan = Plan {
        pace: Pace::Single,
        ..streaming_plan()
    };
    cut_at_every_byte(plan, Faults::InTurn).await;
}

#[tokio::test(start_paused = true)]
async fn streams_that_a_server_calls_for_cut_at_any_byte_are_never_a_short_success() {
    let plan = Plan {
        caller: Side::Acceptor,
        side: Side::Acceptor,
        ..streaming_plan()
    };
    cut_at_every_byte(plan, Faults::InTurn).await;
}

#[tokio::test(start_paused = true)]
async fn streams_of_long_messages_cut_anywhere_are_never_a_short_success() {
    cut_long_messages(long(streaming_plan()), false).await;
}

#[tokio::test(start_paused = true)]
async fn streams_of_long_messages_cut_anywhere_at_their_server_are_never_a_short_success() {
    let plan = Plan {
        side: Side::Acceptor,
        ..long(streaming_plan())
    };
    cut_long_messages(plan, false).await;
}

#[tokio::test(start_paused = true)]
async fn streams_of_long_messages_with_headers_in_single_bytes_are_never_a_short_success() {
    cut_long_messages(long(streaming_plan()), true).await;
}

/// The same with messages of several frames.
fn long(plan: Plan) -> Plan {
    let talk = match plan.talk {
        Talks::Unary | Talks::LongUnary => Talks::LongUnary,
        Talks::Streams | Talks::LongStreams => Talks::LongStreams,
    };
    Plan { talk, ..plan }
}
