//! RawMessage: a message that is encoded already, where one of any type is expected.

use bytes::{Buf, BufMut, Bytes};
use prost::{
    DecodeError, Message,
    encoding::{DecodeContext, WireType},
};

use crate::wire::frame::{Output, Payload};

/// The bytes of an encoded message, where a message of any type is expected: for proxies, which do not know the types.
///
/// Decoding takes all bytes as they are, and checks nothing. `Debug` shows their number, never the bytes.
///
/// ```
/// use prost::Message;
/// use rpc_runtime::codec::RawMessage;
///
/// let bytes = String::from("Ada").encode_to_vec();
/// let raw = RawMessage::decode(&bytes[..]).unwrap();
/// assert_eq!(raw.encode_to_vec(), bytes);
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RawMessage(pub Bytes);

impl RawMessage {
    /// Encodes `message`.
    pub(crate) fn of(message: &impl Payload) -> Self {
        let len = message.size().sent;
        if len < Output::BY_REFERENCE {
            let mut bytes = Vec::with_capacity(len);
            message.put(&mut bytes);
            return Self(bytes.into());
        }
        let mut out = Output::new();
        message.put(&mut out);
        let len = out.len();
        Self(out.copy_to_bytes(len))
    }
}

impl Message for RawMessage {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        if self.0.len() < Output::BY_REFERENCE {
            return buf.put_slice(&self.0);
        }
        buf.put(self.0.clone());
    }

    /// Takes all bytes.
    fn merge(&mut self, mut buf: impl Buf) -> Result<(), DecodeError> {
        self.0 = buf.copy_to_bytes(buf.remaining());
        Ok(())
    }

    /// Drops the field: as a field of another message it is not used.
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
