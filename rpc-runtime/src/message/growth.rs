//! Growth: how much memory a message takes once it is decoded.
//!
//! Two bytes on the wire make a whole element of a repeated field: an empty message, an empty string, an entry of a map. So
//! four megabytes may become hundreds, and prost sets no limit. Generated code therefore lists the fields of each message that
//! grow, and a message that could grow too much is counted before it is decoded.

use bytes::Buf;
use prost::{
    DecodeError,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};

use crate::message::nesting::DEEPEST;

/// The growing fields of a package: one row for each message type that has any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    rows: &'static [&'static [Growing]],
    /// The most memory that one byte on the wire can become, in bytes.
    most: u64,
}

/// A field whose elements are larger in memory than on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growing {
    number: u32,
    /// The memory of the first element, and of each further one, in bytes.
    first: u64,
    each: u64,
    elements: Elements,
    /// The row of the element's message type, if it has growing fields.
    row: Option<usize>,
}

/// How to count the elements of a field on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Elements {
    One,
    /// Packed varints: one element for each last byte of a varint.
    Varints,
    /// Packed values of this length, in bytes.
    Values(usize),
}

/// A message type: its row in a [`Growth`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grows {
    growth: &'static Growth,
    row: usize,
}

/// A limit of the memory that the growing fields of a message take once it is decoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    grows: Option<Grows>,
    max: u64,
}

impl Budget {
    /// Creates a limit of `max` bytes for messages of that type; `None` stands for a type without growing fields.
    pub(crate) const fn new(grows: Option<Grows>, max: u64) -> Self {
        Self { grows, max }
    }

    /// Returns true if a message fits.
    #[inline]
    pub(crate) fn admits(&self, message: &[u8]) -> bool {
        self.grows.is_none_or(|grows| grows.fits(message, self.max))
    }

    /// The error text for a message that does not fit.
    pub(crate) fn excess(&self, what: &str) -> String {
        format!(
            "{what} would take more than {} bytes of memory once it is decoded: send less at once, or raise \
             the reader's Limits::decode_bytes",
            self.max
        )
    }
}

impl Growth {
    /// Creates a table with these rows.
    pub const fn new(rows: &'static [&'static [Growing]]) -> Self {
        let mut most = 0;
        let mut row = 0;
        while row < rows.len() {
            let mut field = 0;
            while field < rows[row].len() {
                let one = rows[row][field].most();
                if one > most {
                    most = one;
                }
                field += 1;
            }
            row += 1;
        }
        Self { rows, most }
    }

    pub(crate) const fn row(&'static self, row: usize) -> Grows {
        Grows { growth: self, row }
    }

    /// Subtracts the cost of a message, or of a group up to its end, from `left`.
    fn count(&self, row: usize, bytes: &mut &[u8], depth: u32, left: &mut u64) -> Result<(), Stop> {
        if depth > DEEPEST {
            return Err(Stop::Malformed);
        }
        let fields = self.rows.get(row).copied().unwrap_or_default();
        let mut seen = 0_u64;
        while bytes.has_remaining() {
            let (number, wire) = decode_key(bytes)?;
            if wire == WireType::EndGroup {
                break;
            }
            let Some(index) = fields.iter().position(|field| field.number == number) else {
                skip_field(wire, number, bytes, DecodeContext::default())?;
                continue;
            };
            let field = &fields[index];
            let bit = 1_u64.checked_shl(index as u32).unwrap_or(0);
            let is_first = seen & bit == 0;
            // A packed field may be empty.
            let is_empty = |part: &[u8]| field.elements != Elements::One && part.is_empty();
            match (wire, field.elements) {
                (WireType::LengthDelimited, elements) => {
                    let mut part = take(bytes)?;
                    if is_empty(part) {
                        continue;
                    }
                    field.charge(elements.count(part), is_first, left)?;
                    if let Some(row) = field.row {
                        self.count(row, &mut part, depth + 1, left)?;
                    }
                }
                (WireType::StartGroup, Elements::One) => {
                    field.charge(1, is_first, left)?;
                    match field.row {
                        Some(row) => self.count(row, bytes, depth + 1, left)?,
                        None => skip_field(wire, number, bytes, DecodeContext::default())?,
                    }
                }
                (_, Elements::One) => return Err(Stop::Malformed),
                _ => {
                    skip_field(wire, number, bytes, DecodeContext::default())?;
                    field.charge(1, is_first, left)?;
                }
            }
            seen |= bit;
        }
        Ok(())
    }
}

