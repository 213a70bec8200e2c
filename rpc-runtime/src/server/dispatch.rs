//! Dispatch: from the requests of a connection to running handlers.

pub(super) mod blocking;
pub(crate) mod dispatcher;
pub(crate) mod handler_task;
pub(crate) mod stall_monitor;
