//! Audit: the log events of a policy's decisions.

use super::{Asked, Caller, Decision};
use crate::{Code, message::control, session::AfterDenial};

/// The target of all events of the audit.
pub(crate) const AUDIT: &str = "rpc_runtime::audit";

/// Logs a denial; `unsaid` is how many of its connection were not logged before it.
pub(super) fn denied(asked: &Asked, decision: &Decision, unsaid: u64) {
    let (code, reason) = match decision {
        Decision::Allowed => return,
        Decision::Unauthenticated(reason) => (Code::Unauthenticated, reason),
        Decision::Denied(reason) => (Code::PermissionDenied, reason),
    };
    let peer = asked.peer();
    let is_terminate = asked.procedure() == control::TERMINATE.path();
    tracing::warn!(
        target: AUDIT,
        decision = "denied",
        code = %code,
        reason = &**reason,
        procedure = asked.procedure(),
        wish = is_terminate.then_some("drain"),
        by = is_terminate.then_some("peer"),
        call = asked.context().call_id(),
        caller = asked.caller().map(Caller::name),
        peer = peer.address(),
        transport = peer.transport().name(),
        uid = peer.uid(),
        pid = peer.pid(),
        unsaid,
        "{}",
        if is_terminate { "terminate" } else { "call" }
    );
}

/// Logs a call that goes on, for a log that wants them: at level DEBUG. The event of a terminate that goes on is the drain's.
pub(super) fn allowed(asked: &Asked) {
    let peer = asked.peer();
    tracing::debug!(
        target: AUDIT,
        decision = "allowed",
        procedure = asked.procedure(),
        call = asked.context().call_id(),
        caller = asked.caller().map(Caller::name),
        peer = peer.address(),
        transport = peer.transport().name(),
        uid = peer.uid(),
        pid = peer.pid(),
        "call"
    );
}

/// Logs what follows too many denials: the connection is drained, or the further calls of the caller are refused.
pub(super) fn too_many(asked: &Asked, next: AfterDenial, denials: u32) {
    let peer = asked.peer();
    let (decision, what) = match next {
        AfterDenial::Nothing => return,
        AfterDenial::LastOfConnection => ("drained", "connection"),
        AfterDenial::CallerRefused => ("refused", "caller"),
    };
    tracing::warn!(
        target: AUDIT,
        decision,
        denials,
        limit = "Limits::max_denials",
        procedure = asked.procedure(),
        call = asked.context().call_id(),
        caller = asked.caller().map(Caller::name),
        peer = peer.address(),
        transport = peer.transport().name(),
        uid = peer.uid(),
        pid = peer.pid(),
        "{what}"
    );
}
