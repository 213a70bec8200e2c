//! What follows a denial, whoever has denied the call.

use super::{Asked, Decision, audit};

/// Notes that a call was denied: in the audit, and against its connection, which ends after too many. `is_answer` is false if the policy gave
/// none, which is not the peer's fault.
pub(super) fn deny(asked: &Asked, decision: &Decision, is_answer: bool) {
    let denial = asked.context().note_denial(is_answer);
    if let Some(unsaid) = denial.unsaid {
        audit::denied(asked, decision, unsaid);
    }
    if denial.is_last {
        if denial.unsaid.is_some() {
            audit::drained(asked, denial.count);
        }
        let text = format!("too many calls were denied, the last: {}", asked.procedure());
        asked.context().drain_abused_connection(&text);
    }
}
