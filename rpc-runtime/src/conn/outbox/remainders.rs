//! Remainders: what is left of messages whose beginning is in the output already.

use std::collections::VecDeque;

use super::rotation::Rotation;
use crate::{
    Priority,
    conn::{assembly::payload_room, tuning::PATIENCE},
    wire::frame::{Flags, Header, Kind, Output},
};

/// What is left of messages of ours whose first fragment is in the output.
///
/// The highest priority goes first, save one fragment in eight; within one, what was cut only because the output was
/// nearly full goes first, then each message has a fragment in turn.
#[derive(Debug, Default)]
pub(in crate::conn) struct Remainders {
    /// None until something remains.
    classes: Option<Box<ByPriority>>,
    rotation: Rotation,
    len: usize,
    /// How many long messages of higher priorities came in since the last one of [`Priority::Bulk`].
    passed: u8,
}

type ByPriority = [PriorityClass; Priority::ALL.len()];

/// The remainders of one priority.
#[derive(Debug, Default)]
struct PriorityClass {
    /// Of messages that one frame could have carried.
    cut: VecDeque<Remainder>,
    /// Of long messages, in the order of their turns.
    long: VecDeque<Remainder>,
}

#[derive(Debug)]
struct Remainder {
    id: u64,
    kind: MessageKind,
    bytes: Output,
}

/// The kind of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::conn) enum MessageKind {
    /// A call of ours.
    Call,
    /// A one-way request of ours.
    Send,
    /// A reply of ours.
    Reply,
    /// A message of a stream of ours.
    Data,
}

impl MessageKind {
    /// True if it opens a call, or is a whole one-way request.
    pub(in crate::conn) fn is_request(self) -> bool {
        matches!(self, Self::Call | Self::Send)
    }
}

/// A message whose last fragment went into the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::conn) struct FinishedMessage {
    pub(in crate::conn) id: u64,
    pub(in crate::conn) kind: MessageKind,
}

impl PriorityClass {
    fn iter(&self) -> impl Iterator<Item = &Remainder> {
        self.cut.iter().chain(&self.long)
    }

    fn is_empty(&self) -> bool {
        self.cut.is_empty() && self.long.is_empty()
    }

    fn remove(&mut self, id: u64) -> Option<Remainder> {
        for remainders in [&mut self.cut, &mut self.long] {
            if let Some(index) = remainders.iter().position(|remainder| remainder.id == id) {
                return remainders.remove(index);
            }
        }
        None
    }
}

impl Remainders {
    /// Adds what remains of a message that is too long for one frame.
    pub(in crate::conn) fn push(&mut self, id: u64, kind: MessageKind, priority: Priority, bytes: Output) {
        self.len += bytes.len();
        let remainder = Remainder { id, kind, bytes };
        self.class(priority).long.push_back(remainder);
        self.passed = match priority {
            Priority::Bulk => 0,
            _ => self.passed.saturating_add(1),
        };
    }

    /// True if it is the turn of a message of [`Priority::Bulk`]: many others came in, and it would never find little before
    /// it otherwise.
    pub(in crate::conn) fn is_turn_of_lowest(&self) -> bool {
        self.passed > PATIENCE
    }

    /// Adds what remains of a message that one frame could have carried.
    pub(in crate::conn) fn push_cut(
        &mut self,
        id: u64,
        kind: MessageKind,
        priority: Priority,
        bytes: Output,
    ) {
        self.len += bytes.len();
        let remainder = Remainder { id, kind, bytes };
        self.class(priority).cut.push_back(remainder);
    }

    /// The priority whose turn it is.
    #[inline]
    pub(in crate::conn) fn next(&self) -> Option<Priority> {
        if self.is_empty() {
            return None;
        }
        self.rotation.next(self.ready())
    }

