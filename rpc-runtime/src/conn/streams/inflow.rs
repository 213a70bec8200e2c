//! Inflow: the messages of a stream of the peer that were not taken yet, and the credit for more.

use std::{
    collections::VecDeque,
    fmt,
    task::{Context, Waker},
};

use super::inbox::InboxUse;
use crate::{
    Code, Status,
    conn::{
        Time,
        assembly::{Assembly, WrongLength, is_to_copy, whole},
        step::{Step, Violation},
        tuning::FAST_HALF_WINDOW,
        types::{FaultKind, charge, is_grant_due},
        wakers::{Woken, set_waker},
    },
    wire::frame::{
        Encoded, Flags, Frame,
        row::{BadRow, MAX_ROW, longest},
    },
};

/// The messages of a stream of the peer that were not taken yet, and the credit for more.
///
/// Bytes are credit: length + 256 for each message, and for each packed frame as a whole. The peer may start a message while it
/// has any, so the last one may pass the window.
#[derive(Debug)]
pub(in crate::conn) struct Inflow {
    /// Each is a message, or a row of them.
    messages: VecDeque<Encoded>,
    /// Messages that the reader has, and perhaps not looked at.
    in_reader: InboxUse,
    /// The same of a row: unlike theirs, its credit is owed since the reader began it.
    row_in_reader: InboxUse,
    /// A message with more fragments to come.
    assembly: Option<Assembly>,
    /// How many bytes the peer was ever allowed, and how many it has sent: both only grow.
    granted: u64,
    received: u64,
    /// How many bytes were taken and not granted anew yet.
    owed: u64,
    window: StreamWindow,
    granted_at: Time,
    /// True if the reader has had everything since then.
    caught_up: bool,
    /// True if it is in the list of streams that are owed credit.
    listed: bool,
    stage: InflowState,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InflowState {
    Open,
    /// No more will come.
    Ended,
    /// What comes is dropped.
    Discarding,
}

/// How far the peer may send ahead of the reader.
#[derive(Clone, Copy, Debug)]
struct StreamWindow {
    len: u64,
    /// How much of that was added since the beginning.
    widened: u64,
}

/// How much this side takes.
#[derive(Clone, Copy, Debug)]
pub(in crate::conn) struct InflowLimits {
    pub(in crate::conn) max_message: u64,
    /// The most bytes that one message, or one row, may bring.
    pub(in crate::conn) longest_item: u64,
    /// How many bytes may wait to be taken, on the whole connection, and how many more may now.
    pub(in crate::conn) max_inbox: u64,
    pub(in crate::conn) room: u64,
    /// How many messages waited on the whole connection when the frame was read.
    pub(in crate::conn) waiting: usize,
    /// True if the frame's compression is one that was announced.
    pub(in crate::conn) announced: bool,
}

/// Why a stream cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::conn) enum StreamFault {
    /// The peer had no credit left.
    Overrun,
    /// A message is longer than this side takes.
    TooLong {
        /// How long it is.
        len: u64,
        /// How long it may be.
        max: u64,
    },
    /// The inbox has no room.
    InboxFull {
        /// How many bytes there may be.
        max: u64,
    },
    /// A message has another length than announced.
    WrongLength(WrongLength),
    /// A message is compressed in a way that was not announced.
    Encoding(u32),
    /// The lengths in a row do not match its payload.
    BadRow,
    /// A row is longer than any may be.
    RowTooLong {
        /// How long it is.
        len: u64,
    },
    /// A row came as a fragment, or amid the fragments of a message.
    RowInFragments,
    /// The end came in the middle of a message.
    Unfinished,
    /// Something came behind the end.
    BehindEnd,
    /// A stream without a reader brings more than was allowed while it had one.
    Late,
}

impl Inflow {
    pub(in crate::conn) fn new(window: u64, now: Time) -> Self {
        Self {
            messages: VecDeque::new(),
            in_reader: InboxUse::default(),
            row_in_reader: InboxUse::default(),
            assembly: None,
            granted: window,
            received: 0,
            owed: 0,
            window: StreamWindow {
                len: window,
                widened: 0,
            },
            granted_at: now,
            caught_up: false,
            listed: false,
            stage: InflowState::Open,
            waker: None,
        }
    }

