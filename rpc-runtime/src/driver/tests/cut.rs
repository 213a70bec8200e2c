//! Sessions that are cut at every byte, in both directions, on either side: each call ends once, and it is true what
//! is said of it and of the one-way requests; both connections hold nothing afterwards, and the next one is served.

mod host;
mod record;
mod session;
mod stream;

use std::ops::Range;

use self::{
    host::{COUNT, ECHO, FAIL, FILL, Host, LONG, NEVER, REFUSE, token},
    session::{Logs, Plan, serves_another, session},
    stream::{Cut, Fault, Log, Pace, Place},
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

/// A session of short messages.
async fn cut_at_every_byte(side: Side, pace: Pace) {
    let plan = Plan {
        side,
        place: Place::Nowhere,
        fault: Fault::End,
        pace,
        long: false,
    };
    let sessions = cut_everywhere(plan, Faults::All, |bytes| (0..=bytes.len()).collect()).await;
    eprintln!("{sessions} sessions");
    assert!(sessions > 2000, "the session is too short: {sessions}");
}

/// A session of long messages: at every byte of every header, and here and there in their payloads. With `CUT_ALL` in the
/// environment, by every fault, and more often.
async fn cut_long_messages(side: Side, single: bool) {
    let plan = Plan {
        side,
        place: Place::Nowhere,
        fault: Fault::End,
        pace: Pace::Plain,
        long: true,
    };
    let (faults, stride, zone_stride) = match (std::env::var_os("CUT_ALL"), single) {
        (Some(_), _) => (Faults::All, 1021, 1),
        (None, true) => (Faults::InTurn, 16_411, 4),
        (None, false) => (Faults::InTurn, 16_411, 1),
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
        (0..=bytes.len()).filter(is_chosen).collect()
    });
    let sessions = sessions.await;
    eprintln!("{sessions} sessions");
    assert!(sessions > 150, "the session is too short: {sessions}");
}

#[tokio::test(start_paused = true)]
async fn a_session_cut_at_any_byte_says_truly_what_ran() {
    cut_at_every_byte(Side::Connector, Pace::Plain).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_cut_at_any_byte_of_its_server_says_truly_what_ran() {
    cut_at_every_byte(Side::Acceptor, Pace::Plain).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_of_single_bytes_cut_at_any_byte_says_truly_what_ran() {
    cut_at_every_byte(Side::Connector, Pace::Single).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_of_single_bytes_cut_at_any_byte_of_its_server_says_truly_what_ran() {
    cut_at_every_byte(Side::Acceptor, Pace::Single).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_of_long_messages_cut_anywhere_says_truly_what_ran() {
    cut_long_messages(Side::Connector, false).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_of_long_messages_cut_anywhere_at_its_server_says_truly_what_ran() {
    cut_long_messages(Side::Acceptor, false).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_of_long_messages_with_headers_in_single_bytes_says_truly_what_ran() {
    cut_long_messages(Side::Connector, true).await;
}
