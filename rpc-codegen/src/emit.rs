//! Emits the generated files: one for each package, and one that includes them all.

mod client_type;
mod conversions;
mod debug;
mod descriptors;
mod docs;
mod dyn_trait;
mod fields;
mod growth;
mod json;
mod merge;
mod messages;
mod modules;
mod names;
mod nesting;
mod pretty;
mod procedures;
mod prost_input;
mod server;
mod shape;
mod stand_ins;
mod stubs;
mod type_names;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proc_macro2::TokenStream;
use prost_reflect::{DescriptorPool, FileDescriptor, MessageDescriptor};
use prost_types::FileDescriptorProto;
use quote::quote;

pub(crate) use self::modules::{FILE_NAME as INCLUDED, text as included};
use self::{
    descriptors::Descriptors,
    growth::{Growing, Growth},
    json::JsonModules,
    messages::{Docs, Messages},
    names::Names,
    nesting::Nesting,
    pretty::pretty,
};
use crate::{
    error::{Error, Problem},
    model::{Model, Service, is_generated, naming::module_path},
    parallel,
    progress::Progress,
    source::{OPTIONS_NAME, Sources, is_google},
    target::Target,
};

/// A generated module: the content of one file.
pub(crate) struct Module {
    /// Its Rust path, part by part.
    pub(crate) path: Vec<String>,
    pub(crate) text: String,
    /// The descriptors that its servers carry, encoded; none if they carry none.
    pub(crate) descriptors: Option<Vec<u8>>,
}

impl Module {
    /// The name of the module's file.
    pub(crate) fn file_name(&self) -> String {
        modules::file_name(&self.path)
    }

    /// The name of the file with its descriptors.
    pub(crate) fn descriptors_name(&self) -> String {
        modules::descriptors_name(&self.path)
    }
}

/// The content of a module: one package, or several with the same Rust path.
#[derive(Default)]
struct Package {
    /// The names of its .proto files, as its own file shows them.
    names: Vec<String>,
    files: Vec<FileDescriptor>,
    /// The files of Google's types that prost-types lacks.
    newer: Vec<FileDescriptorProto>,
    /// All messages, and those inside of them.
    messages: Vec<MessageDescriptor>,
    /// The text of the messages and enums, from prost-build.
    text: String,
}

/// The modules of all packages.
pub(crate) fn modules(
    pool: &DescriptorPool,
    sources: &Sources,
    model: &Model,
    target: &Target<'_>,
    progress: &Progress,
) -> Result<Vec<Module>, Error> {
    progress.begin("generating messages");
    let mut packages = packages(pool, target);
    let messages = Messages::new(pool, sources, &model.graph, target);
    let numbered: Vec<(usize, &Package)> = packages.values().enumerate().collect();
    let generated = parallel::map(&numbered, |(number, package)| messages.generate(*number, package));
    let mut docs = Vec::new();
    for (package, generated) in packages.values_mut().zip(generated) {
        let (text, package_docs) = generated?;
        package.text = text;
        docs.push(package_docs);
    }
    packages.retain(|_, package| !package.names.is_empty() || !package.text.is_empty());
    merge::merge(&mut packages).map_err(unparsable)?;
    progress.begin("generating services");
    let writer = Writer::new(pool, model, docs, target);
    let packages: Vec<(Vec<String>, Package)> = packages.into_iter().collect();
    let written = parallel::map(&packages, |(module, package)| {
        let descriptors = writer.descriptors.set(writer.services(module));
        let text = writer.text(module, package, descriptors.is_some())?;
        Ok((text, descriptors))
    });
    let modules = packages.into_iter().zip(written).map(|((path, _), written)| {
        let (text, descriptors) = written.map_err(unparsable)?;
        Ok(Module {
            path,
            text,
            descriptors,
        })
    });
    modules.collect()
}

/// The packages of all files except Google's, by their module.
fn packages(pool: &DescriptorPool, target: &Target<'_>) -> BTreeMap<Vec<String>, Package> {
    let mut packages: BTreeMap<Vec<String>, Package> = BTreeMap::new();
    for file in pool.files().filter(|file| !is_google(file.name())) {
        let package = packages.entry(module_path(file.package_name())).or_default();
        if file.name() != OPTIONS_NAME && is_generated(file.package_name(), target) {
            package.names.push(file.name().to_owned());
        }
        package.files.push(file);
    }
    for file in prost_input::newer(pool, target) {
        let package = packages.entry(module_path(file.package())).or_default();
        package.newer.push(file);
    }
    for package in packages.values_mut() {
        for file in &package.files {
            add_messages(file.messages(), &mut package.messages);
        }
    }
    packages
}

