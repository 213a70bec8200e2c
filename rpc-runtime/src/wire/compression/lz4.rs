//! LZ4: its block format, without a length before it, for the frame has told that.

use super::DecompressError;

/// `message` as a block, or none if that would not be shorter.
pub(super) fn compress(message: &[u8]) -> Option<Vec<u8>> {
    Some(lz4_flex::block::compress(message)).filter(|compressed| compressed.len() < message.len())
}

/// The message of `len` bytes in a block.
///
/// How much comes out can be told from the block without decompressing it, so no memory is taken for a lie.
pub(super) fn decompress(compressed: &[u8], len: usize) -> Result<Vec<u8>, DecompressError> {
    let told = decompressed_len(compressed).ok_or_else(|| malformed("the block is cut short".to_owned()))?;
    if told != len as u64 {
        return Err(DecompressError::Length {
            decompressed: told,
            len,
        });
    }
    let mut message = vec![0; len];
    let decompressed = lz4_flex::block::decompress_into(compressed, &mut message)
        .map_err(|error| malformed(error.to_string()))?;
    if decompressed == len {
        Ok(message)
    } else {
        Err(DecompressError::Length {
            decompressed: decompressed as u64,
            len,
        })
    }
}

/// What a block decompresses to: the lengths of all its sequences; none if it ends within one.
pub(super) fn decompressed_len(block: &[u8]) -> Option<u64> {
    let mut rest = block;
    let mut len = 0;
    loop {
        let token = *take(&mut rest, 1)?.first()?;
        let literals = length(token >> 4, &mut rest)?;
        take(&mut rest, literals)?;
        len += literals as u64;
        // The last sequence has no match.
        if rest.is_empty() {
            return Some(len);
        }
        take(&mut rest, OFFSET_LEN)?;
        len += (MIN_MATCH + length(token & 0xf, &mut rest)?) as u64;
    }
}

/// A length that begins with four bits of the token, and goes on in bytes if those are all set.
fn length(bits: u8, rest: &mut &[u8]) -> Option<usize> {
    let mut length = usize::from(bits);
    if bits == 0xf {
        loop {
            let byte = *take(rest, 1)?.first()?;
            // Bounded by the length of the block, 255 for each byte.
            length += usize::from(byte);
            if byte != u8::MAX {
                break;
            }
        }
    }
    Some(length)
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(len)?;
    *rest = left;
    Some(taken)
}

fn malformed(text: String) -> DecompressError {
    DecompressError::Malformed { text }
}

/// How many bytes tell where a match stands.
const OFFSET_LEN: usize = 2;
/// A match is no shorter.
const MIN_MATCH: usize = 4;
