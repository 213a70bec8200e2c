//! Holdings: memory that a connection holds, and may hold.

use std::sync::Arc;

use super::{Settings, assembly::Ahead, memory::Share};

/// Memory that the connection holds, and may hold.
#[derive(Debug)]
pub(super) struct Holdings {
    /// What is held of what all connections may hold.
    pub(super) share: Share,
    pub(super) ahead: Ahead,
}

impl Holdings {
    /// Nothing is held.
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            share: Share::new(Arc::clone(&settings.memory)),
            ahead: Ahead::new(),
        }
    }
}
