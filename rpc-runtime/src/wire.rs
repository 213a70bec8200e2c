//! Wire: encoding and decoding of frames, and the compression of messages.

pub(crate) mod codec;
pub(crate) mod compression;
pub(crate) mod frame;
