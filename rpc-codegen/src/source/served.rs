//! The .proto files that this crate contains: rpc/options.proto and Google's.

/// The name that imports `rpc/options.proto`.
pub(crate) const OPTIONS_NAME: &str = "rpc/options.proto";

pub(super) const OPTIONS_TEXT: &str = include_str!("../../proto/rpc/options.proto");

/// The names of Google's files that this crate contains.
pub(super) const GOOGLE_NAMES: [&str; 12] = [
    "google/protobuf/any.proto",
    "google/protobuf/api.proto",
    "google/protobuf/compiler/plugin.proto",
    "google/protobuf/descriptor.proto",
    "google/protobuf/duration.proto",
    "google/protobuf/empty.proto",
    "google/protobuf/field_mask.proto",
    "google/protobuf/source_context.proto",
    "google/protobuf/struct.proto",
    "google/protobuf/timestamp.proto",
    "google/protobuf/type.proto",
    "google/protobuf/wrappers.proto",
];

/// True if `name` is one of Google's files that this crate contains, whose types prost knows.
pub(crate) fn is_google(name: &str) -> bool {
    GOOGLE_NAMES.contains(&name)
}
