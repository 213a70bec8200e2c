//! Base: small helpers that know nothing of the project.

pub(crate) mod log_limit;
pub(crate) mod ordered_wakes;
