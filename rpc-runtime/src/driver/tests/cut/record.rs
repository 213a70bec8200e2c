//! What bytes of a stream say: which requests and replies are whole in them, and where its frames begin.

use std::collections::{HashMap, HashSet};

use super::*;
use crate::frame::{Flags, Frame, Kind};

/// The frames that are whole in `bytes`, and where each begins.
fn frames(bytes: &[u8]) -> Vec<(usize, Frame)> {
    let mut codec = FrameCodec::new(MAX_FRAME as usize);
    let mut rest = BytesMut::from(bytes);
    let mut frames = Vec::new();
    loop {
        let begin = bytes.len() - rest.len();
        match codec.decode(&mut rest).expect("these are frames") {
            Some(frame) => frames.push((begin, frame)),
            None => return frames,
        }
    }
}

/// The requests that are whole in `bytes`: their ids by their tokens.
pub(super) fn requests(bytes: &[u8]) -> HashMap<String, u64> {
    let mut unfinished: HashMap<u64, Vec<u8>> = HashMap::new();
    let mut whole = HashMap::new();
    for (_, frame) in frames(bytes) {
        let message = match frame.kind {
            Kind::Call | Kind::Send | Kind::Data => unfinished.entry(frame.id).or_default(),
            _ => continue,
        };
        message.extend_from_slice(&frame.payload);
        if !frame.flags.contains(Flags::MORE) {
            let message = <String as prost::Message>::decode(&message[..]).unwrap();
            whole.insert(token(&message), frame.id);
        }
    }
    whole
}

/// The calls whose replies are whole in `bytes`.
pub(super) fn replies(bytes: &[u8]) -> HashSet<u64> {
    let frames = frames(bytes).into_iter().map(|(_, frame)| frame);
    let last = frames.filter(|frame| matches!(frame.kind, Kind::Reply | Kind::Data));
    last.filter(|frame| !frame.flags.contains(Flags::MORE))
        .map(|frame| frame.id)
        .collect()
}

/// All that is not deep inside of a long payload.
pub(super) fn zones(bytes: &[u8]) -> Arc<[Range<usize>]> {
    const HEADER: usize = 48;
    const TAIL: usize = 4;
    let mut zones: Vec<Range<usize>> = Vec::new();
    let begins = frames(bytes).into_iter().map(|(begin, _)| begin);
    for begin in begins.chain([bytes.len()]) {
        let zone = begin.saturating_sub(TAIL)..begin + HEADER;
        match zones.last_mut() {
            Some(last) if last.end >= zone.start => last.end = zone.end,
            _ => zones.push(zone),
        }
    }
    zones.into()
}
