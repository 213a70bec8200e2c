//! Caller: who makes a call, as authentication has found out.

use std::{fmt, sync::Arc};

use crate::session::CallerHash;

/// Who makes a call, as authentication has found out: a name, and roles.
///
/// Middleware that authenticates puts it beside the call, and handlers and other middleware read it:
///
/// ```
/// use rpc_runtime::{
///     Context, Result, Status,
///     auth::Caller,
///     middleware::{Answer, Next, ServerCall},
/// };
///
/// async fn by_user(mut call: ServerCall, next: Next<ServerCall>) -> Result<Answer> {
///     if call.peer().is_same_user() {
///         call.insert(Caller::new("operator").with_role("admin"));
///     }
///     next.run(call).await
/// }
///
/// // In a handler:
/// fn check(cx: &Context) -> Result<()> {
///     let caller = cx.get::<Caller>().ok_or_else(|| Status::unauthenticated("log in first"))?;
///     match caller.has_role("admin") {
///         true => Ok(()),
///         false => Err(Status::permission_denied("only for admins")),
///     }
/// }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Caller {
    name: Arc<str>,
    roles: Arc<[Arc<str>]>,
    /// Of the name. Each call needs it, and a caller is often made once for many calls.
    hash: CallerHash,
}

impl Caller {
    /// Makes a caller without roles.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        let name = name.into();
        Self {
            hash: CallerHash::of_name(&name),
            name,
            roles: Arc::default(),
        }
    }

    /// Adds a role.
    #[must_use]
    pub fn with_role(self, role: impl Into<Arc<str>>) -> Self {
        self.with_roles([role])
    }

    /// Adds roles.
    #[must_use]
    pub fn with_roles<R: Into<Arc<str>>>(self, roles: impl IntoIterator<Item = R>) -> Self {
        let added = roles.into_iter().map(Into::into);
        Self {
            roles: self.roles.iter().cloned().chain(added).collect(),
            ..self
        }
    }

    /// Returns the caller's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the caller's roles, in the order in which they were added.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.roles.iter().map(|role| &**role)
    }

    /// Returns true if the caller has this role.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles().any(|one| one == role)
    }

    /// The caller's name.
    pub(super) fn name_arc(&self) -> &Arc<str> {
        &self.name
    }

    /// Tells which calls of a connection are its own.
    pub(super) fn hash(&self) -> CallerHash {
        self.hash
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller")
            .field("name", &self.name)
            .field("roles", &self.roles)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_add_up() {
        let caller = Caller::new("ada")
            .with_role("reader")
            .with_roles(["writer", "admin"]);
        assert_eq!(caller.name(), "ada");
        assert_eq!(caller.roles().collect::<Vec<_>>(), ["reader", "writer", "admin"]);
        assert!(caller.has_role("writer") && !caller.has_role("root"));
        assert_eq!(
            format!("{caller:?}"),
            r#"Caller { name: "ada", roles: ["reader", "writer", "admin"] }"#
        );
    }
}
