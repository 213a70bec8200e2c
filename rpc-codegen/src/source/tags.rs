//! The numbers of the fields of descriptors. The path of a place in a .proto file consists of them and of indices.
//!
//! They are those of google/protobuf/descriptor.proto: `[MESSAGE, 2, message::FIELD, 0, NAME]` is the name of the first field of
//! the third message of a file.

/// The name of any item.
pub(crate) const NAME: i32 = 1;
/// The options of any kind that the parser has not resolved.
pub(crate) const UNINTERPRETED: i32 = 999;

pub(crate) mod file {
    pub(crate) const PACKAGE: i32 = 2;
    pub(crate) const IMPORT: i32 = 3;
    pub(crate) const MESSAGE: i32 = 4;
    pub(crate) const ENUM: i32 = 5;
    pub(crate) const SERVICE: i32 = 6;
    pub(crate) const EXTENSION: i32 = 7;
    pub(crate) const OPTIONS: i32 = 8;
}

pub(crate) mod message {
    pub(crate) const FIELD: i32 = 2;
    pub(crate) const MESSAGE: i32 = 3;
    pub(crate) const ENUM: i32 = 4;
    pub(crate) const EXTENSION_RANGE: i32 = 5;
    pub(crate) const EXTENSION: i32 = 6;
    pub(crate) const OPTIONS: i32 = 7;
    pub(crate) const ONEOF: i32 = 8;
}

pub(crate) mod field {
    pub(crate) const EXTENDEE: i32 = 2;
    pub(crate) const TYPE_NAME: i32 = 6;
    pub(crate) const OPTIONS: i32 = 8;
}

pub(crate) mod oneof {
    pub(crate) const OPTIONS: i32 = 2;
}

pub(crate) mod extension_range {
    pub(crate) const OPTIONS: i32 = 3;
}

pub(crate) mod enumeration {
    pub(crate) const VALUE: i32 = 2;
    pub(crate) const OPTIONS: i32 = 3;
}

pub(crate) mod value {
    pub(crate) const OPTIONS: i32 = 3;
}

pub(crate) mod service {
    pub(crate) const PROCEDURE: i32 = 2;
    pub(crate) const OPTIONS: i32 = 3;
}

pub(crate) mod procedure {
    pub(crate) const REQUEST: i32 = 2;
    pub(crate) const REPLY: i32 = 3;
    pub(crate) const OPTIONS: i32 = 4;
}
