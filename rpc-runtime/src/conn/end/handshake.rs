//! Handshake: the peer's HELLO, and whether it is acceptable.

use prost::Message;

use super::ending::Ending;
use crate::{
    Metadata,
    conn::{
        Cause, Cut, PeerHello, Side,
        step::{Violation, protocol},
        tuning::{FLOOR_BYTES, FLOOR_CALLS, FLOOR_FRAME},
        types::{Reach, VERSION},
        wakers::WaitingFor,
    },
    wire::frame::{
        Frame, Kind,
        control::{Hello, Reason},
    },
};

impl Ending<'_> {
    /// Takes in the first frame, which must be the HELLO, and opens the connection; `side` is this side.
    pub(in crate::conn) fn receive_hello(&mut self, frame: &Frame, side: Side) -> Result<(), Violation> {
        if frame.kind != Kind::Hello {
            return protocol(format!("first frame is {}, not HELLO", frame.kind));
        }
        let hello = match parse_hello(frame) {
            Ok(hello) => hello,
            Err(text) => {
                self.reject_hello(text, Reach::Nothing);
                return Ok(());
            }
        };
        let metadata = match check_limits(&hello) {
            Ok(metadata) => metadata,
            Err(text) => {
                // The peer knows nothing of this, and may have begun to work.
                self.reject_hello(text, Reach::Output);
                return Ok(());
            }
        };
        self.ours.accept(&hello);
        self.outbox.accept_max_frame(hello.max_frame);
        self.peer.set_hello(PeerHello::new(hello, metadata, side));
        self.end.open();
        self.wakes.wake(WaitingFor::Ready);
        for id in self.ours.take_cancels() {
            self.outbox.put_cancel(id);
        }
        if self.end.is_draining() {
            // `close` came before the HELLO: now the peer can be told.
            let last_id = self.theirs.last_id();
            self.end.put_goaway(Reason::Drain, last_id, "", self.outbox);
        }
        Ok(())
    }

    /// Ends the connection: the peer's part of the handshake is not acceptable.
    pub(in crate::conn) fn reject_hello(&mut self, text: String, reach: Reach) {
        self.end.note_cut(Cut::HandshakeRejected, self.settings);
        self.end.put_goaway(Reason::HelloRejected, 0, &text, self.outbox);
        self.begin_closing(Cause::HelloRejected { text }, reach);
    }

    /// Ends the connection: the peer's HELLO did not come in time.
    pub(in crate::conn) fn time_out_handshake(&mut self) {
        let text = format!(
            "no HELLO from peer in {:?}: Limits::handshake_timeout",
            self.settings.handshake_timeout
        );
        self.time_out(Cut::HandshakeTimeout, 0, text);
    }
}

/// The HELLO in a frame, if the peer speaks our version; both sides come to the same result.
fn parse_hello(frame: &Frame) -> Result<Hello, String> {
    if frame.payload.len() > Hello::MAX_LEN {
        return Err(format!(
            "HELLO of {} bytes exceeds limit of {}",
            frame.payload.len(),
            Hello::MAX_LEN
        ));
    }
    let hello =
        Hello::decode(&frame.payload[..]).map_err(|error| format!("HELLO cannot be parsed: {error}"))?;
    if hello.magic != Hello::MAGIC {
        return Err(format!(
            "peer speaks another protocol: its magic is {:#018x}",
            hello.magic
        ));
    }
    let chosen = hello.version_max.min(VERSION);
    if chosen < hello.version_min || chosen < VERSION {
        return Err(format!(
            "peer speaks versions {} to {}, and we speak {VERSION}",
            hello.version_min, hello.version_max
        ));
    }
    Ok(hello)
}

/// Checks that no limit is below what a side may use before it has read the HELLO, and that the entries are within theirs.
/// Returns the entries.
fn check_limits(hello: &Hello) -> Result<Metadata, String> {
    let limits = [
        ("max_frame", u64::from(hello.max_frame), u64::from(FLOOR_FRAME)),
        ("max_calls", u64::from(hello.max_calls), u64::from(FLOOR_CALLS)),
        ("call_bytes", hello.call_bytes, FLOOR_BYTES),
        ("send_bytes", hello.send_bytes, FLOOR_BYTES),
    ];
    for (name, value, floor) in limits {
        if value < floor {
            return Err(format!("{name} of {value} is below the floor of {floor}"));
        }
    }
    hello.to_metadata().map_err(|error| error.to_string())
}
