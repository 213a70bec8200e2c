//! The option `hash_by` of a procedure: the field of its requests that is the key of a call.

use prost_reflect::{Kind, MethodDescriptor, Value};

use crate::error::Problem;

/// The number of the field that the option names; none if it is not set.
///
/// # Errors
///
/// The requests have no such field, or it can be no key.
pub(super) fn field(method: &MethodDescriptor, option: Option<Value>) -> Result<Option<u32>, Problem> {
    let value = option.as_ref().and_then(Value::as_str).unwrap_or_default();
    if value.is_empty() {
        return Ok(None);
    }
    let problem = |why: String| {
        Problem::new(format!(
            "procedure `{}` cannot hash by `{value}`: {why}",
            method.full_name()
        ))
    };
    if method.is_client_streaming() {
        let problem = problem("its requests are a stream".to_owned());
        return Err(problem.with_help("remove `hash_by`, and give the call a key by `hash_key(..)`"));
    }
    let message = method.input();
    let is_key = |kind: Kind| !matches!(kind, Kind::Message(_));
    let keys: Vec<String> = message
        .fields()
        .filter(|field| !field.is_list() && !field.is_map() && is_key(field.kind()))
        .map(|field| format!("`{}`", field.name()))
        .collect();
    let help = match &keys[..] {
        [] => "remove `hash_by`, and give the call a key by `hash_key(..)`".to_owned(),
        keys => format!("write one of {}", keys.join(", ")),
    };
    match message.get_field_by_name(value) {
        None => Err(problem(format!("`{}` has no such field", message.full_name())).with_help(help)),
        Some(field) if field.is_list() || field.is_map() || !is_key(field.kind()) => Err(problem(
            "the field is repeated or a message, and a key is one value".to_owned(),
        )
        .with_help(help)),
        Some(field) => Ok(Some(field.number())),
    }
}
