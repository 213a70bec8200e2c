//! Choices: what a build script asks for, by the path of a message, field or service.

mod by_path;

pub(crate) use self::by_path::{ByPath, matches};

/// The options of a build script that hold for items of .proto files.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choices {
    /// The Rust paths of packages and types that are not generated, because they exist elsewhere.
    pub(crate) extern_paths: ByPath<String>,
    /// The packages, types and services that are not generated.
    pub(crate) left_out: ByPath<()>,
    /// The domains in the type URLs of messages that implement `Name`.
    pub(crate) type_names: ByPath<String>,
    /// The services whose trait answers procedures that an implementation leaves out.
    pub(crate) default_handlers: ByPath<()>,
    /// The services that have a trait for `dyn`, too.
    pub(crate) dyn_traits: ByPath<()>,
    /// The halves of services.
    pub(crate) parts: ByPath<Parts>,
    /// The map fields that are a `BTreeMap`.
    pub(crate) btree_maps: ByPath<()>,
    pub(crate) bytes_types: ByPath<BytesType>,
    /// The messages and enums that get serde's traits.
    pub(crate) json: ByPath<()>,
    /// True if reading JSON skips unknown fields.
    pub(crate) json_skips_unknown: bool,
    /// The fields that are in a `Box`.
    pub(crate) boxed: ByPath<()>,
    pub(crate) without_debug: ByPath<()>,
    pub(crate) without_comments: ByPath<()>,
    /// True if the values of enums keep the enum's name at their start.
    pub(crate) retain_enum_prefix: bool,
    pub(crate) type_attributes: ByPath<String>,
    pub(crate) message_attributes: ByPath<String>,
    pub(crate) enum_attributes: ByPath<String>,
    pub(crate) field_attributes: ByPath<String>,
    pub(crate) client_attributes: ByPath<String>,
    pub(crate) server_attributes: ByPath<String>,
    pub(crate) trait_attributes: ByPath<String>,
}

/// The halves of a service that are generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parts {
    Both,
    Client,
    Server,
}

impl Parts {
    pub(crate) fn client(self) -> bool {
        self != Self::Server
    }

    pub(crate) fn server(self) -> bool {
        self != Self::Client
    }
}

/// The Rust type of a `bytes` field; see [`Config::bytes_type`](crate::Config::bytes_type).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum BytesType {
    /// `rpc_runtime::Bytes`: shares the memory of the frame that it came in, and is cheap to clone. The default.
    #[default]
    Bytes,
    /// `Vec<u8>`: a copy.
    Vec,
}
