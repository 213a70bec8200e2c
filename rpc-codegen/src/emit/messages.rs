//! Messages and enums: prost-build writes them, with our documentation.

use std::{
    collections::HashMap,
    panic::{self, AssertUnwindSafe},
};

use prost_build::Module;
use prost_reflect::{DescriptorPool, FieldDescriptor};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FileDescriptorProto, SourceCodeInfo, source_code_info::Location,
};

use super::{Package, prost_input, stand_ins};
use crate::{
    choices::BytesType,
    error::{Error, Problem},
    model::{
        Derives, Graph, Types, bytes_type, can_be_boxed, extern_types, full_name, has_bytes, is_generated,
        oneof_of, path_of,
    },
    source::{Sources, comments, is_google},
    target::Target,
};

/// The documentation of the messages of a package, which prost-build sees as numbered placeholders.
///
/// prost-build would escape the comments and the code in them, because it does not know code fences. So we replace the
/// placeholders with the text after prost-build has run.
pub(super) struct Docs {
    /// The number of the package.
    package: usize,
    lines: Vec<Vec<String>>,
}

/// The modules of the files of a package, and of the stand-ins, whose text is not used.
const OURS: &str = "ours";
const STAND_INS: &str = "_stand_ins";

/// The text of a placeholder, before the numbers of its package and of itself.
const PLACEHOLDER: &str = "@rpc-doc ";

/// Runs prost-build on one package at a time.
pub(super) struct Messages<'a> {
    sources: &'a Sources,
    target: &'a Target<'a>,
    derives: HashMap<&'a str, Derives>,
    /// The types that are not generated, with their Rust paths.
    externs: Vec<(String, String)>,
}

impl<'a> Messages<'a> {
    pub(super) fn new(
        pool: &DescriptorPool,
        sources: &'a Sources,
        graph: &'a Graph,
        target: &'a Target<'a>,
    ) -> Self {
        Self {
            sources,
            target,
            derives: graph.derives(),
            externs: extern_types(pool, target),
        }
    }

    /// The Rust text of all messages and enums of `package`, the one with this number, and their documentation.
    pub(super) fn generate(&self, number: usize, package: &Package) -> Result<(String, Docs), Error> {
        let files = package.files.iter();
        let files = files.map(|file| prost_input::changed(file, self.target));
        let mut files: Vec<FileDescriptorProto> = files.chain(package.newer.iter().cloned()).collect();
        let mut docs = Docs {
            package: number,
            lines: Vec::new(),
        };
        for file in &mut files {
            docs.take(file, self.sources, self.target);
        }
        let (ours, stand_ins) = (Module::from_parts([OURS]), Module::from_parts([STAND_INS]));
        let more = stand_ins::files(files.iter(), &self.derives);
        let requests = files.into_iter().map(|file| (ours.clone(), file));
        let more = more.into_iter().map(|file| (stand_ins.clone(), file));
        let requests = requests.chain(more).collect();
        let mut config = self.config(package);
        // prost-build panics on some errors. Our own checks should find them first; if not, no panic reaches the user.
        let mut modules = panic::catch_unwind(AssertUnwindSafe(|| config.generate(requests)))
            .map_err(|_| Problem::new("prost-build panicked on these files; its message is above"))?
            .map_err(|error| Problem::new(error.to_string()))?;
        let text = modules.remove(&ours).unwrap_or_default();
        Ok((unshadowed(text), docs))
    }

    /// The options of prost-build for one package.
    fn config(&self, package: &Package) -> prost_build::Config {
        let target = self.target;
        let codegen = format!("{}::codegen", target.runtime_path);
        let mut config = prost_build::Config::new();
        config
            .prost_path(format!("{codegen}::prost"))
            // Our paths of Google's types are complete; prost-build would add its own.
            .compile_well_known_types()
            .format(false);
        for (proto, rust) in &self.externs {
            config.extern_path(proto, rust);
        }
        let types = Types::new("", target);
        let messages = package
            .messages
            .iter()
            .filter(|message| is_generated(message.full_name(), target));
        let fields: Vec<_> = messages
            .flat_map(|message| message.fields().collect::<Vec<_>>())
            .collect();
        if target.choices.bytes_types.is_empty() {
            config.bytes(["."]);
        } else {
            // Full paths, because prost-build prefers some matches to others; and in one call, because the last call counts.
            let shared = fields
                .iter()
                .filter(|field| has_bytes(field) && bytes_type(field, target) == BytesType::Bytes);
            config.bytes(shared.map(bytes_path));
        }
        let ordered = fields
            .iter()
            .filter(|field| field.is_map() && types.is_ordered(field));
        config.btree_map(ordered.map(|field| format!(".{}", field.full_name())));
        // prost-build itself finds the fields whose messages contain themselves.
        let boxed = fields.iter().filter(|field| can_be_boxed(field)).map(path_of);
        for path in boxed.filter(|path| target.choices.boxed.contains(path)) {
            config.boxed(format!(".{path}"));
        }
        config.skip_debug(target.choices.without_debug.iter().map(|(path, ())| path));
        if target.choices.retain_enum_prefix {
            config.retain_enum_prefix();
        }
        for (path, attribute) in target.choices.type_attributes.iter() {
            config.type_attribute(path, attribute);
        }
        for (path, attribute) in target.choices.message_attributes.iter() {
            config.message_attribute(path, attribute);
        }
        for (path, attribute) in target.choices.enum_attributes.iter() {
            config.enum_attribute(path, attribute);
        }
        for (path, attribute) in target.choices.field_attributes.iter() {
            config.field_attribute(path, attribute);
        }
        config
    }
}

