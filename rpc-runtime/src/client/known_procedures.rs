//! KnownProcedures: the procedures that a client may call at a server of another protocol.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use crate::Procedure;

/// The procedures that a client may call at a server of another protocol: our own calls carry ids, and others need paths.
#[derive(Debug, Default)]
pub(crate) struct KnownProcedures(RwLock<HashMap<u64, &'static Procedure>>);

impl KnownProcedures {
    /// Adds `procedures`.
    pub(crate) fn add(&self, procedures: &'static [Procedure]) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.extend(procedures.iter().map(|procedure| (procedure.id(), procedure)));
    }

    /// Returns the procedure with this id.
    pub(crate) fn find(&self, id: u64) -> Option<&'static Procedure> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&id).copied()
    }
}
