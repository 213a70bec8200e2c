//! Config and compile: what a build script sees.

use std::{
    env,
    error::Error as StdError,
    fs, io,
    path::{Path, PathBuf},
};

use proc_macro2::TokenStream;
use prost_reflect::DescriptorPool;
use prost_types::FileDescriptorProto;

use crate::{
    emit::{self, Target},
    error::{Error, Problem},
    model::Model,
    naming::module_path,
    scope,
    source::{Folder, OPTIONS_NAME, Sources, is_google, is_served},
};

/// Generates code for every .proto file in the folder `dir`, at any depth: a whole build script.
///
/// ```no_run
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     rpc_codegen::compile_dir("proto")
/// }
/// ```
///
/// Imports are counted from `dir`. The code is included by `rpc_runtime::include_protos!();`, and Cargo runs the
/// build script again when a file changes or a new one appears.
///
/// # Errors
///
/// An [`Error`] that says what is wrong with the files, and where. `main` prints it readably.
pub fn compile_dir(dir: impl AsRef<Path>) -> Result<(), Box<dyn StdError>> {
    Config::new().compile_dir(dir)
}

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
    files: Vec<PathBuf>,
    include_paths: Vec<PathBuf>,
    out_dir: Option<PathBuf>,
    type_attributes: Vec<(String, String)>,
    field_attributes: Vec<(String, String)>,
    parts: Parts,
    file_descriptor_set_path: Option<PathBuf>,
    runtime_path: String,
    purpose: Purpose,
}

/// Which halves of a service are generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parts {
    Both,
    Client,
    Server,
}

/// For whom code is generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// For users of the framework.
    User,
    /// For rpc-runtime itself: `package rpc.*` is allowed, and so is `rpc_terminate`.
    Builtin,
}

impl Parts {
    pub(crate) fn client(self) -> bool {
        self != Self::Server
    }

    pub(crate) fn server(self) -> bool {
        self != Self::Client
    }
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

    /// Generates code for every .proto file in the folder `dir`, at any depth, and for the
    /// [`files`](Self::files).
    ///
    /// # Errors
    ///
    /// An [`Error`] that says what is wrong with the files, and where. `main` prints it readably.
    pub fn compile_dir(&self, dir: impl AsRef<Path>) -> Result<(), Box<dyn StdError>> {
        let dir = dir.as_ref();
        let folder = Folder::list(dir)?;
        let mut config = self.clone();
        config.include_paths.insert(0, dir.to_owned());
        let served = |path: &PathBuf| path.strip_prefix(dir).is_ok_and(is_served);
        config
            .files
            .extend(folder.protos.iter().filter(|path| !served(path)).cloned());
        config.run(&folder.folders)?;
        Ok(())
    }

    /// Generates code for the [`files`](Self::files) and for what they import.
    ///
    /// # Errors
    ///
    /// An [`Error`] that says what is wrong with the files, and where. `main` prints it readably.
    pub fn compile(&self) -> Result<(), Box<dyn StdError>> {
        let mut config = self.clone();
        if config.include_paths.is_empty() {
            let folders = self.files.iter().filter_map(|file| file.parent());
            // The parent of a bare file name is empty, and means the current folder.
            config.include_paths = folders
                .map(|folder| {
                    if folder.as_os_str().is_empty() {
                        Path::new(".")
                    } else {
                        folder
                    }
                    .into()
                })
                .collect();
            config.include_paths.dedup();
        }
        if config.files.is_empty() {
            return Err(Error::from(
                Problem::new("no .proto file was given")
                    .with_help("name them with `Config::files`, or their folder with `compile_dir`"),
            )
            .into());
        }
        config.run(&[])?;
        Ok(())
    }

