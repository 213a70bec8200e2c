//! User: who runs a process, as the OS tells it.

use std::{fmt, sync::Arc};

/// Who runs a process.
#[allow(dead_code, reason = "each system makes one of the two")]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum User {
    /// The effective user id, on Unix.
    Uid(u32),
    /// The security identifier, on Windows, as text: `S-1-5-21-..`.
    Sid(Arc<str>),
}

/// What the OS tells of the process at the other end of a local stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) user: User,
    /// The effective group id, on Unix.
    pub(crate) gid: Option<u32>,
    /// The process id; not on every system.
    pub(crate) pid: Option<i32>,
}

impl User {
    /// True for the uid that stands for any user of another namespace. It may be anybody.
    pub(crate) fn is_unmapped(&self) -> bool {
        matches!(self, Self::Uid(OVERFLOW_UID))
    }

    /// The user id; none on Windows.
    pub(crate) fn uid(&self) -> Option<u32> {
        match self {
            Self::Uid(uid) => Some(*uid),
            Self::Sid(_) => None,
        }
    }

    /// True if such a process may do all that one of `own` may: it is the same user, or the superuser.
    pub(crate) fn may_act_as(&self, own: &Self) -> bool {
        !self.is_unmapped() && (self == own || self.is_superuser())
    }

    /// True for root, and for the account of Windows itself.
    pub(crate) fn is_superuser(&self) -> bool {
        match self {
            Self::Uid(uid) => *uid == 0,
            Self::Sid(sid) => **sid == *LOCAL_SYSTEM,
        }
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uid(uid) => write!(f, "uid {uid}"),
            Self::Sid(sid) => write!(f, "SID {sid}"),
        }
    }
}

/// The uid that the kernel shows for a user whom this namespace does not know.
const OVERFLOW_UID: u32 = 65534;
/// The SID of LocalSystem: learn.microsoft.com, "Well-known SIDs".
const LOCAL_SYSTEM: &str = "S-1-5-18";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_user_and_the_superuser_may_act_as_a_user() {
        let sid = |text: &str| User::Sid(text.into());
        for (user, own, may) in [
            (User::Uid(7), User::Uid(7), true),
            (User::Uid(0), User::Uid(7), true),
            (User::Uid(8), User::Uid(7), false),
            (User::Uid(65534), User::Uid(65534), false),
            (sid("S-1-5-21-1-2-3-1001"), sid("S-1-5-21-1-2-3-1001"), true),
            (sid("S-1-5-18"), sid("S-1-5-21-1-2-3-1001"), true),
            (sid("S-1-5-21-1-2-3-1002"), sid("S-1-5-21-1-2-3-1001"), false),
            (sid("S-1-5-21-1-2-3-1001"), User::Uid(7), false),
        ] {
            assert_eq!(user.may_act_as(&own), may, "{user} as {own}");
        }
    }
}