/// Why the count of a message ended before the message did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// The message takes more than the limit.
    Excess,
    /// Prost refuses the message here.
    Malformed,
}

impl From<DecodeError> for Stop {
    fn from(_: DecodeError) -> Self {
        Self::Malformed
    }
}

/// Takes the bytes of a field with a length.
fn take<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], Stop> {
    let len = usize::try_from(decode_varint(bytes)?).map_err(|_| Stop::Malformed)?;
    let (part, rest) = bytes.split_at_checked(len).ok_or(Stop::Malformed)?;
    *bytes = rest;
    Ok(part)
}

impl Growing {
    /// A repeated field of varints, `size` bytes each in memory.
    pub const fn varints(number: u32, size: usize) -> Self {
        Self::vector(number, size, Elements::Varints)
    }

    /// A repeated field of values of a fixed length, on the wire as in memory.
    pub const fn values(number: u32, size: usize) -> Self {
        Self::vector(number, size, Elements::Values(size))
    }

    /// A repeated field of strings, bytes or messages.
    pub const fn elements(number: u32, size: usize) -> Self {
        let size = size as u64;
        Self::new(number, 4 * size + TEXT, 2 * size + TEXT, Elements::One)
    }

    /// A map whose entries have `size` bytes: a hash table, a third of it empty at worst, with a byte for each place.
    pub const fn map(number: u32, size: usize) -> Self {
        let size = size as u64;
        Self::new(
            number,
            4 * (size + 1) + 16 + 2 * TEXT,
            3 * (size + 1) + 2 * TEXT,
            Elements::One,
        )
    }

    /// A map whose entries have `size` bytes: a tree with eleven places in each node, half of them empty at worst.
    pub const fn ordered_map(number: u32, size: usize) -> Self {
        let size = size as u64;
        Self::new(
            number,
            11 * size + 16 + 2 * TEXT,
            3 * size + 16 + 2 * TEXT,
            Elements::One,
        )
    }

    /// A message in a box of its own.
    pub const fn boxed(number: u32, size: usize) -> Self {
        Self::new(number, size as u64, size as u64, Elements::One)
    }

    /// A message that takes no memory of its own and has growing fields.
    pub const fn part(number: u32) -> Self {
        Self::new(number, 0, 0, Elements::One)
    }

    /// Sets the row that describes the messages of this field.
    #[must_use]
    pub const fn of(mut self, row: usize) -> Self {
        self.row = Some(row);
        self
    }

    /// A vector starts with four places, or eight of one byte, and has up to two places for each element.
    const fn vector(number: u32, size: usize, elements: Elements) -> Self {
        let size = size as u64;
        let places = if size == 1 { 8 } else { 4 };
        Self::new(number, places * size, 2 * size, elements)
    }

    const fn new(number: u32, first: u64, each: u64, elements: Elements) -> Self {
        Self {
            number,
            first,
            each,
            elements,
            row: None,
        }
    }

    /// The most memory that one byte on the wire can become: an element has at least a tag and a length, or a tag and a value.
    const fn most(&self) -> u64 {
        let packed = match self.elements {
            Elements::One => self.each.div_ceil(2),
            Elements::Varints => self.each,
            Elements::Values(size) => self.each / size as u64,
        };
        let first = self.first.div_ceil(2);
        if first > packed { first } else { packed }
    }

    /// Subtracts the cost of `elements` elements from `left`.
    fn charge(&self, elements: u64, is_first: bool, left: &mut u64) -> Result<(), Stop> {
        let Some(further) = elements.checked_sub(u64::from(is_first)) else {
            return Ok(());
        };
        let first = if is_first { self.first } else { 0 };
        let cost = further.saturating_mul(self.each).saturating_add(first);
        *left = left.checked_sub(cost).ok_or(Stop::Excess)?;
        Ok(())
    }
}

