//! What follows a denial, whoever has denied the call.

use std::time::Duration;

use super::{Asked, Decision, Rule, audit};
use crate::{
    Context, Result, Status,
    session::{AfterDenial, CallerHash, Denied},
};

/// Notes that a call was denied: in the audit, and against who has to answer for it. After too many, the further calls of a caller are refused,
/// or the connection ends.
pub(super) fn deny(asked: &Asked, decision: &Decision, denied: Denied) {
    let denial = asked.context().note_denial(denied);
    if let Some(unsaid) = denial.unsaid {
        audit::denied(asked, decision, unsaid);
    }
    if denial.next == AfterDenial::Nothing {
        return;
    }
    if denial.unsaid.is_some() {
        audit::too_many(asked, denial.next, denial.count);
    }
    if denial.next == AfterDenial::LastOfConnection {
        let text = format!(
            "too many calls were denied (Limits::max_denials), the last: {}",
            asked.procedure()
        );
        asked.context().drain_abused_connection(&text);
    }
}

/// Notes that a call of a service for operators was denied, since its caller may not terminate the server.
pub(crate) fn deny_operator(cx: &Context, reason: &str) {
    let asked = Asked::new(cx.clone(), None, Rule::declared(&[]));
    deny(&asked, &Decision::denied(reason.to_owned()), Denied::Connection);
}

/// Refuses a call of a caller that was denied too often on a connection that carries calls of others, too.
///
/// # Errors
///
/// RESOURCE_EXHAUSTED, with the time that is left.
pub(super) fn check_denials(cx: &Context, caller: impl FnOnce() -> CallerHash) -> Result<()> {
    match cx.refused_for(caller) {
        None => Ok(()),
        Some(left) => Err(Status::resource_exhausted(format!(
            "too many calls of this caller were denied (the server's Limits::max_denials): its calls are refused for another {} s",
            left.max(Duration::from_secs(1)).as_secs()
        ))),
    }
}
