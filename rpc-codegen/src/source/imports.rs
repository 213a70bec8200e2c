//! Imports: the name of a file in imports, and imports that were not found.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    Sources,
    folder::{self, Folder},
    served::{GOOGLE_NAMES, OPTIONS_NAME},
    spelling::distance,
};
use crate::error::{Error, Problem};

/// The import name of the file at `path`.
pub(super) fn name_of(includes: &[PathBuf], path: &Path) -> Result<String, Error> {
    let real = fs::canonicalize(path).map_err(|error| Problem::unreadable(path, &error))?;
    for include in includes {
        let Ok(folder) = fs::canonicalize(include) else {
            continue;
        };
        let Ok(relative) = real.strip_prefix(&folder) else {
            continue;
        };
        let name = folder::import_name(relative).ok_or_else(|| {
            Problem::new(format!("the path {} is not valid UTF-8", path.display()))
                .with_help("rename the file or its folder")
        })?;
        // An include path before this one may have a file of the same name. The compiler would take that one.
        let winner = includes
            .iter()
            .map(|include| include.join(&name))
            .find(|other| other.is_file());
        return match winner {
            Some(winner) if fs::canonicalize(&winner).is_ok_and(|winner| winner != real) => {
                let problem = Problem::new(format!(
                    "{} is hidden by {} in an earlier include path",
                    path.display(),
                    winner.display()
                ));
                Err(problem
                    .with_help("rename one of the two files, or change the order of the include paths")
                    .into())
            }
            _ => Ok(name),
        };
    }
    let folders = list(includes.iter().map(|include| include.display().to_string()));
    let problem = Problem::new(format!(
        "{} is in none of the include paths ({folders})",
        path.display()
    ));
    Err(problem
        .with_help("add the folder that its imports are relative to with `Config::include_path`")
        .into())
}

/// An import that was not found, number `index` of its file.
pub(super) struct MissingImport {
    pub(super) name: String,
    pub(super) importer: String,
    pub(super) index: usize,
}

impl Sources {
    pub(super) fn missing_import(&self, includes: &[PathBuf], missing: &MissingImport) -> Problem {
        let index = i32::try_from(missing.index).unwrap_or(i32::MAX);
        let place = self.place(&missing.importer, &[3, index]);
        let known: Vec<String> = includes
            .iter()
            .flat_map(|include| Folder::names(include))
            .collect();
        let known = known
            .iter()
            .map(String::as_str)
            .chain(self.files.keys().map(String::as_str));
        let name = &missing.name;
        let help = match near(name, known.chain([OPTIONS_NAME]).chain(GOOGLE_NAMES)) {
            Some(close) => format!("write `import \"{close}\";`"),
            None => {
                let folders = list(includes.iter().map(|include| include.display().to_string()));
                let google = if name.starts_with("google/") {
                    "; of Google's files this crate contains only google/protobuf/"
                } else {
                    ""
                };
                format!(
                    "the search covered {folders}: put the file there as {name}, or add its folder with \
                     `Config::include_path`{google}"
                )
            }
        };
        Problem::new(format!("import \"{name}\" was not found"))
            .at(place)
            .with_help(help)
    }
}

/// The element of `known` that an import of `name` surely meant.
///
/// It is a file of the same name in another folder, or one whose path differs in few letters.
fn near<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let file_of = |name: &str| name.rsplit('/').next().map(str::to_owned);
    let stem = name.strip_suffix(".proto").unwrap_or(name);
    let most = (stem.chars().count() / 6).max(1);
    known
        .map(|other| (file_of(other) != file_of(name), distance(name, other), other))
        .filter(|(is_other_file, distance, _)| !is_other_file || *distance <= most)
        .min()
        .map(|(_, _, other)| other)
}

/// `a, b and c`.
fn list(items: impl IntoIterator<Item = String>) -> String {
    let mut items: Vec<String> = items.into_iter().collect();
    let Some(last) = items.pop() else {
        return "no folder".to_owned();
    };
    if items.is_empty() {
        last
    } else {
        format!("{} and {last}", items.join(", "))
    }
}
