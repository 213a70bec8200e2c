//! The model: services and procedures, checked here once and trusted afterwards.

mod accessors;
mod allow;
mod clashes;
mod components;
mod extensions;
mod externs;
mod flatten;
mod google;
mod graph;
mod hash_by;
mod json;
mod left_out;
pub(crate) mod naming;
mod oneof;
mod options;
mod reader;
mod required;
mod reserved;
mod service_names;
mod types;

use prost_reflect::{DescriptorPool, FileDescriptor, MessageDescriptor};
use prost_types::FileDescriptorProto;

pub(crate) use self::{
    accessors::impossible as without_accessors,
    externs::{extern_types, is_generated, is_given},
    flatten::{Field, FieldKind, value_of},
    google::is_newer,
    graph::{Derives, Graph, message_of},
    json::{Json, NULL_VALUE},
    naming::full_name,
    oneof::{is_in_oneof, oneof_of, oneof_type, oneofs, path_of},
    service_names::ServiceNames,
    types::{Types, bytes_type, can_be_boxed, has_bytes, ident, is_option},
};
use self::{naming::Stem, reader::Reader};
use crate::{
    code::Code,
    error::Error,
    source::{OPTIONS_NAME, Sources, is_google},
    target::Target,
};

/// A service, as the emitter needs it.
#[derive(Debug)]
pub(crate) struct Service {
    /// The name with its package: `demo.kv.v1.Kv`.
    pub(crate) full_name: String,
    /// The names of its items in Rust.
    pub(crate) names: ServiceNames,
    /// The package; several files may share it.
    pub(crate) package: String,
    pub(crate) docs: Vec<String>,
    pub(crate) is_deprecated: bool,
    pub(crate) procedures: Vec<Procedure>,
}

/// A procedure of a service.
#[derive(Debug)]
pub(crate) struct Procedure {
    /// Service and procedure: `demo.kv.v1.Kv/rpc_fetch`.
    pub(crate) path: String,
    /// The id that identifies the path on the wire.
    pub(crate) id: u64,
    pub(crate) stem: Stem,
    pub(crate) docs: Vec<String>,
    pub(crate) is_deprecated: bool,
    /// True if a call may run twice without harm.
    pub(crate) is_idempotent: bool,
    pub(crate) run: Run,
    pub(crate) priority: Priority,
    /// The number of the request's field that is the key of a call.
    pub(crate) hash_field: Option<u32>,
    /// The roles that may call it: its rule. Empty without a rule.
    pub(crate) allow: Vec<String>,
    pub(crate) request: Request,
    pub(crate) reply: Reply,
    /// The message of a request, flattened or not; `output` is that of a reply.
    pub(crate) input: MessageDescriptor,
    pub(crate) output: MessageDescriptor,
}

/// The place where the handlers of a procedure run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Run {
    InOrder,
    Spawn,
    Blocking,
}

/// The order in which messages are written when several wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Priority {
    Normal,
    Control,
    Bulk,
}

/// The arguments of a method.
#[derive(Debug)]
pub(crate) enum Request {
    /// None: `google.protobuf.Empty`.
    Empty,
    /// The whole message.
    Message(Code),
    /// The whole message; stubs take the value of its only field, too.
    Value(Code),
    /// The fields of the message.
    Fields(Code, Vec<Field>),
    /// A stream of messages.
    Stream(Code),
}

/// The result of a method.
#[derive(Debug)]
pub(crate) enum Reply {
    /// The whole message; `()` for `google.protobuf.Empty`.
    Message(Code),
    /// The only field of the message.
    Field(Code, Field),
    /// A stream of messages.
    Stream(Code),
}

impl Procedure {
    /// True if requests or replies are a stream.
    pub(crate) fn has_stream(&self) -> bool {
        self.has_request_stream() || self.has_reply_stream()
    }

    /// True if callers send a stream.
    pub(crate) fn has_request_stream(&self) -> bool {
        matches!(self.request, Request::Stream(_))
    }

    /// True if handlers reply with a stream.
    pub(crate) fn has_reply_stream(&self) -> bool {
        matches!(self.reply, Reply::Stream(_))
    }
}

/// All messages and services of a pool, what gets JSON, and the warnings about them.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) graph: Graph,
    pub(crate) services: Vec<Service>,
    pub(crate) json: Json,
    pub(crate) warnings: Vec<String>,
}

impl Model {
    /// Reads all services of `pool`, and checks our own rules.
    ///
    /// # Errors
    ///
    /// All violations of these rules.
    pub(crate) fn new(pool: &DescriptorPool, sources: &Sources, target: &Target<'_>) -> Result<Self, Error> {
        let files: Vec<_> = pool.files().filter(|file| !is_google(file.name())).collect();
        let files: Vec<&FileDescriptorProto> = files
            .iter()
            .map(FileDescriptor::file_descriptor_proto)
            .filter(|file| file.name() != OPTIONS_NAME)
            .collect();
        let mut problems = options::problems(pool, target);
        problems.extend(left_out::problems(pool, sources, target));
        problems.extend(reserved::problems(&files, sources, target.purpose));
        let names = clashes::names(&files, sources, target);
        problems.extend(names.problems);
        let graph = Graph::new(pool, target);
        problems.extend(required::problems(pool, sources, &graph));
        let mut reader = Reader::new(pool, sources, &graph, target, names.services);
        let services = pool
            .services()
            .filter(|service| is_generated(service.full_name(), target));
        let services = services.map(|service| reader.service(&service)).collect();
        let (mut warnings, more) = reader.finish();
        warnings.extend(extensions::warnings(pool, sources));
        problems.extend(more);
        let (json, more) = Json::new(pool, sources, target);
        problems.extend(more);
        warnings.extend(names.warnings);
        warnings.extend(accessor_warnings(pool));
        if problems.is_empty() {
            Ok(Self {
                graph,
                services,
                json,
                warnings,
            })
        } else {
            Err(Error::new(problems))
        }
    }
}

