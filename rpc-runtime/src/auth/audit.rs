//! Audit: the log events of a policy's decisions.

use super::{Asked, Caller, Decision};
use crate::{Code, message::control};

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
        caller = asked.caller().map(Caller::name),
        peer = peer.address(),
        transport = peer.transport().name(),
        uid = peer.uid(),
        pid = peer.pid(),
        "call"
    );
}

/// Logs that a connection is drained because of its denials.
pub(super) fn drained(asked: &Asked, denials: u32) {
    let peer = asked.peer();
    tracing::warn!(
        target: AUDIT,
        decision = "drained",
        denials,
        procedure = asked.procedure(),
        caller = asked.caller().map(Caller::name),
        peer = peer.address(),
        transport = peer.transport().name(),
        uid = peer.uid(),
        pid = peer.pid(),
        "connection"
    );
}