    /// Takes a frame in: a message, a row of them, or a fragment of one. Returns what more is held now: the bytes of a whole message
    /// count as they are before compression.
    pub(in crate::conn) fn push(
        &mut self,
        frame: &mut Frame,
        bounds: InflowLimits,
    ) -> Result<InboxUse, StreamFault> {
        match self.stage {
            InflowState::Open => {}
            InflowState::Ended => return Err(StreamFault::BehindEnd),
            InflowState::Discarding => return self.skip(frame, bounds.longest_item),
        }
        let more = frame.flags.contains(Flags::MORE);
        let is_row = frame.flags.contains(Flags::PACKED);
        if is_row && (more || self.assembly.is_some()) {
            return Err(StreamFault::RowInFragments);
        }
        if self.assembly.is_none() {
            self.begin(frame, bounds)?;
        }
        let added = match &self.assembly {
            _ if more => frame.payload_len() as u64,
            None => frame.message_len(),
            Some(assembly) => assembly.length().saturating_sub(assembly.kept() as u64),
        };
        if added > bounds.room {
            return Err(StreamFault::InboxFull {
                max: bounds.max_inbox,
            });
        }
        let part = InboxUse {
            bytes: added,
            ..InboxUse::default()
        };
        let message = match &mut self.assembly {
            None if !more => {
                let message = whole(frame).map_err(StreamFault::WrongLength)?;
                let message = match is_row {
                    true => row(message, bounds.max_message)?,
                    false => message,
                };
                keep(message, bounds.waiting)
            }
            None => {
                let mut assembly = Assembly::new(frame.length, frame.encoding);
                assembly.push(frame).map_err(StreamFault::WrongLength)?;
                self.assembly = Some(assembly);
                return Ok(part);
            }
            Some(assembly) if more => {
                assembly.push(frame).map_err(StreamFault::WrongLength)?;
                return Ok(part);
            }
            Some(assembly) => assembly.push_last(frame).map_err(StreamFault::WrongLength)?,
        };
        self.assembly = None;
        self.messages.push_back(message);
        Ok(InboxUse { messages: 1, ..part })
    }

    /// Checks that the peer may send the message that begins, or the row.
    fn begin(&mut self, frame: &Frame, bounds: InflowLimits) -> Result<(), StreamFault> {
        let len = frame.message_len();
        let had_credit = self.received < self.granted;
        self.received = self.received.saturating_add(charge(len));
        if !had_credit {
            return Err(StreamFault::Overrun);
        }
        if !bounds.announced {
            return Err(StreamFault::Encoding(frame.encoding));
        }
        if frame.flags.contains(Flags::PACKED) {
            // The messages of a row are compared with the limit of a message, and the row is not.
            return match len > MAX_ROW as u64 {
                true => Err(StreamFault::RowTooLong { len }),
                false => Ok(()),
            };
        }
        let max = bounds.max_message;
        if len > max {
            return Err(StreamFault::TooLong { len, max });
        }
        Ok(())
    }

    /// Drops a frame. Frames that were on their way when the reader went are no fault. Their bytes are bounded by the credit and
    /// one message or row. `begin` already charged a whole message, so its later fragments are charged again; the allowance for
    /// one message is therefore doubled.
    fn skip(&mut self, frame: &Frame, longest_item: u64) -> Result<InboxUse, StreamFault> {
        let len = frame.payload_len().max(1) as u64;
        self.received = self.received.saturating_add(len);
        if self.received
            > self
                .granted
                .saturating_add(charge(longest_item).saturating_mul(2))
        {
            return Err(StreamFault::Late);
        }
        Ok(InboxUse::default())
    }

    /// Ends the stream: the peer sends no more.
    pub(in crate::conn) fn end(&mut self) -> Result<(), StreamFault> {
        if self.assembly.is_some() {
            return Err(StreamFault::Unfinished);
        }
        match self.stage {
            InflowState::Open => self.stage = InflowState::Ended,
            InflowState::Ended => return Err(StreamFault::BehindEnd),
            InflowState::Discarding => {}
        }
        Ok(())
    }

    /// Ends the stream, because the call is over: whole messages may still be taken. Returns what is dropped.
    pub(in crate::conn) fn cut(&mut self) -> InboxUse {
        if self.stage == InflowState::Open {
            self.stage = InflowState::Ended;
        }
        InboxUse {
            bytes: self.forget_unfinished(),
            ..InboxUse::default()
        }
    }

    /// Takes the next message, or row; a row counts as waiting until [`Inflow::settle`].
    pub(in crate::conn) fn take(&mut self) -> Option<Encoded> {
        let message = self.messages.pop_front()?;
        self.owed = self.owed.saturating_add(charge(message.len()));
        self.caught_up |= self.messages.is_empty();
        if message.is_row() {
            // Its credit is owed already. Otherwise a reader that has taken all, and does something else before it looks
            // for more, would hold back a peer whose window is no longer than the row.
            self.row_in_reader = InboxUse {
                bytes: message.len(),
                messages: 1,
                ..InboxUse::default()
            };
        }
        Some(message)
    }

