//! KeyOf: tells whose calls count together, as a number of fixed size.

use std::hash::{BuildHasher, Hash, RandomState};

use super::caller;
use crate::middleware::ServerCall;

/// Tells whose calls count together.
///
/// A key becomes 128 bits, so a table of keys has a fixed size whatever a caller sends. The hash has a secret, so a caller
/// cannot make two keys equal.
pub(super) struct KeyOf(Box<dyn Fn(&ServerCall) -> Key + Send + Sync>);

/// A key as tables keep it.
pub(super) type Key = u128;

impl KeyOf {
    pub(super) fn new<K: Hash>(key: impl Fn(&ServerCall) -> K + Send + Sync + 'static) -> Self {
        let (one, other) = (RandomState::new(), RandomState::new());
        let hash = move |key: &K| u128::from(one.hash_one(key)) << 64 | u128::from(other.hash_one(key));
        Self(Box::new(move |call| hash(&key(call))))
    }

    pub(super) fn get(&self, call: &ServerCall) -> Key {
        (self.0)(call)
    }
}

/// By the caller.
impl Default for KeyOf {
    fn default() -> Self {
        Self::new(caller)
    }
}
