//! What bytes of a stream say: which requests, replies and messages are whole in them, and where its frames begin.

use std::collections::{HashMap, HashSet};

use tokio_util::codec::Decoder;

use super::*;
use crate::wire::frame::{Encoded, Flags, Frame, Kind};

/// What one direction of a session carried.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// The requests that are whole: their ids by their tokens. Of a call that streams, that is its CALL alone.
    pub(super) requests: HashMap<String, u64>,
    /// The calls whose replies are whole.
    pub(super) replied: HashSet<u64>,
    /// How many messages of each stream are whole.
    pub(super) messages: HashMap<u64, usize>,
    /// The streams whose END is whole.
    pub(super) ended: HashSet<u64>,
    /// The streams for which there was credit, and the calls that were cancelled.
    pub(super) granted: HashSet<u64>,
    pub(super) cancelled: HashSet<u64>,
    /// How many one-way requests came in packed frames that are whole.
    pub(super) packed_sends: usize,
    unfinished: HashMap<u64, (Part, Vec<u8>)>,
}

/// What the fragments of an id belong to.
#[derive(Clone, Copy, Debug)]
enum Part {
    Request,
    Reply,
    Message,
}

impl Traffic {
    /// What `bytes` carry.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut traffic = Self::default();
        frames(bytes)
            .into_iter()
            .for_each(|(_, frame)| traffic.add(frame));
        traffic
    }

    fn add(&mut self, frame: Frame) {
        let id = frame.id;
        let is_end = frame.flags.contains(Flags::END);
        match frame.kind {
            Kind::Call if !is_end => {
                assert!(frame.payload.is_empty(), "the CALL of a stream has no message");
                self.requests.insert(name(frame.procedure).to_owned(), id);
            }
            Kind::Send if frame.flags.contains(Flags::PACKED) => {
                let messages = Encoded::plain(frame.payload).into_row().messages();
                self.packed_sends += messages.len();
                for (id, message) in (id..).step_by(2).zip(messages) {
                    self.add_request(id, &message);
                }
            }
            Kind::Call | Kind::Send => self.add_part(Part::Request, frame),
            Kind::Reply => {
                self.unfinished.remove(&id);
                self.add_part(Part::Reply, frame);
            }
            Kind::Data if is_end => {
                assert!(!self.unfinished.contains_key(&id), "END within a message");
                assert!(frame.payload.is_empty(), "END with a message");
                self.ended.insert(id);
            }
            Kind::Data => {
                let part = self.unfinished.get(&id).map_or(Part::Message, |(part, _)| *part);
                self.add_part(part, frame);
            }
            Kind::Cancel => {
                self.unfinished.remove(&id);
                self.cancelled.insert(id);
            }
            Kind::Credit => {
                self.granted.insert(id);
            }
            _ => {}
        }
    }

    fn add_part(&mut self, part: Part, frame: Frame) {
        let id = frame.id;
        let (_, message) = self.unfinished.entry(id).or_insert((part, Vec::new()));
        message.extend_from_slice(&frame.payload);
        if frame.flags.contains(Flags::MORE) {
            return;
        }
        let Some((_, message)) = self.unfinished.remove(&id) else {
            return;
        };
        match part {
            Part::Request => {
                self.add_request(id, &message);
            }
            Part::Reply => {
                self.replied.insert(id);
            }
            Part::Message => {
                let item = Encoded::plain(message.into());
                let item = match frame.flags.contains(Flags::PACKED) {
                    true => item.into_row(),
                    false => item,
                };
                *self.messages.entry(id).or_default() += item.messages().len();
            }
        }
    }

    fn add_request(&mut self, id: u64, message: &[u8]) {
        let message = <String as prost::Message>::decode(message).unwrap();
        self.requests.insert(token(&message), id);
    }
}

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
