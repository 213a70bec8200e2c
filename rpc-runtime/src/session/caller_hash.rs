//! CallerHash: which calls of a connection have the same caller, without its name.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Whose call it is: the hash of a caller's name, or of what the call shows. The hash has a secret key, so a peer cannot choose two names with one hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallerHash(u64);

impl CallerHash {
    /// The caller of this name.
    pub(crate) fn of_name(name: &str) -> Self {
        Self::of(("name", name.as_bytes()))
    }

    /// Whoever shows this credential, which is not known to be right.
    pub(crate) fn of_credential(credential: &[u8]) -> Self {
        Self::of(("credential", credential))
    }

    fn of(whom: impl Hash) -> Self {
        static KEY: OnceLock<RandomState> = OnceLock::new();
        let hash = KEY.get_or_init(RandomState::new).hash_one(whom);
        Self(hash.clamp(NONE_YET + 1, SEVERAL - 1))
    }
}

/// The known callers whose calls were allowed on a connection: none yet, one, or several.
#[derive(Debug, Default)]
pub(super) struct AllowedCallers(AtomicU64);

impl AllowedCallers {
    /// Notes that a call of `caller` was allowed.
    #[inline]
    pub(super) fn note(&self, caller: CallerHash) {
        // Of two that come first at the same time, one is noted. The other one is noted with its next call.
        match self.0.load(Relaxed) {
            SEVERAL => {}
            NONE_YET => self.0.store(caller.0, Relaxed),
            known if known == caller.0 => {}
            _ => self.0.store(SEVERAL, Relaxed),
        }
    }

    /// Returns true if a call of another caller was allowed.
    pub(super) fn have_other_than(&self, caller: CallerHash) -> bool {
        let known = self.0.load(Relaxed);
        known != NONE_YET && known != caller.0
    }
}

const NONE_YET: u64 = 0;
const SEVERAL: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_told_apart() {
        let ada = CallerHash::of_name("ada");
        assert_eq!(ada, CallerHash::of_name("ada"));
        assert_ne!(ada, CallerHash::of_name("bob"));
        assert_ne!(ada, CallerHash::of_credential(b"ada"));
    }

    #[test]
    fn a_connection_has_one_caller_until_another_one_was_allowed() {
        let (ada, bob) = (CallerHash::of_name("ada"), CallerHash::of_name("bob"));
        let allowed = AllowedCallers::default();
        let others = |allowed: &AllowedCallers| [ada, bob].map(|caller| allowed.have_other_than(caller));
        assert_eq!(others(&allowed), [false, false]);
        allowed.note(ada);
        allowed.note(ada);
        assert_eq!(others(&allowed), [false, true]);
        allowed.note(bob);
        assert_eq!(others(&allowed), [true, true]);
        allowed.note(ada);
        assert_eq!(others(&allowed), [true, true], "it stays so");
    }
}
