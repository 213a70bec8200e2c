//! Services and their procedures: checked once here, trusted afterwards.

mod flatten;
mod types;

use proc_macro2::TokenStream;
use prost_reflect::{
    DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, ServiceDescriptor, Value,
};
use prost_types::method_options::IdempotencyLevel;
use sha2::{Digest, Sha256};

pub(crate) use self::{
    flatten::{Field, Kind, is_boxed, value_of},
    types::{Types, ident, is_option},
};
use crate::{
    config::Purpose,
    docs,
    error::{Place, Problem},
    naming::Stem,
    source::{OPTIONS_NAME, Sources},
};

/// A service, as the emitter needs it.
#[derive(Debug)]
pub(crate) struct Service {
    /// The name, as the .proto spells it.
    pub(crate) name: String,
    /// The name with the package before it: `demo.kv.v1.Kv`.
    pub(crate) full_name: String,
    /// The package; several files may have the same.
    pub(crate) package: String,
    pub(crate) docs: Vec<String>,
    pub(crate) is_deprecated: bool,
    pub(crate) procedures: Vec<Procedure>,
}

/// A procedure of a service.
#[derive(Debug)]
pub(crate) struct Procedure {
    /// `demo.kv.v1.Kv/rpc_fetch`.
    pub(crate) path: String,
    /// What stands for the path on the wire.
    pub(crate) id: u64,
    pub(crate) stem: Stem,
    pub(crate) docs: Vec<String>,
    pub(crate) is_deprecated: bool,
    pub(crate) has_no_side_effects: bool,
    pub(crate) run: Run,
    pub(crate) priority: Priority,
    pub(crate) request: Request,
    pub(crate) reply: Reply,
    /// The messages of requests and replies, flattened or not.
    pub(crate) input: MessageDescriptor,
    pub(crate) output: MessageDescriptor,
}

/// Where the handlers of a procedure run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Run {
    InOrder,
    Spawn,
    Blocking,
}

/// What goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Priority {
    Normal,
    Control,
    Bulk,
}

/// What a method takes.
#[derive(Debug)]
pub(crate) enum Request {
    /// Nothing: `google.protobuf.Empty`.
    Empty,
    /// The message, whole.
    Message(TokenStream),
    /// The message, whole, or the value of its only field.
    Value(TokenStream),
    /// The fields of the message.
    Fields(TokenStream, Vec<Field>),
    /// A stream of messages.
    Stream(TokenStream),
}

/// What a method returns.
#[derive(Debug)]
pub(crate) enum Reply {
    /// The message, whole; `()` for `google.protobuf.Empty`.
    Message(TokenStream),
    /// The only field of the message.
    Field(TokenStream, Field),
    /// A stream of messages.
    Stream(TokenStream),
}

impl Procedure {
    /// Whether requests or replies are a stream.
    pub(crate) fn has_stream(&self) -> bool {
        self.has_request_stream() || self.has_reply_stream()
    }

    /// Whether callers send a stream.
    pub(crate) fn has_request_stream(&self) -> bool {
        matches!(self.request, Request::Stream(_))
    }

    /// Whether the answer is a stream.
    pub(crate) fn has_reply_stream(&self) -> bool {
        matches!(self.reply, Reply::Stream(_))
    }
}

/// All services of a pool, and what the user should know about them.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) services: Vec<Service>,
    pub(crate) warnings: Vec<String>,
}

impl Model {
    /// Reads all services of `pool`; `runtime` is the path of rpc-runtime.
    ///
    /// # Errors
    ///
    /// Everything that our own rules forbid.
    pub(crate) fn new(
        pool: &DescriptorPool,
        sources: &Sources,
        purpose: Purpose,
        runtime: &TokenStream,
    ) -> Result<Self, Vec<Problem>> {
        let mut reader = Reader {
            pool,
            sources,
            purpose,
            runtime,
            warnings: Vec::new(),
            problems: Vec::new(),
        };
        let services = pool.services().map(|service| reader.service(&service)).collect();
        if reader.problems.is_empty() {
            Ok(Self {
                services,
                warnings: reader.warnings,
            })
        } else {
            Err(reader.problems)
        }
    }
}