/// Adds `messages`, each before the messages inside of it.
fn add_messages(messages: impl Iterator<Item = MessageDescriptor>, all: &mut Vec<MessageDescriptor>) {
    for message in messages {
        all.push(message.clone());
        add_messages(message.child_messages(), all);
    }
}

/// Writes the text of one module at a time.
struct Writer<'a> {
    model: &'a Model,
    target: &'a Target<'a>,
    docs: Vec<Docs>,
    growing: Growing<'a>,
    nesting: Nesting<'a>,
    services: HashMap<Vec<String>, Vec<&'a Service>>,
    /// The requests that stubs build from a value, by their module.
    requests: HashMap<Vec<String>, Vec<&'a MessageDescriptor>>,
    json: JsonModules<'a>,
    descriptors: Descriptors<'a>,
}

impl<'a> Writer<'a> {
    fn new(pool: &'a DescriptorPool, model: &'a Model, docs: Vec<Docs>, target: &'a Target<'a>) -> Self {
        let mut services: HashMap<Vec<String>, Vec<&Service>> = HashMap::new();
        for service in &model.services {
            let module = module_path(&service.package);
            services.entry(module).or_default().push(service);
        }
        Self {
            model,
            target,
            docs,
            growing: Growing::new(&model.graph),
            nesting: Nesting::new(pool, &model.services, &model.graph, target),
            services,
            requests: conversions::requests(&model.services, target),
            json: JsonModules::new(&model.json),
            descriptors: Descriptors::new(pool, &model.services, target),
        }
    }

    /// The services of a module.
    fn services(&self, module: &[String]) -> &[&'a Service] {
        self.services.get(module).map_or(&[], |services| services)
    }

    /// The text of the module of a package.
    fn text(
        &self,
        module: &[String],
        package: &Package,
        has_descriptors: bool,
    ) -> Result<String, syn::Error> {
        let Self { model, target, .. } = self;
        let services = self.services(module);
        let growth = Growth::new(services, &self.growing, target);
        let mut file = syn::parse_file(&package.text)?;
        let mut items = debug::items(&mut file, &package.messages, target);
        items.extend(type_names::items(&package.messages, target));
        let requests = self.requests.get(module).into_iter().flatten();
        items.extend(requests.map(|request| conversions::items(request, &model.graph, target)));
        items.extend(self.nesting.walks(module));
        items.extend(growth.table());
        items.extend(has_descriptors.then(|| self.descriptors.item(module)));
        items.extend(
            services
                .iter()
                .map(|one| service(one, &growth, &self.nesting, target)),
        );
        file.items.extend(syn::parse2::<syn::File>(items)?.items);
        let text = Docs::restore(&self.docs, &header(&package.names), &pretty(&file));
        Ok(text + &self.json.text(module, target)?)
    }
}

/// The first line of a file, from the names of its .proto files.
fn header(names: &[String]) -> String {
    let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let mut names: Vec<&str> = names.into_iter().collect();
    if names.is_empty() {
        // Google's types that prost-types lacks: all are of this file.
        names.push("google/protobuf/descriptor.proto");
    }
    let names = names.join(", ");
    format!("// @generated by rpc-codegen from {names}; edit that instead.\n\n")
}

/// Everything of a service except its messages.
fn service(
    service: &Service,
    growth: &Growth<'_>,
    nesting: &Nesting<'_>,
    target: &Target<'_>,
) -> TokenStream {
    let names = Names::new(service, target);
    let procedures = procedures::list(service, growth, nesting, &names);
    let parts = target.parts(&service.full_name);
    let server = parts.server().then(|| server::items(service, &names, target));
    let is_dyn = parts.server() && target.choices.dyn_traits.contains(&service.full_name);
    let dyn_trait = is_dyn.then(|| dyn_trait::items(service, &names));
    let client = parts
        .client()
        .then(|| client_type::items(service, &names, target));
    quote!(#procedures #server #dyn_trait #client)
}

fn unparsable(error: syn::Error) -> Error {
    Problem::new(format!("the generated code is not Rust: {error}"))
        .with_help("an attribute of `Config::type_attribute` or `field_attribute` is the likely cause")
        .into()
}
