//! The .proto files that this crate brings: rpc/options.proto and Google's.

/// The name under which `rpc/options.proto` is imported.
pub(crate) const OPTIONS_NAME: &str = "rpc/options.proto";

pub(super) const OPTIONS_TEXT: &str = include_str!("../../proto/rpc/options.proto");

/// Google's files that are served from inside.
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

/// Whether the file `name` is one of those that google defined and prost knows.
pub(crate) fn is_google(name: &str) -> bool {
    name.starts_with("google/protobuf/")
}
