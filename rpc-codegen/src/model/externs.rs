//! Externs: types that exist elsewhere, so that no code is generated for them.

use prost_reflect::{DescriptorPool, MessageDescriptor};

use super::{
    google::is_newer,
    naming::{camel, snake},
};
use crate::{choices::matches, target::Target};

/// The Rust path of the type `full_name` if it exists elsewhere.
pub(crate) fn extern_path(full_name: &str, target: &Target<'_>) -> Option<String> {
    let Extern { path, outer, .. } = find(full_name, target)?;
    let inside = full_name[path.len() - 1..].trim_start_matches('.');
    let Some((modules, name)) = inside
        .rsplit_once('.')
        .or_else(|| (!inside.is_empty()).then_some(("", inside)))
    else {
        return Some(outer);
    };
    let modules = modules.split('.').filter(|module| !module.is_empty()).map(snake);
    let parts: Vec<String> = [outer].into_iter().chain(modules).chain([camel(name)]).collect();
    Some(parts.join("::"))
}

/// True if the build script says where the item `full_name` is. A path of package `google.protobuf` does not count for `Empty`
/// and the wrappers: they need paths of their own.
pub(crate) fn is_given(full_name: &str, target: &Target<'_>) -> bool {
    find(full_name, target).is_some_and(|found| found.is_given)
}

/// A path of a package or type, and where it is in Rust.
struct Extern<'a> {
    path: &'a str,
    outer: String,
    /// True if the build script says so.
    is_given: bool,
}

/// Of all paths that match the item `full_name`, the longest.
fn find<'a>(full_name: &str, target: &'a Target<'_>) -> Option<Extern<'a>> {
    let known = BUILT_IN.iter().map(|(path, ty)| (*path, *ty, false));
    let given = target.choices.extern_paths.iter();
    let given = given.map(|(path, ty)| (path, ty.as_str(), true));
    let (path, ty, is_given) = known
        .chain(given)
        .filter(|(path, ..)| matches(path, full_name))
        .filter(|(.., is_given)| *is_given || !is_newer(full_name))
        .max_by_key(|(path, ..)| path.len())?;
    let outer = if is_given {
        ty.to_owned()
    } else {
        ty.replace("codegen::", &format!("{}::codegen::", target.runtime_path))
    };
    Some(Extern {
        path,
        outer,
        is_given,
    })
}

/// True if code is generated for the item `full_name`, a package, type or service.
pub(crate) fn is_generated(full_name: &str, target: &Target<'_>) -> bool {
    !target.choices.left_out.contains(full_name) && extern_path(full_name, target).is_none()
}

/// The Rust paths of all types in `pool` that are not generated.
pub(crate) fn extern_types(pool: &DescriptorPool, target: &Target<'_>) -> Vec<(String, String)> {
    let messages = pool.all_messages().filter(|message| !message.is_map_entry());
    let messages = messages.map(|message: MessageDescriptor| message.full_name().to_owned());
    let enums = pool.all_enums().map(|proto| proto.full_name().to_owned());
    let mut types = Vec::new();
    for name in messages.chain(enums) {
        let path = match extern_path(&name, target) {
            Some(path) => path,
            // A type that is left out is used nowhere: `left_out` checks it.
            None if target.choices.left_out.contains(&name) => "()".to_owned(),
            // `emit` gives prost-build a copy of it, under another name.
            None if is_newer(&name) => "()".to_owned(),
            None => continue,
        };
        types.push((format!(".{name}"), path));
    }
    types
}

/// The types that are known without a build script, by path; `codegen` is the module of rpc-runtime.
const BUILT_IN: [(&str, &str); 13] = [
    (".google.protobuf", "codegen::prost_types"),
    (".google.protobuf.BoolValue", "bool"),
    (".google.protobuf.BytesValue", "::std::vec::Vec<u8>"),
    (".google.protobuf.DoubleValue", "f64"),
    (".google.protobuf.Empty", "()"),
    (".google.protobuf.FloatValue", "f32"),
    (".google.protobuf.Int32Value", "i32"),
    (".google.protobuf.Int64Value", "i64"),
    (".google.protobuf.StringValue", "::std::string::String"),
    (".google.protobuf.UInt32Value", "u32"),
    (".google.protobuf.UInt64Value", "u64"),
    // Only this crate uses the messages of rpc/options.proto.
    (".rpc.ServiceOptions", "codegen::ServiceOptions"),
    (".rpc.ProcedureOptions", "codegen::ProcedureOptions"),
];