/// What collects problems while services are read.
struct Reader<'a> {
    pool: &'a DescriptorPool,
    sources: &'a Sources,
    purpose: Purpose,
    runtime: &'a TokenStream,
    warnings: Vec<String>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn service(&mut self, service: &ServiceDescriptor) -> Service {
        let file = service.parent_file();
        let proto = service.service_descriptor_proto();
        let flatten = self.option("rpc.service", &service.options(), "flatten");
        let mut stems: Vec<(Stem, String)> = Vec::new();
        let mut procedures = Vec::new();
        for method in service.methods() {
            let stem = self.stem(&method);
            match stems.iter().find(|(other, _)| *other == stem) {
                Some((_, other)) => {
                    let other = other.clone();
                    self.stem_clash(&method, &stem, &other);
                }
                None => stems.push((stem.clone(), method.name().to_owned())),
            }
            procedures.push(self.procedure(&method, stem, flatten));
        }
        Service {
            name: service.name().to_owned(),
            full_name: service.full_name().to_owned(),
            package: file.package_name().to_owned(),
            docs: self.docs(service.parent_file().name(), service.path()),
            is_deprecated: proto
                .options
                .as_ref()
                .is_some_and(prost_types::ServiceOptions::deprecated),
            procedures,
        }
    }

    fn procedure(&mut self, method: &MethodDescriptor, stem: Stem, flatten: bool) -> Procedure {
        let proto = method.method_descriptor_proto();
        let options = method.options();
        let blocking = self.option("rpc.procedure", &options, "blocking");
        let spawn = self.option("rpc.procedure", &options, "spawn");
        let run = match (blocking, spawn) {
            (true, true) => {
                let problem = Problem::new(format!(
                    "procedure `{}` is declared both `blocking` and `spawn`",
                    method.full_name()
                ))
                .at(self.place_of(method, &[4]))
                .with_help(
                    "a handler that blocks its thread is `blocking`, one that computes for long is `spawn`",
                );
                self.problems.push(problem);
                Run::Blocking
            }
            (true, false) => Run::Blocking,
            (false, true) => Run::Spawn,
            (false, false) => Run::InOrder,
        };
        let priority = self.priority(method, &options);
        let path = format!("{}/{}", method.parent_service().full_name(), method.name());
        let file = method.parent_file();
        let types = Types::new(file.package_name(), self.runtime);
        let request = if method.is_client_streaming() {
            Request::Stream(types.message(&method.input()))
        } else {
            match flatten::request(&types, &method.input(), flatten) {
                // Nobody calls the runtime's own services by hand.
                Request::Value(ty) if self.purpose == Purpose::Builtin => Request::Message(ty),
                request => request,
            }
        };
        if matches!(request, Request::Fields(..)) {
            let warning = flatten::order_warning(&method.input());
            let warning = warning.filter(|warning| !self.warnings.contains(warning));
            self.warnings.extend(warning);
        }
        Procedure {
            id: id(&path),
            path,
            docs: self.docs(file.name(), method.path()),
            is_deprecated: proto
                .options
                .as_ref()
                .is_some_and(prost_types::MethodOptions::deprecated),
            has_no_side_effects: proto
                .options
                .as_ref()
                .is_some_and(|options| options.idempotency_level() == IdempotencyLevel::NoSideEffects),
            run,
            priority,
            request,
            reply: if method.is_server_streaming() {
                Reply::Stream(types.message(&method.output()))
            } else {
                flatten::reply(&types, &method.output(), flatten)
            },
            input: method.input(),
            output: method.output(),
            stem,
        }
    }

    fn stem(&mut self, method: &MethodDescriptor) -> Stem {
        let stem = Stem::new(method.name());
        let name = method.full_name();
        if !crate::naming::is_nameable(method.name()) {
            let problem = Problem::new(format!("procedure `{name}` cannot be named in Rust"))
                .at(self.place_of(method, &[1]))
                .with_help("give it a name with a letter in it");
            self.problems.push(problem);
        }
        if self.purpose == Purpose::Builtin {
            return stem;
        }
        if method.name() == "rpc_terminate" {
            let problem = Problem::new(format!("procedure `{name}` has a name that is built in"))
                .at(self.place_of(method, &[1]))
                .with_help(
                    "leave it out: every server has it, and every client calls it by `send_recv().terminate()`",
                );
            self.problems.push(problem);
        } else if stem.is_taken() {
            self.warnings.push(format!(
                "procedure {name}: its stub is called `{}`, for every call has a `{}` of its own",
                stem.stub(),
                stem.stub().trim_end_matches('_')
            ));
        }
        stem
    }

    fn stem_clash(&mut self, method: &MethodDescriptor, stem: &Stem, other: &str) {
        let service = method.parent_service();
        let first = service.methods().find(|method| method.name() == other);
        let problem = Problem::new(format!(
            "procedures `{other}` and `{}` of service `{}` are both called `{}` in Rust",
            method.name(),
            service.full_name(),
            stem.method()
        ))
        .at(self.place_of(method, &[1]))
        .with_other(
            "the other one is here",
            first.and_then(|first| self.place_of(&first, &[1])),
        )
        .with_help("give one of them another name");
        self.problems.push(problem);
    }

    /// Whether the `field` of one of our own options is set.
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
                    "procedure `{}` has the priority {number}, which is none",
                    method.full_name()
                ))
                .at(self.place_of(method, &[4]))
                .with_help("the priorities are `NORMAL`, `CONTROL` and `BULK`");
                self.problems.push(problem);
                Priority::Normal
            }
        }
    }

    /// The value of the `field` of one of our own options.
    fn option_value(&self, extension: &str, options: &DynamicMessage, field: &str) -> Option<Value> {
        // The extension is unknown if no file imports ours, and then nobody has set it.
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

    fn docs(&self, file: &str, path: &[i32]) -> Vec<String> {
        let file = self.pool.get_file_by_name(file);
        let info = file
            .as_ref()
            .and_then(|file| file.file_descriptor_proto().source_code_info.as_ref());
        let location = info.and_then(|info| info.location.iter().find(|location| location.path == path));
        location.map(docs::of).unwrap_or_default()
    }

    fn place_of(&self, method: &MethodDescriptor, more: &[i32]) -> Option<Place> {
        self.sources
            .place(method.parent_file().name(), &[method.path(), more].concat())
    }
}

