//! Row intake: packed frames, each with several one-way requests.

use super::{
    Theirs,
    account::Fate,
    intake::{Refusal, deadline_of, depth_of, priority_of},
    outcomes::{count_refused, fault_of},
    waiting_rows::WaitingRow,
};
use crate::{
    conn::{
        Side,
        ids::MAX_ID,
        step::{Step, Violation, protocol},
        types::charge,
    },
    metrics::CallCounts,
    wire::frame::{
        Flags, Frame,
        row::{MAX_ROW, Row},
    },
};

/// The one-way requests of a packed frame: their number, and the id of the last one.
#[derive(Clone, Copy, Debug)]
pub(in crate::conn) struct OpenedRow {
    count: usize,
    last_id: u64,
}

impl Theirs {
    /// Opens the ids of the one-way requests in a packed frame.
    ///
    /// What is wrong with the frame ends the connection: nobody knows which ids it has used.
    pub(in crate::conn) fn open_row(
        &mut self,
        frame: &Frame,
        side: Side,
        max_message: u64,
    ) -> Result<OpenedRow, Violation> {
        self.check_new(frame, side)?;
        let id = frame.id;
        let is_plain = frame.encoding == 0 && frame.extra.metadata.is_empty();
        if frame.flags.contains(Flags::MORE) || !is_plain {
            return protocol(format!("packed SEND {id} with MORE, metadata or compression"));
        }
        let row = Row::new(frame.payload.clone());
        let count = match row.count() {
            Ok(count) if row.len() <= MAX_ROW => count,
            Ok(_) => {
                return protocol(format!(
                    "packed SEND {id} of {} bytes: more than {MAX_ROW}",
                    row.len()
                ));
            }
            Err(bad) => return protocol(format!("packed SEND {id}: {bad}")),
        };
        // A short row has short messages.
        if row.len() as u64 > max_message && longest(row) > max_message {
            return protocol(format!(
                "packed SEND {id} has a message of more than {max_message} bytes: the reader's Limits::max_message"
            ));
        }
        let last_id = id.saturating_add(2 * (count as u64 - 1));
        if last_id > MAX_ID {
            return protocol(format!("packed SEND {id} has ids up to {last_id}"));
        }
        self.requests.opened(last_id);
        Ok(OpenedRow { count, last_id })
    }

    /// Takes in the one-way requests of a packed frame whose ids are open: all of them, or none.
    pub(in crate::conn) fn receive_row(
        &mut self,
        frame: &mut Frame,
        opened: OpenedRow,
        lacks_memory: bool,
        step: &mut Step<'_>,
    ) -> Result<(), Violation> {
        let OpenedRow { count, last_id } = opened;
        let len = frame.payload.len() as u64;
        let control = step.settings.control.contains(&frame.procedure);
        let counts = self.counts_of(frame.procedure, control, step.settings);
        self.account.received_many(last_id, count as u64);
        if !self.requests.charge_send(len) {
            let refusal = Refusal::no_send_credit(step.settings);
            self.drop_new_row(&refusal, count, len, counts, step);
            return fault_of(refusal.reason, true, &refusal.text, step);
        }
        if let Some(shortage) = self.find_shortage(frame, lacks_memory, step) {
            let refusal = shortage.of_one_way();
            count_refused(refusal.reason, true, 1, step);
            self.drop_new_row(&refusal, count, len, counts, step);
            return Ok(());
        }
        step.faults.good(count);
        let deadline = deadline_of(frame, true, step);
        step.wakes.watch(deadline);
        let row = WaitingRow {
            procedure: frame.procedure,
            control,
            depth: depth_of(frame),
            priority: priority_of(frame, control, step),
            deadline,
            at: step.now,
            next: frame.id,
            left: count,
            overhead: charge(0),
            row: Row::new(std::mem::take(&mut frame.payload)),
            counts,
        };
        self.requests.insert_row(last_id, row, step.wakes.woken());
        Ok(())
    }

    /// Drops all requests of a packed frame that was not taken in; the caller counts the first of them.
    fn drop_new_row(
        &mut self,
        refusal: &Refusal,
        count: usize,
        len: u64,
        counts: Option<&'static CallCounts>,
        step: &Step<'_>,
    ) {
        self.note_limit(refusal.reason);
        self.requests.release_send(charge(len));
        self.account
            .ended_many(Fate::Dropped(refusal.reason.drop_reason()), count as u64, counts);
        count_refused(refusal.reason, true, count - 1, step);
    }

    /// Drops the requests of a row that were not handed out, and counts them; returns how many.
    pub(super) fn end_row(&mut self, last_id: u64, fate: Fate) -> u64 {
        let (count, counts) = self.requests.drop_row(last_id);
        let count = count as u64;
        self.account.ended_many(fate, count, counts);
        count
    }
}

/// The length of the longest message.
fn longest(mut row: Row) -> u64 {
    let mut longest = 0;
    while let Ok(Some(message)) = row.take() {
        longest = longest.max(message.len());
    }
    longest as u64
}
