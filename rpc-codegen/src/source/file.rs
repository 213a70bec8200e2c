//! One .proto file: its text, its descriptor, and the place of each item in it.

use std::{fs, path::PathBuf};

use prost_types::FileDescriptorProto;
use protox::file::{FileResolver, GoogleFileResolver};

use super::{
    diagnose,
    locations::Locations,
    lookup,
    served::{OPTIONS_NAME, OPTIONS_TEXT, is_google},
    text::Text,
};
use crate::error::{Place, Problem};

/// One file, read and parsed.
#[derive(Debug)]
pub(super) struct SourceFile {
    /// The path of the file; none if this crate contains it.
    pub(super) path: Option<PathBuf>,
    pub(super) text: Text,
    /// The descriptor as it was parsed, without its locations; no name in it is resolved.
    pub(super) proto: FileDescriptorProto,
    pub(super) locations: Locations,
    /// True if it comes from a descriptor set, so that there is no text.
    is_compiled: bool,
}

impl SourceFile {
    /// Reads and parses the file `name`; none if no include path has it.
    pub(super) fn read(includes: &[PathBuf], name: &str) -> Result<Option<Self>, Vec<Problem>> {
        // The files of this crate come first: other copies could contradict what this crate knows of them.
        if name == OPTIONS_NAME {
            return Self::parse(name, None, OPTIONS_TEXT.to_owned()).map(Some);
        }
        if is_google(name) {
            if let Ok(parsed) = GoogleFileResolver::new().open_file(name) {
                let text = Text::new(name.to_owned(), String::new());
                return Ok(Some(Self::new(None, text, parsed.into())));
            }
        }
        let Some(path) = lookup::find(includes, name) else {
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
        let text = Text::new(shown, text);
        let parsed = diagnose::parse(name, &text)?;
        Ok(Self::new(path, text, parsed.into()))
    }

    fn new(path: Option<PathBuf>, text: Text, mut proto: FileDescriptorProto) -> Self {
        let info = proto.source_code_info.take();
        let locations = Locations::new(info.map(|info| info.location).unwrap_or_default());
        Self {
            path,
            text,
            proto,
            locations,
            is_compiled: false,
        }
    }

    /// A file from a descriptor set.
    pub(super) fn compiled(proto: FileDescriptorProto) -> Self {
        let text = Text::new(proto.name().to_owned(), String::new());
        Self {
            is_compiled: true,
            ..Self::new(None, text, proto)
        }
    }

    /// The place of the descriptor at `path`, or of the closest one that contains it.
    pub(super) fn place(&self, path: &[i32]) -> Option<Place> {
        let span = self.locations.span(path);
        if self.is_compiled {
            let at = span.map(|(line, start, _)| (line, start));
            return Some(Place::compiled(&self.text.shown, at));
        }
        let (line, start, end) = span?;
        // Google's files come without their text.
        (!self.text.text.is_empty()).then(|| self.text.line(line, start, end))
    }
}
