//! The descriptors that servers carry: for each module one set, with the files of its services and all that these import.

use std::collections::{BTreeSet, HashMap};

use proc_macro2::{Ident, TokenStream};
use prost_reflect::{
    DescriptorPool, DynamicMessage, FileDescriptor,
    prost::{Message, encode_length_delimiter},
};
use quote::{format_ident, quote};

use super::modules;
use crate::{
    model::{Service, naming::module_path},
    parallel,
    target::Target,
};

/// The files that servers carry.
pub(super) struct Descriptors<'a> {
    pool: &'a DescriptorPool,
    target: &'a Target<'a>,
    /// The encoded files by name.
    encoded: HashMap<String, Vec<u8>>,
}

impl<'a> Descriptors<'a> {
    pub(super) fn new(pool: &'a DescriptorPool, services: &[Service], target: &'a Target<'a>) -> Self {
        let services = services.iter().filter(|service| has(service, target));
        let names = with_imports(pool, services);
        let files: Vec<FileDescriptor> = pool.files().filter(|file| names.contains(file.name())).collect();
        let encoded = parallel::map(&files, encode);
        let names = files.iter().map(|file| file.name().to_owned());
        Self {
            pool,
            target,
            encoded: names.zip(encoded).collect(),
        }
    }

    /// The set for the servers of a module, encoded; none if they carry none.
    pub(super) fn set(&self, services: &[&Service]) -> Option<Vec<u8>> {
        let services = services
            .iter()
            .copied()
            .filter(|service| has(service, self.target));
        let names = with_imports(self.pool, services);
        if names.is_empty() {
            return None;
        }
        let mut set = Vec::new();
        // The pool has each file after its imports.
        for file in self.pool.files().filter(|file| names.contains(file.name())) {
            add(
                self.encoded.get(file.name()).map_or(&[][..], |bytes| bytes),
                &mut set,
            );
        }
        Some(set)
    }

    /// The static with the set of a module.
    pub(super) fn item(&self, module: &[String]) -> TokenStream {
        let name = ident(module);
        let file = modules::descriptors_name(module);
        let path = match self.target.include_env {
            true => {
                let file = format!("/{file}");
                quote!(::core::concat!(::core::env!("OUT_DIR"), #file))
            }
            false => quote!(#file),
        };
        quote!(static #name: &[u8] = ::core::include_bytes!(#path);)
    }
}

/// The name of the static with the descriptors of a service; none if its server carries none.
pub(super) fn of(service: &Service, target: &Target<'_>) -> Option<Ident> {
    has(service, target).then(|| ident(&module_path(&service.package)))
}

/// True if the server of the service carries descriptors.
fn has(service: &Service, target: &Target<'_>) -> bool {
    target.embeds_descriptors && target.parts(&service.full_name).server()
}

/// The name of the static in `module`. Files of several packages may be included in one module.
fn ident(module: &[String]) -> Ident {
    let parts = module
        .iter()
        .map(|part| part.trim_start_matches("r#").to_uppercase());
    let parts: Vec<String> = parts.chain(["DESCRIPTORS".to_owned()]).collect();
    format_ident!("{}", parts.join("_"))
}

/// The names of the files of `services` and of all that these import.
fn with_imports<'a>(pool: &DescriptorPool, services: impl Iterator<Item = &'a Service>) -> BTreeSet<String> {
    let services = services.filter_map(|service| pool.get_service_by_name(&service.full_name));
    let mut left: Vec<FileDescriptor> = services.map(|service| service.parent_file()).collect();
    let mut names = BTreeSet::new();
    while let Some(file) = left.pop() {
        if names.insert(file.name().to_owned()) {
            left.extend(file.dependencies());
        }
    }
    names
}

/// The bytes of a file, without its comments and places. They hold the values of all options, which its descriptor does not.
fn encode(file: &FileDescriptor) -> Vec<u8> {
    let bytes = file.encode_to_vec();
    if file.file_descriptor_proto().source_code_info.is_none() {
        return bytes;
    }
    let pool = DescriptorPool::global();
    let decoded = pool
        .get_message_by_name("google.protobuf.FileDescriptorProto")
        .and_then(|ty| DynamicMessage::decode(ty, &bytes[..]).ok());
    match decoded {
        Some(mut decoded) => {
            decoded.clear_field_by_name("source_code_info");
            decoded.encode_to_vec()
        }
        None => bytes,
    }
}

/// Adds an encoded file to an encoded `FileDescriptorSet`.
fn add(file: &[u8], set: &mut Vec<u8>) {
    // Field 1, of bytes.
    set.push(1 << 3 | 2);
    // A `Vec` has room for every length.
    if encode_length_delimiter(file.len(), set).is_ok() {
        set.extend_from_slice(file);
    }
}
