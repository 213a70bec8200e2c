//! Config: the options of a build script.

mod messages;
mod services;

use std::path::PathBuf;

use crate::{choices::Choices, source::SetInput, target::Purpose};

/// The options of a build script: input files, output folder, content of the code.
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
    pub(crate) descriptor_set: Option<SetInput>,
    pub(crate) include_paths: Vec<PathBuf>,
    pub(crate) out_dir: Option<PathBuf>,
    pub(crate) choices: Choices,
    pub(crate) file_descriptor_set_path: Option<PathBuf>,
    pub(crate) runtime_path: String,
    pub(crate) purpose: Purpose,
    pub(crate) embeds_descriptors: bool,
}

impl Config {
    /// Creates a configuration without files: clients and servers, written to Cargo's `OUT_DIR`.
    pub fn new() -> Self {
        Self {
            files: Vec::new(),
            descriptor_set: None,
            include_paths: Vec::new(),
            out_dir: None,
            choices: Choices::default(),
            file_descriptor_set_path: None,
            runtime_path: "::rpc_runtime".to_owned(),
            purpose: Purpose::User,
            embeds_descriptors: true,
        }
    }

    /// Adds a .proto file; its imports are compiled, too.
    pub fn file(&mut self, path: impl Into<PathBuf>) -> &mut Self {
        self.files.push(path.into());
        self
    }

    /// Adds several .proto files; see [`file`](Self::file).
    pub fn files(&mut self, paths: impl IntoIterator<Item = impl Into<PathBuf>>) -> &mut Self {
        self.files.extend(paths.into_iter().map(Into::into));
        self
    }

    /// Reads the descriptor set at `path` in place of .proto files.
    ///
    /// It is an encoded `google.protobuf.FileDescriptorSet`, as `buf build -o` and
    /// `protoc --include_imports --include_source_info -o` write it, or
    /// [`file_descriptor_set_path`](Self::file_descriptor_set_path). All files in it are compiled. Finish with
    /// [`compile`](Self::compile), and add no files. Default: none. This and
    /// [`descriptor_set_bytes`](Self::descriptor_set_bytes) replace each other.
    ///
    /// ```no_run
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     rpc_codegen::Config::new().descriptor_set("shop.binpb").compile()
    /// }
    /// ```
    pub fn descriptor_set(&mut self, path: impl Into<PathBuf>) -> &mut Self {
        self.descriptor_set = Some(SetInput::File(path.into()));
        self
    }

    /// Takes a descriptor set from memory, in place of .proto files; see [`descriptor_set`](Self::descriptor_set).
    ///
    /// It is for a build script that has compiled the files itself, or that runs `buf` or a compiler of its own. `bytes` is an encoded
    /// `google.protobuf.FileDescriptorSet`. Default: none.
    ///
    /// ```no_run
    /// # fn own_compiler() -> Result<Vec<u8>, Box<dyn std::error::Error>> { Ok(Vec::new()) }
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let set: Vec<u8> = own_compiler()?;
    ///     println!("cargo::rerun-if-changed=proto");
    ///     rpc_codegen::Config::new().descriptor_set_bytes(set).compile()
    /// }
    /// ```
    ///
    /// A `prost_types::FileDescriptorSet` has lost all custom options, `(rpc.service)` and `(rpc.procedure)` too. So do not
    /// encode one if your files set them: pass the bytes on as the compiler wrote them. protox has
    /// `Compiler::encode_file_descriptor_set` for it.
    ///
    /// Cargo does not know which files the bytes come from, and runs the build script again for any change in the package. Print
    /// `cargo::rerun-if-changed` with their folder, as above.
    pub fn descriptor_set_bytes(&mut self, bytes: impl Into<Vec<u8>>) -> &mut Self {
        self.descriptor_set = Some(SetInput::Bytes(bytes.into()));
        self
    }

    /// Adds a folder that imports are relative to; the first folder that has the file wins.
    ///
    /// Default: the folders of the files. The folder given to [`compile_dir`](Self::compile_dir) always comes first.
    pub fn include_path(&mut self, path: impl Into<PathBuf>) -> &mut Self {
        self.include_paths.push(path.into());
        self
    }

    /// Sets the folder of the generated files. Default: Cargo's `OUT_DIR`.
    ///
    /// Several calls of a build script may write to one folder: `rpc_protos.rs` includes the packages of all. It is an error if
    /// two calls generate different code for one package there.
    ///
    /// `rpc_runtime::include_protos!()` reads `OUT_DIR` only: for another folder, write
    /// `include!("that/rpc_protos.rs");`.
    pub fn out_dir(&mut self, path: impl Into<PathBuf>) -> &mut Self {
        self.out_dir = Some(path.into());
        self
    }

    /// Writes the descriptors of all files to `path`, in addition to the code.
    ///
    /// The file is an encoded `google.protobuf.FileDescriptorSet` with imports, comments and options. Default: it is not
    /// written.
    pub fn file_descriptor_set_path(&mut self, path: impl Into<PathBuf>) -> &mut Self {
        self.file_descriptor_set_path = Some(path.into());
        self
    }

    /// Leaves out the descriptors that servers carry.
    ///
    /// A server carries its .proto file and all that this imports, compiled and without comments, so that reflection can show
    /// callers what it serves. They are constants of the program, one set for all services of a package: a few KiB, and 11 KiB more if a file has
    /// custom options, which import Google's `descriptor.proto`. Calls cost nothing more. Default: each server carries them.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// rpc_codegen::Config::new().without_descriptors().compile_dir("proto")
    /// # }
    /// ```
    pub fn without_descriptors(&mut self) -> &mut Self {
        self.embeds_descriptors = false;
        self
    }

    /// Sets the path of rpc-runtime in the generated code. Default: `::rpc_runtime`.
    ///
    /// It is for a renamed dependency, or for one that another crate re-exports: `::acme_api::rpc_runtime`.
    pub fn runtime_path(&mut self, path: impl Into<String>) -> &mut Self {
        self.runtime_path = path.into();
        self
    }

    /// Generates a built-in service of rpc-runtime, in a package below `rpc`.
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