    fn run(&self, folders: &[PathBuf]) -> Result<(), Error> {
        let cargo_dir = env::var_os("OUT_DIR").map(PathBuf::from);
        let out_dir = self
            .out_dir
            .clone()
            .or_else(|| cargo_dir.clone())
            .ok_or_else(|| {
                Problem::new("there is no folder to write to: the variable OUT_DIR is not set")
                    .with_help("call this in a build script, where Cargo sets it, or say `Config::out_dir`")
            })?;
        let runtime = self.runtime()?;
        let sources = Sources::read(&self.include_paths, &self.files)?;
        let compiler = sources.link()?;
        let pool = compiler.descriptor_pool();
        let model = self.check(&pool, &sources, &runtime)?;
        let target = Target {
            runtime: &runtime,
            runtime_path: &self.runtime_path,
            parts: self.parts,
            purpose: self.purpose,
            type_attributes: &self.type_attributes,
            field_attributes: &self.field_attributes,
            include_env: self.out_dir.is_none(),
        };
        for (name, text) in emit::files(&pool, &model, &target)? {
            write(&out_dir.join(name), text.as_bytes())?;
        }
        if let Some(path) = &self.file_descriptor_set_path {
            write(path, &compiler.encode_file_descriptor_set())?;
        }
        if cargo_dir.is_some_and(|dir| dir == out_dir) {
            // What `include_protos!()` looks for: without a build script there is no such variable.
            println!(
                "cargo::rustc-env={INCLUDED}={}",
                out_dir.join(emit::INCLUDED).display()
            );
        }
        if env::var_os("OUT_DIR").is_some() {
            for path in folders.iter().map(PathBuf::as_path).chain(sources.paths()) {
                println!("cargo::rerun-if-changed={}", path.display());
            }
            for warning in &model.warnings {
                println!("cargo::warning={warning}");
            }
        }
        Ok(())
    }

    fn runtime(&self) -> Result<TokenStream, Error> {
        let path: Result<syn::Path, syn::Error> = syn::parse_str(&self.runtime_path);
        path.map(|path| quote::quote!(#path)).map_err(|_| {
            Problem::new(format!(
                "`{}` is not the path of a Rust module",
                self.runtime_path
            ))
            .with_help("give `Config::runtime_path` a path such as `::rpc_runtime`")
            .into()
        })
    }

    /// All of our own rules, at once.
    fn check(&self, pool: &DescriptorPool, sources: &Sources, runtime: &TokenStream) -> Result<Model, Error> {
        let files: Vec<_> = pool.files().filter(|file| !is_google(file.name())).collect();
        let protos: Vec<&FileDescriptorProto> = files
            .iter()
            .map(prost_reflect::FileDescriptor::file_descriptor_proto)
            .filter(|file| file.name() != OPTIONS_NAME)
            .collect();
        let mut problems: Vec<Problem> = protos
            .iter()
            .filter_map(|file| self.reserved(file, sources))
            .collect();
        problems.extend(scope::clashes(&protos, sources, self.parts));
        match Model::new(pool, sources, self.purpose, runtime) {
            Ok(model) if problems.is_empty() => Ok(model),
            Ok(_) => Err(Error::new(problems)),
            Err(more) => Err(Error::new(problems.into_iter().chain(more))),
        }
    }

    fn reserved(&self, file: &FileDescriptorProto, sources: &Sources) -> Option<Problem> {
        let package = file.package();
        let is_rpc = package == "rpc" || package.starts_with("rpc.");
        let whose = if is_rpc && self.purpose == Purpose::User {
            "the framework"
        } else if package == "google.protobuf" || package.starts_with("google.protobuf.") {
            "google's own messages"
        } else if module_path(package) == ["rpc_protos"] {
            "the file that includes all packages"
        } else {
            return None;
        };
        Some(
            Problem::new(format!("package `{package}` is reserved for {whose}"))
                .at(sources.place(file.name(), &[2]))
                .with_help("put the file into a package of your own, such as `acme.shop.v1`"),
        )
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

/// The variable by which rpc-runtime's `include_protos!()` finds the file that includes all others.
const INCLUDED: &str = "RPC_CODEGEN_PROTOS";

/// Writes `bytes` to `path`, unless they are there: what is not written again is not compiled again.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
    folder
        .and_then(|()| fs::write(path, bytes))
        .map_err(|error: io::Error| Problem::new(format!("cannot write {}: {error}", path.display())).into())
}
