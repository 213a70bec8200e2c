//! Raw fields: a message as it was encoded. So nothing of it is lost that this program does not know, such as the values of custom options.

use prost::decode_length_delimiter;

/// A field of an encoded message.
pub(super) struct RawField<'a> {
    pub(super) number: usize,
    /// The whole field, its number included.
    pub(super) bytes: &'a [u8],
    /// What it contains, if it has a length; else nothing.
    pub(super) content: &'a [u8],
}

impl<'a> RawField<'a> {
    /// Takes the first field from `rest`; none if it does not begin with a field.
    pub(super) fn take(rest: &mut &'a [u8]) -> Option<Self> {
        let all = *rest;
        let key = varint(rest)?;
        let content = match key & 7 {
            0 => varint(rest).map(|_| &[][..])?,
            1 => skip(rest, 8)?,
            2 => {
                let len = varint(rest)?;
                skip(rest, len)?
            }
            5 => skip(rest, 4)?,
            // Descriptors have no groups.
            _ => return None,
        };
        Some(Self {
            number: key >> 3,
            bytes: &all[..all.len() - rest.len()],
            content,
        })
    }
}

/// Takes a varint, which prost calls a length.
fn varint(rest: &mut &[u8]) -> Option<usize> {
    decode_length_delimiter(rest).ok()
}

fn skip<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (skipped, left) = rest.split_at_checked(len)?;
    *rest = left;
    Some(skipped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_is_taken_whole() {
        // Field 1, a varint of two bytes; field 2, "abc"; field 3, four bytes; field 100, eight bytes.
        let message = [
            0x08, 0xac, 0x02, 0x12, 3, b'a', b'b', b'c', 0x1d, 1, 2, 3, 4, 0xa1, 0x06, 1, 2, 3, 4, 5, 6, 7, 8,
        ];
        let mut rest = &message[..];
        let mut fields = Vec::new();
        while !rest.is_empty() {
            let field = RawField::take(&mut rest).unwrap();
            fields.push((field.number, field.bytes.len(), field.content.len()));
        }
        assert_eq!(fields, [(1, 3, 0), (2, 5, 3), (3, 5, 4), (100, 10, 8)]);
    }

    #[test]
    fn bytes_that_end_within_a_field_are_none() {
        // A key without an end, a length beyond the end, a group.
        for message in [&[0x80][..], &[0x12, 3, 1, 2], &[0x0d, 1], &[0x0b]] {
            assert!(RawField::take(&mut &message[..]).is_none(), "{message:?}");
        }
    }
}
