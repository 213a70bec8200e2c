//! The .proto files: found, read, parsed, and linked into one pool of descriptors.

mod diagnose;
mod folder;

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::{Path, PathBuf},
};

use prost_types::FileDescriptorProto;
use protox::{
    Compiler,
    file::{File, FileResolver, GoogleFileResolver},
};

pub(crate) use self::folder::{Folder, is_google, is_served};
use crate::error::{Error, Place, Problem, distance};

/// The name under which `rpc/options.proto` is imported.
pub(crate) const OPTIONS_NAME: &str = "rpc/options.proto";

const OPTIONS_TEXT: &str = include_str!("../proto/rpc/options.proto");

/// Every file that takes part: those to compile, and what they import.
#[derive(Debug)]
pub(crate) struct Sources {
    /// By the name that an `import` would give; a `BTreeMap`, so that everything comes out in one order.
    files: BTreeMap<String, Source>,
    /// The names of the files to compile.
    roots: Vec<String>,
}

/// One file that was read and parsed.
#[derive(Debug)]
struct Source {
    /// Where the file is; none for a file that is served from inside.
    path: Option<PathBuf>,
    text: String,
    parsed: File,
    /// From a descriptor's path to the first span of it: line, column, end column, in bytes from zero.
    spans: HashMap<Vec<i32>, [usize; 3]>,
}

impl Sources {
    /// Reads and parses `paths`, each below one of `includes`, and all that they import.
    ///
    /// # Errors
    ///
    /// All files that cannot be read or parsed; if there are none, all imports that lead nowhere.
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

    /// Resolves every name and option.
    ///
    /// # Errors
    ///
    /// Everything that protobuf's rules forbid, in all files.
    pub(crate) fn link(&self) -> Result<Compiler, Error> {
        let parsed = self
            .files
            .iter()
            .map(|(name, source)| (name.clone(), source.parsed.clone()))
            .collect();
        let mut compiler = Compiler::with_file_resolver(Parsed(parsed));
        compiler.include_imports(true).include_source_info(true);
        let mut problems = Vec::new();
        // File by file, for the compiler stops at the first file with an error.
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

    /// The place in the file `name` of the descriptor at `path`, or of the closest one around it.
    pub(crate) fn place(&self, name: &str, path: &[i32]) -> Option<Place> {
        let source = self.files.get(name)?;
        let known = (1..=path.len())
            .rev()
            .find_map(|len| source.spans.get(&path[..len]));
        let [line, start, end] = known.copied()?;
        let text = source
            .text
            .split('\n')
            .nth(line)?
            .trim_end_matches('\r')
            .to_owned();
        let end = end.min(text.len());
        Some(Place {
            file: source.shown(name),
            line,
            start,
            end,
            text,
        })
    }

    /// The place of `len` bytes at `offset` of the file `name`.
    fn place_at(&self, name: &str, offset: usize, len: usize) -> Option<Place> {
        let source = self.files.get(name)?;
        Some(place_in(&source.text, source.shown(name), offset, len))
    }

    /// Reads the file `name` and then what it imports, each once.
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
        match Source::read(includes, name) {
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

    fn missing_import(&self, includes: &[PathBuf], missing: &MissingImport) -> Problem {
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
                    "; of Google's files only those in google/protobuf/ come with this crate"
                } else {
                    ""
                };
                format!(
                    "it was looked for in {folders}: put it there, so that its path is {name}, or add the folder that it \
                     is counted from by `Config::include_path`{google}"
                )
            }
        };
        Problem::new(format!("import \"{name}\" was not found"))
            .at(place)
            .with_help(help)
    }
}

/// The one of `known` that an import of `name` was surely meant to be: a file of the same name elsewhere, or one that is
/// written almost so.
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

/// Google's files that are served from inside.
const GOOGLE_NAMES: [&str; 12] = [
    "google/protobuf/any.proto",
    "google/protobuf/api.proto",
    "google/protobuf/compiler/plugin.proto",
    "google/protobuf/descriptor.proto",
    "google/protobuf/duration.proto",
    "google/protobuf/empty.proto",
    "google/protobuf/field_mask.proto",
    "google/protobuf/source_context.proto",
    "google/protobuf/struct.proto",
    "google/protobuf/timestamp.proto",
    "google/protobuf/type.proto",
    "google/protobuf/wrappers.proto",
];

/// An import that leads nowhere, the `index`th of its file.
struct MissingImport {
    name: String,
    importer: String,
    index: usize,
}

