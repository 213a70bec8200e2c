//! The calls of one process: several may write to one folder, and none overwrites what another one wrote.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use super::file;
use crate::{
    emit::Module,
    error::{Error, Problem},
};

/// What one call writes.
pub(crate) struct Call<'a> {
    /// The options of the call. The same options again replace what they wrote before.
    pub(crate) options: String,
    pub(crate) out_dir: &'a Path,
    pub(crate) modules: &'a [Module],
    /// The path and the content of the descriptors.
    pub(crate) descriptors: Option<(&'a Path, Vec<u8>)>,
}

/// What an earlier call wrote.
struct Past {
    options: String,
    out_dir: PathBuf,
    /// The Rust paths of its modules.
    modules: Vec<Vec<String>>,
    files: Vec<PathBuf>,
}

/// The calls of this process, which is a build script as a rule.
static PAST: Mutex<Vec<Past>> = Mutex::new(Vec::new());

impl Call<'_> {
    /// Writes the files, and returns the Rust paths of all modules in the folder.
    ///
    /// # Errors
    ///
    /// A file that cannot be written, or that a call with other options has written with other content.
    pub(crate) fn write(self) -> Result<BTreeSet<Vec<String>>, Error> {
        let mut past = PAST.lock().unwrap_or_else(PoisonError::into_inner);
        past.retain(|other| other.options != self.options || other.out_dir != self.out_dir);
        let modules = self.modules.iter();
        let modules = modules.map(|module| (self.out_dir.join(module.file_name()), module.text.as_bytes()));
        let descriptors = self.descriptors.iter();
        let descriptors = descriptors.map(|(path, bytes)| (path.to_path_buf(), &bytes[..]));
        let files: Vec<(PathBuf, &[u8])> = modules.chain(descriptors).collect();
        for (path, bytes) in &files {
            let is_old = past.iter().any(|other| other.files.contains(path));
            if is_old && fs::read(path).is_ok_and(|old| old != *bytes) {
                return Err(overwritten(path));
            }
        }
        for (path, bytes) in &files {
            file(path, bytes)?;
        }
        past.push(Past {
            options: self.options,
            out_dir: self.out_dir.to_owned(),
            modules: self.modules.iter().map(|module| module.path.clone()).collect(),
            files: files.into_iter().map(|(path, _)| path).collect(),
        });
        let here = past.iter().filter(|other| other.out_dir == self.out_dir);
        Ok(here.flat_map(|other| other.modules.iter().cloned()).collect())
    }
}

fn overwritten(path: &Path) -> Error {
    Problem::new(format!(
        "an earlier call of this build script has written {} with other content",
        path.display()
    ))
    .with_help(
        "compile all files in one call, or set `Config::out_dir` for one of the calls (or its `file_descriptor_set_path`)",
    )
    .into()
}
