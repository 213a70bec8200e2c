//! Accessors: the methods that prost derives for fields, and those that cannot be.

use std::collections::HashSet;

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use super::{naming::snake, oneof::is_in_oneof, types::is_option};

/// The enum fields of `message` that get no accessors, each with the accessor that cannot be.
///
/// Its name is that of another field's accessor, or prost cannot write it. Such a field becomes a field of numbers: the same
/// Rust type and the same bytes, without methods.
pub(crate) fn impossible(message: &MessageDescriptor) -> Vec<(FieldDescriptor, String)> {
    let with_others = message.fields().map(|field| {
        let others = others(&field);
        (field, others)
    });
    let with_others: Vec<_> = with_others.filter(|(_, others)| !others.is_empty()).collect();
    if with_others.is_empty() {
        return Vec::new();
    }
    let getters: HashSet<String> = message.fields().filter_map(|field| getter(&field)).collect();
    with_others
        .into_iter()
        .filter_map(|(field, others)| {
            let mut others = others.into_iter();
            let taken = others.find(|name| getters.contains(name) || name.contains("r#"))?;
            Some((field, taken))
        })
        .collect()
}

/// The warning for a field of [`impossible`].
pub(super) fn warning(message: &MessageDescriptor, field: &FieldDescriptor, accessor: &str) -> String {
    let reason = if accessor.contains("r#") {
        "prost cannot name the accessors of a keyword".to_owned()
    } else {
        format!("the accessor `{accessor}` would have the name of another field's accessor")
    };
    format!(
        "message {}: field `{}` holds plain numbers and has no accessors, because {reason}",
        message.full_name(),
        field.name(),
    )
}

/// The accessor named as the field itself.
fn getter(field: &FieldDescriptor) -> Option<String> {
    let is_enum = matches!(field.kind(), Kind::Enum(_));
    let is_message = matches!(field.kind(), Kind::Message(_));
    let is_there = is_enum || (is_option(field) && !is_message);
    (is_there && !is_in_oneof(field)).then(|| snake(field.name()).replace("r#", ""))
}

/// The accessors named as the field with a prefix, which only enum fields have.
fn others(field: &FieldDescriptor) -> Vec<String> {
    let is_map = field.is_map();
    if !matches!(field.kind(), Kind::Enum(_)) && !is_map {
        return Vec::new();
    }
    let name = snake(field.name());
    let bare = name.replace("r#", "");
    match field.kind() {
        Kind::Enum(_) if is_in_oneof(field) => Vec::new(),
        Kind::Enum(_) if field.is_list() => vec![format!("push_{bare}")],
        Kind::Enum(_) => vec![format!("set_{bare}")],
        Kind::Message(entry) if is_map && matches!(entry.map_entry_value_field().kind(), Kind::Enum(_)) => {
            // prost keeps the `r#` of a keyword here, and panics.
            vec![format!("get_{name}"), format!("insert_{name}")]
        }
        _ => Vec::new(),
    }
}
