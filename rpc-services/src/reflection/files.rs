//! Files: compiled .proto files, and which of them defines what.

use std::collections::{BTreeMap, HashMap, HashSet};

use rpc_runtime::{
    Bytes,
    prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto},
};

/// The number of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileId(usize);

/// Compiled .proto files, and which of them defines what.
#[derive(Debug, Default)]
pub(super) struct Files {
    files: Vec<File>,
    by_name: HashMap<String, FileId>,
    /// By full name: services, procedures, messages, fields, oneofs, enums, their values, extensions.
    by_symbol: HashMap<String, FileId>,
    /// The full names of all messages.
    messages: HashSet<String>,
    /// By the full name of the message that is extended, and by number.
    by_extension: HashMap<String, BTreeMap<i32, FileId>>,
}

#[derive(Debug)]
struct File {
    /// The encoded descriptor.
    bytes: Bytes,
    imports: Vec<FileId>,
}

impl Files {
    /// Adds a file, unless it is there. Of two files that define a name, the first is found by it.
    pub(super) fn add(&mut self, bytes: Bytes, proto: &FileDescriptorProto, imports: Vec<FileId>) -> FileId {
        if let Some(known) = self.by_name.get(proto.name()) {
            if self.files[known.0].bytes == bytes {
                return *known;
            }
        }
        let id = FileId(self.files.len());
        self.files.push(File { bytes, imports });
        self.by_name.entry(proto.name().to_owned()).or_insert(id);
        Definitions { files: self, id }.add_file(proto);
        id
    }

    /// The file of this name.
    pub(super) fn named(&self, name: &str) -> Option<FileId> {
        self.by_name.get(name).copied()
    }

    /// The file that defines this full name.
    pub(super) fn defining(&self, symbol: &str) -> Option<FileId> {
        self.by_symbol.get(symbol).copied()
    }

    /// The file that defines the extension of a message with this number.
    pub(super) fn extending(&self, message: &str, number: i32) -> Option<FileId> {
        self.by_extension.get(message)?.get(&number).copied()
    }

    /// The numbers of all extensions of a message; none if there is no such message.
    pub(super) fn extensions(&self, message: &str) -> Option<Vec<i32>> {
        match self.by_extension.get(message) {
            Some(extensions) => Some(extensions.keys().copied().collect()),
            None => self.messages.contains(message).then(Vec::new),
        }
    }

    /// The encoded descriptor of a file.
    pub(super) fn bytes(&self, id: FileId) -> &Bytes {
        &self.files[id.0].bytes
    }

    /// The files that a file imports.
    pub(super) fn imports(&self, id: FileId) -> &[FileId] {
        &self.files[id.0].imports
    }
}

/// Notes what one file defines.
struct Definitions<'a> {
    files: &'a mut Files,
    id: FileId,
}

impl Definitions<'_> {
    fn add_file(&mut self, proto: &FileDescriptorProto) {
        let package = proto.package();
        for message in &proto.message_type {
            self.add_message(package, message);
        }
        for one in &proto.enum_type {
            self.add_enum(package, one);
        }
        self.add_extensions(package, &proto.extension);
        for service in &proto.service {
            let service_name = self.add(package, service.name());
            for method in &service.method {
                self.add(&service_name, method.name());
            }
        }
    }

    fn add_message(&mut self, scope: &str, proto: &DescriptorProto) {
        let message = self.add(scope, proto.name());
        self.files.messages.insert(message.clone());
        for field in &proto.field {
            self.add(&message, field.name());
        }
        for oneof in &proto.oneof_decl {
            self.add(&message, oneof.name());
        }
        for inner in &proto.nested_type {
            self.add_message(&message, inner);
        }
        for one in &proto.enum_type {
            self.add_enum(&message, one);
        }
        self.add_extensions(&message, &proto.extension);
    }

    fn add_enum(&mut self, scope: &str, proto: &EnumDescriptorProto) {
        self.add(scope, proto.name());
        for value in &proto.value {
            // As in C++, the values are beside their enum, and not inside of it.
            self.add(scope, value.name());
        }
    }

    fn add_extensions(&mut self, scope: &str, protos: &[FieldDescriptorProto]) {
        for proto in protos {
            self.add(scope, proto.name());
            let extended = proto.extendee().trim_start_matches('.').to_owned();
            let numbers = self.files.by_extension.entry(extended).or_default();
            numbers.entry(proto.number()).or_insert(self.id);
        }
    }

    /// Notes `name` in `scope`, and returns its full name.
    fn add(&mut self, scope: &str, name: &str) -> String {
        let full_name = match scope {
            "" => name.to_owned(),
            scope => format!("{scope}.{name}"),
        };
        let entry = self.files.by_symbol.entry(full_name.clone());
        entry.or_insert(self.id);
        full_name
    }
}