/// Names enums in a way that the types declared inside of prost's derived functions cannot shadow.
fn unshadowed(mut text: String) -> String {
    for name in [
        "Inner",
        "KeyWrapper",
        "MapWrapper",
        "ScalarWrapper",
        "ValueWrapper",
    ] {
        for (before, after) in [("enumeration = \"", "\""), ("enumeration(", ")")] {
            let shadowed = format!("{before}{name}{after}");
            if text.contains(&shadowed) {
                text = text.replace(&shadowed, &format!("{before}self::{name}{after}"));
            }
        }
    }
    text
}

/// The path by which prost-build asks for the type of the bytes in `field`; all maps of a message have the same.
fn bytes_path(field: &FieldDescriptor) -> String {
    let name = if field.is_map() { "value" } else { field.name() };
    format!(".{}.{name}", field.parent_message().full_name())
}

impl Docs {
    /// The text with the documentation of all packages in place of the placeholders, behind `header`.
    pub(super) fn restore(all: &[Self], header: &str, text: &str) -> String {
        let mut out = String::with_capacity(header.len() + text.len());
        out.push_str(header);
        for line in text.lines() {
            let found = line.split_once("/// ").and_then(|(indent, rest)| {
                let (package, number) = rest.strip_prefix(PLACEHOLDER)?.split_once('.')?;
                let docs = all.get(package.parse::<usize>().ok()?)?;
                Some((indent, docs.lines.get(number.parse::<usize>().ok()?)?))
            });
            match found {
                Some((indent, lines)) => {
                    for line in lines {
                        out.push_str(indent);
                        out.push_str("/// ");
                        out.push_str(line);
                        out.truncate(out.trim_end().len());
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
    fn take(&mut self, file: &mut FileDescriptorProto, sources: &Sources, target: &Target<'_>) {
        // prost-build writes no code for these.
        if is_google(file.name()) {
            return;
        }
        let mut places = Places {
            docs: self,
            target,
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
    target: &'a Target<'a>,
    sources: &'a Sources,
    file: &'a str,
    new: Vec<Location>,
}

impl Places<'_> {
    fn message(&mut self, message: &DescriptorProto, outer: &str, path: Vec<i32>) {
        let full = full_name(outer, message.name());
        self.put(&path, &[], &full, format!("The message `{full}`."));
        for (index, field) in (0..).zip(&message.field) {
            let oneof = oneof_of(field).and_then(|oneof| message.oneof_decl.get(oneof));
            let around = oneof.map_or_else(|| full.clone(), |oneof| full_name(&full, oneof.name()));
            let named = full_name(&around, field.name());
            self.put(
                &path,
                &[2, index],
                &named,
                format!("The field `{}`.", field.name()),
            );
        }
        let mut members: Vec<Vec<String>> = vec![Vec::new(); message.oneof_decl.len()];
        for field in &message.field {
            if let Some(names) = oneof_of(field).and_then(|oneof| members.get_mut(oneof)) {
                names.push(format!("`{}`", field.name()));
            }
        }
        for ((index, oneof), names) in (0..).zip(&message.oneof_decl).zip(members) {
            let text = format!("`{}`: one of {}.", oneof.name(), names.join(", "));
            self.put(&path, &[8, index], &full_name(&full, oneof.name()), text);
        }
        for (index, nested) in (0..).zip(&message.nested_type) {
            self.message(nested, &full, [&path[..], &[3, index]].concat());
        }
        for (index, nested) in (0..).zip(&message.enum_type) {
            self.enumeration(nested, &full, [&path[..], &[4, index]].concat());
        }
    }

    fn enumeration(&mut self, proto: &EnumDescriptorProto, outer: &str, path: Vec<i32>) {
        let full = full_name(outer, proto.name());
        self.put(&path, &[], &full, format!("The enum `{full}`."));
        for (index, value) in (0..).zip(&proto.value) {
            let named = full_name(&full, value.name());
            self.put(
                &path,
                &[2, index],
                &named,
                format!("The value `{}`.", value.name()),
            );
        }
    }

    /// Documents the item `named` with its comment, or with `missing`.
    fn put(&mut self, path: &[i32], more: &[i32], named: &str, missing: String) {
        let path = [path, more].concat();
        let is_wanted = !self.target.choices.without_comments.contains(named);
        let old = self.sources.location(self.file, &path).filter(|_| is_wanted);
        let mut lines = old.map(comments::docs).unwrap_or_default();
        if lines.is_empty() {
            lines.push(missing);
        }
        let placeholder = format!(" {PLACEHOLDER}{}.{}", self.docs.package, self.docs.lines.len());
        self.docs.lines.push(lines);
        self.new.push(Location {
            path,
            leading_comments: Some(placeholder),
            ..Location::default()
        });
    }
}
