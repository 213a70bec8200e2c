//! HMAC-SHA-256 (RFC 2104), and a comparison that tells nothing by its time.

use std::hint::black_box;

use super::sha256::{BLOCK_LEN, sha256};

/// Returns the code that proves to whoever has `key` that `text` is from somebody who has it too.
pub(crate) fn hmac(key: &[u8; 32], text: &[&[u8]]) -> [u8; 32] {
    let mut padded = [0; BLOCK_LEN];
    padded[..key.len()].copy_from_slice(key);
    let inner = padded.map(|byte| byte ^ 0x36);
    let outer = padded.map(|byte| byte ^ 0x5c);
    let parts: Vec<&[u8]> = [&inner[..]].into_iter().chain(text.iter().copied()).collect();
    sha256(&[&outer, &sha256(&parts)])
}

/// Returns true if both are the same. The time depends on the lengths alone, so that nobody finds a secret byte by byte.
pub(crate) fn is_same(one: &[u8], other: &[u8]) -> bool {
    let pairs = one.iter().zip(other);
    let difference = pairs.fold(0, |difference, (one, other)| {
        black_box(difference | (one ^ other))
    });
    one.len() == other.len() && difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed by Python's hmac.
    #[test]
    fn the_codes_are_those_of_another_implementation() {
        for (key, text, code) in [
            (
                [0; 32],
                &b""[..],
                "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad",
            ),
            (
                [0xaa; 32],
                &b"what do ya want for nothing?"[..],
                "40f7684c3cbd90ba46f70247ca1d7cc692d673f434b66926a93c7f224ec74a5e",
            ),
            (
                [0xff; 32],
                &[0xcd; 200][..],
                "a07b8db09144b4dd90e7d6d85afc3edef593983593186f7480fbf300dc12029f",
            ),
        ] {
            for cut in [0, text.len() / 2, text.len()] {
                let (one, other) = text.split_at(cut);
                let found = hmac(&key, &[one, other]);
                let found: String = found.iter().map(|byte| format!("{byte:02x}")).collect();
                assert_eq!(found, code);
            }
        }
    }

    #[test]
    fn only_equal_bytes_are_the_same() {
        let secret = [7_u8; 32];
        assert!(is_same(&secret, &secret) && is_same(&[], &[]));
        assert!(!is_same(&secret, &secret[..31]) && !is_same(&[], &secret));
        for bit in 0..256 {
            let mut near = secret;
            near[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_same(&secret, &near), "bit {bit}");
        }
    }
}
