//! Refusal: the REPLY of a call without a message, and what of its status is left out because it may not travel.

use super::Outbox;
use crate::{
    Code, Metadata, Status,
    wire::frame::{Flags, Header, Kind, MAX_TEXT, cut},
};

impl Outbox {
    /// Puts the REPLY of a call that has failed into the output; `added` travels beside what the status brings.
    ///
    /// Returns what is left out because it may not travel, if anything is: the status says so itself then.
    pub(in crate::conn) fn put_refusal(
        &mut self,
        id: u64,
        status: &Status,
        added: &Metadata,
        flags: Flags,
        (queue_us, run_us): (u64, u64),
    ) -> Option<String> {
        let mut header = Header::new(Kind::Reply, id);
        header.flags = flags;
        header.code = status.code() as u32;
        header.message = status.message();
        header.queue_us = queue_us;
        header.run_us = run_us;
        header.details = status.details();
        let own = status.metadata();
        let both = (!added.is_empty()).then(|| join(added, own));
        let metadata = both.as_ref().unwrap_or(own);
        header.metadata = Some(metadata);
        let may_travel = metadata.fits() && metadata.check_keys().is_ok();
        if may_travel && header.fits(0, self.max_frame()) {
            self.put_frame(header);
            return None;
        }
        Some(self.put_part(header, status, added))
    }

    /// Puts a REPLY without a message into the output.
    pub(in crate::conn) fn put_status(&mut self, id: u64, code: Code, text: &str, flags: Flags) {
        self.put_refusal(id, &Status::new(code, text), &Metadata::new(), flags, (0, 0));
    }

    /// As [`Outbox::put_refusal`], for a status that must lose a part: code and text matter most, and the text tells what is
    /// left out.
    #[cold]
    fn put_part(&mut self, header: Header<'_>, status: &Status, added: &Metadata) -> String {
        let mut notes = Vec::new();
        let metadata = part(status.metadata(), added, &mut notes);
        let max = self.max_frame();
        let text = with_notes(status.message(), &notes);
        let mut header = Header {
            metadata: Some(&metadata),
            message: &text,
            ..header
        };
        let shorter;
        if !header.fits(0, max) {
            header.details = &[];
            // The key of the details and their length take at most four bytes.
            let limit = max.saturating_sub(header.frame_len(0) + 4);
            let len = status.details().len();
            notes.push(format!(
                "details of {len} bytes left out: limit {limit}, of the caller's Limits::max_frame"
            ));
            shorter = with_notes(status.message(), &notes);
            header.message = &shorter;
        }
        self.put_frame(header);
        notes.join("; ")
    }
}

/// What may travel of the metadata of a status and of what was added to the reply; `notes` says what does not.
fn part(own: &Metadata, added: &Metadata, notes: &mut Vec<String>) -> Metadata {
    let mut own = own.clone();
    if let Err(text) = own.check_keys() {
        notes.push(format!("left out: {text}"));
        own = own
            .into_iter()
            .filter(|(key, _)| Metadata::check_key(key).is_ok())
            .collect();
    }
    let both = join(added, &own);
    if both.fits() {
        return both;
    }
    let (whole, left) = if own.fits() {
        (own, added.clone())
    } else if added.fits() {
        (added.clone(), own)
    } else {
        (Metadata::new(), both)
    };
    notes.push(format!(
        "metadata of {} entries and {} bytes left out: limit {} entries and {} bytes",
        left.len(),
        left.byte_len(),
        Metadata::MAX_ENTRIES,
        Metadata::MAX_LEN
    ));
    whole
}

fn join(one: &Metadata, other: &Metadata) -> Metadata {
    let mut both = one.clone();
    both.extend(other.clone());
    both
}

/// A text with notes behind it, all of which travel.
fn with_notes(text: &str, notes: &[String]) -> String {
    if notes.is_empty() {
        return text.to_owned();
    }
    let notes = format!(" ({})", notes.join("; "));
    format!("{}{notes}", cut(text, MAX_TEXT.saturating_sub(notes.len())))
}
