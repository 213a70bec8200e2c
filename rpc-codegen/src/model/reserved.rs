//! Reserved packages.

use prost_types::FileDescriptorProto;

use super::naming::module_path;
use crate::{error::Problem, source::Sources, target::Purpose};

/// The problems of all files in reserved packages.
pub(super) fn problems(files: &[&FileDescriptorProto], sources: &Sources, purpose: Purpose) -> Vec<Problem> {
    let found = files.iter().filter_map(|file| problem(file, sources, purpose));
    found.collect()
}

fn problem(file: &FileDescriptorProto, sources: &Sources, purpose: Purpose) -> Option<Problem> {
    let package = file.package();
    let is_rpc = package == "rpc" || package.starts_with("rpc.");
    let owner = if is_rpc && purpose == Purpose::User {
        "the framework"
    } else if package == "google.protobuf" || package.starts_with("google.protobuf.") {
        "Google's own messages"
    } else if module_path(package) == ["rpc_protos"] {
        "the generated file that includes all packages"
    } else {
        return None;
    };
    Some(
        Problem::new(format!("package `{package}` is reserved for {owner}"))
            .at(sources.place(file.name(), &[2]))
            .with_help("use a package of your own, such as `acme.shop.v1`"),
    )
}
