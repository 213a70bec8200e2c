//! JsonDepth: how many messages lie in each other while one is written or read.
//!
//! serde's traits have no parameter for it. Without a limit, an `Any` in an `Any`, and so on, would overflow the stack: prost
//! counts the levels of each `Any` anew.

use std::cell::Cell;

/// The most levels, as in prost's decoding.
const MAX_DEPTH: u32 = 100;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// One level, left when the value is dropped.
pub(super) struct JsonDepth(());

impl JsonDepth {
    /// Enters a message.
    ///
    /// # Errors
    ///
    /// The text of the error, if too many messages lie in each other.
    pub(super) fn enter() -> Result<Self, String> {
        let depth = DEPTH.get();
        if depth >= MAX_DEPTH {
            return Err(format!(
                "messages lie more than {MAX_DEPTH} levels deep in each other"
            ));
        }
        DEPTH.set(depth + 1);
        Ok(Self(()))
    }
}

impl Drop for JsonDepth {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}
