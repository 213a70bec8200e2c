//! Reserved packages, and reserved names in `package rpc`.

use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, ServiceDescriptorProto,
};

use super::naming::module_path;
use crate::{
    error::Problem,
    source::{Sources, tags},
    target::Purpose,
};

/// The problems of all files in reserved packages, and of reserved names.
pub(super) fn problems(files: &[&FileDescriptorProto], sources: &Sources, purpose: Purpose) -> Vec<Problem> {
    let packages = files.iter().filter_map(|file| package(file, sources, purpose));
    let names = files
        .iter()
        .filter(|file| file.package() == "rpc" && purpose == Purpose::User)
        .flat_map(|file| names(file, sources));
    packages.chain(names).collect()
}

fn package(file: &FileDescriptorProto, sources: &Sources, purpose: Purpose) -> Option<Problem> {
    let package = file.package();
    let is_in = |outer: &str| {
        let rest = package.strip_prefix(outer);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let owner = if is_in("rpc.control") && purpose == Purpose::User {
        "the framework's control service"
    } else if is_in("google.protobuf") {
        "Google's own messages"
    } else if module_path(package) == ["rpc_protos"] {
        "the generated file that includes all packages"
    } else {
        return None;
    };
    Some(
        Problem::new(format!("package `{package}` is reserved for {owner}"))
            .at(sources.place(file.name(), &[tags::file::PACKAGE]))
            .with_help("use a package of your own, such as `acme.shop.v1`"),
    )
}

/// The problems of names that rpc/options.proto declares in `package rpc`.
fn names(file: &FileDescriptorProto, sources: &Sources) -> Vec<Problem> {
    let messages = file.message_type.iter().map(DescriptorProto::name);
    let enums = file.enum_type.iter().map(EnumDescriptorProto::name);
    let services = file.service.iter().map(ServiceDescriptorProto::name);
    let extensions = file.extension.iter().map(FieldDescriptorProto::name);
    let all = (0..).zip(messages).map(|(index, name)| ([4, index, 1], name));
    let all = all.chain((0..).zip(enums).map(|(index, name)| ([5, index, 1], name)));
    let all = all.chain((0..).zip(services).map(|(index, name)| ([6, index, 1], name)));
    let all = all.chain((0..).zip(extensions).map(|(index, name)| ([7, index, 1], name)));
    all.filter(|(_, name)| OPTIONS.contains(name))
        .map(|(path, name)| {
            Problem::new(format!(
                "`rpc.{name}` is a name of the framework's rpc/options.proto"
            ))
            .at(sources.place(file.name(), &path))
            .with_help("rename it, or use a package of your own, such as `acme.shop.v1`")
        })
        .collect()
}

/// The names in rpc/options.proto.
const OPTIONS: [&str; 4] = ["ServiceOptions", "ProcedureOptions", "service", "procedure"];
