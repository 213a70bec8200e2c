//! Descriptor sets: .proto files that protoc, buf or this crate has compiled before.

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::{DescriptorPool, DynamicMessage, Value, prost::Message};
use prost_types::FileDescriptorProto;
use protox::{
    Compiler,
    file::{ChainFileResolver, File, FileResolver, GoogleFileResolver},
};

use super::{
    Sources,
    diagnose::edition_problem,
    file::SourceFile,
    served::{GOOGLE_NAMES, OPTIONS_NAME, OPTIONS_TEXT},
    set_input::SetInput,
};
use crate::error::{Error, Place, Problem};

impl Sources {
    /// Reads and links the descriptor set `input`.
    ///
    /// # Errors
    ///
    /// A set that cannot be read, that is cut, or that lacks imports.
    pub(crate) fn from_descriptor_set(input: &SetInput) -> Result<(Self, DescriptorPool), Error> {
        let set = DescriptorSet::decode(input.shown(), &input.read()?)?;
        let order = set.in_order()?;
        let mut pool = served(&order)?;
        let mut sources = Self {
            files: BTreeMap::new(),
            roots: Vec::new(),
        };
        for name in order.iter().filter(|name| !is_served(name)) {
            let Some(file) = set.file(name) else {
                continue;
            };
            // The bytes and not the descriptor, because it does not hold the values of our options.
            pool.decode_file_descriptor_proto(&file.bytes[..])
                .map_err(|error| {
                    Problem::new(format!("{} is not consistent: {error}", set.shown))
                        .at(Place::compiled(name, None))
                        .with_help(HOW_TO_WRITE)
                })?;
            sources
                .files
                .insert((*name).to_owned(), SourceFile::compiled(file.proto.clone()));
        }
        Ok((sources, pool))
    }
}

/// The files of a descriptor set, as they stand in it.
struct DescriptorSet {
    /// The name of the set in messages.
    shown: String,
    files: Vec<CompiledFile>,
}

struct CompiledFile {
    bytes: Vec<u8>,
    proto: FileDescriptorProto,
}

impl DescriptorSet {
    fn decode(shown: String, bytes: &[u8]) -> Result<Self, Error> {
        let broken = |error: &dyn std::fmt::Display| {
            Problem::new(format!("{shown} is not a whole descriptor set: {error}")).with_help(HOW_TO_WRITE)
        };
        let pool = DescriptorPool::global();
        let ty = pool
            .get_message_by_name("google.protobuf.FileDescriptorSet")
            .ok_or_else(|| broken(&"its type is unknown"))?;
        let set = DynamicMessage::decode(ty, bytes).map_err(|error| broken(&error))?;
        let mut files = Vec::new();
        let mut problems = Vec::new();
        let list = set.get_field_by_name("file");
        for value in list.as_deref().and_then(Value::as_list).unwrap_or_default() {
            let Some(file) = value.as_message() else { continue };
            let bytes = file.encode_to_vec();
            let proto = FileDescriptorProto::decode(&bytes[..]).map_err(|error| broken(&error))?;
            if proto.syntax() == "editions" {
                let edition = file.get_field_by_name("edition");
                let number = edition
                    .and_then(|edition| edition.as_enum_number())
                    .unwrap_or_default();
                let place = Place::compiled(proto.name(), None);
                problems.push(edition_problem(&edition_name(number)).at(place));
            }
            files.push(CompiledFile { bytes, proto });
        }
        if !problems.is_empty() {
            return Err(Error::new(problems));
        }
        if files.is_empty() {
            let problem = Problem::new(format!("{shown} holds no .proto file"));
            return Err(problem.with_help(HOW_TO_WRITE).into());
        }
        Ok(Self { shown, files })
    }

    fn file(&self, name: &str) -> Option<&CompiledFile> {
        self.files.iter().find(|file| file.proto.name() == name)
    }

    /// The names of all files and of the imports that this crate contains, each after its own imports.
    fn in_order(&self) -> Result<Vec<&str>, Error> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        let mut problems = Vec::new();
        for file in &self.files {
            self.visit(file.proto.name(), None, &mut seen, &mut order, &mut problems);
        }
        if problems.is_empty() {
            Ok(order)
        } else {
            Err(Error::new(problems))
        }
    }

    fn visit<'b>(
        &'b self,
        name: &'b str,
        importer: Option<&str>,
        seen: &mut BTreeSet<&'b str>,
        order: &mut Vec<&'b str>,
        problems: &mut Vec<Problem>,
    ) {
        if !seen.insert(name) {
            return;
        }
        if let Some(file) = self.file(name) {
            for import in &file.proto.dependency {
                self.visit(import, Some(name), seen, order, problems);
            }
        } else if !is_served(name) {
            let problem = Problem::new(format!("import \"{name}\" is not in {}", self.shown));
            let place = importer.map(|importer| Place::compiled(importer, None));
            problems.push(problem.at(place).with_help(
                "write the set with its imports: `protoc --include_imports ..`, or `buf build` without `--exclude-imports`",
            ));
        }
        order.push(name);
    }
}

/// A pool with the files of `names` that this crate contains: other copies could contradict what it knows of them.
fn served(names: &[&str]) -> Result<DescriptorPool, Error> {
    let mut resolver = ChainFileResolver::new();
    resolver.add(Options);
    resolver.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(resolver);
    for name in names.iter().filter(|name| is_served(name)) {
        compiler
            .open_file(name)
            .map_err(|error| Problem::new(format!("cannot read {name}: {error}")))?;
    }
    Ok(compiler.descriptor_pool())
}

/// Gives our own options to protox's compiler.
struct Options;

impl FileResolver for Options {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        if name == OPTIONS_NAME {
            File::from_source(name, OPTIONS_TEXT)
        } else {
            Err(protox::Error::file_not_found(name))
        }
    }
}

/// True if this crate contains the file `name`.
fn is_served(name: &str) -> bool {
    name == OPTIONS_NAME || GOOGLE_NAMES.contains(&name)
}

/// The edition with this number in google/protobuf/descriptor.proto.
fn edition_name(number: i32) -> String {
    match number {
        1000 => "2023".to_owned(),
        1001 => "2024".to_owned(),
        _ => format!("number {number}"),
    }
}

const HOW_TO_WRITE: &str = "write it with `protoc --include_imports --include_source_info -o FILE ..`, `buf build -o FILE`, or \
                            `Config::file_descriptor_set_path`";
