//! Dead peer: when a peer counts as dead, because it takes nothing or says nothing.

use super::Health;
use crate::conn::{
    Cut, Settings, Time,
    outbox::Outbox,
    tuning::{MEMORY_CHECK, STALL_LEAST},
    types::earliest,
};

impl Health {
    /// When to see whether the peer counts as dead. `holds_much` says whether the connection holds more than its part of the
    /// memory.
    #[inline]
    pub(in crate::conn) fn death_due(
        &self,
        outbox: &Outbox,
        holds_much: bool,
        settings: &Settings,
    ) -> Option<Time> {
        earliest([
            self.stall_due(outbox, settings),
            self.memory_check_at(outbox).filter(|_| holds_much),
            self.silence_due(settings),
        ])
    }

    /// Why the peer counts as dead, if it does.
    pub(in crate::conn) fn find_death(
        &self,
        outbox: &mut Outbox,
        holds_much: bool,
        settings: &Settings,
        now: Time,
    ) -> Option<(Cut, String)> {
        if self.stall_due(outbox, settings).is_some_and(|at| at <= now) {
            let time = settings.write_stall;
            let text = format!("peer took less than {STALL_LEAST} bytes in {time:?}: Limits::write_stall");
            return Some((Cut::WriteStall, text));
        }
        if self.memory_check_at(outbox).is_some_and(|at| at <= now) {
            if holds_much && settings.memory.is_tight() {
                let text = format!(
                    "peer took less than {STALL_LEAST} bytes in {MEMORY_CHECK:?}, and memory is short: \
                     ServerBuilder::max_buffered_bytes"
                );
                return Some((Cut::WriteStall, text));
            }
            outbox.check_memory_later(now);
        }
        if self.silence_due(settings).is_some_and(|at| at <= now) {
            let dead_after = settings.dead_after;
            let text = format!("no sign of life from peer {dead_after:?} after a ping: Limits::dead_after");
            return Some((Cut::Silence, text));
        }
        None
    }

    /// When the peer must have taken more of what is written.
    #[inline]
    fn stall_due(&self, outbox: &Outbox, settings: &Settings) -> Option<Time> {
        let due = outbox.stall_due(settings.write_stall)?;
        Some(self.after_sleep(due))
    }

    /// When to see whether memory is short while the peer takes nothing.
    #[inline]
    fn memory_check_at(&self, outbox: &Outbox) -> Option<Time> {
        let at = outbox.memory_check_at()?;
        Some(self.after_sleep(at))
    }

    /// When the peer must have said something.
    #[inline]
    fn silence_due(&self, settings: &Settings) -> Option<Time> {
        let at = self.keep_alive.dead_at(settings.dead_after)?;
        Some(self.after_sleep(at))
    }
}