impl Source {
    /// The file `name`, or nothing if there is none of that name.
    fn read(includes: &[PathBuf], name: &str) -> Result<Option<Self>, Vec<Problem>> {
        // Those from inside come first: other copies of them could contradict what this crate knows.
        if name == OPTIONS_NAME {
            return Self::parse(name, None, OPTIONS_TEXT.to_owned()).map(Some);
        }
        if let Ok(parsed) = GoogleFileResolver::new().open_file(name) {
            return Ok(Some(Self {
                path: None,
                text: String::new(),
                parsed,
                spans: HashMap::new(),
            }));
        }
        let Some(path) = includes
            .iter()
            .map(|include| include.join(name))
            .find(|path| path.is_file())
        else {
            return Ok(None);
        };
        match fs::read(&path).map(String::from_utf8) {
            Ok(Ok(text)) => {
                // Editors on Windows begin files with a byte order mark; protoc skips it, and protox does not.
                let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
                Self::parse(name, Some(path), text).map(Some)
            }
            Ok(Err(_)) => Err(vec![
                Problem::new(format!("{} is not text in UTF-8", path.display()))
                    .with_help("save the file as UTF-8"),
            ]),
            Err(error) => Err(vec![unreadable(&path, &error)]),
        }
    }

    fn parse(name: &str, path: Option<PathBuf>, text: String) -> Result<Self, Vec<Problem>> {
        let shown = path
            .as_ref()
            .map_or_else(|| name.to_owned(), |path| path.display().to_string());
        let parsed = diagnose::parse(name, &shown, &text)?;
        let spans = spans(parsed.file_descriptor_proto());
        Ok(Self {
            path,
            text,
            parsed,
            spans,
        })
    }

    /// How messages call the file.
    fn shown(&self, name: &str) -> String {
        self.path
            .as_ref()
            .map_or_else(|| name.to_owned(), |path| path.display().to_string())
    }
}

/// Hands the files that were parsed already to protox's compiler.
struct Parsed(HashMap<String, File>);

impl FileResolver for Parsed {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        self.0
            .get(name)
            .cloned()
            .ok_or_else(|| protox::Error::file_not_found(name))
    }
}

/// The name that an import would give to the file at `path`.
fn name_of(includes: &[PathBuf], path: &Path) -> Result<String, Error> {
    let real = fs::canonicalize(path).map_err(|error| unreadable(path, &error))?;
    for include in includes {
        let Ok(folder) = fs::canonicalize(include) else {
            continue;
        };
        let Ok(relative) = real.strip_prefix(&folder) else {
            continue;
        };
        let name = folder::import_name(relative).ok_or_else(|| {
            Problem::new(format!("the path {} is not text in UTF-8", path.display()))
                .with_help("rename the file or its folder")
        })?;
        // Another folder before this one may have a file of the same name, and would win.
        let winner = includes
            .iter()
            .map(|include| include.join(&name))
            .find(|other| other.is_file());
        return match winner {
            Some(winner) if fs::canonicalize(&winner).is_ok_and(|winner| winner != real) => {
                let problem = Problem::new(format!("{} is hidden by {}", path.display(), winner.display()));
                Err(problem
                    .with_help("give one of them another name, or the include paths another order")
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
        .with_help("add the folder from which imports are counted with `Config::include_path`")
        .into())
}

fn unreadable(path: &Path, error: &io::Error) -> Problem {
    let problem = Problem::new(format!("cannot read {}: {error}", path.display()));
    match std::env::current_dir() {
        Ok(folder) if path.is_relative() && error.kind() == io::ErrorKind::NotFound => {
            problem.with_help(format!("the path is counted from {}", folder.display()))
        }
        _ => problem,
    }
}

/// The first span of every descriptor of `file`, cut to its first line.
fn spans(file: &FileDescriptorProto) -> HashMap<Vec<i32>, [usize; 3]> {
    let mut spans = HashMap::new();
    for location in file.source_code_info.iter().flat_map(|info| &info.location) {
        let at = |index: usize| location.span.get(index).and_then(|n| usize::try_from(*n).ok());
        let span = match (at(0), at(1), at(2), at(3)) {
            (Some(line), Some(start), Some(end), None) => [line, start, end],
            (Some(line), Some(start), Some(_), Some(_)) => [line, start, usize::MAX],
            _ => continue,
        };
        spans.entry(location.path.clone()).or_insert(span);
    }
    spans
}

/// The place of `len` bytes at `offset` of `text`, the file that messages call `shown`.
fn place_in(text: &str, shown: String, offset: usize, len: usize) -> Place {
    let offset = offset.min(text.len());
    let before = text.as_bytes()[..offset].iter();
    let line = before.clone().filter(|byte| **byte == b'\n').count();
    let start = before.rev().take_while(|byte| **byte != b'\n').count();
    let text = text
        .split('\n')
        .nth(line)
        .unwrap_or_default()
        .trim_end_matches('\r')
        .to_owned();
    let end = (start + len).min(text.len());
    Place {
        file: shown,
        line,
        start: start.min(end),
        end,
        text,
    }
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
