//! The calls of one process: several may write to one folder, and none overwrites what another one wrote.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use prost_reflect::DescriptorPool;

use super::file;
use crate::{
    emit::Module,
    error::{Error, Problem},
    parallel,
};

/// What one call writes.
pub(crate) struct Call<'a> {
    /// The options of the call. The same options again replace what they wrote before.
    pub(crate) options: String,
    pub(crate) out_dir: &'a Path,
    pub(crate) modules: &'a [Module],
    /// The descriptors, and the path of their file.
    pub(crate) descriptors: Option<(&'a Path, &'a DescriptorPool)>,
}

/// The content of a file.
enum Content<'a> {
    Code(&'a str),
    /// The descriptors that the servers of a module carry.
    Embedded(&'a [u8]),
    Descriptors(&'a DescriptorPool),
}

impl Content<'_> {
    fn bytes(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Code(text) => Cow::Borrowed(text.as_bytes()),
            Self::Embedded(bytes) => Cow::Borrowed(bytes),
            Self::Descriptors(pool) => Cow::Owned(pool.encode_to_vec()),
        }
    }
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
        let modules =
            modules.map(|module| (self.out_dir.join(module.file_name()), Content::Code(&module.text)));
        let embedded = self.modules.iter().filter_map(|module| {
            let bytes = module.descriptors.as_deref()?;
            Some((
                self.out_dir.join(module.descriptors_name()),
                Content::Embedded(bytes),
            ))
        });
        let descriptors = self.descriptors.iter();
        let descriptors = descriptors.map(|(path, pool)| (path.to_path_buf(), Content::Descriptors(pool)));
        // The descriptors come first, because they take the longest.
        let files: Vec<(PathBuf, Content<'_>)> = descriptors.chain(modules).chain(embedded).collect();
        let is_old = |path: &PathBuf| past.iter().any(|other| other.files.contains(path));
        for (path, content) in &files {
            if is_old(path) && fs::read(path).is_ok_and(|old| old != *content.bytes()) {
                return Err(overwritten(path));
            }
        }
        let written = parallel::map(&files, |(path, content)| file(path, &content.bytes()));
        written.into_iter().collect::<Result<(), Error>>()?;
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
