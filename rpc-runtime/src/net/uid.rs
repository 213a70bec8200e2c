//! Uid: the user ids that decide whether a peer runs as our own user.

use std::sync::OnceLock;

use tokio::net::UnixStream;

/// Our own effective uid, as our peers see it. There is no other way without `unsafe`.
pub(crate) fn own_uid() -> Option<u32> {
    static UID: OnceLock<u32> = OnceLock::new();
    if let Some(uid) = UID.get() {
        return Some(*uid);
    }
    let (one, _other) = UnixStream::pair().ok()?;
    let uid = one.peer_cred().ok()?.uid();
    Some(*UID.get_or_init(|| uid))
}

/// The uid that the kernel shows for a user whom this namespace does not know.
pub(super) const OVERFLOW_UID: u32 = 65534;
