//! Base: small helpers that know nothing of the project.

pub(crate) mod changes;
pub(crate) mod seldom;
