//! The option `hash_by` of a procedure: the field of its requests that is the key of a call.

use prost_reflect::{FieldDescriptor, Kind, MethodDescriptor, Value};

use crate::error::Problem;

/// The number of the field that the option names; none if it is not set.
///
/// # Errors
///
/// The requests have no such field, or it can be no key.
pub(super) fn field(method: &MethodDescriptor, option: Option<Value>) -> Result<Option<u32>, Box<Problem>> {
    let value = option.as_ref().and_then(Value::as_str).unwrap_or_default();
    if value.is_empty() {
        return Ok(None);
    }
    let refused = |why: String, help: &str| {
        let problem = Problem::new(format!(
            "procedure `{}` cannot hash by `{value}`: {why}",
            method.full_name()
        ));
        Err(Box::new(problem.with_help(help)))
    };
    let no_field = "remove `hash_by`, and give the call a key by `hash_key(..)`";
    if method.is_client_streaming() {
        return refused("its requests are a stream".to_owned(), no_field);
    }
    let message = method.input();
    let is_key = |field: &FieldDescriptor| {
        !field.is_list() && !field.is_map() && !matches!(field.kind(), Kind::Message(_))
    };
    let keys: Vec<String> = message
        .fields()
        .filter(is_key)
        .map(|field| format!("`{}`", field.name()))
        .collect();
    let help = match &keys[..] {
        [] => no_field.to_owned(),
        keys => format!("write one of {}", keys.join(", ")),
    };
    match message.get_field_by_name(value) {
        None => refused(format!("`{}` has no such field", message.full_name()), &help),
        Some(field) if !is_key(&field) => {
            let why = "the field is repeated or a message, and a key is one value";
            refused(why.to_owned(), &help)
        }
        Some(field) => Ok(Some(field.number())),
    }
}
