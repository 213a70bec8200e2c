//! What is compressed comes out again, and what is not cannot do harm.

use super::*;

/// Text as messages have it: long enough words, some of them again.
fn text(len: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let words: Vec<String> = (0..200).map(|_| format!("{:x} ", random.u32(..))).collect();
    let mut text = Vec::new();
    while text.len() < len {
        text.extend_from_slice(words[random.usize(..words.len())].as_bytes());
    }
    text.truncate(len);
    text
}

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

fn all() -> impl Iterator<Item = Compression> {
    Compression::ALL.iter().copied()
}

#[test]
fn a_message_comes_out_as_it_went_in() {
    let lens = [
        1,
        13,
        100,
        1024,
        1025,
        65_536,
        131_072,
        262_145,
        1_000_003,
        4 << 20,
    ];
    for compression in all() {
        for len in lens {
            for message in [vec![0; len], text(len, 1), vec![b'x'; len], noise(len, 2)] {
                let Some(compressed) = compression.compress(&message) else {
                    continue;
                };
                assert!(compressed.len() < len);
                assert_eq!(
                    compression.decompress(&compressed, len),
                    Ok(message),
                    "{compression} {len}"
                );
            }
        }
    }
}

#[test]
fn text_becomes_shorter_and_noise_stays() {
    for compression in all() {
        let compressed = compression.compress(&text(100_000, 3)).unwrap();
        assert!(compressed.len() < 60_000, "{compression}: {}", compressed.len());
        assert_eq!(compression.compress(&noise(100_000, 4)), None);
        assert_eq!(compression.compress(b""), None);
    }
}

#[test]
fn each_number_on_the_wire_has_its_compression() {
    for compression in all() {
        assert_eq!(
            Compression::of_encoding(compression.encoding()),
            Some(compression)
        );
    }
    assert_eq!(Compression::of_encoding(0), None);
    assert_eq!(Compression::of_encoding(3), None);
    #[cfg(feature = "zstd")]
    assert_eq!(Compression::Zstd.encoding(), 1);
    #[cfg(feature = "lz4")]
    assert_eq!(Compression::Lz4.encoding(), 2);
}

#[test]
fn a_length_other_than_announced_is_refused() {
    for compression in all() {
        for message in [text(5000, 5), vec![0; 5000], vec![7; 4 << 20]] {
            let compressed = compression.compress(&message).unwrap();
            let len = message.len();
            for wrong in [compressed.len(), len - 1, len + 1, 2 * len, usize::MAX / 2] {
                let result = compression.decompress(&compressed, wrong);
                assert!(result.is_err(), "{compression}: {wrong} of {len}");
            }
        }
    }
}

#[test]
fn packed_bytes_that_exceed_the_length_are_refused() {
    for compression in all() {
        let compressed = compression.compress(&text(5000, 6)).unwrap();
        let len = compressed.len() - 1;
        let longer = DecompressError::Longer {
            compressed: compressed.len(),
            len,
        };
        assert_eq!(compression.decompress(&compressed, len), Err(longer));
        assert!(compression.decompress(&compressed, 0).is_err());
    }
}

#[test]
fn an_empty_input_is_no_compressed_message() {
    for compression in all() {
        assert!(matches!(
            compression.decompress(b"", 0),
            Err(DecompressError::Malformed { .. })
        ));
        assert!(matches!(
            compression.decompress(b"", 1000),
            Err(DecompressError::Malformed { .. })
        ));
    }
}

#[test]
fn a_message_that_is_cut_short_anywhere_is_refused() {
    for compression in all() {
        let message = text(3000, 7);
        let compressed = compression.compress(&message).unwrap();
        for end in 0..compressed.len() {
            assert!(
                compression.decompress(&compressed[..end], message.len()).is_err(),
                "{compression} {end}"
            );
        }
        let mut longer = compressed;
        longer.push(0);
        assert!(
            compression.decompress(&longer, message.len()).is_err(),
            "{compression}"
        );
    }
}

#[test]
fn no_bytes_panic_or_give_another_length() {
    let mut random = fastrand::Rng::with_seed(8);
    for compression in all() {
        for _ in 0..20_000 {
            let mut bytes = vec![0; random.usize(..64)];
            random.fill(&mut bytes);
            check(compression, &bytes, random.usize(..10_000));
        }
        // Behind a header that is right, the decoders go deeper.
        for seed in 0..20 {
            let message = text(2000, seed);
            let compressed = compression.compress(&message).unwrap();
            for at in 0..compressed.len() {
                let mut bytes = compressed.clone();
                bytes[at] ^= 1 << random.u8(..8);
                check(compression, &bytes, message.len());
            }
        }
    }
}

/// Whatever comes out has the length that was announced.
fn check(compression: Compression, bytes: &[u8], len: usize) {
    if let Ok(message) = compression.decompress(bytes, len) {
        assert_eq!(message.len(), len);
        assert!(
            message.capacity() <= len.max(64),
            "{} of {len}",
            message.capacity()
        );
    }
}

#[cfg(feature = "lz4")]
mod lz4 {
    use super::{super::lz4::decompressed_len, *};

