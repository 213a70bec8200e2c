//! Zstandard: one frame for each message, made and read in one go.

use std::sync::{Mutex, PoisonError};

use zstd_safe::{CCtx, CParameter, DCtx, get_error_name, is_error_kind, zstd_sys::ZSTD_ErrorCode};

use super::DecompressError;

/// `message` as a frame, or none if that would not be shorter.
pub(super) fn compress(message: &[u8]) -> Option<Vec<u8>> {
    // A buffer in which only a shorter one fits: zstd gives up when it is full.
    let mut compressed = Vec::with_capacity(message.len().checked_sub(1)?);
    let done = COMPRESSORS.with(new_compressor, |compressor| {
        compressor.compress2(&mut compressed, message)
    })?;
    done.ok()?;
    compressed.shrink_to_fit();
    Some(compressed)
}

/// The message of `len` bytes in a frame.
///
/// At once, not as a stream: a stream's decoder takes memory for a window of any size that the frame announces. The
/// buffer is large enough for messages that were compressed as far as messages are; for others it grows as soon as all
/// of it is full, but for the last block, which is at most 128 KiB.
pub(super) fn decompress(compressed: &[u8], len: usize) -> Result<Vec<u8>, DecompressError> {
    match zstd_safe::get_frame_content_size(compressed) {
        Ok(Some(told)) if told != len as u64 => {
            return Err(DecompressError::Length {
                decompressed: told,
                len,
            });
        }
        Ok(_) => {}
        Err(error) => return Err(malformed(error.to_string())),
    }
    let mut capacity = first_capacity(compressed.len(), len);
    loop {
        let mut message = Vec::with_capacity(capacity);
        let done = DECOMPRESSORS.with(DCtx::try_create, |decompressor| {
            decompressor.decompress(&mut message, compressed)
        });
        return match done {
            None => Err(malformed("out of memory".to_owned())),
            Some(Ok(decompressed)) if decompressed == len => Ok(message),
            Some(Ok(decompressed)) => Err(DecompressError::Length {
                decompressed: decompressed as u64,
                len,
            }),
            Some(Err(code)) if !is_error_kind(code, ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall) => {
                Err(malformed(get_error_name(code).to_owned()))
            }
            Some(Err(_)) if capacity < len => {
                capacity = capacity.saturating_mul(GROWTH).min(len);
                continue;
            }
            Some(Err(_)) => Err(DecompressError::Endless { len }),
        };
    }
}

/// How long a buffer is tried first for a message of `len` bytes that came as `compressed`.
pub(super) fn first_capacity(compressed: usize, len: usize) -> usize {
    compressed.saturating_mul(RATIO).max(MIN_CAPACITY).min(len)
}

fn new_compressor() -> Option<CCtx<'static>> {
    let mut compressor = CCtx::try_create()?;
    compressor
        .set_parameter(CParameter::CompressionLevel(LEVEL))
        .ok()?;
    Some(compressor)
}

fn malformed(text: String) -> DecompressError {
    DecompressError::Malformed { text }
}

/// The fastest of those that have a number of their own: the time is that of a call.
const LEVEL: i32 = 1;
/// Messages are rarely compressed further than this.
const RATIO: usize = 16;
/// More than a block, so that a frame cannot pretend that all of the buffer was full.
const MIN_CAPACITY: usize = 256 * 1024;
/// How much longer the next buffer is: what is decompressed again is a third at most.
const GROWTH: usize = 4;

static COMPRESSORS: Pool<CCtx<'static>> = Pool::new();
static DECOMPRESSORS: Pool<DCtx<'static>> = Pool::new();

/// Contexts that nobody uses at the moment: making one takes longer than compressing a short message.
struct Pool<T>(Mutex<Vec<T>>);

impl<T> Pool<T> {
    /// So many are kept, a few hundred KiB each, whatever the number of connections.
    const MAX_IDLE: usize = 8;

    const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// Lends one to `work`; none if there is no memory for it.
    fn with<R>(&self, make: impl FnOnce() -> Option<T>, work: impl FnOnce(&mut T) -> R) -> Option<R> {
        let idle = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle().pop();
        let mut context = match kept {
            Some(context) => context,
            None => make()?,
        };
        let result = work(&mut context);
        let mut idle = idle();
        if idle.len() < Self::MAX_IDLE {
            idle.push(context);
        }
        Some(result)
    }
}
