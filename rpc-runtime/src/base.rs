//! Base: small helpers that know nothing of the project.

pub(crate) mod bounded;
pub(crate) mod hmac;
pub(crate) mod log_limit;
pub(crate) mod look_ups;
pub(crate) mod ordered_wakes;
pub(crate) mod panic;
pub(crate) mod rare_part;
pub(crate) mod sha256;
pub(crate) mod shared_task;
pub(crate) mod short_text;
pub(crate) mod sync;
