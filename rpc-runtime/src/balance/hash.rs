//! Hash: the hash of a key, the same in each process.

/// The hash of `bytes`: FNV-1a of 64 bits, and then the end of murmur3, which spreads it over all bits.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mix(fnv)
}

pub(super) fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits = (bits ^ (bits >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ (bits >> 33)
}

/// The hash of the field `number` of an encoded message: of the bytes of its last value. None if the message has no such field, or is no
/// message.
pub(crate) fn hash_of_field(mut message: &[u8], number: u32) -> Option<u64> {
    let mut found = None;
    while !message.is_empty() {
        let key = varint(&mut message)?;
        let value = match key & 7 {
            0 => {
                let before = message;
                varint(&mut message)?;
                &before[..before.len() - message.len()]
            }
            1 => take(&mut message, 8)?,
            5 => take(&mut message, 4)?,
            2 => {
                let len = usize::try_from(varint(&mut message)?).ok()?;
                take(&mut message, len)?
            }
            _ => return None,
        };
        if key >> 3 == u64::from(number) {
            found = Some(value);
        }
    }
    found.map(hash)
}

fn take<'a>(message: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (value, rest) = message.split_at_checked(len)?;
    *message = rest;
    Some(value)
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[derive(Clone, PartialEq, Message)]
    struct Put {
        #[prost(string, tag = "1")]
        key: String,
        #[prost(bytes = "vec", tag = "2")]
        value: Vec<u8>,
        #[prost(sint64, tag = "20")]
        number: i64,
        #[prost(double, tag = "4")]
        share: f64,
    }

    #[test]
    fn a_field_has_the_hash_of_its_value_alone() {
        let put = |value: &[u8], number| {
            let put = Put {
                key: "dog".to_owned(),
                value: value.to_vec(),
                number,
                share: 0.5,
            };
            put.encode_to_vec()
        };
        let (one, two) = (put(b"", 7), put(&[255; 300], -1));
        assert_eq!(hash_of_field(&one, 1), Some(hash(b"dog")));
        assert_eq!(hash_of_field(&two, 1), hash_of_field(&one, 1));
        assert_ne!(hash_of_field(&two, 20), hash_of_field(&one, 20));
        assert_eq!(hash_of_field(&two, 4), hash_of_field(&one, 4));
        assert_eq!(hash_of_field(&one, 2), None);
    }

    #[test]
    fn bytes_that_are_no_message_have_no_hash() {
        for bytes in [&[0x0a][..], &[0x0a, 5, 1], &[0xff; 12], &[0x0b, 1], &[0x09, 1, 2]] {
            assert_eq!(hash_of_field(bytes, 1), None, "{bytes:?}");
        }
    }

    #[test]
    fn a_hash_is_the_same_in_each_process() {
        assert_eq!(hash(b""), 0xefd0_1f60_ba99_2926);
        assert_eq!(hash(b"dog"), hash(b"dog"));
    }
}
