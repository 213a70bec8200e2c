//! Open: a value of an enum that may have values unknown to this build.

use std::{
    fmt,
    hash::{Hash, Hasher},
    marker::PhantomData,
};

/// A value of the enum `E`, or a number that this build has no name for.
///
/// Enums grow: a peer that was built from a newer .proto sends values that an older one does not know. Such a number is kept
/// as it came and passed on unchanged; no call fails because of it. With `flatten`, arguments and results of enum type have
/// this type. A value of `E` becomes an `Open` by `into()`, and `==` compares the two:
///
/// ```
/// use rpc_runtime::Open;
/// # #[derive(Clone, Copy, Debug, PartialEq, Eq, rpc_runtime::codegen::prost::Enumeration)]
/// # #[prost(prost_path = "rpc_runtime::codegen::prost")]
/// # #[repr(i32)]
/// # enum Color { Unspecified = 0, Red = 1 }
/// fn describe(color: Open<Color>) -> String {
///     match color.known() {
///         Some(Color::Red) => "red".to_owned(),
///         Some(Color::Unspecified) => "any".to_owned(),
///         None => format!("color {} of a newer version", color.number()),
///     }
/// }
///
/// let red = Open::from(Color::Red);
/// assert!(red == Color::Red);
/// assert_eq!(describe(red), "red");
/// assert_eq!(describe(Open::from_number(7)), "color 7 of a newer version");
/// ```
pub struct Open<E> {
    number: i32,
    values: PhantomData<fn() -> E>,
}

impl<E> Open<E> {
    /// Creates the value with this number, whether `E` has a name for it or not.
    pub const fn from_number(number: i32) -> Self {
        Self {
            number,
            values: PhantomData,
        }
    }

    /// The number of the value, as on the wire.
    pub const fn number(self) -> i32 {
        self.number
    }

    /// Returns the value, if this build knows it.
    pub fn known(self) -> Option<E>
    where
        E: TryFrom<i32>,
    {
        E::try_from(self.number).ok()
    }
}

impl<E: Into<i32>> From<E> for Open<E> {
    fn from(value: E) -> Self {
        Self::from_number(value.into())
    }
}

impl<E> From<Open<E>> for i32 {
    fn from(value: Open<E>) -> Self {
        value.number
    }
}

/// The first value of the enum, as in protobuf.
impl<E: Default + Into<i32>> Default for Open<E> {
    fn default() -> Self {
        Self::from_number(E::default().into())
    }
}

impl<E> Clone for Open<E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Open<E> {}

impl<E> PartialEq for Open<E> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<E> Eq for Open<E> {}

impl<E: Copy + Into<i32>> PartialEq<E> for Open<E> {
    fn eq(&self, other: &E) -> bool {
        self.number == (*other).into()
    }
}

impl<E> Hash for Open<E> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

/// Prints the name of the value, or its number if it has no name in this build.
impl<E: fmt::Debug + TryFrom<i32>> fmt::Debug for Open<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known() {
            Some(value) => value.fmt(f),
            None => self.number.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
    #[repr(i32)]
    enum Color {
        Red = 1,
        Green = 2,
    }

    #[test]
    fn a_known_number_has_a_name_and_an_unknown_number_is_kept() {
        let green = Open::from(Color::Green);
        assert_eq!((green.known(), green.number()), (Some(Color::Green), 2));
        assert!(green == Color::Green && green != Color::Red);
        let newer = Open::<Color>::from_number(-7);
        assert_eq!((newer.known(), i32::from(newer)), (None, -7));
        assert!(newer != Color::Green && newer == Open::from_number(-7));
        assert_eq!(format!("{green:?} {newer:?}"), "Green -7");
        assert_eq!(HashSet::from([green, newer, green]).len(), 2);
        // Protobuf's default is the first value, which may differ from 0 in proto2.
        assert!(Open::<Color>::default() == Color::Red);
    }
}
