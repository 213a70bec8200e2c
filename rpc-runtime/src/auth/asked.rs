//! Asked: the call that a policy decides about.

use std::fmt;

use super::{Caller, Rule};
use crate::{Context, Metadata, Peer};

/// The call that a [`Policy`](crate::auth::Policy) decides about.
#[derive(Clone)]
pub struct Asked {
    context: Context,
    caller: Option<Caller>,
    rule: Rule,
}

impl Asked {
    pub(super) fn new(context: Context, caller: Option<Caller>, rule: Rule) -> Self {
        Self {
            context,
            caller,
            rule,
        }
    }

    /// Returns who calls; none if nobody has found out.
    ///
    /// Middleware has put it beside the call, or else [`Policy::caller`](crate::auth::Policy::caller) has returned it.
    pub fn caller(&self) -> Option<&Caller> {
        self.caller.as_ref()
    }

    /// Returns the rule of the procedure: the roles that may call it.
    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    /// Returns the path of the procedure: `package.Service/Name`, or [`TERMINATE`](crate::auth::TERMINATE).
    pub fn procedure(&self) -> &'static str {
        self.context.procedure()
    }

    /// Returns the peer, as far as the transport knows it.
    pub fn peer(&self) -> &Peer {
        self.context.peer()
    }

    /// Returns the entries beside the request, as middleware has left them.
    pub fn metadata(&self) -> &Metadata {
        self.context.metadata()
    }

    /// Returns the context that the handler would get, with the values that middleware has put beside the call.
    pub fn context(&self) -> &Context {
        &self.context
    }
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked")
            .field("procedure", &self.procedure())
            .field("peer", &self.peer().address())
            .field("caller", &self.caller)
            .field("rule", &self.rule)
            .finish_non_exhaustive()
    }
}
