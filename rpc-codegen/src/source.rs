//! Sources: finds, reads, parses and links the .proto files.

pub(crate) mod comments;
mod definitions;
mod descriptor_set;
mod diagnose;
mod duplicates;
mod file;
mod folder;
mod imports;
mod link;
mod locations;
mod lookup;
mod names;
mod order;
mod references;
mod served;
mod set_input;
mod spelling;
pub(crate) mod tags;
mod text;
mod unresolved;
mod visible;

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
};

use prost_types::source_code_info::Location;

use self::{
    file::SourceFile,
    imports::{Import, name_of},
};
pub(crate) use self::{
    folder::{Folder, is_served},
    link::Comments,
    served::{OPTIONS_NAME, is_google},
    set_input::SetInput,
    spelling::closest,
};
use crate::{
    error::{Error, Place, Problem},
    parallel,
};

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
        sources.add_all(includes, &mut missing, &mut problems);
        if problems.is_empty() {
            problems = sources.missing_imports(includes, &missing);
        }
        if problems.is_empty() {
            Ok(sources)
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

    /// The location of the descriptor at `path` in the file `name`, with its comments.
    pub(crate) fn location(&self, name: &str, path: &[i32]) -> Option<&Location> {
        self.files.get(name)?.locations.get(path)
    }

    /// Reads the roots and their imports, each file once.
    fn add_all(&mut self, includes: &[PathBuf], missing: &mut Vec<Import>, problems: &mut Vec<Problem>) {
        let roots = self.roots.iter().map(|root| Import {
            name: root.clone(),
            importer: root.clone(),
            index: 0,
        });
        let mut wave: Vec<Import> = roots.collect();
        // The files that were read, or could not be.
        let mut seen = HashSet::new();
        let mut absent = HashSet::new();
        while !wave.is_empty() {
            let new = wave.iter().map(|import| &import.name);
            let new: Vec<&String> = new.filter(|name| seen.insert((*name).clone())).collect();
            let read = parallel::map(&new, |name| SourceFile::read(includes, name));
            let mut next = Vec::new();
            for (name, result) in new.into_iter().zip(read) {
                match result {
                    Ok(Some(source)) => {
                        let imports = source.proto.dependency.iter().enumerate();
                        next.extend(imports.map(|(index, import)| Import {
                            name: import.clone(),
                            importer: name.clone(),
                            index,
                        }));
                        self.files.insert(name.clone(), source);
                    }
                    Ok(None) => {
                        absent.insert(name.clone());
                    }
                    Err(found) => problems.extend(found),
                }
            }
            missing.extend(wave.into_iter().filter(|import| absent.contains(&import.name)));
            wave = next;
        }
    }
}
