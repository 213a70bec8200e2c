//! Verified: what the verification of a token has found out.

use std::time::Duration;

use super::Caller;

/// What the verification of a token has found out: who calls, and how long that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    caller: Caller,
    valid_for: Option<Duration>,
}

impl Verified {
    /// Makes a result that holds for one call: the token of the next call is verified again.
    pub fn new(caller: Caller) -> Self {
        Self {
            caller,
            valid_for: None,
        }
    }

    /// Sets for how long from now on the token is not verified again, such as the time until it expires.
    ///
    /// A token that is withdrawn meanwhile is still accepted for this time. At most 1,024 tokens are remembered; of others each
    /// call is verified.
    #[must_use]
    pub fn valid_for(self, time: Duration) -> Self {
        Self {
            valid_for: Some(time),
            ..self
        }
    }

    pub(super) fn into_parts(self) -> (Caller, Option<Duration>) {
        (self.caller, self.valid_for)
    }
}

impl From<Caller> for Verified {
    fn from(caller: Caller) -> Self {
        Self::new(caller)
    }
}