impl Elements {
    fn count(self, packed: &[u8]) -> u64 {
        match self {
            Self::One => 1,
            Self::Varints => packed.iter().filter(|byte| **byte < 0x80).count() as u64,
            Self::Values(size) => (packed.len() / size) as u64,
        }
    }
}

impl Grows {
    /// Returns true if the growing fields of a message take at most `max` bytes once it is decoded.
    #[inline]
    pub(crate) fn fits(self, message: &[u8], max: u64) -> bool {
        let most = (message.len() as u64).saturating_mul(self.growth.most);
        most <= max || self.is_counted_to_fit(message, max)
    }

    #[cold]
    fn is_counted_to_fit(self, mut message: &[u8], max: u64) -> bool {
        let mut left = max;
        self.growth.count(self.row, &mut message, 0, &mut left) != Err(Stop::Excess)
    }
}

/// The memory of a short text, in bytes.
const TEXT: u64 = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A tree: `repeated Tree children = 1`, of 24 bytes each; `repeated int64 numbers = 2`; `repeated double values = 3`;
    /// `map<string, Tree> named = 4`; a group of the same type, 5.
    static GROWTH: Growth = Growth::new(&[
        &[
            Growing::elements(1, 24).of(0),
            Growing::varints(2, 8),
            Growing::values(3, 8),
            Growing::map(4, 48).of(1),
            Growing::boxed(5, 100).of(0),
        ],
        &[Growing::part(2).of(0)],
    ]);

    /// How much a message takes.
    fn cost(mut message: &[u8]) -> u64 {
        let mut left = u64::MAX;
        assert_ne!(GROWTH.count(0, &mut message, 0, &mut left), Err(Stop::Excess));
        u64::MAX - left
    }

    #[test]
    fn each_kind_of_field_costs_its_bytes_in_memory() {
        for (message, expected) in [
            (&[][..], 0),
            (&[10, 0], 4 * 24 + 8),
            (&[10, 0, 10, 0, 10, 0], 4 * 24 + 8 + 2 * (2 * 24 + 8)),
            // One inside of another.
            (&[10, 2, 10, 0], 2 * (4 * 24 + 8)),
            // Packed, of two bytes each and of one, and not packed.
            (&[18, 4, 0x80, 1, 1, 1], 4 * 8 + 2 * 2 * 8),
            (&[18, 0], 0),
            (&[16, 1, 16, 2], 4 * 8 + 2 * 8),
            (
                &[26, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                4 * 8 + 2 * 8,
            ),
            (&[25, 0, 0, 0, 0, 0, 0, 0, 0], 4 * 8),
            // An entry whose value has an element.
            (&[34, 4, 18, 2, 10, 0], 4 * 49 + 16 + 16 + 4 * 24 + 8),
            // Packed and empty, and then one.
            (&[18, 0, 16, 1], 4 * 8),
            // A group, with an element in it and one behind it.
            (&[43, 10, 0, 44, 10, 0], 100 + 2 * (4 * 24 + 8)),
            // Fields that nobody knows, one of them a group.
            (&[50, 2, 10, 0, 59, 10, 0, 60, 10, 0], 4 * 24 + 8),
        ] {
            assert_eq!(cost(message), expected, "{message:?}");
        }
    }

    #[test]
    fn one_byte_less_is_too_little() {
        let message = [10, 0].repeat(1000);
        let all = cost(&message);
        assert_eq!(all, 4 * 24 + 8 + 999 * (48 + 8));
        assert!(GROWTH.row(0).fits(&message, all));
        assert!(!GROWTH.row(0).fits(&message, all - 1));
    }

    #[test]
    fn nesting_ends_where_prost_ends_it() {
        let mut message = Vec::new();
        for _ in 0..10_000 {
            let mut outer = vec![10];
            prost::encode_length_delimiter(message.len(), &mut outer).unwrap();
            outer.extend_from_slice(&message);
            message = outer;
        }
        assert_eq!(cost(&message), (100 + 1) * (4 * 24 + 8));
        assert_eq!(cost(&[43].repeat(10_000)), (100 + 1) * 100);
    }

    /// A message of every kind, as prost-build would write it.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Every {
        #[prost(message, repeated, tag = "1")]
        nested: Vec<Self>,
        #[prost(string, repeated, tag = "2")]
        texts: Vec<String>,
        #[prost(bytes = "bytes", repeated, tag = "3")]
        blobs: Vec<bytes::Bytes>,
        #[prost(sint64, repeated, tag = "4")]
        numbers: Vec<i64>,
        #[prost(double, repeated, tag = "5")]
        values: Vec<f64>,
        #[prost(map = "uint32, message", tag = "6")]
        named: std::collections::HashMap<u32, Self>,
        #[prost(btree_map = "uint32, message", tag = "7")]
        sorted: std::collections::BTreeMap<u32, Self>,
        #[prost(message, optional, boxed, tag = "8")]
        boxed: Option<Box<Self>>,
        #[prost(bool, repeated, packed = "false", tag = "9")]
        flags: Vec<bool>,
    }

    static EVERY: Growth = Growth::new(&[
        &[
            Growing::elements(1, size_of::<Every>()).of(0),
            Growing::elements(2, size_of::<String>()),
            Growing::elements(3, size_of::<bytes::Bytes>()),
            Growing::varints(4, 8),
            Growing::values(5, 8),
            Growing::map(6, size_of::<(u32, Every)>()).of(1),
            Growing::ordered_map(7, size_of::<(u32, Every)>()).of(1),
            Growing::boxed(8, size_of::<Every>()).of(0),
            Growing::varints(9, 1),
        ],
        &[Growing::part(2).of(0)],
    ]);

    /// One kind of field at a time, so that none makes up for another.
    fn every() -> impl Strategy<Value = Every> {
        let make = |change: fn(&mut Every, usize)| {
            (0..20_usize).prop_map(move |many| {
                let mut every = Every::default();
                change(&mut every, many);
                every
            })
        };
        let leaf = prop_oneof![
            make(|every, many| every.texts = vec!["a".to_owned(); many]),
            make(|every, many| every.blobs = vec![bytes::Bytes::new(); many]),
            make(|every, many| every.numbers = vec![-1; many]),
            make(|every, many| every.values = vec![1.5; many]),
            make(|every, many| every.flags = vec![true; many]),
        ];
        leaf.prop_recursive(5, 60, 8, |inner| {
            let few = || proptest::collection::vec(inner.clone(), 0..8);
            prop_oneof![
                few().prop_map(|nested| Every {
                    nested,
                    ..Every::default()
                }),
                few().prop_map(|named| Every {
                    named: (0..).zip(named).collect(),
                    ..Every::default()
                }),
                few().prop_map(|sorted| Every {
                    sorted: (0..).zip(sorted).collect(),
                    ..Every::default()
                }),
                inner.prop_map(|boxed| Every {
                    boxed: Some(Box::new(boxed)),
                    ..Every::default()
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn decoding_takes_no_more_than_was_counted(message in every()) {
            use prost::Message;
            let bytes = message.encode_to_vec();
            let mut left = u64::MAX;
            prop_assert_eq!(EVERY.count(0, &mut &bytes[..], 0, &mut left), Ok(()));
            let counted = u64::MAX - left;
            let mut decoded = None;
            let taken = allocation_counter::measure(|| decoded = Some(Every::decode(&bytes[..])));
            prop_assert_eq!(decoded.unwrap().unwrap(), message);
            // Texts have bytes of their own, and a vector that grows has its old place for a moment.
            prop_assert!(
                taken.bytes_current as u64 <= counted + bytes.len() as u64,
                "{} of {} are taken", taken.bytes_current, counted
            );
            prop_assert!(counted <= bytes.len() as u64 * EVERY.most);
        }

        #[test]
        fn counting_never_panics(message in proptest::collection::vec(any::<u8>(), 0..200), max in 0_u64..100_000) {
            GROWTH.row(0).fits(&message, max);
        }

        #[test]
        fn cost_is_bounded_by_length_times_growth(message in proptest::collection::vec(0_u8..43, 0..60)) {
            prop_assert!(cost(&message) <= (message.len() + 1) as u64 * GROWTH.most);
        }
    }
}
