//! The pipeline from .proto files to Rust files: read, link, check, emit, write.

use std::{
    env,
    error::Error as StdError,
    path::{Path, PathBuf},
};

use prost_reflect::DescriptorPool;
use quote::quote;

use crate::{
    code::Code,
    config::Config,
    emit,
    error::{Error, Problem},
    model::Model,
    parallel,
    progress::Progress,
    source::{Comments, Folder, SetInput, Sources, is_served},
    target::{Purpose, Target},
    write,
};

/// Generates code for all .proto files in the folder `dir`, at any depth.
///
/// This call alone is a build script:
///
/// ```no_run
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     rpc_codegen::compile_dir("proto")
/// }
/// ```
///
/// Imports are relative to `dir`. Include the code with `rpc_runtime::include_protos!();`. Cargo runs the build script
/// again when a file changes or a new file appears.
///
/// # Errors
///
/// An [`Error`] that lists what is wrong with the files, and where. `main` prints it as readable text.
pub fn compile_dir(dir: impl AsRef<Path>) -> Result<(), Box<dyn StdError>> {
    Config::new().compile_dir(dir)
}

impl Config {
    /// Generates code for all .proto files in the folder `dir`, at any depth, and for the [`files`](Self::files).
    ///
    /// # Errors
    ///
    /// An [`Error`] that lists what is wrong with the files, and where. `main` prints it as readable text.
    pub fn compile_dir(&self, dir: impl AsRef<Path>) -> Result<(), Box<dyn StdError>> {
        let dir = dir.as_ref();
        let folder = Folder::list(dir)?;
        let mut config = self.clone();
        config.include_paths.insert(0, dir.to_owned());
        let served = |path: &PathBuf| path.strip_prefix(dir).is_ok_and(is_served);
        config
            .files
            .extend(folder.protos.iter().filter(|path| !served(path)).cloned());
        config.run(&folder.folders, format!("{self:?} {}", dir.display()))?;
        Ok(())
    }

    /// Generates code for the [`files`](Self::files) and their imports.
    ///
    /// # Errors
    ///
    /// An [`Error`] that lists what is wrong with the files, and where. `main` prints it as readable text.
    pub fn compile(&self) -> Result<(), Box<dyn StdError>> {
        let mut config = self.clone();
        if config.include_paths.is_empty() {
            let folders = self.files.iter().filter_map(|file| file.parent());
            // The parent of a bare file name is an empty path; it means the current folder.
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
        if config.files.is_empty() && config.descriptor_set.is_none() {
            return Err(Error::from(
                Problem::new("no .proto file was given")
                    .with_help("add files with `Config::files`, or compile a folder with `compile_dir`"),
            )
            .into());
        }
        config.run(&[], format!("{self:?}"))?;
        Ok(())
    }

    /// Runs the pipeline; `options` tells this call from others of the same process.
    fn run(&self, folders: &[PathBuf], options: String) -> Result<(), Error> {
        parallel::with_stack(|| self.run_here(folders, options.clone()))
    }

    fn run_here(&self, folders: &[PathBuf], options: String) -> Result<(), Error> {
        let in_cargo = env::var_os("OUT_DIR").map(PathBuf::from);
        let out_dir = self.out_dir.clone().or_else(|| in_cargo.clone()).ok_or_else(|| {
            Problem::new("there is no output folder: OUT_DIR is not set").with_help(
                "call this from a build script, where Cargo sets OUT_DIR, or set `Config::out_dir`",
            )
        })?;
        let runtime = self.runtime()?;
        let target = self.target(&runtime);
        let progress = Progress::start("reading the files");
        let (sources, pool) = self.read(&progress)?;
        progress.begin("checking names");
        let model = Model::new(&pool, &sources, &target)?;
        let modules = emit::modules(&pool, &sources, &model, &target, &progress)?;
        progress.begin("writing the code");
        let call = write::Call {
            options,
            out_dir: &out_dir,
            modules: &modules,
            descriptors: self.file_descriptor_set_path.as_deref().map(|path| (path, &pool)),
        };
        let included = emit::included(&call.write()?, &target);
        write::file(&out_dir.join(emit::INCLUDED), included.as_bytes())?;
        if in_cargo.as_ref() == Some(&out_dir) {
            write::included(&out_dir.join(emit::INCLUDED));
        }
        if in_cargo.is_some() {
            let set = self.descriptor_set.as_ref().and_then(SetInput::path);
            let inputs = folders.iter().map(PathBuf::as_path).chain(set);
            write::rerun(inputs.chain(sources.paths()));
            write::warnings(&model.warnings);
        }
        parallel::free((sources, modules), (model, pool));
        Ok(())
    }

    /// Reads and links the .proto files, or the descriptor set.
    fn read(&self, progress: &Progress) -> Result<(Sources, DescriptorPool), Error> {
        let Some(set) = &self.descriptor_set else {
            let sources = Sources::read(&self.include_paths, &self.files)?;
            progress.begin("linking the files");
            // Only the set of descriptors has the comments; the generated code takes them from the sources.
            let comments = match self.file_descriptor_set_path {
                Some(_) => Comments::Kept,
                None => Comments::LeftOut,
            };
            let pool = sources.link(comments)?;
            return Ok((sources, pool));
        };
        if self.files.is_empty() {
            return Sources::from_descriptor_set(set);
        }
        Err(Problem::new("both .proto files and a descriptor set were given")
            .with_help(
                "call `compile` with either `Config::files` or `Config::descriptor_set`, once for each",
            )
            .into())
    }

    fn target<'a>(&'a self, runtime: &'a Code) -> Target<'a> {
        Target {
            runtime,
            runtime_path: &self.runtime_path,
            purpose: self.purpose,
            choices: &self.choices,
            include_env: self.out_dir.is_none(),
            embeds_descriptors: self.embeds_descriptors && self.purpose == Purpose::User,
        }
    }

    fn runtime(&self) -> Result<Code, Error> {
        let path: Result<syn::Path, syn::Error> = syn::parse_str(&self.runtime_path);
        path.map(|path| Code::from(quote!(#path))).map_err(|_| {
            Problem::new(format!(
                "`{}` is not the path of a Rust module",
                self.runtime_path
            ))
            .with_help("give `Config::runtime_path` a path such as `::rpc_runtime`")
            .into()
        })
    }
}
