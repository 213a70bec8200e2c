//! Sources: finds, reads, parses and links the .proto files.

pub(crate) mod comments;
mod descriptor_set;
mod diagnose;
mod file;
mod folder;
mod imports;
mod served;
mod spelling;

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use protox::{
    Compiler,
    file::{File, FileResolver},
};

use self::{
    file::SourceFile,
    imports::{MissingImport, name_of},
};
pub(crate) use self::{
    folder::{Folder, is_served},
    served::{OPTIONS_NAME, is_google},
    spelling::closest,
};
use crate::error::{Error, Place, Problem};

/// All files of one run: the files to compile, and their imports.
#[derive(Debug)]
pub(crate) struct Sources {
    /// The files by import name; sorted, so that two runs write the same bytes.
    files: BTreeMap<String, SourceFile>,
    /// The import names of the files to compile.
    roots: Vec<String>,
}

impl Sources {
    /// Reads and parses `paths`, each below one of `includes`, and their imports.
    ///
    /// # Errors
    ///
    /// All files that cannot be read or parsed. If all can, all imports that were not found.
    pub(crate) fn read(includes: &[PathBuf], paths: &[PathBuf]) -> Result<Self, Error> {
        let mut sources = Self {
            files: BTreeMap::new(),
            roots: Vec::new(),
        };
        let mut problems = Vec::new();
        for path in paths {
            match name_of(includes, path) {
                Ok(name) => sources.roots.push(name),
                Err(error) => problems.extend(error.into_problems()),
            }
        }
        let mut missing = Vec::new();
        for name in sources.roots.clone() {
            sources.add(includes, &name, None, &mut missing, &mut problems);
        }
        if problems.is_empty() {
            problems.extend(
                missing
                    .iter()
                    .map(|import| sources.missing_import(includes, import)),
            );
        }
        if problems.is_empty() {
            Ok(sources)
        } else {
            Err(Error::new(problems))
        }
    }

    /// Resolves all names and options.
    ///
    /// # Errors
    ///
    /// All violations of protobuf's rules, in all files.
    pub(crate) fn link(&self) -> Result<Compiler, Error> {
        let parsed = self
            .files
            .iter()
            .map(|(name, source)| (name.clone(), source.parsed.clone()))
            .collect();
        let mut compiler = Compiler::with_file_resolver(Parsed(parsed));
        compiler.include_imports(true).include_source_info(true);
        let mut problems = Vec::new();
        // File by file, because the compiler stops at the first file with an error.
        for name in &self.roots {
            if let Err(error) = compiler.open_file(name) {
                problems.extend(self.diagnose(&error));
            }
        }
        if problems.is_empty() {
            Ok(compiler)
        } else {
            Err(Error::new(problems))
        }
    }

    /// The paths of all files that were read.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.values().filter_map(|source| source.path.as_deref())
    }

    /// The place of the descriptor at `path` in the file `name`, or of the closest one that contains it.
    pub(crate) fn place(&self, name: &str, path: &[i32]) -> Option<Place> {
        self.files.get(name)?.place(path)
    }

    /// Reads the file `name` and its imports, each file once.
    fn add(
        &mut self,
        includes: &[PathBuf],
        name: &str,
        importer: Option<(&str, usize)>,
        missing: &mut Vec<MissingImport>,
        problems: &mut Vec<Problem>,
    ) {
        if self.files.contains_key(name) {
            return;
        }
        match SourceFile::read(includes, name) {
            Ok(Some(source)) => {
                let imports = source.parsed.file_descriptor_proto().dependency.clone();
                self.files.insert(name.to_owned(), source);
                for (index, import) in imports.iter().enumerate() {
                    self.add(includes, import, Some((name, index)), missing, problems);
                }
            }
            Ok(None) => {
                let (importer, index) = importer.unwrap_or((name, 0));
                missing.push(MissingImport {
                    name: name.to_owned(),
                    importer: importer.to_owned(),
                    index,
                });
            }
            Err(found) => problems.extend(found),
        }
    }
}

/// Gives the parsed files to protox's compiler.
struct Parsed(HashMap<String, File>);

impl FileResolver for Parsed {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        self.0
            .get(name)
            .cloned()
            .ok_or_else(|| protox::Error::file_not_found(name))
    }
}
