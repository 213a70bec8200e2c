//! Secret: a text that nothing shows.

use std::{fmt, sync::Arc};

use crate::base::hmac::is_same;

/// A text that must not be seen, such as a token: `Debug` does not show it, and there is no `Display`.
///
/// Two of them are compared in a time that tells nothing but their lengths. Its memory is not cleared when it is dropped, because
/// the same bytes also pass the buffers of sockets and of TLS, which nobody clears.
///
/// ```
/// use rpc_runtime::auth::Secret;
///
/// let secret = Secret::from("mF_9.B5f-4.1JqM");
/// assert_eq!(format!("{secret:?}"), "Secret(..)");
/// assert_eq!(secret.expose(), "mF_9.B5f-4.1JqM");
/// ```
#[derive(Clone)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Returns the text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl<T: Into<Arc<str>>> From<T> for Secret {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        is_same(self.0.as_bytes(), other.0.as_bytes())
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}
