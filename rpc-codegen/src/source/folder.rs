//! Folder: all .proto files and folders below a path.

use std::{
    collections::{BTreeSet, VecDeque},
    fs, io,
    path::{Component, Path, PathBuf},
};

use super::{
    lookup,
    served::{OPTIONS_NAME, is_google},
};
use crate::error::{Error, Problem};

/// The content of a folder, at any depth.
#[derive(Debug, Default)]
pub(crate) struct Folder {
    /// All .proto files, sorted.
    pub(crate) protos: Vec<PathBuf>,
    /// The folder itself and all folders below it. Cargo watches them, because a new file changes one of them.
    pub(crate) folders: Vec<PathBuf>,
}

impl Folder {
    /// Lists `path`, without names that begin with a dot.
    ///
    /// A symbolic link counts like the file or folder behind it, unless that one is listed anyway.
    ///
    /// # Errors
    ///
    /// A folder that cannot be read, or that holds no .proto file.
    pub(crate) fn list(path: &Path) -> Result<Self, Error> {
        let mut search = Search::default();
        search
            .search(path)
            .map_err(|(path, error)| Problem::unreadable(&path, &error))?;
        let mut found = search.found;
        if found.protos.is_empty() {
            return Err(
                Problem::new(format!("there is no .proto file in {}", path.display()))
                    .with_help("write the first one there, for example service.proto")
                    .into(),
            );
        }
        found.protos.sort();
        found.folders.sort();
        Ok(found)
    }

    /// The import names of the files below `path`; empty if the folder cannot be read.
    pub(super) fn names(path: &Path) -> Vec<String> {
        let listed = Self::list(path).unwrap_or_default();
        listed
            .protos
            .iter()
            .filter_map(|proto| import_name(proto.strip_prefix(path).ok()?))
            .collect()
    }
}

/// What was found so far.
#[derive(Default)]
struct Search {
    found: Folder,
    /// The real paths of the files and folders that were found.
    seen: BTreeSet<PathBuf>,
    /// The symbolic links that were found, which are followed last: of two paths to a file, the real one counts.
    links: VecDeque<PathBuf>,
}

/// A path that cannot be read, and why.
type Unreadable = (PathBuf, io::Error);

impl Search {
    fn search(&mut self, path: &Path) -> Result<(), Unreadable> {
        self.folder(path)?;
        while let Some(link) = self.links.pop_front() {
            if link.is_dir() {
                self.folder(&link)?;
            } else if is_proto(&link) {
                // A link that leads nowhere is listed, too: reading it says what is wrong.
                let real = lookup::real(&link).unwrap_or_else(|_| link.clone());
                self.proto(link, real);
            }
        }
        Ok(())
    }

    fn folder(&mut self, path: &Path) -> Result<(), Unreadable> {
        let failed = |error: io::Error| (path.to_owned(), error);
        let real = lookup::real(path).map_err(failed)?;
        // A symbolic link to a parent folder would never end.
        if !self.seen.insert(real.clone()) {
            return Ok(());
        }
        self.found.folders.push(path.to_owned());
        let entries: Result<Vec<_>, io::Error> = fs::read_dir(path).map_err(failed)?.collect();
        let mut entries = entries.map_err(failed)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let (name, path) = (entry.file_name(), entry.path());
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_symlink() {
                self.links.push_back(path);
            } else if kind.is_dir() {
                self.folder(&path)?;
            } else if is_proto(&path) {
                self.proto(path, real.join(name));
            }
        }
        Ok(())
    }

    fn proto(&mut self, path: PathBuf, real: PathBuf) {
        if self.seen.insert(real) {
            self.found.protos.push(path);
        }
    }
}

fn is_proto(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "proto")
}

/// The import name of the file at `relative`, a path below an include path.
pub(super) fn import_name(relative: &Path) -> Option<String> {
    let parts: Option<Vec<&str>> = relative
        .components()
        .map(|part| match part {
            Component::Normal(part) => part.to_str(),
            _ => None,
        })
        .collect();
    parts.map(|parts| parts.join("/"))
}

/// True if `relative` names a file that this crate contains, or one that stands beside Google's only for files with editions.
pub(crate) fn is_served(relative: &Path) -> bool {
    import_name(relative)
        .is_some_and(|name| name == OPTIONS_NAME || is_google(&name) || FEATURES.contains(&&*name))
}

/// The files with features of editions, which every copy of Google's files has; they need a newer descriptor.proto than ours.
const FEATURES: [&str; 3] = [
    "google/protobuf/cpp_features.proto",
    "google/protobuf/go_features.proto",
    "google/protobuf/java_features.proto",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_folder_is_watched_and_every_proto_is_found_in_order() {
        let folder = Folder::list(Path::new("tests/golden/packages")).expect("it can be read");
        let inside = |paths: &[PathBuf]| -> Vec<String> {
            let relative = paths
                .iter()
                .filter_map(|path| path.strip_prefix("tests/golden/packages").ok());
            relative.filter_map(import_name).collect()
        };
        assert_eq!(inside(&folder.folders), ["", "acme", "shop", "shop/v1"]);
        assert_eq!(
            inside(&folder.protos),
            [
                "acme/types.proto",
                "root.proto",
                "shop/v1/more.proto",
                "shop/v1/orders.proto"
            ]
        );
    }

    #[test]
    fn copies_of_served_files_are_known_by_their_names() {
        assert!(is_served(Path::new("rpc/options.proto")));
        assert!(is_served(Path::new("google/protobuf/empty.proto")));
        assert!(!is_served(Path::new("google/type/money.proto")));
        assert!(!is_served(Path::new("google/protobuf/extra.proto")));
    }

    #[test]
    fn a_copy_of_google_s_folder_is_left_out_as_a_whole() {
        for file in [
            "descriptor",
            "compiler/plugin",
            "cpp_features",
            "go_features",
            "java_features",
        ] {
            assert!(
                is_served(Path::new(&format!("google/protobuf/{file}.proto"))),
                "{file}"
            );
        }
    }
}
