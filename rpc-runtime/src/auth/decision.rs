//! Decision: what a policy says about a call.

use std::borrow::Cow;

/// What a [`Policy`](crate::auth::Policy) says about a call.
///
/// A reason is for the audit log of the server. The caller reads only that it is not known, or may not: a reason would tell an
/// attacker what to try next. Put no token and no metadata into it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "a decision does nothing until a policy returns it"]
pub enum Decision {
    /// The call goes on.
    Allowed,
    /// Nobody knows who calls: the call fails with UNAUTHENTICATED.
    Unauthenticated(Cow<'static, str>),
    /// This caller may not: the call fails with PERMISSION_DENIED.
    Denied(Cow<'static, str>),
}

impl Decision {
    /// Refuses a call of which nobody knows who makes it.
    pub fn unauthenticated(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Unauthenticated(reason.into())
    }

    /// Refuses a call that this caller may not make.
    pub fn denied(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Denied(reason.into())
    }
}
