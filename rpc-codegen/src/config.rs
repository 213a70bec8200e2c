//! Config: what to generate, as a build script says it.

use std::path::PathBuf;

use crate::target::{Parts, Purpose};

/// What to generate, from which files, and where to; everything has a default.
///
/// ```no_run
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     rpc_codegen::Config::new()
///         .type_attribute(".shop.v1.Money", "#[derive(PartialOrd)]")
///         .client_only()
///         .compile_dir("proto")
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) files: Vec<PathBuf>,
    pub(crate) include_paths: Vec<PathBuf>,
    pub(crate) out_dir: Option<PathBuf>,
    pub(crate) type_attributes: Vec<(String, String)>,
    pub(crate) field_attributes: Vec<(String, String)>,
    pub(crate) parts: Parts,
    pub(crate) file_descriptor_set_path: Option<PathBuf>,
    pub(crate) runtime_path: String,
    pub(crate) purpose: Purpose,
}

impl Config {
    /// The defaults: no files yet, both halves, into Cargo's `OUT_DIR`.
    pub fn new() -> Self {
        Self {
            files: Vec::new(),
            include_paths: Vec::new(),
            out_dir: None,
            type_attributes: Vec::new(),
            field_attributes: Vec::new(),
            parts: Parts::Both,
            file_descriptor_set_path: None,
            runtime_path: "::rpc_runtime".to_owned(),
            purpose: Purpose::User,
        }
    }

    /// Adds a file to [`compile`](Self::compile); code for what it imports is generated too.
    pub fn file(&mut self, path: impl Into<PathBuf>) -> &mut Self {
        self.files.push(path.into());
        self
    }

    /// Adds several files, as [`file`](Self::file) does.
    pub fn files(&mut self, paths: impl IntoIterator<Item = impl Into<PathBuf>>) -> &mut Self {
        self.files.extend(paths.into_iter().map(Into::into));
        self
    }

    /// Adds a folder from which imports are counted; the first one that has the file wins.
    ///
    /// By default these are the folders of the files, or the folder given to [`compile_dir`](Self::compile_dir),
    /// which always comes first.
    pub fn include_path(&mut self, path: impl Into<PathBuf>) -> &mut Self {
        self.include_paths.push(path.into());
        self
    }

    /// Writes the code into the folder `path` instead of Cargo's `OUT_DIR`.
    ///
    /// `rpc_runtime::include_protos!()` knows nothing of that folder: write `include!("that/rpc_protos.rs");`.
    pub fn out_dir(&mut self, path: impl Into<PathBuf>) -> &mut Self {
        self.out_dir = Some(path.into());
        self
    }

    /// Puts `attribute` on every message, enum and oneof that `path` matches.
    ///
    /// The path is `.shop.v1.Money` for one type, `.shop.v1` for a package, `Money` for whatever name ends in it, or
    /// `.` for all. Call it again for a second attribute.
    pub fn type_attribute(&mut self, path: impl Into<String>, attribute: impl Into<String>) -> &mut Self {
        self.type_attributes.push((path.into(), attribute.into()));
        self
    }

    /// Puts `attribute` on every field and enum value that `path` matches, as
    /// [`type_attribute`](Self::type_attribute) does on types: `.shop.v1.Money.units`.
    pub fn field_attribute(&mut self, path: impl Into<String>, attribute: impl Into<String>) -> &mut Self {
        self.field_attributes.push((path.into(), attribute.into()));
        self
    }

    /// Leaves the traits and servers out.
    ///
    /// Clients have no `in_process` then, for it takes a server.
    pub fn client_only(&mut self) -> &mut Self {
        self.parts = Parts::Client;
        self
    }

    /// Leaves the clients out.
    pub fn server_only(&mut self) -> &mut Self {
        self.parts = Parts::Server;
        self
    }

    /// Writes the descriptors of all files to `path` too, as an encoded `google.protobuf.FileDescriptorSet` with
    /// imports, comments and options.
    pub fn file_descriptor_set_path(&mut self, path: impl Into<PathBuf>) -> &mut Self {
        self.file_descriptor_set_path = Some(path.into());
        self
    }

    /// Where the code finds rpc-runtime, by default `::rpc_runtime`: for a renamed dependency, or one that another
    /// crate passes on, such as `::acme_api::rpc_runtime`.
    pub fn runtime_path(&mut self, path: impl Into<String>) -> &mut Self {
        self.runtime_path = path.into();
        self
    }

    /// For rpc-runtime's own services, in packages below `rpc`.
    #[doc(hidden)]
    pub fn builtin(&mut self) -> &mut Self {
        self.purpose = Purpose::Builtin;
        self
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}
