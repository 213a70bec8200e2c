//! The header block of a HEADERS frame, and the `:authority` in it.

use std::ops::Range;

/// Replaces what makes the `:authority` in the payload of a HEADERS frame a path: each `/` and `%` becomes `-`.
///
/// What it does not understand stays as it is.
pub(super) fn replace_path(flags: u8, payload: &mut [u8]) {
    let mut start = 0;
    if flags & PADDED != 0 {
        start += 1;
    }
    if flags & PRIORITY != 0 {
        start += 5;
    }
    let Some(block) = payload.get_mut(start..) else {
        return;
    };
    if let Some((value, is_huffman)) = authority(block) {
        match is_huffman {
            true => replace_huffman(value),
            false => value.iter_mut().for_each(replace_byte),
        }
    }
}

/// Finds the value of the `:authority` that is spelled out, and whether it is in Huffman's code.
fn authority(block: &mut [u8]) -> Option<(&mut [u8], bool)> {
    let mut at = 0;
    loop {
        let first = *block.get(at)?;
        let (name, is_literal) = match first {
            0x80.. => (integer(block, &mut at, 7)?, false),
            0x40.. => (integer(block, &mut at, 6)?, true),
            // The size of the table changes.
            0x20.. => (integer(block, &mut at, 5)?, false),
            _ => (integer(block, &mut at, 4)?, true),
        };
        if !is_literal {
            continue;
        }
        let is_authority = match name {
            // The name is spelled out, as gRPC in C does it.
            0 => {
                let is_huffman = block.get(at)? & 0x80 != 0;
                let name = string(block, &mut at)?;
                block[name]
                    == *match is_huffman {
                        true => HUFFMAN_NAME,
                        false => NAME,
                    }
            }
            name => name == AUTHORITY,
        };
        let is_huffman = block.get(at)? & 0x80 != 0;
        let value = string(block, &mut at)?;
        if is_authority {
            return Some((&mut block[value], is_huffman));
        }
    }
}

/// Reads a string, and returns where its bytes are.
fn string(block: &[u8], at: &mut usize) -> Option<Range<usize>> {
    let len = integer(block, at, 7)?;
    let start = *at;
    let end = start.checked_add(len).filter(|&end| end <= block.len())?;
    *at = end;
    Some(start..end)
}