    /// Encodes the next fragment: at most `most` bytes, in a frame of at most `max_frame`. Returns the message if that was its
    /// last fragment.
    pub(in crate::conn) fn transmit(
        &mut self,
        max_frame: usize,
        most: usize,
        out: &mut Output,
    ) -> Option<FinishedMessage> {
        let priority = self.next()?;
        self.rotation.served(priority, self.ready());
        let class = self.classes.get_or_insert_default().get_mut(priority.rank())?;
        let is_cut = !class.cut.is_empty();
        let mut remainder = class.cut.pop_front().or_else(|| class.long.pop_front())?;
        let mut header = Header::new(Kind::Data, remainder.id);
        header.flags = Flags::MORE;
        let len = payload_room(&header, max_frame)
            .min(most)
            .min(remainder.bytes.len());
        if len == remainder.bytes.len() {
            header.flags = Flags::NONE;
        }
        self.len -= len;
        let mut fragment = remainder.bytes.split_to(len);
        header.encode_output(&mut fragment, out);
        if remainder.bytes.is_empty() {
            return Some(FinishedMessage {
                id: remainder.id,
                kind: remainder.kind,
            });
        }
        if is_cut {
            class.cut.push_front(remainder);
        } else {
            class.long.push_back(remainder);
        }
        None
    }

    /// Drops what remains of a message that is no longer wanted.
    pub(in crate::conn) fn remove(&mut self, id: u64) {
        let mut classes = self.classes.iter_mut().flat_map(|classes| classes.iter_mut());
        let remainder = classes.find_map(|class| class.remove(id));
        self.len -= remainder.map_or(0, |remainder| remainder.bytes.len());
    }

    /// Drops everything.
    pub(in crate::conn) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Gives unused memory back.
    pub(in crate::conn) fn release(&mut self) {
        if self.is_empty() {
            self.classes = None;
        }
    }

    /// How many bytes remain of all messages.
    pub(in crate::conn) fn len(&self) -> usize {
        self.len
    }

    /// True if nothing remains.
    #[inline]
    pub(in crate::conn) fn is_empty(&self) -> bool {
        debug_assert_eq!(self.len == 0, self.remainders().next().is_none());
        // A remainder has at least one byte.
        self.len == 0
    }

    /// The highest priority of a message that was cut because there was no room: others must not overtake it.
    #[inline]
    pub(in crate::conn) fn cut(&self) -> Option<Priority> {
        if self.is_empty() {
            return None;
        }
        let classes = self.classes.as_ref()?;
        let is_cut = |priority: &Priority| !classes[priority.rank()].cut.is_empty();
        Priority::ALL.into_iter().find(is_cut)
    }

    /// True if anything remains of a one-way request up to `last_id`.
    pub(in crate::conn) fn has_send(&self, last_id: u64) -> bool {
        let mut remainders = self.remainders();
        remainders.any(|remainder| remainder.kind == MessageKind::Send && remainder.id <= last_id)
    }

    /// True if anything remains of a request up to `last_id`.
    pub(in crate::conn) fn has_request(&self, last_id: u64) -> bool {
        let mut remainders = self.remainders();
        remainders.any(|remainder| remainder.kind.is_request() && remainder.id <= last_id)
    }

    /// True if anything remains of a message of call `id`.
    pub(in crate::conn) fn has(&self, id: u64) -> bool {
        !self.is_empty() && self.remainders().any(|remainder| remainder.id == id)
    }

    /// True if anything remains of a reply.
    pub(in crate::conn) fn has_reply(&self) -> bool {
        self.remainders()
            .any(|remainder| remainder.kind == MessageKind::Reply)
    }

    /// The first request that is unfinished.
    pub(in crate::conn) fn first_request(&self) -> Option<u64> {
        let requests = self.remainders().filter(|remainder| remainder.kind.is_request());
        requests.map(|remainder| remainder.id).min()
    }

    /// The one-way requests that are unfinished.
    pub(in crate::conn) fn sends(&self) -> impl Iterator<Item = u64> + '_ {
        let sends = self
            .remainders()
            .filter(|remainder| remainder.kind == MessageKind::Send);
        sends.map(|remainder| remainder.id)
    }

    /// The first one-way request that is unfinished.
    pub(in crate::conn) fn first_send(&self) -> Option<u64> {
        self.sends().min()
    }

    fn remainders(&self) -> impl Iterator<Item = &Remainder> {
        let classes = self.classes.iter().flat_map(|classes| classes.iter());
        classes.flat_map(PriorityClass::iter)
    }

    fn class(&mut self, priority: Priority) -> &mut PriorityClass {
        &mut self.classes.get_or_insert_default()[priority.rank()]
    }

    /// Which priorities have anything.
    fn ready(&self) -> [bool; Priority::ALL.len()] {
        let Some(classes) = &self.classes else {
            return [false; Priority::ALL.len()];
        };
        Priority::ALL.map(|priority| !classes[priority.rank()].is_empty())
    }
}
