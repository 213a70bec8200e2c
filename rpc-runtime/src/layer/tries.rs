//! Tries: how many of the tries of one call may have run.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::Answer;
use crate::{Error, Executed};

/// The tries that middleware has made of one call: how many of them may have run.
#[derive(Debug, Default)]
#[allow(unnameable_types, reason = "as for `Sealed`")]
pub struct Tries(AtomicUsize);

impl Tries {
    /// Begins a try. It may have run, unless [`Tries::ended`] says that it did not.
    pub(crate) fn begin(&self) {
        self.0.fetch_add(1, SeqCst);
    }

    /// Notes how a try ended.
    pub(crate) fn ended(&self, result: &Result<Answer, Error>) {
        if matches!(result, Err(error) if error.executed() == Executed::No) {
            self.0.fetch_sub(1, SeqCst);
        }
    }

    /// How many tries may have run.
    pub(crate) fn count(&self) -> usize {
        self.0.load(SeqCst)
    }

    /// Returns true if a try may have run.
    pub(crate) fn may_have_run(&self) -> bool {
        self.count() > 0
    }
}