/// The warnings about fields that get no accessors.
fn accessor_warnings(pool: &DescriptorPool) -> Vec<String> {
    let messages = pool
        .all_messages()
        .filter(|message| !is_google(message.parent_file().name()));
    messages
        .flat_map(|message| {
            let fields = accessors::impossible(&message).into_iter();
            let warnings = fields.map(|(field, name)| accessors::warning(&message, &field, &name));
            warnings.collect::<Vec<_>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::{MAIN_SEPARATOR, Path, PathBuf},
    };

    use quote::quote;

    use super::*;
    use crate::{choices::Choices, source::Comments};

    /// The warnings for tests/golden/`file`.
    fn warnings(file: &str) -> Vec<String> {
        let file = PathBuf::from("tests/golden").join(file);
        let folder = file.parent().expect("it is in a folder").to_owned();
        warnings_of(&folder, &[file])
    }

    /// The warnings for `files`, which are in `folder`.
    fn warnings_of(folder: &Path, files: &[PathBuf]) -> Vec<String> {
        let sources = Sources::read(&[folder.to_owned()], files).expect("it can be read");
        let pool = sources.link(Comments::LeftOut).expect("it is right");
        let runtime = Code::from(quote!(::rpc_runtime));
        let model = Model::new(&pool, &sources, &Target::for_users(&runtime, &Choices::default()))
            .expect("it has no clashes");
        let warnings = model.warnings.into_iter();
        warnings.map(|text| text.replace(MAIN_SEPARATOR, "/")).collect()
    }

    #[test]
    fn arguments_not_listed_by_number_give_a_warning() {
        assert_eq!(
            warnings("flatten/paint.proto"),
            [
                "message paint.v1.MoveRequest: `flatten` orders arguments by field number (from, to, note), but the file lists \
                 the fields as (to, from, note): list them by number"
            ]
        );
    }

    #[test]
    fn extensions_of_a_file_give_one_warning_and_options_none() {
        assert_eq!(
            warnings("../extensions/legacy.proto"),
            [
                "tests/golden/../extensions/legacy.proto:20: the extension `legacy.note` and 1 other in this file get no code, and \
                 decoding skips their values: make each a field of the message that it extends, or a message beside it"
            ]
        );
    }

    #[test]
    fn twenty_files_with_extensions_are_named_and_the_others_counted() {
        let folder = std::env::temp_dir().join(format!("rpc-codegen-extensions-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder for temporary files");
        let write = |number: usize| {
            let path = folder.join(format!("x{number:02}.proto"));
            let text = format!(
                "syntax = \"proto2\"; package x{number}; message Base {{ extensions 100 to 199; }} \
                 extend Base {{ optional int32 level = 100; }}"
            );
            fs::write(&path, text).expect("the file is written");
            path
        };
        let files: Vec<PathBuf> = (0..23).map(write).collect();
        let warnings = warnings_of(&folder, &files);
        fs::remove_dir_all(&folder).expect("it is there");
        assert_eq!(warnings.len(), 21, "{warnings:?}");
        let lost = "x19.proto:1: the extension `x19.level` gets no code, and decoding skips its values: make it a field of \
                    `x19.Base`, or a message beside it";
        assert!(warnings[19].ends_with(lost), "{warnings:?}");
        assert_eq!(
            warnings[20],
            "3 more files have extensions, which get no code, either"
        );
    }

    #[test]
    fn a_stub_with_a_taken_name_gives_a_warning() {
        assert_eq!(
            warnings("grpc/greeter.proto"),
            [
                "procedure Greeter.Terminate: its stub is named `terminate_`, because every call has a method `terminate`"
            ]
        );
    }

    #[test]
    fn a_name_that_gives_way_gives_a_warning() {
        let warnings = warnings("../../../tests/codegen/proto/acme/names/services.proto");
        assert_eq!(warnings.len(), 7, "{warnings:?}");
        let expected = "service acme.names.services.Msg: the type behind `send()` is named `MsgSend_`, because message \
                        `acme.names.services.MsgSend` is named `MsgSend`";
        assert!(warnings.iter().any(|warning| warning == expected), "{warnings:?}");
    }

    #[test]
    fn a_field_without_accessors_gives_a_warning() {
        let warnings = warnings("../../../tests/codegen/proto/acme/prost/accessors.proto");
        assert_eq!(
            (&*warnings[0], &*warnings[5]),
            (
                "message acme.prost.Accessors: field `mode` holds plain numbers and has no accessors, because the accessor \
                 `set_mode` would have the name of another field's accessor",
                "message acme.prost.Accessors: field `type` holds plain numbers and has no accessors, because prost cannot name \
                 the accessors of a keyword"
            )
        );
    }
}