/// What stands for `path` on the wire: the first 8 bytes, little-endian, of its SHA-256.
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
    use std::path::PathBuf;

    use quote::quote;

    use super::*;

    #[test]
    fn id_is_the_digest_s_first_bytes_read_backwards() {
        // `printf demo.kv.v1.Kv/rpc_fetch | sha256sum` begins 00a08951278e049e.
        assert_eq!(id("demo.kv.v1.Kv/rpc_fetch"), 0x9e04_8e27_5189_a000);
    }

    /// What is warned of in tests/golden/`file`.
    fn warnings(file: &str) -> Vec<String> {
        let file = PathBuf::from("tests/golden").join(file);
        let folder = file.parent().expect("it is in a folder").to_owned();
        let sources = Sources::read(&[folder], &[file]).expect("it can be read");
        let pool = sources.link().expect("it is right").descriptor_pool();
        let runtime = quote!(::rpc_runtime);
        let model = Model::new(&pool, &sources, Purpose::User, &runtime).expect("it has no clashes");
        model.warnings
    }

    #[test]
    fn arguments_that_are_not_listed_by_number_are_warned_of() {
        assert_eq!(
            warnings("flatten/paint.proto"),
            [
                "message paint.v1.MoveRequest: `flatten` makes arguments of its fields in the order of their numbers \
                 (from, to, note), not of their lines (to, from, note): list them by number"
            ]
        );
    }

    #[test]
    fn a_stub_whose_name_is_taken_is_warned_of() {
        assert_eq!(
            warnings("grpc/greeter.proto"),
            [
                "procedure Greeter.Terminate: its stub is called `terminate_`, for every call has a `terminate` of its own"
            ]
        );
    }
}
