//! API: the plain public types, which know nothing of connections, sockets or tasks.

pub(crate) mod account;
pub(crate) mod call_state;
pub(crate) mod counters;
pub(crate) mod error;
pub(crate) mod limit_value;
pub(crate) mod limits;
pub(crate) mod load;
pub(crate) mod metadata;
pub(crate) mod open;
pub(crate) mod priority;
pub(crate) mod report;
pub(crate) mod secret;
pub(crate) mod server_limit;
pub(crate) mod status;
pub(crate) mod time_spent;
pub(crate) mod tls_protocol;
pub(crate) mod trace_context;
