//! One .proto file: its text, its descriptor, and the place of each item in it.

use std::{collections::HashMap, fs, path::PathBuf};

use prost_types::FileDescriptorProto;
use protox::file::{File, FileResolver, GoogleFileResolver};

use super::{
    diagnose,
    served::{OPTIONS_NAME, OPTIONS_TEXT},
};
use crate::error::{Place, Problem};

/// One file, read and parsed.
#[derive(Debug)]
pub(super) struct SourceFile {
    /// The path of the file; none if this crate contains it.
    pub(super) path: Option<PathBuf>,
    /// The file's name in messages.
    shown: String,
    text: String,
    pub(super) parsed: File,
    /// True if it comes from a descriptor set, so that there is no text.
    is_compiled: bool,
    /// Maps a descriptor's path to its first span: line, column, end column, in bytes from zero.
    spans: HashMap<Vec<i32>, [usize; 3]>,
}

impl SourceFile {
    /// Reads and parses the file `name`; none if no include path has it.
    pub(super) fn read(includes: &[PathBuf], name: &str) -> Result<Option<Self>, Vec<Problem>> {
        // The files of this crate come first: other copies could contradict what this crate knows of them.
        if name == OPTIONS_NAME {
            return Self::parse(name, None, OPTIONS_TEXT.to_owned()).map(Some);
        }
        if let Ok(parsed) = GoogleFileResolver::new().open_file(name) {
            return Ok(Some(Self {
                path: None,
                shown: name.to_owned(),
                text: String::new(),
                parsed,
                is_compiled: false,
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
                // Editors on Windows write a byte order mark first. protoc skips it, protox does not.
                let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
                Self::parse(name, Some(path), text).map(Some)
            }
            Ok(Err(_)) => Err(vec![
                Problem::new(format!("{} is not valid UTF-8", path.display()))
                    .with_help("save the file as UTF-8"),
            ]),
            Err(error) => Err(vec![Problem::unreadable(&path, &error)]),
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
            shown,
            text,
            parsed,
            is_compiled: false,
            spans,
        })
    }

    /// A file from a descriptor set.
    pub(super) fn compiled(parsed: File) -> Self {
        Self {
            path: None,
            shown: parsed.name().to_owned(),
            text: String::new(),
            spans: spans(parsed.file_descriptor_proto()),
            is_compiled: true,
            parsed,
        }
    }

    /// The place of the descriptor at `path`, or of the closest one that contains it.
    pub(super) fn place(&self, path: &[i32]) -> Option<Place> {
        let known = (1..=path.len())
            .rev()
            .find_map(|len| self.spans.get(&path[..len]));
        if self.is_compiled {
            return Some(Place::compiled(
                &self.shown,
                known.map(|[line, start, _]| (*line, *start)),
            ));
        }
        let [line, start, end] = known.copied()?;
        let text = self.text.split('\n').nth(line)?.trim_end_matches('\r').to_owned();
        let end = end.min(text.len());
        Some(Place {
            file: self.shown.clone(),
            line,
            start,
            end,
            text: Some(text),
        })
    }

    /// The place of the `len` bytes at `offset` in the text.
    pub(super) fn place_at(&self, offset: usize, len: usize) -> Place {
        Place::within(&self.text, self.shown.clone(), offset, len)
    }
}

/// The first span of each descriptor of `file`, cut to its first line.
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
