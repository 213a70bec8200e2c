//! Rule: the roles that may call a procedure.

use std::{fmt, sync::Arc};

use super::Caller;

/// Who may call a procedure: callers with one of these roles.
///
/// It is what `allow` in the .proto says, or [`ServerBuilder::allow`](crate::server::ServerBuilder::allow) in its place. A rule
/// without roles allows nobody.
#[derive(Clone)]
pub struct Rule(List);

#[derive(Clone)]
enum List {
    /// From the .proto.
    Declared(&'static [&'static str]),
    /// From the program.
    Set(Arc<[Arc<str>]>),
}

impl Rule {
    /// The role in a rule that stands for every caller, known or not.
    pub const ANYONE: &'static str = "anyone";
    /// The role in a rule that stands for every caller that is known.
    pub const AUTHENTICATED: &'static str = "authenticated";

    pub(crate) fn declared(roles: &'static [&'static str]) -> Self {
        Self(List::Declared(roles))
    }

    pub(crate) fn set(roles: Vec<Arc<str>>) -> Self {
        Self(List::Set(roles.into()))
    }

    /// Returns the roles, in their order.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        let (declared, set) = match &self.0 {
            List::Declared(roles) => (*roles, &[][..]),
            List::Set(roles) => (&[][..], &roles[..]),
        };
        declared.iter().copied().chain(set.iter().map(|role| &**role))
    }

    /// Returns true if there is no role in it: nobody has said who may call.
    pub fn is_empty(&self) -> bool {
        self.roles().next().is_none()
    }

    /// Returns true if it allows every caller, known or not.
    pub fn allows_anyone(&self) -> bool {
        self.roles().any(|role| role == Self::ANYONE)
    }

    /// Returns true if it allows `caller`.
    ///
    /// ```
    /// use rpc_runtime::{Status, auth::{Caller, Rule}};
    ///
    /// fn check(rule: &Rule, caller: &Caller) -> Result<(), Status> {
    ///     match rule.allows(caller) {
    ///         true => Ok(()),
    ///         false => Err(Status::permission_denied("not with these roles")),
    ///     }
    /// }
    /// ```
    pub fn allows(&self, caller: &Caller) -> bool {
        self.roles()
            .any(|role| role == Self::ANYONE || role == Self::AUTHENTICATED || caller.has_role(role))
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.roles()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_allows_whom_it_names() {
        let (ada, nobody) = (Caller::new("ada").with_role("admin"), Caller::new("nobody"));
        for (roles, of_ada, of_nobody, of_anyone) in [
            (&[][..], false, false, false),
            (&["reader"], false, false, false),
            (&["reader", "admin"], true, false, false),
            (&["authenticated"], true, true, false),
            (&["anyone"], true, true, true),
        ] {
            let set = Rule::set(roles.iter().map(|role| Arc::from(*role)).collect());
            for rule in [Rule::declared(roles), set] {
                assert_eq!(rule.allows(&ada), of_ada, "{rule:?}");
                assert_eq!(rule.allows(&nobody), of_nobody, "{rule:?}");
                assert_eq!(rule.allows_anyone(), of_anyone, "{rule:?}");
                assert_eq!(rule.is_empty(), roles.is_empty(), "{rule:?}");
            }
        }
    }
}