/// Reads an integer whose first byte has `bits` of it.
fn integer(block: &[u8], at: &mut usize, bits: u32) -> Option<usize> {
    let mut next = || {
        let byte = *block.get(*at)?;
        *at += 1;
        Some(byte)
    };
    let most = (1 << bits) - 1;
    let mut value = usize::from(next()?) & most;
    if value < most {
        return Some(value);
    }
    // No block is so long that it needs more bytes.
    for shift in [0, 7, 14] {
        let byte = next()?;
        value += usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn replace_byte(byte: &mut u8) {
    if matches!(byte, b'/' | b'%') {
        *byte = b'-';
    }
}

/// Replaces them in Huffman's code, where all three have 6 bits.
fn replace_huffman(value: &mut [u8]) {
    const SLASH: u8 = 0b01_1000;
    const PERCENT: u8 = 0b01_0101;
    const DASH: u8 = 0b01_0110;
    let (mut at, end) = (0, 8 * value.len());
    while at < end {
        // The codes of up to 8 bits, by their first ones. Longer ones are of characters that no path has, and of the padding at the end.
        let len = match bits(value, at, 8) {
            0..0x50 => 5,
            0x50..0xb8 => 6,
            0xb8..0xf8 => 7,
            0xf8..0xfe => 8,
            _ => return,
        };
        if at + len > end {
            return;
        }
        if len == 6 && matches!(bits(value, at, 6), SLASH | PERCENT) {
            set_bits(value, at, DASH);
        }
        at += len;
    }
}

/// Returns `count` bits, with ones behind the end.
fn bits(value: &[u8], at: usize, count: usize) -> u8 {
    let byte = |index| u16::from(value.get(index).copied().unwrap_or(0xff));
    let two = byte(at / 8) << 8 | byte(at / 8 + 1);
    (two << (at % 8) >> (16 - count)) as u8
}

/// Sets the 6 bits that begin at `at`.
fn set_bits(value: &mut [u8], at: usize, six: u8) {
    for bit in 0..6 {
        let (index, mask) = ((at + bit) / 8, 0x80 >> ((at + bit) % 8));
        match six >> (5 - bit) & 1 {
            1 => value[index] |= mask,
            _ => value[index] &= !mask,
        }
    }
}

/// The index of `:authority` in the static table of HPACK.
const AUTHORITY: usize = 1;
/// Its name, and the same in Huffman's code.
const NAME: &[u8] = b":authority";
const HUFFMAN_NAME: &[u8] = b"\xb8\x3b\x53\x39\xec\x32\x7d\x7f";
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

#[cfg(test)]
mod tests {
    use super::*;

    /// The block after its paths are replaced.
    fn replaced(flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut payload = payload.to_vec();
        replace_path(flags, &mut payload);
        payload
    }

    #[test]
    fn the_authority_is_found_behind_other_fields() {
        for (flags, before) in [
            // POST and http of the static table.
            (0, &[0x83, 0x86][..]),
            // The size of the table, and a field whose index has two bytes.
            (0, &[0x3f, 0xe1, 0x1f, 0xff, 0x00]),
            // `:path` with an index, and a name and a value that are spelled out.
            (0, b"\x44\x02/a\x00\x01n\x02/v"),
            (PADDED, &[2, 0x83]),
            (PADDED | PRIORITY, &[2, 0, 0, 0, 0, 1, 0x83]),
        ] {
            for first in [0x41, 0x01, 0x11] {
                let with =
                    |value: &[u8]| [before, &[first, value.len() as u8], value, b"\x44\x02/b"].concat();
                assert_eq!(
                    replaced(flags, &with(b"/a%2Fb.c")),
                    with(b"-a-2Fb.c"),
                    "{before:?}"
                );
                assert_eq!(
                    replaced(flags, &with(b"kv.test:80")),
                    with(b"kv.test:80"),
                    "{before:?}"
                );
            }
        }
    }

    #[test]
    fn the_authority_is_found_by_a_name_that_is_spelled_out() {
        // What grpcio sends: its name and its value go into the table.
        let with = |name: &[u8], value: &[u8]| {
            let lens = [name.len() as u8, value.len() as u8];
            [
                b"\x40\x05:path\x06/a.B/c\x40",
                &lens[..1],
                name,
                &lens[1..],
                value,
                b"\x83",
            ]
            .concat()
        };
        let replaced_with = |name: &[u8]| replaced(0, &with(name, b"run%2Fkv.sock"));
        assert_eq!(
            replaced_with(b":authority"),
            with(b":authority", b"run-2Fkv.sock")
        );
        assert_eq!(
            replaced_with(b"x-authority"),
            with(b"x-authority", b"run%2Fkv.sock")
        );
        let huffman = |value: &[u8]| {
            let len = [0x80 | HUFFMAN_NAME.len() as u8];
            [b"\x00", &len[..], HUFFMAN_NAME, &[value.len() as u8], value].concat()
        };
        assert_eq!(replaced(0, &huffman(b"/a%b")), huffman(b"-a-b"));
    }

    #[test]
    fn huffmans_code_is_changed_in_place() {
        // The examples of RFC 7541: `https://www.example.com`, and the same host alone.
        let before = b"\x9d\x29\xad\x17\x18\x63\xc7\x8f\x0b\x97\xc8\xe9\xae\x82\xae\x43\xd3";
        let after = b"\x9d\x29\xad\x17\x16\x5b\xc7\x8f\x0b\x97\xc8\xe9\xae\x82\xae\x43\xd3";
        let host = b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
        let block = |value: &[u8]| [&[0x41, 0x80 | value.len() as u8][..], value].concat();
        assert_eq!(replaced(0, &block(before)), block(after));
        assert_eq!(replaced(0, &block(host)), block(host));
    }

    #[test]
    fn a_malformed_block_stays_as_it_is() {
        for payload in [
            &b""[..],
            b"\x41",
            b"\x41\x05/a",
            b"\x41\xff\xff\xff\xff\xff\xff/",
            b"\x7f\xff\xff\xff\xff\xff",
            b"\x00\x09/",
            b"\xff",
            // The last code is cut short.
            b"\x41\x82\x02\x8a",
        ] {
            for flags in [0, PADDED, PRIORITY, PADDED | PRIORITY] {
                assert_eq!(replaced(flags, payload), payload, "{payload:?}");
            }
        }
    }
}