    #[test]
    fn a_block_tells_what_it_decompresses_to() {
        for len in [1, 14, 15, 16, 300, 5000, 100_000] {
            for message in [text(len, 9), vec![0; len], noise(len, 10)] {
                let block = lz4_flex::block::compress(&message);
                assert_eq!(decompressed_len(&block), Some(len as u64));
            }
        }
        assert_eq!(decompressed_len(b""), None);
        // A token for a match that is not there.
        assert_eq!(decompressed_len(&[0x10, b'a', 1]), None);
    }

    #[test]
    fn the_block_of_the_golden_frame_is_its_message() {
        let block = b"\x8f\x0a\x03dog\x12\x28o\x01\x00\x0f\x50ooooo";
        let mut message = b"\x0a\x03dog\x12\x28".to_vec();
        message.extend([b'o'; 40]);
        assert_eq!(Compression::Lz4.decompress(block, 47), Ok(message));
    }

    #[test]
    fn a_bomb_is_refused_before_it_is_decompressed() {
        // One literal, then a match with itself as long as 20 KiB of `255` can say.
        let mut bomb = vec![0x1f, b'a', 1, 0];
        bomb.extend([255; 20 * 1024]);
        bomb.extend([0, 0]);
        let decompressed = decompressed_len(&bomb).unwrap();
        assert!(decompressed > 4 << 20);
        let refused = Compression::Lz4.decompress(&bomb, 4 << 20);
        assert_eq!(
            refused,
            Err(DecompressError::Length {
                decompressed,
                len: 4 << 20
            })
        );
    }

    #[test]
    fn a_match_before_the_beginning_is_refused() {
        // One literal, a match of 4 bytes at offset 2, one literal.
        let block = [0x10, b'a', 2, 0, 0x10, b'b'];
        assert_eq!(decompressed_len(&block), Some(6));
        assert!(matches!(
            Compression::Lz4.decompress(&block, 6),
            Err(DecompressError::Malformed { .. })
        ));
    }
}

#[cfg(feature = "zstd")]
mod zstd {
    use super::{super::zstd::first_capacity, *};

    const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

    /// A frame without a content size, with a window of 128 KiB, of blocks that repeat one byte 128 KiB times.
    fn bomb(blocks: usize) -> Vec<u8> {
        let mut frame = MAGIC.to_vec();
        // No content size; 10 + 7 bits of window.
        frame.extend([0x00, 7 << 3]);
        for block in 1..=blocks {
            let header = u32::from(block == blocks) | (1 << 1) | ((128 * 1024) << 3);
            frame.extend(&header.to_le_bytes()[..3]);
            frame.push(b'z');
        }
        frame
    }

    #[test]
    fn a_frame_without_a_content_size_is_taken_if_its_length_is_right() {
        for blocks in [1, 2, 3, 32] {
            let len = blocks * 128 * 1024;
            let message = Compression::Zstd.decompress(&bomb(blocks), len).unwrap();
            assert!(message == vec![b'z'; len]);
        }
    }

    #[test]
    fn a_frame_without_a_content_size_that_has_less_than_announced_is_refused() {
        let length = DecompressError::Length {
            decompressed: 128 * 1024,
            len: 200_000,
        };
        assert_eq!(Compression::Zstd.decompress(&bomb(1), 200_000), Err(length));
    }

    #[test]
    fn a_bomb_ends_at_the_length_that_was_announced() {
        for len in [500, 128 * 1024, 300_000, 4 << 20] {
            let refused = Compression::Zstd.decompress(&bomb(100), len);
            assert_eq!(refused, Err(DecompressError::Endless { len }));
        }
    }

    #[test]
    fn another_content_size_is_refused_before_anything_is_decompressed() {
        let compressed = Compression::Zstd.compress(&vec![0; 1 << 20]).unwrap();
        let refused = Compression::Zstd.decompress(&compressed, 4 << 20);
        let length = DecompressError::Length {
            decompressed: 1 << 20,
            len: 4 << 20,
        };
        assert_eq!(refused, Err(length));
    }

    #[test]
    fn a_few_bytes_do_not_take_memory_for_all_that_they_announce() {
        assert_eq!(first_capacity(100, 4 << 20), 256 * 1024);
        assert_eq!(first_capacity(100_000, 4 << 20), 1_600_000);
        assert_eq!(first_capacity(1 << 20, 4 << 20), 4 << 20);
        assert_eq!(first_capacity(100, 5000), 5000);
    }

    #[test]
    fn a_frame_that_wants_a_dictionary_or_an_enormous_window_is_refused_or_bounded() {
        // A dictionary with number 7.
        let mut frame = MAGIC.to_vec();
        frame.extend([0x01, 7 << 3, 7, 1, 0, 0]);
        assert!(matches!(
            Compression::Zstd.decompress(&frame, 2000),
            Err(DecompressError::Malformed { .. })
        ));
        // A window of 2 TiB, and one empty block.
        let mut frame = MAGIC.to_vec();
        frame.extend([0x00, 31 << 3, 1, 0, 0]);
        assert!(Compression::Zstd.decompress(&frame, 2000).is_err());
    }
}
