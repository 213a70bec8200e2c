//! Caller: who makes a call, as authentication has found out.

use std::sync::Arc;

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    name: Arc<str>,
    roles: Arc<[Arc<str>]>,
}

impl Caller {
    /// Makes a caller without roles.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
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
    }
}
