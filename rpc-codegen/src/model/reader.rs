//! Reads services and procedures from descriptors: options, names, comments.

use std::collections::HashMap;

use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, ServiceDescriptor, Value};
use prost_types::{MethodOptions, method_options::IdempotencyLevel};
use sha2::{Digest, Sha256};

use super::{
    Priority, Procedure, Reply, Request, Run, Service, allow, flatten,
    graph::Graph,
    hash_by,
    naming::{Stem, is_nameable},
    service_names::ServiceNames,
    types::Types,
};
use crate::{
    error::{Place, Problem},
    source::{OPTIONS_NAME, Sources, comments, tags},
    target::{Purpose, Target},
};

/// Reads services, and collects warnings and problems.
pub(super) struct Reader<'a> {
    pool: &'a DescriptorPool,
    sources: &'a Sources,
    graph: &'a Graph,
    target: &'a Target<'a>,
    names: HashMap<String, ServiceNames>,
    warnings: Vec<String>,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    /// `names` are those of the items of each service, by its full name.
    pub(super) fn new(
        pool: &'a DescriptorPool,
        sources: &'a Sources,
        graph: &'a Graph,
        target: &'a Target<'a>,
        names: HashMap<String, ServiceNames>,
    ) -> Self {
        Self {
            pool,
            sources,
            graph,
            target,
            names,
            warnings: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// The warnings and problems of all services read so far.
    pub(super) fn finish(self) -> (Vec<String>, Vec<Problem>) {
        (self.warnings, self.problems)
    }

    pub(super) fn service(&mut self, service: &ServiceDescriptor) -> Service {
        let file = service.parent_file();
        let proto = service.service_descriptor_proto();
        let flatten = self.option("rpc.service", &service.options(), "flatten");
        let default = self.option_value("rpc.service", &service.options(), "allow");
        let default = allow::roles(default);
        if let Some(problem) = allow::problem_of(&format!("service `{}`", service.full_name()), &default) {
            let path = [service.path(), &[tags::service::OPTIONS]].concat();
            let place = self.sources.place(file.name(), &path);
            self.problems.push(problem.at(place));
        }
        let mut stems: HashMap<Stem, MethodDescriptor> = HashMap::new();
        let mut procedures = Vec::new();
        for method in service.methods() {
            let stem = self.stem(&method);
            match stems.get(&stem) {
                Some(other) => self.stem_clash(&method, &stem, other),
                None => {
                    stems.insert(stem.clone(), method.clone());
                }
            }
            procedures.push(self.procedure(&method, stem, flatten, &default));
        }
        Service {
            full_name: service.full_name().to_owned(),
            names: self
                .names
                .remove(service.full_name())
                .unwrap_or_else(|| ServiceNames::new(service.name())),
            package: file.package_name().to_owned(),
            docs: self.docs(service.full_name(), service.parent_file().name(), service.path()),
            is_deprecated: proto
                .options
                .as_ref()
                .is_some_and(prost_types::ServiceOptions::deprecated),
            procedures,
        }
    }

    /// `default` is the service's rule.
    fn procedure(
        &mut self,
        method: &MethodDescriptor,
        stem: Stem,
        flatten: bool,
        default: &[String],
    ) -> Procedure {
        let proto = method.method_descriptor_proto();
        let options = method.options();
        let blocking = self.option("rpc.procedure", &options, "blocking");
        let spawn = self.option("rpc.procedure", &options, "spawn");
        let run = match (blocking, spawn) {
            (true, true) => {
                let problem = Problem::new(format!(
                    "procedure `{}` sets both `blocking` and `spawn`",
                    method.full_name()
                ))
                .at(self.place_of(method, &[tags::procedure::OPTIONS]))
                .with_help(
                    "set `blocking` if its handler blocks the thread, or `spawn` if it computes for long",
                );
                self.problems.push(problem);
                Run::Blocking
            }
            (true, false) => Run::Blocking,
            (false, true) => Run::Spawn,
            (false, false) => Run::InOrder,
        };
        let priority = self.priority(method, &options);
        let own = allow::roles(self.option_value("rpc.procedure", &options, "allow"));
        if let Some(problem) = allow::problem_of(&format!("procedure `{}`", method.full_name()), &own) {
            let place = self.place_of(method, &[tags::procedure::OPTIONS]);
            self.problems.push(problem.at(place));
        }
        let hash_field = match hash_by::field(method, self.option_value("rpc.procedure", &options, "hash_by"))
        {
            Ok(field) => field,
            Err(problem) => {
                let place = self.place_of(method, &[tags::procedure::OPTIONS]);
                self.problems.push(problem.at(place));
                None
            }
        };
        let path = format!("{}/{}", method.parent_service().full_name(), method.name());
        let file = method.parent_file();
        let types = Types::new(file.package_name(), self.target);
        let request = if method.is_client_streaming() {
            Request::Stream(types.message(&method.input()).into())
        } else {
            flatten::request(&types, self.graph, &method.input(), flatten)
        };
        if matches!(request, Request::Fields(..)) {
            let warning = flatten::order_warning(&method.input());
            let warning = warning.filter(|warning| !self.warnings.contains(warning));
            self.warnings.extend(warning);
        }
        Procedure {
            id: id(&path),
            path,
            docs: self.docs(method.full_name(), file.name(), method.path()),
            is_deprecated: proto.options.as_ref().is_some_and(MethodOptions::deprecated),
            is_idempotent: proto.options.as_ref().is_some_and(is_idempotent),
            run,
            priority,
            hash_field,
            allow: if own.is_empty() { default.to_vec() } else { own },
            request,
            reply: if method.is_server_streaming() {
                Reply::Stream(types.message(&method.output()).into())
            } else {
                flatten::reply(&types, self.graph, &method.output(), flatten)
            },
            input: method.input(),
            output: method.output(),
            stem,
        }
    }

    fn stem(&mut self, method: &MethodDescriptor) -> Stem {
        let stem = Stem::new(method.name());
        let name = method.full_name();
        if !is_nameable(method.name()) {
            let problem = Problem::new(format!("procedure `{name}` cannot be named in Rust"))
                .at(self.place_of(method, &[tags::NAME]))
                .with_help("give it a name with a letter in it");
            self.problems.push(problem);
        }
        if self.target.purpose == Purpose::Builtin {
            return stem;
        }
        if method.name() == "rpc_terminate" {
            let problem = Problem::new(format!("procedure `{name}` has the name of a built-in procedure"))
                .at(self.place_of(method, &[tags::NAME]))
                .with_help(
                    "remove it: every server has `rpc_terminate`, and clients call it with `send_recv().terminate()`",
                );
            self.problems.push(problem);
        } else if stem.is_taken() {
            self.warnings.push(format!(
                "procedure {name}: its stub is named `{}`, because every call has a method `{}`",
                stem.stub(),
                stem.stub().trim_end_matches('_')
            ));
        }
        stem
    }

    fn stem_clash(&mut self, method: &MethodDescriptor, stem: &Stem, other: &MethodDescriptor) {
        let problem = Problem::new(format!(
            "procedures `{}` and `{}` of service `{}` are both named `{}` in Rust",
            other.name(),
            method.name(),
            method.parent_service().full_name(),
            stem.method()
        ))
        .at(self.place_of(method, &[tags::NAME]))
        .with_other("the other one is here", self.place_of(other, &[tags::NAME]))
        .with_help("rename one of them");
        self.problems.push(problem);
    }

    /// The boolean `field` of one of our options; false if it is not set.
    fn option(&self, extension: &str, options: &DynamicMessage, field: &str) -> bool {
        let value = self.option_value(extension, options, field);
        value.and_then(|value| value.as_bool()).unwrap_or(false)
    }

    fn priority(&mut self, method: &MethodDescriptor, options: &DynamicMessage) -> Priority {
        let value = self.option_value("rpc.procedure", options, "priority");
        match value.and_then(|value| value.as_enum_number()).unwrap_or(0) {
            0 => Priority::Normal,
            1 => Priority::Control,
            2 => Priority::Bulk,
            number => {
                let problem = Problem::new(format!(
                    "procedure `{}` has priority {number}, which does not exist",
                    method.full_name()
                ))
                .at(self.place_of(method, &[tags::procedure::OPTIONS]))
                .with_help("write `NORMAL`, `CONTROL` or `BULK`");
                self.problems.push(problem);
                Priority::Normal
            }
        }
    }

    /// The value of the `field` of one of our options.
    fn option_value(&self, extension: &str, options: &DynamicMessage, field: &str) -> Option<Value> {
        // If no file imports rpc/options.proto, the extension is unknown, and so it is not set.
        let extension = self.pool.get_extension_by_name(extension)?;
        if extension.parent_file().name() != OPTIONS_NAME {
            return None;
        }
        let value = options.get_extension(&extension);
        value
            .as_message()?
            .get_field_by_name(field)
            .map(|value| value.into_owned())
    }

    /// The comment of the item `full_name`.
    fn docs(&self, full_name: &str, file: &str, path: &[i32]) -> Vec<String> {
        if self.target.choices.without_comments.contains(full_name) {
            return Vec::new();
        }
        self.sources
            .location(file, path)
            .map(comments::docs)
            .unwrap_or_default()
    }

    fn place_of(&self, method: &MethodDescriptor, more: &[i32]) -> Option<Place> {
        self.sources
            .place(method.parent_file().name(), &[method.path(), more].concat())
    }
}

/// True if a call may run twice without harm.
fn is_idempotent(options: &MethodOptions) -> bool {
    matches!(
        options.idempotency_level(),
        IdempotencyLevel::Idempotent | IdempotencyLevel::NoSideEffects
    )
}

/// The id of `path` on the wire: the first 8 bytes, little-endian, of its SHA-256.
fn id(path: &str) -> u64 {
    let digest = Sha256::digest(path.as_bytes());
    digest
        .iter()
        .take(8)
        .rev()
        .fold(0, |id, byte| id << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_is_the_digest_s_first_bytes_read_backwards() {
        // `printf demo.kv.v1.Kv/rpc_fetch | sha256sum` begins 00a08951278e049e.
        assert_eq!(id("demo.kv.v1.Kv/rpc_fetch"), 0x9e04_8e27_5189_a000);
    }
}
