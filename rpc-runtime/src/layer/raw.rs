//! RawMessage: a message that is encoded already, where one of any type is expected.

use bytes::{Buf, BufMut, Bytes};
use prost::{
    DecodeError, Message,
    encoding::{DecodeContext, WireType},
};

use crate::wire::frame::{Output, Payload};

/// A message that is encoded already, and not compressed.
///
/// `Debug` shows its length, never its bytes.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct RawMessage(pub(crate) Bytes);

impl RawMessage {
    /// Encodes `message`.
    pub(crate) fn of(message: &impl Payload) -> Self {
        let mut out = Output::new();
        message.put(&mut out);
        let len = out.len();
        Self(out.copy_to_bytes(len))
    }
}

impl Message for RawMessage {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put(self.0.clone());
    }

    /// Drops the field: nothing of ours decodes a message of this type.
    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        prost::encoding::skip_field(wire_type, tag, buf, context)
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0 = Bytes::new();
    }
}

impl std::fmt::Debug for RawMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{} bytes]", self.0.len())
    }
}
