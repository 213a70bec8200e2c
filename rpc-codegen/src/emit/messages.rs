//! Messages and enums: prost-build writes them, with our documentation.

use std::panic::{self, AssertUnwindSafe};

use prost_build::Module;
use prost_reflect::DescriptorPool;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FileDescriptorProto, SourceCodeInfo, source_code_info::Location,
};

use super::stand_ins;
use crate::{
    error::{Error, Problem},
    model::{Graph, naming::module_path, oneof_of},
    source::{Sources, comments, is_google},
    target::Target,
};

/// The documentation of all messages, which prost-build sees as numbered placeholders.
///
/// prost-build would escape the comments and the code in them, because it does not know code fences. So we replace the
/// placeholders with the text after prost-build has run.
#[derive(Default)]
pub(super) struct Docs(Vec<Vec<String>>);

/// The module of the stand-ins, whose text is not used; no package can have this name.
const STAND_INS: &str = "_stand_ins";

/// The text of a placeholder, before its number.
const PLACEHOLDER: &str = "@rpc-doc ";

/// The Rust text of all messages and enums, by module.
pub(super) fn generate(
    pool: &DescriptorPool,
    sources: &Sources,
    graph: &Graph,
    docs: &mut Docs,
    target: &Target<'_>,
) -> Result<Vec<(Vec<String>, String)>, Error> {
    // prost-build looks up every message, so it needs Google's files, too.
    let files = pool.files().map(|file| file.file_descriptor_proto().clone());
    let mut requests: Vec<(Module, FileDescriptorProto)> = files
        .map(|mut file| {
            docs.take(&mut file, sources);
            (Module::from_parts(module_path(file.package())), file)
        })
        .collect();
    let stand_ins = Module::from_parts([STAND_INS]);
    requests.extend(stand_ins::files(pool, graph).map(|file| (stand_ins.clone(), file)));
    let mut config = config(target);
    // prost-build panics on some errors. Our own checks should find them first; if not, no panic reaches the user.
    let modules = panic::catch_unwind(AssertUnwindSafe(|| config.generate(requests)))
        .map_err(|_| Problem::new("prost-build panicked on these files; its message is above"))?
        .map_err(|error| Problem::new(error.to_string()))?;
    Ok(modules
        .into_iter()
        .filter(|(module, _)| *module != stand_ins)
        .map(|(module, text)| (module.parts().map(str::to_owned).collect(), text))
        .collect())
}

fn config(target: &Target<'_>) -> prost_build::Config {
    let codegen = format!("{}::codegen", target.runtime_path);
    let mut config = prost_build::Config::new();
    config
        .bytes(["."])
        .prost_path(format!("{codegen}::prost"))
        .prost_types_path(format!("{codegen}::prost_types"))
        // Only this crate uses the messages of rpc/options.proto.
        .extern_path(".rpc.ServiceOptions", format!("{codegen}::ServiceOptions"))
        .extern_path(".rpc.ProcedureOptions", format!("{codegen}::ProcedureOptions"))
        .format(false);
    for (path, attribute) in target.type_attributes {
        config.type_attribute(path, attribute);
    }
    for (path, attribute) in target.field_attributes {
        config.field_attribute(path, attribute);
    }
    config
}

impl Docs {
    /// The text with the documentation in place of the placeholders, behind `header`.
    pub(super) fn restore(&self, header: &str, text: &str) -> String {
        let mut out = String::with_capacity(header.len() + text.len());
        out.push_str(header);
        for line in text.lines() {
            let found = line.split_once("/// ").and_then(|(indent, rest)| {
                let number: usize = rest.strip_prefix(PLACEHOLDER)?.parse().ok()?;
                Some((indent, self.0.get(number)?))
            });
            match found {
                Some((indent, lines)) => {
                    for line in lines {
                        out.push_str(format!("{indent}/// {line}").trim_end());
                        out.push('\n');
                    }
                }
                None => {
                    out.push_str(line);
                    out.push('\n');
                }
            }
        }
        out
    }

    /// Adds a placeholder to everything in `file` that prost-build documents.
    ///
    /// Items without a comment get a line, too, because users may `deny(missing_docs)`, and because prost-build panics
    /// where a location is missing.
    fn take(&mut self, file: &mut FileDescriptorProto, sources: &Sources) {
        // prost-build writes no code for these.
        if is_google(file.name()) {
            return;
        }
        let mut places = Places {
            docs: self,
            sources,
            file: file.name(),
            new: Vec::new(),
        };
        for (index, message) in (0..).zip(&file.message_type) {
            places.message(message, file.package(), vec![4, index]);
        }
        for (index, proto) in (0..).zip(&file.enum_type) {
            places.enumeration(proto, file.package(), vec![5, index]);
        }
        let location = places.new;
        file.source_code_info = Some(SourceCodeInfo { location });
    }
}

/// The new locations of one file.
struct Places<'a> {
    docs: &'a mut Docs,
    sources: &'a Sources,
    file: &'a str,
    new: Vec<Location>,
}

impl Places<'_> {
    fn message(&mut self, message: &DescriptorProto, outer: &str, path: Vec<i32>) {
        let full = [outer, message.name()].join(".");
        self.put(
            &path,
            &[],
            format!("The message `{}`.", full.trim_start_matches('.')),
        );
        for (index, field) in (0..).zip(&message.field) {
            self.put(&path, &[2, index], format!("The field `{}`.", field.name()));
        }
        let mut members: Vec<Vec<String>> = vec![Vec::new(); message.oneof_decl.len()];
        for field in &message.field {
            if let Some(names) = oneof_of(field).and_then(|oneof| members.get_mut(oneof)) {
                names.push(format!("`{}`", field.name()));
            }
        }
        for ((index, oneof), names) in (0..).zip(&message.oneof_decl).zip(members) {
            self.put(
                &path,
                &[8, index],
                format!("`{}`: one of {}.", oneof.name(), names.join(", ")),
            );
        }
        for (index, nested) in (0..).zip(&message.nested_type) {
            self.message(nested, &full, [&path[..], &[3, index]].concat());
        }
        for (index, nested) in (0..).zip(&message.enum_type) {
            self.enumeration(nested, &full, [&path[..], &[4, index]].concat());
        }
    }

    fn enumeration(&mut self, proto: &EnumDescriptorProto, outer: &str, path: Vec<i32>) {
        let full = [outer, proto.name()].join(".");
        self.put(
            &path,
            &[],
            format!("The enum `{}`.", full.trim_start_matches('.')),
        );
        for (index, value) in (0..).zip(&proto.value) {
            self.put(&path, &[2, index], format!("The value `{}`.", value.name()));
        }
    }

    fn put(&mut self, path: &[i32], more: &[i32], missing: String) {
        let path = [path, more].concat();
        let old = self.sources.location(self.file, &path);
        let mut lines = old.map(comments::docs).unwrap_or_default();
        if lines.is_empty() {
            lines.push(missing);
        }
        let placeholder = format!(" {PLACEHOLDER}{}", self.docs.0.len());
        self.docs.0.push(lines);
        self.new.push(Location {
            path,
            leading_comments: Some(placeholder),
            ..Location::default()
        });
    }
}
