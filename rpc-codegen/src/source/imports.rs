//! Imports: the name of a file in imports, and imports that were not found.

use std::{
    cmp::Reverse,
    path::{self, Component, Path, PathBuf},
};

use super::{
    Sources,
    diagnose::not_a_name,
    folder::{self, Folder},
    lookup,
    served::{GOOGLE_NAMES, OPTIONS_NAME},
    spelling::{distance, is_near, shared_tail},
    tags,
};
use crate::error::{Error, Place, Problem};

/// The import name of the file at `path`.
pub(super) fn name_of(includes: &[PathBuf], path: &Path) -> Result<String, Error> {
    let real = lookup::real(path).map_err(|error| Problem::unreadable(path, &error))?;
    let Some(relative) = relative(includes, path, &real) else {
        let folders = list(includes.iter().map(|include| include.display().to_string()));
        let problem = Problem::new(format!(
            "{} is in none of the include paths ({folders})",
            path.display()
        ));
        return Err(problem
            .with_help("add the folder that its imports are relative to with `Config::include_path`")
            .into());
    };
    let unnameable = |why| {
        let problem = Problem::new(format!("the path {} {why}", path.display()));
        Error::from(problem.with_help("rename the file or its folder"))
    };
    let mut name = folder::import_name(&relative).ok_or_else(|| unnameable("is not valid UTF-8"))?;
    if name.contains('\\') {
        return Err(unnameable(
            "has a name with a back-slash, which no import can name",
        ));
    }
    // An include path before this one may have a file of the same name. The compiler would take that one.
    let mut winner = lookup::find(includes, &name);
    if winner.is_none() {
        // The path leads to the file, so it differs from the file's name by case only.
        if let Some(spelled) =
            lookup::spelled_as(&real, &relative).and_then(|path| folder::import_name(&path))
        {
            winner = lookup::find(includes, &spelled);
            name = spelled;
        }
    }
    match winner {
        Some(winner) if lookup::real(&winner).is_ok_and(|winner| winner != real) => {
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
    }
}

/// The part of `path` below the first include path that it is in.
///
/// The path as it is written counts first: a symbolic link is a file of the folder where it stands. The `real` path, without
/// links, counts if the written one is in no include path.
fn relative(includes: &[PathBuf], path: &Path, real: &Path) -> Option<PathBuf> {
    let below = |path: &Path, include: &Path| {
        let relative = path.strip_prefix(include).ok()?;
        let is_plain = relative
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        is_plain.then(|| relative.to_owned())
    };
    let written = path::absolute(path).ok();
    let as_written = includes
        .iter()
        .find_map(|include| below(written.as_ref()?, &path::absolute(include).ok()?));
    as_written.or_else(|| {
        includes
            .iter()
            .find_map(|include| below(real, &lookup::real(include).ok()?))
    })
}

/// Import number `index` of the file `importer`.
pub(super) struct Import {
    pub(super) name: String,
    pub(super) importer: String,
    pub(super) index: usize,
}

impl Sources {
    /// The problems of imports that were not found.
    pub(super) fn missing_imports(&self, includes: &[PathBuf], missing: &[Import]) -> Vec<Problem> {
        let problems = missing.iter().map(|import| {
            let place = self.import_place(&import.importer, import.index);
            let problem = match lookup::is_relative(&import.name) {
                true => Problem::new(format!("import \"{}\" was not found", import.name)).at(place),
                false => not_a_name(
                    Problem::new("")
                        .at(place)
                        .narrowed_to(&format!("\"{}\"", import.name)),
                ),
            };
            (problem, &import.name)
        });
        let mut problems: Vec<(Problem, &String)> = problems.collect();
        problems.sort_by(|(a, _), (b, _)| a.order().cmp(&b.order()));
        let known = if missing.is_empty() {
            Vec::new()
        } else {
            self.known(includes)
        };
        let problems = problems.into_iter().enumerate().map(|(number, (problem, name))| {
            // Advice takes time, and the problems after these are not shown.
            if number < Error::MOST && lookup::is_relative(name) {
                problem.with_help(help(name, includes, &known))
            } else {
                problem
            }
        });
        problems.collect()
    }

    /// The place of import number `index` of the file `importer`.
    pub(super) fn import_place(&self, importer: &str, index: usize) -> Option<Place> {
        self.place(importer, &[tags::file::IMPORT, i32::try_from(index).ok()?])
    }

    /// The names of all files that could be imported.
    fn known(&self, includes: &[PathBuf]) -> Vec<String> {
        let listed = includes.iter().flat_map(|include| Folder::names(include));
        listed.chain(self.files.keys().cloned()).collect()
    }
}

/// The advice for an import of `name`, which none of the `known` files has.
fn help(name: &str, includes: &[PathBuf], known: &[String]) -> String {
    let known = known.iter().map(String::as_str);
    // The files of this crate are elsewhere: a file of the same name is not near, only a misspelt one.
    let served = GOOGLE_NAMES.into_iter().chain([OPTIONS_NAME]);
    let served = served.filter(|other| other.split('/').count() == name.split('/').count());
    let near = known.chain(served).filter(|other| is_near(name, other, '/'));
    let best = near.max_by_key(|other| {
        (
            shared_tail(name, other, '/'),
            Reverse(distance(name, other)),
            Reverse(*other),
        )
    });
    if let Some(best) = best {
        let write = format!("write `import \"{best}\";`");
        // Many files have a name such as types.proto.
        return if best.rsplit('/').next() == Some(name) {
            format!("{write} if you mean that file, or add the folder of {name} with `Config::include_path`")
        } else {
            write
        };
    }
    let folders = list(includes.iter().map(|include| include.display().to_string()));
    let google = if name.starts_with("google/") {
        "; of Google's files this crate contains only google/protobuf/"
    } else {
        ""
    };
    format!(
        "the search covered {folders}: put the file there as {name}, or add its folder with `Config::include_path`{google}"
    )
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
