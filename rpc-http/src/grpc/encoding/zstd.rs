//! Zstandard: a message is read in one go, because a stream's decoder takes memory for a window of any size that a frame announces.

use std::cell::RefCell;

use bytes::Bytes;
use rpc_runtime::Status;
use zstd_safe::{CCtx, CParameter, DCtx, get_error_name, is_error_kind, zstd_sys::ZSTD_ErrorCode};

use crate::grpc::prefixed::too_long;

pub(super) fn compress(message: &[u8]) -> Option<Bytes> {
    // Only a shorter message fits, so zstd gives up on others.
    let mut compressed = Vec::with_capacity(message.len().checked_sub(1)?);
    COMPRESSOR.with_borrow_mut(|kept| {
        if kept.is_none() {
            *kept = new_compressor();
        }
        kept.as_mut()?.compress2(&mut compressed, message).ok()
    })?;
    compressed.shrink_to_fit();
    Some(compressed.into())
}

pub(super) fn decompress(message: &[u8], max: usize) -> Result<Bytes, Status> {
    match zstd_safe::get_frame_content_size(message) {
        Ok(Some(told)) if told > max as u64 => return Err(too_long(told, max)),
        Ok(_) if message.is_empty() => return Err(malformed("it is empty")),
        Ok(_) => {}
        Err(error) => return Err(malformed(&error.to_string())),
    }
    // A foreign frame may not tell its length. The buffer grows as soon as all of it is full.
    let mut capacity = message.len().saturating_mul(RATIO).max(MIN_CAPACITY).min(max);
    loop {
        let mut plain = Vec::with_capacity(capacity);
        let done = DECOMPRESSOR.with_borrow_mut(|kept| {
            if kept.is_none() {
                *kept = DCtx::try_create();
            }
            Some(kept.as_mut()?.decompress(&mut plain, message))
        });
        return match done {
            None => Err(malformed("there is no memory to decompress it")),
            Some(Ok(_)) => {
                plain.shrink_to_fit();
                Ok(plain.into())
            }
            Some(Err(code)) if !is_error_kind(code, ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall) => {
                Err(malformed(get_error_name(code)))
            }
            Some(Err(_)) if capacity < max => {
                capacity = capacity.saturating_mul(GROWTH).min(max);
                continue;
            }
            Some(Err(_)) => Err(too_long(max as u64 + 1, max)),
        };
    }
}

fn new_compressor() -> Option<CCtx<'static>> {
    let mut compressor = CCtx::try_create()?;
    compressor
        .set_parameter(CParameter::CompressionLevel(LEVEL))
        .ok()?;
    Some(compressor)
}

fn malformed(text: &str) -> Status {
    Status::internal(format!("a message cannot be decompressed as zstd: {text}"))
}

thread_local! {
    // To make one takes longer than to compress a short message.
    static COMPRESSOR: RefCell<Option<CCtx<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
}

/// The fastest of those that have a number of their own.
const LEVEL: i32 = 1;
/// Messages are rarely compressed further than this.
const RATIO: usize = 16;
/// More than a block, so that a frame cannot pretend that all of the buffer was full.
const MIN_CAPACITY: usize = 256 << 10;
/// How much longer the next buffer is: what is decompressed again is a third at most.
const GROWTH: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame that does not tell its length: a header without a content size, a window of 1 KiB, and blocks of one repeated byte.
    fn untold(blocks: usize, each: u32) -> Vec<u8> {
        // Descriptor 0 and the window descriptor of 128 KiB: exponent 7, mantissa 0.
        let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0, 7 << 3];
        for number in 1..=blocks {
            let is_last = u32::from(number == blocks);
            let header = (each << 3) | (1 << 1) | is_last;
            frame.extend_from_slice(&header.to_le_bytes()[..3]);
            frame.push(7);
        }
        frame
    }

    #[test]
    fn a_frame_that_does_not_tell_its_length_is_read_and_bounded() {
        let frame = untold(20, 100_000);
        assert_eq!(decompress(&frame, 2_000_000).unwrap(), vec![7; 2_000_000]);
        let refusal = decompress(&frame, 1_999_999).unwrap_err();
        assert_eq!(refusal.code(), rpc_runtime::Code::ResourceExhausted);
        assert!(decompress(&frame[..frame.len() - 1], 2_000_000).is_err());
    }
}
