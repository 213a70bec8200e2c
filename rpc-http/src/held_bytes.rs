//! HeldBytes: bytes on their way to the peer, in the server's account of memory until they are written.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use rpc_runtime::server::HeldMemory;

/// Bytes on their way to the peer. They count as held by the server until h2 has written and dropped them.
#[derive(Debug)]
pub(crate) struct HeldBytes {
    bytes: Bytes,
    _held: HeldMemory,
    _unwritten: Arc<()>,
}

impl HeldBytes {
    /// Each has a clone of `unwritten`.
    pub(crate) fn new(bytes: Bytes, held: HeldMemory, unwritten: &Arc<()>) -> Self {
        Self {
            bytes,
            _held: held,
            _unwritten: Arc::clone(unwritten),
        }
    }
}

impl Buf for HeldBytes {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}
