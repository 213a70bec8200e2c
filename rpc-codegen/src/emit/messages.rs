//! Messages and enums: prost-build's work, with documentation of ours.

use std::panic::{self, AssertUnwindSafe};

use prost_build::Module;
use prost_reflect::DescriptorPool;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FileDescriptorProto, SourceCodeInfo, source_code_info::Location,
};

use crate::{
    error::{Error, Problem},
    model::{naming::module_path, oneof_of},
    source::{comments, is_google},
    target::Target,
};

/// The documentation of all messages, while prost-build has a number in its place.
///
/// Prost-build escapes comments its own way, code in them too, and knows nothing of fences; so it sees a placeholder
/// for each, and the text comes in when it is done.
#[derive(Default)]
pub(super) struct Docs(Vec<Vec<String>>);

/// What stands before the number of a documentation.
const PLACEHOLDER: &str = "@rpc-doc ";

/// The Rust text of all messages and enums, by module.
pub(super) fn generate(
    pool: &DescriptorPool,
    docs: &mut Docs,
    target: &Target<'_>,
) -> Result<Vec<(Vec<String>, String)>, Error> {
    // Google's files have to be there too: prost-build looks every message up.
    let files = pool.files().map(|file| file.file_descriptor_proto().clone());
    let requests: Vec<(Module, FileDescriptorProto)> = files
        .map(|mut file| {
            docs.take(&mut file);
            (Module::from_parts(module_path(file.package())), file)
        })
        .collect();
    let mut config = config(target);
    // It panics where it could return an error; those cases should all be ours before, but never a panic.
    let modules = panic::catch_unwind(AssertUnwindSafe(|| config.generate(requests)))
        .map_err(|_| Problem::new("prost-build panicked on these files, see its message above"))?
        .map_err(|error| Problem::new(error.to_string()))?;
    Ok(modules
        .into_iter()
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
        // The messages of rpc/options.proto are for this crate alone.
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
    /// `text`, with all documentation in its place.
    pub(super) fn restore(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
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

    /// Puts a placeholder on everything in `file` that prost-build documents.
    ///
    /// What has no comment gets a line too, for `deny(missing_docs)`; and prost-build panics where a location that it
    /// expects is missing.
    fn take(&mut self, file: &mut FileDescriptorProto) {
        // Prost-build writes nothing for these.
        if is_google(file.name()) {
            return;
        }
        let old = file.source_code_info.take().unwrap_or_default();
        let mut places = Places {
            docs: self,
            old,
            new: Vec::new(),
        };
        for (index, message) in (0..).zip(&file.message_type) {
            places.message(message, file.package(), vec![4, index]);
        }
        for (index, proto) in (0..).zip(&file.enum_type) {
            places.enumeration(proto, file.package(), vec![5, index]);
        }
        file.source_code_info = Some(SourceCodeInfo { location: places.new });
    }
}

/// The locations of one file, before and after.
struct Places<'a> {
    docs: &'a mut Docs,
    old: SourceCodeInfo,
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
        for (index, oneof) in (0..).zip(&message.oneof_decl) {
            let fields = message
                .field
                .iter()
                .filter(|field| oneof_of(field).and_then(|oneof| i32::try_from(oneof).ok()) == Some(index));
            let names: Vec<String> = fields.map(|field| format!("`{}`", field.name())).collect();
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
        let old = self.old.location.iter().find(|location| location.path == path);
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
