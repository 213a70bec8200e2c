//! ServedFiles: what reflection shows of a server: the names of its services, and their .proto files.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ptr,
};

use prost::Message;
use rpc_runtime::{
    Bytes, Result, Status,
    prost_types::{FileDescriptorProto, ServiceDescriptorProto},
    server::Service,
};

use super::{
    files::{FileId, Files},
    raw_fields::RawField,
};
use crate::service_names::service_names;

/// What reflection shows of a server.
#[derive(Debug)]
pub(super) struct ServedFiles {
    pub(super) services: BTreeSet<&'static str>,
    pub(super) files: Files,
}

impl ServedFiles {
    /// Collects what is shown of `services`.
    ///
    /// # Errors
    ///
    /// NOT_FOUND for a service that is left out and is not there, INTERNAL for descriptors that cannot be read.
    pub(super) fn new(services: &[&dyn Service], left_out: &BTreeSet<String>) -> Result<Self> {
        let mut shown: BTreeSet<&'static str> = services.iter().flat_map(|one| service_names(*one)).collect();
        for name in left_out {
            if !shown.remove(&**name) {
                let text = format!("reflection leaves out {name}, which this server does not have");
                return Err(Status::not_found(text));
            }
        }
        let mut files = Files::default();
        let mut seen: Vec<&'static [u8]> = Vec::new();
        for service in services {
            let set = service.descriptors();
            // Services of a package share one set.
            if !seen.iter().any(|other| ptr::eq(*other, set)) {
                seen.push(set);
                CompiledSet::decode(set, left_out)
                    .ok_or_else(|| {
                        Status::internal(format!("the descriptors of {} cannot be read", service.name()))
                    })?
                    .add_to(&mut files, &shown);
            }
        }
        Ok(Self {
            services: shown,
            files,
        })
    }
}

/// A descriptor set, file by file.
struct CompiledSet(Vec<(Bytes, FileDescriptorProto)>);

/// `google.protobuf.FileDescriptorSet`, with files that stay encoded.
#[derive(Clone, PartialEq, Message)]
struct EncodedSet {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    files: Vec<Bytes>,
}

impl CompiledSet {
    /// Decodes the set, and removes services from its files; none if it is malformed.
    fn decode(set: &'static [u8], left_out: &BTreeSet<String>) -> Option<Self> {
        let set = EncodedSet::decode(Bytes::from_static(set)).ok()?;
        let files = set.files.into_iter().map(|bytes| {
            let proto = FileDescriptorProto::decode(bytes.clone()).ok()?;
            let is_out = |service: &ServiceDescriptorProto| left_out.contains(&full_name(&proto, service));
            if !proto.service.iter().any(is_out) {
                return Some((bytes, proto));
            }
            let bytes = without_services(&bytes, is_out)?;
            let proto = FileDescriptorProto::decode(bytes.clone()).ok()?;
            Some((bytes, proto))
        });
        files.collect::<Option<_>>().map(Self)
    }

    /// Adds the files that define a service of `shown`, and all that they import.
    fn add_to(&self, files: &mut Files, shown: &BTreeSet<&str>) {
        let numbers = self.0.iter().enumerate();
        let numbers: HashMap<&str, usize> = numbers
            .map(|(number, (_, proto))| (proto.name(), number))
            .collect();
        let imports_of = |number: usize| {
            let names = self.0[number].1.dependency.iter();
            names.filter_map(|name| numbers.get(&**name).copied())
        };
        let mut needed = BTreeSet::new();
        let defines = |proto: &FileDescriptorProto| {
            let mut services = proto.service.iter();
            services.any(|service| shown.contains(&*full_name(proto, service)))
        };
        let all = 0..self.0.len();
        let mut left: Vec<usize> = all.filter(|number| defines(&self.0[*number].1)).collect();
        while let Some(number) = left.pop() {
            if needed.insert(number) {
                left.extend(imports_of(number));
            }
        }
        // A set has each file after its imports.
        let mut ids: BTreeMap<usize, FileId> = BTreeMap::new();
        for number in needed {
            let (bytes, proto) = &self.0[number];
            let imports = imports_of(number)
                .filter_map(|import| ids.get(&import).copied())
                .collect();
            ids.insert(number, files.add(bytes.clone(), proto, imports));
        }
    }
}

/// The full name of a service of a file.
fn full_name(file: &FileDescriptorProto, service: &ServiceDescriptorProto) -> String {
    match file.package() {
        "" => service.name().to_owned(),
        package => format!("{package}.{}", service.name()),
    }
}

/// An encoded file without some of its services; none if it is malformed.
fn without_services(file: &[u8], is_out: impl Fn(&ServiceDescriptorProto) -> bool) -> Option<Bytes> {
    let (mut rest, mut kept) = (file, Vec::with_capacity(file.len()));
    while !rest.is_empty() {
        let field = RawField::take(&mut rest)?;
        if field.number == SERVICE && is_out(&ServiceDescriptorProto::decode(field.content).ok()?) {
            continue;
        }
        kept.extend_from_slice(field.bytes);
    }
    Some(kept.into())
}

/// The number of `FileDescriptorProto.service`.
const SERVICE: usize = 6;