    /// Gives the reader further messages, so that it need not ask for each: short ones, and few beside the window. They count as
    /// waiting until [`Inflow::settle`].
    pub(in crate::conn) fn take_ahead(&mut self, ahead: &mut VecDeque<Encoded>) {
        let mut charged = 0;
        while let Some(message) = self.messages.front() {
            charged += charge(message.len());
            if charged > self.window.len / 8 {
                return;
            }
            self.in_reader.bytes += message.len();
            self.in_reader.messages += 1;
            ahead.extend(self.messages.pop_front());
        }
        self.caught_up = true;
    }

    /// Takes off what the reader was given ahead, because it has looked at all of that; returns it.
    pub(in crate::conn) fn settle(&mut self) -> InboxUse {
        let read = std::mem::take(&mut self.in_reader);
        let charged = read
            .bytes
            .saturating_add(charge(0).saturating_mul(read.messages as u64));
        self.owed = self.owed.saturating_add(charged);
        read.and(std::mem::take(&mut self.row_in_reader))
    }

    /// True if the peer should get credit now, and the stream is not in the list yet.
    #[must_use]
    pub(in crate::conn) fn list(&mut self) -> bool {
        let is_new = !self.listed && self.is_grant_due();
        self.listed |= is_new;
        is_new
    }

    /// True if the peer should get credit now.
    fn is_grant_due(&self) -> bool {
        self.stage == InflowState::Open && is_grant_due(self.owed, self.window.len)
    }

    /// Takes the credit to grant now; `spare` is how far the window may be widened.
    ///
    /// A window is doubled when half of it was used up in a short time by a reader that keeps up: so a fast link is
    /// filled, and a slow reader costs little.
    pub(in crate::conn) fn take_grant(
        &mut self,
        max_window: u64,
        spare: u64,
        now: Time,
    ) -> Option<(u64, u64)> {
        self.listed = false;
        if !self.is_grant_due() {
            return None;
        }
        let mut grant = std::mem::take(&mut self.owed);
        let is_fast = now.saturating_sub(self.granted_at) <= FAST_HALF_WINDOW && self.caught_up;
        let extra = self.window.len;
        let widens = is_fast && extra <= spare && extra.saturating_mul(2) <= max_window;
        if widens {
            self.window.len += extra;
            self.window.widened += extra;
            grant = grant.saturating_add(extra);
        }
        self.granted_at = now;
        self.caught_up = self.messages.is_empty();
        self.granted = self.granted.saturating_add(grant);
        Some((grant, if widens { extra } else { 0 }))
    }

    /// Drops everything, now and later; returns what was held.
    pub(in crate::conn) fn forget(&mut self) -> InboxUse {
        self.stage = InflowState::Discarding;
        let messages = std::mem::take(&mut self.messages);
        let whole: u64 = messages.iter().map(Encoded::len).sum();
        let held = InboxUse {
            bytes: whole + self.forget_unfinished(),
            messages: messages.len(),
            widened: std::mem::take(&mut self.window.widened),
        };
        held.and(std::mem::take(&mut self.in_reader))
            .and(std::mem::take(&mut self.row_in_reader))
    }

    /// Drops a message with more fragments to come; returns how many bytes were kept of it.
    fn forget_unfinished(&mut self) -> u64 {
        self.assembly.take().map_or(0, |assembly| assembly.kept() as u64)
    }

    /// The message with more fragments to come.
    pub(in crate::conn) fn assembly_mut(&mut self) -> Option<&mut Assembly> {
        self.assembly.as_mut()
    }

    /// True if more fragments of a message are to come.
    pub(in crate::conn) fn is_unfinished(&self) -> bool {
        self.assembly.is_some()
    }

    /// How many allowed bytes may still come, with a message that begins with the last of them.
    pub(in crate::conn) fn on_its_way(&self, longest_item: u64) -> u64 {
        let rest = self.granted.saturating_sub(self.received);
        let begun = match (self.stage, &self.assembly) {
            (InflowState::Ended, _) => return 0,
            (InflowState::Open, None) => 0,
            (InflowState::Open, Some(assembly)) => assembly.missing(),
            // Perhaps one was forgotten of which fragments are to come.
            (InflowState::Discarding, _) => longest_item,
        };
        rest.saturating_add(begun).saturating_add(charge(longest_item))
    }

