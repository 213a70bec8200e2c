//! Control: the messages and procedures of the control service, which every server offers.

#[allow(
    unreachable_pub,
    unnameable_types,
    unused_qualifications,
    reason = "generated for a module that users see"
)]
// The generator decides the layout; the tests of rpc-codegen compare this file.
#[rustfmt::skip]
pub(crate) mod messages;

pub(crate) use self::messages::{DroppedSends, SettleReply, TerminateReply, TerminateRequest};
use super::procedure::Procedure;
use crate::{
    api::report::DrainReport,
    wire::frame::control::{Dropped, Progress},
};

/// The full name of the control service.
pub(crate) const SERVICE: &str = "rpc.control.v1.Control";
/// Drains the server, and replies once it is drained.
pub(crate) static TERMINATE: Procedure =
    Procedure::new("rpc.control.v1.Control/rpc_terminate", 0xa5ce_a24e_5662_ab3b);
/// Replies at once.
pub(crate) static PING: Procedure = Procedure::new("rpc.control.v1.Control/rpc_ping", 0xb677_f770_bb83_2320);
/// Replies once all earlier one-way calls of the connection have ended.
pub(crate) static SETTLE: Procedure =
    Procedure::new("rpc.control.v1.Control/rpc_settle", 0x5a28_4da0_49f9_9a4a);
/// The ids of the control procedures. Their calls do not count against any limit, at either end.
pub(crate) const CONTROL_IDS: [u64; 3] = [TERMINATE.id(), PING.id(), SETTLE.id()];

/// The key of the metadata entry by which a call over loopback TCP proves its user, to a service for operators.
pub(crate) const USER_PROOF: &str = "x-rpc-user-proof";

impl From<Progress> for SettleReply {
    fn from(progress: Progress) -> Self {
        let dropped = progress.dropped.into_iter();
        Self {
            received: progress.received,
            handled: progress.handled,
            failed: progress.failed,
            expired: progress.expired,
            dropped: dropped
                .map(|Dropped { reason, count }| DroppedSends { reason, count })
                .collect(),
        }
    }
}

impl From<SettleReply> for Progress {
    fn from(reply: SettleReply) -> Self {
        let dropped = reply.dropped.into_iter();
        Self {
            last_id: 0,
            received: reply.received,
            handled: reply.handled,
            failed: reply.failed,
            expired: reply.expired,
            dropped: dropped
                .map(|DroppedSends { reason, count }| Dropped { reason, count })
                .collect(),
        }
    }
}

impl From<DrainReport> for TerminateReply {
    fn from(report: DrainReport) -> Self {
        Self {
            completed: report.completed(),
            aborted: report.aborted(),
            one_way_dropped: report.one_way_dropped(),
            stuck: report.stuck(),
            clean: report.is_clean(),
            starved: report.starved(),
        }
    }
}

impl From<TerminateReply> for DrainReport {
    fn from(reply: TerminateReply) -> Self {
        Self::new(reply.completed, reply.aborted, reply.one_way_dropped, reply.stuck)
            .with_starved(reply.starved)
    }
}
