//! HeldBytes: bytes on their way to the peer, in the server's account of memory until they are written.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use rpc_runtime::server::HeldMemory;

use crate::grpc::prefixed::PREFIX;

/// Bytes on their way to the peer. They count as held by the server until h2 has written and dropped them.
#[derive(Debug)]
pub(crate) struct HeldBytes {
    /// What goes before `bytes`, from `prefix_at` on.
    prefix: [u8; PREFIX],
    prefix_at: usize,
    bytes: Bytes,
    _held: HeldMemory,
    _unwritten: Arc<()>,
}

impl HeldBytes {
    /// Each has a clone of `unwritten`.
    pub(crate) fn new(bytes: Bytes, held: HeldMemory, unwritten: &Arc<()>) -> Self {
        Self {
            prefix: [0; PREFIX],
            prefix_at: PREFIX,
            bytes,
            _held: held,
            _unwritten: Arc::clone(unwritten),
        }
    }

    /// As [`HeldBytes::new`], of a message of gRPC behind its `prefix`. So a long message is not copied to stand behind it.
    pub(crate) fn behind(
        prefix: [u8; PREFIX],
        message: Bytes,
        held: HeldMemory,
        unwritten: &Arc<()>,
    ) -> Self {
        Self {
            prefix,
            prefix_at: 0,
            ..Self::new(message, held, unwritten)
        }
    }
}

impl Buf for HeldBytes {
    fn remaining(&self) -> usize {
        PREFIX - self.prefix_at + self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        match &self.prefix[self.prefix_at..] {
            [] => self.bytes.chunk(),
            prefix => prefix,
        }
    }

    fn advance(&mut self, count: usize) {
        let of_prefix = count.min(PREFIX - self.prefix_at);
        self.prefix_at += of_prefix;
        self.bytes.advance(count - of_prefix);
    }
}
