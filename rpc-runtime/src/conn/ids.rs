//! Tables by id.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use crate::conn::{CallId, Side};

/// A table by id. Peers choose ids, but every table here is bounded, so a cheap hash without a secret will do.
pub(super) type IdMap<V> = HashMap<u64, V, BuildHasherDefault<CallIdHasher>>;

/// The highest id that there is; GOAWAY names it when nothing is refused yet.
pub(super) const MAX_ID: u64 = (1 << 63) - 1;

impl Side {
    /// The other end.
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Connector => Self::Acceptor,
            Self::Acceptor => Self::Connector,
        }
    }

    /// The first id that this end gives.
    pub(super) const fn first_id(self) -> u64 {
        match self {
            Self::Connector => 1,
            Self::Acceptor => 2,
        }
    }

    /// True if this end gives ids such as `id`.
    pub(super) const fn gives(self, id: u64) -> bool {
        id != 0 && id % 2 == self.first_id() % 2
    }
}

impl CallId {
    /// The number on the wire.
    pub(super) const fn number(self) -> u64 {
        self.0
    }
}

/// Multiplies, and folds the high half onto the low one, which the table takes its index from.
#[derive(Default)]
pub(super) struct CallIdHasher(u64);

impl Hasher for CallIdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, id: u64) {
        let product = (self.0 ^ id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ (product >> 32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
