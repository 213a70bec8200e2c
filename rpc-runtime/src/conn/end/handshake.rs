//! Handshake: whether the peer's HELLO is acceptable.

use prost::Message;

use crate::{
    conn::{
        tuning::{FLOOR_BYTES, FLOOR_CALLS, FLOOR_FRAME},
        types::{Reach, VERSION},
    },
    wire::frame::{Frame, control::Hello},
};

/// The HELLO in a frame.
///
/// # Errors
///
/// What is not acceptable, and whether the peer knows that: else it may have begun to work.
pub(in crate::conn) fn read_hello(frame: &Frame) -> Result<Hello, (String, Reach)> {
    let hello = parse_hello(frame).map_err(|text| (text, Reach::Nothing))?;
    check_limits(&hello).map_err(|text| (text, Reach::Output))?;
    Ok(hello)
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

/// Checks that no limit is below what a side may use before it has read the HELLO.
fn check_limits(hello: &Hello) -> Result<(), String> {
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
    hello.to_metadata().map(drop).map_err(|error| error.to_string())
}
