//! UnixServers: the users that may serve at a Unix socket or a named pipe, as a client trusts them.

use std::{error, fmt, io, sync::Arc};

use super::os::{SUPERUSER, User};

/// The users that may serve at a Unix socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct UnixServers(Arc<[u32]>);

impl UnixServers {
    /// Our own user, and root.
    pub(crate) fn of_own_user() -> Self {
        Self::default()
    }

    /// These users, and no others.
    pub(crate) fn of_users(uids: &[u32]) -> Self {
        Self(uids.into())
    }

    /// Checks the user who serves; none if the OS does not say. `own` is our own.
    ///
    /// # Errors
    ///
    /// A [`WrongUnixServer`] within.
    pub(super) fn check(&self, user: Option<&User>, own: Option<&User>) -> io::Result<()> {
        let is_right = match user {
            None => false,
            Some(User::Uid(uid)) if !self.0.is_empty() => self.0.contains(uid),
            // A pipe has no uid that could be named.
            Some(user) => match own {
                Some(own) => user.may_act_as(own),
                None => user.is_superuser(),
            },
        };
        if is_right {
            return Ok(());
        }
        let wrong = WrongUnixServer {
            user: user.cloned(),
            own: own.cloned(),
            expected: self.clone(),
        };
        Err(io::Error::new(io::ErrorKind::PermissionDenied, wrong))
    }
}

/// Another user serves at a Unix socket or a named pipe than the client trusts. Nothing was sent.
#[derive(Debug)]
pub(crate) struct WrongUnixServer {
    user: Option<User>,
    own: Option<User>,
    expected: UnixServers,
}

impl WrongUnixServer {
    /// Finds it in the error of a stream; `None` if something else failed.
    pub(crate) fn find(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl fmt::Display for WrongUnixServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.user {
            Some(user) if user.is_unmapped() => {
                write!(f, "a user of another namespace ({user}) listens at the socket")?;
            }
            Some(user) => write!(f, "the user with {user} listens at the socket")?,
            None => f.write_str("the OS does not say which user listens at the socket")?,
        }
        match (&*self.expected.0, &self.own) {
            ([], Some(own)) => write!(f, ", and not {own}, as which this process runs, or {SUPERUSER}")?,
            ([], None) => write!(f, ", and not the user of this process or {SUPERUSER}")?,
            ([one], _) => write!(f, ", and not uid {one}")?,
            (uids, _) => write!(f, ", and not one of the uids {uids:?}")?,
        }
        f.write_str(": if that is the right server, name its user by ClientBuilder::unix_server_uid")
    }
}

impl error::Error for WrongUnixServer {}

#[cfg(test)]
mod tests {
    use super::*;

    /// The uid for a user whom this namespace does not know.
    const OVERFLOW_UID: u32 = 65534;

    fn check(servers: &UnixServers, uid: Option<u32>, own: Option<u32>) -> io::Result<()> {
        let [user, own] = [uid, own].map(|uid| uid.map(User::Uid));
        servers.check(user.as_ref(), own.as_ref())
    }

    #[test]
    fn a_server_of_our_own_user_or_of_a_user_that_is_named_is_right() {
        let own = UnixServers::of_own_user();
        let named = UnixServers::of_users(&[7, 8]);
        let unmapped = UnixServers::of_users(&[OVERFLOW_UID]);
        for (servers, uid, is_right) in [
            (&own, Some(1000), true),
            (&own, Some(0), true),
            (&own, Some(1001), false),
            (&own, Some(OVERFLOW_UID), false),
            (&own, None, false),
            (&named, Some(7), true),
            (&named, Some(8), true),
            (&named, Some(1000), false),
            (&named, Some(0), false),
            (&named, None, false),
            (&unmapped, Some(OVERFLOW_UID), true),
        ] {
            let checked = check(servers, uid, Some(1000));
            assert_eq!(checked.is_ok(), is_right, "{servers:?} {uid:?}");
        }
        assert!(
            check(&own, Some(OVERFLOW_UID), Some(OVERFLOW_UID)).is_err(),
            "our own user may be unknown, too"
        );
        assert!(check(&own, Some(1000), None).is_err());
    }

    #[test]
    fn the_error_says_who_listens_and_what_to_do() {
        let text = |servers: &[u32], uid| {
            let error = check(&UnixServers::of_users(servers), uid, Some(1000)).unwrap_err();
            WrongUnixServer::find(&error).unwrap().to_string()
        };
        let advice = ": if that is the right server, name its user by ClientBuilder::unix_server_uid";
        for (servers, uid, expected) in [
            (
                &[][..],
                Some(1001),
                &*format!(
                    "the user with uid 1001 listens at the socket, and not uid 1000, as which this process runs, or {SUPERUSER}"
                ),
            ),
            (
                &[7],
                Some(1001),
                "the user with uid 1001 listens at the socket, and not uid 7",
            ),
            (
                &[7, 8],
                None,
                "the OS does not say which user listens at the socket, and not one of the uids [7, 8]",
            ),
        ] {
            assert_eq!(text(servers, uid), format!("{expected}{advice}"));
        }
    }
}
