//! Story: everything that is known of one call, on one line.

use std::fmt;

use crate::{
    history::{Kind, Record},
    journal::Entry,
};

/// `call echo of client 2 failed UNAVAILABLE, executed No; server 1: started, ended; server 2: started`
pub(super) struct Story<'a> {
    pub(super) made: &'a [&'a Record],
    pub(super) ran: &'a [&'a Entry],
}

impl fmt::Display for Story<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, record) in self.made.iter().enumerate() {
            let Record {
                procedure,
                client,
                outcome,
                flow,
                may_repeat,
                deadline,
                ..
            } = record;
            let kind = match record.kind {
                Kind::Call | Kind::Stream => "call".to_owned(),
                Kind::Send(stretch) => format!("send (stretch {stretch})"),
            };
            let separator = if i == 0 { "" } else { "; " };
            write!(f, "{separator}{kind} {procedure} of client {client} {outcome}")?;
            if *may_repeat {
                f.write_str(", may repeat")?;
            }
            if let Some(deadline) = deadline {
                write!(f, ", deadline {deadline}")?;
            }
            if record.kind == Kind::Stream {
                write!(f, ", {flow:?}")?;
            }
        }
        if self.made.is_empty() {
            f.write_str("no caller")?;
        }
        if self.ran.is_empty() {
            f.write_str("; no handler")?;
        }
        let mut before: Option<&Entry> = None;
        for entry in self.ran {
            match before {
                Some(before) if before.instance == entry.instance => write!(f, ", {}", entry.event)?,
                _ => write!(f, "; server {}: {}", entry.instance, entry.event)?,
            }
            match before {
                Some(before) => write!(f, " {} us later", entry.at.saturating_sub(before.at))?,
                None => write!(f, " at {}", entry.at)?,
            }
            if let Some(moved) = entry.moved {
                write!(f, " ({moved:?})")?;
            }
            before = Some(entry);
        }
        Ok(())
    }
}
