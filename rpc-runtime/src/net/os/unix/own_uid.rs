//! OwnUid: the user as which this process runs.

use std::sync::OnceLock;

use tokio::{net::UnixStream, runtime::Builder};

use super::super::User;

/// The user of this process.
pub(crate) fn own_user() -> Option<User> {
    own_uid().map(User::Uid)
}

/// Our own effective uid, as our peers see it. There is no other way without `unsafe`.
pub(super) fn own_uid() -> Option<u32> {
    static UID: OnceLock<u32> = OnceLock::new();
    if let Some(uid) = UID.get() {
        return Some(*uid);
    }
    let uid = uid_of_a_pair()?;
    Some(*UID.get_or_init(|| uid))
}

/// The uid that the kernel shows of this process, at one end of a pair of sockets.
fn uid_of_a_pair() -> Option<u32> {
    // A socket of tokio needs a runtime with IO, and the caller may have none.
    let runtime = Builder::new_current_thread().enable_io().build().ok()?;
    let pair = {
        let _inside = runtime.enter();
        UnixStream::pair()
    };
    let uid = pair.and_then(|(one, _other)| one.peer_cred());
    // To drop a runtime is not allowed inside of another one.
    runtime.shutdown_background();
    Some(uid.ok()?.uid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_user_is_known_outside_of_a_runtime() {
        assert!(uid_of_a_pair().is_some());
        assert_eq!(own_uid(), uid_of_a_pair());
    }

    #[test]
    fn our_own_user_is_known_in_a_runtime_without_io() {
        let runtime = Builder::new_current_thread().build().unwrap();
        let uid = runtime.block_on(async { uid_of_a_pair() });
        assert!(uid.is_some());
    }
}