    /// True if no message waits for the reader.
    pub(in crate::conn) fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.in_reader.messages + self.row_in_reader.messages == 0
    }

    /// True if no more will come.
    pub(in crate::conn) fn is_ended(&self) -> bool {
        self.stage != InflowState::Open
    }

    /// How many bytes the peer was ever allowed, how many it has sent, and how many of these were taken and not granted anew.
    #[cfg(test)]
    pub(in crate::conn) fn credit(&self) -> (u64, u64, u64) {
        (self.granted, self.received, self.owed)
    }

    /// Lets the reader wait.
    pub(in crate::conn) fn wait(&mut self, cx: &Context<'_>) {
        set_waker(&mut self.waker, cx);
    }

    pub(in crate::conn) fn wake(&mut self, woken: &mut Woken) {
        woken.push(self.waker.take());
    }
}

impl StreamFault {
    /// True if no reader is left for what came.
    pub(in crate::conn) fn is_late(self) -> bool {
        matches!(self, Self::BehindEnd | Self::Late)
    }

    /// Counts it as a fault of the peer; a full inbox is none, because the peer was not told its limit.
    pub(in crate::conn) fn count(self, step: &mut Step<'_>) -> Result<(), Violation> {
        match self {
            Self::InboxFull { .. } => Ok(()),
            fault => step.fault(fault.kind(), &fault.to_string()),
        }
    }

    /// The counter that it belongs to.
    fn kind(self) -> FaultKind {
        match self {
            Self::WrongLength(_)
            | Self::Encoding(_)
            | Self::BadRow
            | Self::RowInFragments
            | Self::Unfinished => |counts| &counts.malformed_messages,
            Self::Late => |counts| &counts.late_frames,
            Self::Overrun
            | Self::TooLong { .. }
            | Self::RowTooLong { .. }
            | Self::InboxFull { .. }
            | Self::BehindEnd => |counts| &counts.other_faults,
        }
    }

    /// What the caller, or the handler, is told.
    pub(in crate::conn) fn status(self) -> Status {
        let (code, text) = match self {
            Self::Overrun => (
                Code::ResourceExhausted,
                "the peer sends more of the stream than it was granted: the reader's Limits::stream_window"
                    .to_owned(),
            ),
            Self::TooLong { len, max } => (
                Code::ResourceExhausted,
                format!("message of {len} bytes exceeds limit of {max}: the reader's Limits::max_message"),
            ),
            Self::InboxFull { max } => (
                Code::ResourceExhausted,
                format!(
                    "messages that were not taken yet exceed the limit of {max} bytes: the reader's Limits::inbox_bytes"
                ),
            ),
            Self::WrongLength(wrong) => (Code::Internal, wrong.to_string()),
            Self::Encoding(encoding) => (
                Code::Internal,
                format!("compression {encoding} was not announced"),
            ),
            Self::BadRow => (Code::Internal, BadRow.to_string()),
            Self::RowTooLong { len } => (
                Code::ResourceExhausted,
                format!("packed frame of {len} bytes exceeds limit of {MAX_ROW}"),
            ),
            Self::RowInFragments => (
                Code::Internal,
                "a packed frame was a fragment, or came amid those of a message".to_owned(),
            ),
            Self::Unfinished => (Code::Internal, "the stream ended within a message".to_owned()),
            Self::BehindEnd => (
                Code::Internal,
                "something came behind the stream's end".to_owned(),
            ),
            Self::Late => (
                Code::ResourceExhausted,
                "the peer goes on with a stream that nobody reads".to_owned(),
            ),
        };
        Status::new(code, text)
    }
}

impl fmt::Display for StreamFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.status().message())
    }
}

/// Checks the messages of a row. Those of a compressed one are checked by its reader, which decompresses them.
fn row(row: Encoded, max_message: u64) -> Result<Encoded, StreamFault> {
    if row.encoding() == 0 {
        let len = longest(row.bytes()).map_err(|BadRow| StreamFault::BadRow)? as u64;
        if len > max_message {
            let max = max_message;
            return Err(StreamFault::TooLong { len, max });
        }
    }
    Ok(row.into_row())
}

/// Makes a message fit to wait: copies a short one beside many others, because it would pin a read buffer.
fn keep(message: Encoded, waiting: usize) -> Encoded {
    match is_to_copy(waiting) {
        true => message.compact(),
        false => message,
    }
}
