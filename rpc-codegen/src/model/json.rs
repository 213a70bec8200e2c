//! The messages and enums that get serde's traits.

use std::collections::BTreeMap;

use prost_reflect::{DescriptorPool, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};

use super::externs::{is_generated, is_given};
use crate::{
    error::Problem,
    source::{OPTIONS_NAME, Sources, is_google},
    target::Target,
};

/// The messages and enums that get serde's traits, by full name.
#[derive(Debug, Default)]
pub(crate) struct Json {
    pub(crate) messages: BTreeMap<String, MessageDescriptor>,
    pub(crate) enums: BTreeMap<String, EnumDescriptor>,
}

impl Json {
    /// Selects what the paths of `Config::json` match, and everything inside.
    ///
    /// Returns the problems, too: fields whose type has no JSON.
    pub(super) fn new(pool: &DescriptorPool, sources: &Sources, target: &Target<'_>) -> (Self, Vec<Problem>) {
        let mut json = Self::default();
        let mut problems = Vec::new();
        let is_selected = |name: &str| is_generated(name, target) && target.choices.json.contains(name);
        let is_ours = |file: &str| !is_google(file) && file != OPTIONS_NAME;
        for message in pool.all_messages() {
            if is_ours(message.parent_file().name()) && is_selected(message.full_name()) {
                json.message(message, sources, target, &mut problems);
            }
        }
        for proto in pool.all_enums() {
            if is_ours(proto.parent_file().name()) && is_selected(proto.full_name()) {
                json.enums.insert(proto.full_name().to_owned(), proto);
            }
        }
        (json, problems)
    }

    fn message(
        &mut self,
        message: MessageDescriptor,
        sources: &Sources,
        target: &Target<'_>,
        problems: &mut Vec<Problem>,
    ) {
        let mut open = vec![message];
        while let Some(message) = open.pop() {
            if !is_generated(message.full_name(), target) {
                continue;
            }
            // A map's entry has no type in Rust, but its value has.
            if !message.is_map_entry() {
                let name = message.full_name().to_owned();
                if self.messages.insert(name, message.clone()).is_some() {
                    continue;
                }
            }
            for field in message.fields() {
                problems.extend(without_json(&field, sources, target));
                match field.kind() {
                    Kind::Message(inner) if !is_google(inner.parent_file().name()) => open.push(inner),
                    Kind::Enum(inner)
                        if !is_google(inner.parent_file().name())
                            && is_generated(inner.full_name(), target) =>
                    {
                        self.enums.insert(inner.full_name().to_owned(), inner);
                    }
                    _ => {}
                }
            }
        }
    }
}

/// The full name of Google's enum of `null`.
pub(crate) const NULL_VALUE: &str = "google.protobuf.NullValue";

/// True if rpc-runtime knows the JSON of Google's message `name`.
fn has_mapping(name: &str) -> bool {
    const NAMES: [&str; 8] = [
        "Any",
        "Duration",
        "Empty",
        "FieldMask",
        "ListValue",
        "Struct",
        "Timestamp",
        "Value",
    ];
    let name = name.strip_prefix("google.protobuf.").unwrap_or(name);
    NAMES.contains(&name) || is_wrapper(name)
}

/// True if `name`, of a message in `google.protobuf`, is that of a wrapper of one value.
fn is_wrapper(name: &str) -> bool {
    let value = name.strip_suffix("Value").unwrap_or_default();
    [
        "Bool", "Bytes", "Double", "Float", "Int32", "Int64", "String", "UInt32", "UInt64",
    ]
    .contains(&value)
}

/// The problem of a field whose type is Google's and has no JSON.
fn without_json(field: &FieldDescriptor, sources: &Sources, target: &Target<'_>) -> Option<Problem> {
    let (file, ty, has_json) = match field.kind() {
        Kind::Message(inner) => (
            inner.parent_file(),
            inner.full_name().to_owned(),
            has_mapping(inner.full_name()) && !is_given(inner.full_name(), target),
        ),
        Kind::Enum(inner) => (
            inner.parent_file(),
            inner.full_name().to_owned(),
            inner.full_name() == NULL_VALUE && !is_given(inner.full_name(), target),
        ),
        _ => return None,
    };
    if has_json || !is_google(file.name()) {
        return None;
    }
    let problem = Problem::new(format!(
        "field `{}` has the type `{ty}`, which has no JSON here",
        field.full_name()
    ));
    let place = sources.place(field.parent_file().name(), field.path());
    Some(problem.at(place).with_help(
        "select other messages with `Config::json`, or use a message of your own in place of Google's",
    ))
}
