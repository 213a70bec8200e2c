//! Written: what a connection has written, as its peer reads it.

use bytes::BytesMut;

use crate::wire::{
    codec::FrameCodec,
    frame::{Flags, Frame, row::longest},
};

/// What a connection has written, as its peer reads it.
pub(super) struct Written {
    codec: FrameCodec,
    /// The beginning of a frame.
    bytes: BytesMut,
}

impl Written {
    /// Nothing is written.
    pub(super) fn new() -> Self {
        Self {
            codec: FrameCodec::new(MAX_FRAME),
            bytes: BytesMut::new(),
        }
    }

    /// Checks that `more` goes on with whole frames, and that each packed one has a whole row.
    pub(super) fn check(&mut self, more: &[u8]) {
        self.bytes.extend_from_slice(more);
        loop {
            let mut frame = Frame::default();
            match self.codec.decode_into(&mut self.bytes, &mut frame) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => panic!("what is written is no frame: {error}"),
            }
            if frame.flags.contains(Flags::PACKED) {
                let row = longest(&frame.payload);
                assert!(row.is_ok(), "the row of a written frame lies");
            }
        }
    }
}

/// The longest frame that any peer takes, in bytes.
const MAX_FRAME: usize = (16 << 20) - 1;
