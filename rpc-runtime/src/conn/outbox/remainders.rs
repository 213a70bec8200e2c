//! Bulk: the rests of messages whose beginning is in the output already.

use std::collections::VecDeque;

use crate::conn::{
    assembly::{Part, payload_room},
    outbox::rotation::Turns,
};
use crate::{
    Priority,
    wire::frame::{Flags, Header, Kind, Output},
};

/// The rests of messages of ours whose first fragment is in the output.
///
/// The highest priority goes first, save one fragment in eight; within one, what was cut only because the output was
/// nearly full goes first, then each message has a fragment in turn.
#[derive(Debug, Default)]
pub(in crate::conn) struct Bulk {
    /// None as long as nothing ever remained.
    classes: Option<Box<Classes>>,
    turns: Turns,
    len: usize,
    /// How many long messages of higher priorities came in since the last one of [`Priority::Bulk`].
    passed: u8,
}

type Classes = [Class; Priority::ALL.len()];

/// The rests of one priority.
#[derive(Debug, Default)]
struct Class {
    /// Of messages that one frame could have carried.
    cut: VecDeque<Rest>,
    /// Of long messages, in the order of their turns.
    long: VecDeque<Rest>,
}

#[derive(Debug)]
struct Rest {
    id: u64,
    part: Part,
    bytes: Output,
}

/// A message whose last fragment went into the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::conn) struct Finished {
    pub(in crate::conn) id: u64,
    pub(in crate::conn) part: Part,
}

impl Class {
    fn iter(&self) -> impl Iterator<Item = &Rest> {
        self.cut.iter().chain(&self.long)
    }

    fn is_empty(&self) -> bool {
        self.cut.is_empty() && self.long.is_empty()
    }

    fn remove(&mut self, id: u64) -> Option<Rest> {
        for rests in [&mut self.cut, &mut self.long] {
            if let Some(index) = rests.iter().position(|rest| rest.id == id) {
                return rests.remove(index);
            }
        }
        None
    }
}

impl Bulk {
    /// Adds what remains of a message that is too long for one frame.
    pub(in crate::conn) fn push(&mut self, id: u64, part: Part, priority: Priority, bytes: Output) {
        self.len += bytes.len();
        let rest = Rest { id, part, bytes };
        self.class(priority).long.push_back(rest);
        self.passed = match priority {
            Priority::Bulk => 0,
            _ => self.passed.saturating_add(1),
        };
    }

    /// Whether so many others came in that it is the turn of a message of [`Priority::Bulk`], which would never find so little
    /// before it as it waits for otherwise.
    pub(in crate::conn) fn is_turn_of_lowest(&self) -> bool {
        self.passed > Turns::PATIENCE
    }

    /// Adds what remains of a message that one frame could have carried.
    pub(in crate::conn) fn push_cut(&mut self, id: u64, part: Part, priority: Priority, bytes: Output) {
        self.len += bytes.len();
        let rest = Rest { id, part, bytes };
        self.class(priority).cut.push_back(rest);
    }

    /// The priority whose turn it is.
    #[inline]
    pub(in crate::conn) fn next(&self) -> Option<Priority> {
        if self.is_empty() {
            return None;
        }
        self.turns.next(self.ready())
    }

    /// Puts the next fragment of the message whose turn it is into `out`, of at most `most` bytes, in a frame of at most
    /// `max_frame`; names the message if it was the last one.
    pub(in crate::conn) fn transmit(
        &mut self,
        max_frame: usize,
        most: usize,
        out: &mut Output,
    ) -> Option<Finished> {
        let priority = self.next()?;
        self.turns.took(priority, self.ready());
        let class = self.classes.get_or_insert_default().get_mut(priority.rank())?;
        let is_cut = !class.cut.is_empty();
        let mut rest = class.cut.pop_front().or_else(|| class.long.pop_front())?;
        let mut header = Header::new(Kind::Data, rest.id);
        header.flags = Flags::MORE;
        let len = payload_room(&header, max_frame).min(most).min(rest.bytes.len());
        if len == rest.bytes.len() {
            header.flags = Flags::NONE;
        }
        self.len -= len;
        let mut fragment = rest.bytes.split_to(len);
        header.encode_output(&mut fragment, out);
        if rest.bytes.is_empty() {
            return Some(Finished {
                id: rest.id,
                part: rest.part,
            });
        }
        if is_cut {
            class.cut.push_front(rest);
        } else {
            class.long.push_back(rest);
        }
        None
    }

    /// Drops what remains of a message: the other side no longer wants it.
    pub(in crate::conn) fn remove(&mut self, id: u64) {
        let mut classes = self.classes.iter_mut().flat_map(|classes| classes.iter_mut());
        let rest = classes.find_map(|class| class.remove(id));
        self.len -= rest.map_or(0, |rest| rest.bytes.len());
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

    /// Whether nothing remains.
    #[inline]
    pub(in crate::conn) fn is_empty(&self) -> bool {
        debug_assert_eq!(self.len == 0, self.rests().next().is_none());
        // A rest has at least one byte.
        self.len == 0
    }

    /// The highest priority of a message that was cut for lack of room: others are not to overtake it.
    #[inline]
    pub(in crate::conn) fn cut(&self) -> Option<Priority> {
        if self.is_empty() {
            return None;
        }
        let classes = self.classes.as_ref()?;
        let is_cut = |priority: &Priority| !classes[priority.rank()].cut.is_empty();
        Priority::ALL.into_iter().find(is_cut)
    }

    /// Whether anything remains of a one-way request up to `last_id`.
    pub(in crate::conn) fn has_send(&self, last_id: u64) -> bool {
        let mut rests = self.rests();
        rests.any(|rest| rest.part == Part::Send && rest.id <= last_id)
    }

    /// Whether anything remains of a request up to `last_id`.
    pub(in crate::conn) fn has_request(&self, last_id: u64) -> bool {
        let mut rests = self.rests();
        rests.any(|rest| rest.part.is_request() && rest.id <= last_id)
    }

    /// Whether anything remains of a message of call `id`.
    pub(in crate::conn) fn has(&self, id: u64) -> bool {
        !self.is_empty() && self.rests().any(|rest| rest.id == id)
    }

    /// Whether anything remains of a reply.
    pub(in crate::conn) fn has_reply(&self) -> bool {
        self.rests().any(|rest| rest.part == Part::Reply)
    }

    /// The first request that is unfinished.
    pub(in crate::conn) fn first_request(&self) -> Option<u64> {
        let requests = self.rests().filter(|rest| rest.part.is_request());
        requests.map(|rest| rest.id).min()
    }

    /// The one-way requests that are unfinished.
    pub(in crate::conn) fn sends(&self) -> impl Iterator<Item = u64> + '_ {
        let sends = self.rests().filter(|rest| rest.part == Part::Send);
        sends.map(|rest| rest.id)
    }

    /// The first of them.
    pub(in crate::conn) fn first_send(&self) -> Option<u64> {
        self.sends().min()
    }

    fn rests(&self) -> impl Iterator<Item = &Rest> {
        let classes = self.classes.iter().flat_map(|classes| classes.iter());
        classes.flat_map(Class::iter)
    }

    fn class(&mut self, priority: Priority) -> &mut Class {
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
