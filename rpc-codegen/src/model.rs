//! The model: services and procedures, checked here once and trusted afterwards.

mod clashes;
mod components;
mod flatten;
mod graph;
pub(crate) mod naming;
mod oneof;
mod reader;
mod reserved;
mod types;

use proc_macro2::TokenStream;
use prost_reflect::{DescriptorPool, FileDescriptor, MessageDescriptor};
use prost_types::FileDescriptorProto;

pub(crate) use self::{
    flatten::{Field, FieldKind, value_of},
    graph::{Derives, Graph, message_of},
    oneof::{oneof_of, oneof_type},
    types::{Types, ident, is_option},
};
use self::{naming::Stem, reader::Reader};
use crate::{
    error::Error,
    source::{OPTIONS_NAME, Sources, is_google},
    target::Target,
};

/// A service, as the emitter needs it.
#[derive(Debug)]
pub(crate) struct Service {
    /// The name in the .proto file.
    pub(crate) name: String,
    /// The name with its package: `demo.kv.v1.Kv`.
    pub(crate) full_name: String,
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
    pub(crate) run: Run,
    pub(crate) priority: Priority,
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
    Message(TokenStream),
    /// The whole message; stubs take the value of its only field, too.
    Value(TokenStream),
    /// The fields of the message.
    Fields(TokenStream, Vec<Field>),
    /// A stream of messages.
    Stream(TokenStream),
}

/// The result of a method.
#[derive(Debug)]
pub(crate) enum Reply {
    /// The whole message; `()` for `google.protobuf.Empty`.
    Message(TokenStream),
    /// The only field of the message.
    Field(TokenStream, Field),
    /// A stream of messages.
    Stream(TokenStream),
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

/// All messages and services of a pool, and the warnings about them.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) graph: Graph,
    pub(crate) services: Vec<Service>,
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
        let mut problems = reserved::problems(&files, sources, target.purpose);
        problems.extend(clashes::problems(&files, sources, target.parts));
        let graph = Graph::new(pool);
        let mut reader = Reader::new(pool, sources, &graph, target);
        let services = pool.services().map(|service| reader.service(&service)).collect();
        let (warnings, more) = reader.finish();
        problems.extend(more);
        if problems.is_empty() {
            Ok(Self {
                graph,
                services,
                warnings,
            })
        } else {
            Err(Error::new(problems))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use quote::quote;

    use super::*;
    use crate::source::Comments;

    /// The warnings for tests/golden/`file`.
    fn warnings(file: &str) -> Vec<String> {
        let file = PathBuf::from("tests/golden").join(file);
        let folder = file.parent().expect("it is in a folder").to_owned();
        let sources = Sources::read(&[folder], &[file]).expect("it can be read");
        let pool = sources.link(Comments::LeftOut).expect("it is right");
        let runtime = quote!(::rpc_runtime);
        let model = Model::new(&pool, &sources, &Target::for_users(&runtime)).expect("it has no clashes");
        model.warnings
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
    fn a_stub_with_a_taken_name_gives_a_warning() {
        assert_eq!(
            warnings("grpc/greeter.proto"),
            [
                "procedure Greeter.Terminate: its stub is named `terminate_`, because every call has a method `terminate`"
            ]
        );
    }
}
