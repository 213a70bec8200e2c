//! What is wrong with the .proto files, and where.

use std::{fmt, io, path::Path};

/// Why no code was generated: everything that is wrong, each with its place and what to write instead.
///
/// `Debug` is the readable text too, for that is what a build script's `main` prints.
#[derive(Clone)]
pub struct Error {
    problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Problem {
    message: String,
    place: Option<Place>,
    other: Option<(String, Place)>,
    help: Option<String>,
}

/// A piece of one line of a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Place {
    /// The path of the file, as a user would open it.
    pub(crate) file: String,
    /// The line's number, counted from zero.
    pub(crate) line: usize,
    /// The whole line, without its end.
    pub(crate) text: String,
    /// Where the piece begins, in bytes.
    pub(crate) start: usize,
    /// Where the piece ends, in bytes.
    pub(crate) end: usize,
}

impl Error {
    /// All of `problems`, in the order of files and lines, each once.
    pub(crate) fn new(problems: impl IntoIterator<Item = Problem>) -> Self {
        let mut unique: Vec<Problem> = Vec::new();
        for problem in problems {
            if !unique.contains(&problem) {
                unique.push(problem);
            }
        }
        unique.sort_by(|a, b| a.order().cmp(&b.order()));
        Self { problems: unique }
    }

    /// What is wrong, one by one.
    pub(crate) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::new([problem])
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.len() {
            1 => write!(f, "no code was generated, because of one error")?,
            n => write!(f, "no code was generated, because of {n} errors")?,
        }
        for problem in &self.problems {
            write!(f, "\n\n{problem}")?;
        }
        writeln!(f)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

impl Problem {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            place: None,
            other: None,
            help: None,
        }
    }

    /// A file or folder that cannot be read.
    pub(crate) fn unreadable(path: &Path, error: &io::Error) -> Self {
        let problem = Self::new(format!("cannot read {}: {error}", path.display()));
        match std::env::current_dir() {
            Ok(folder) if path.is_relative() && error.kind() == io::ErrorKind::NotFound => {
                problem.with_help(format!("the path is counted from {}", folder.display()))
            }
            _ => problem,
        }
    }

    /// The same problem, at `place`.
    pub(crate) fn at(mut self, place: impl Into<Option<Place>>) -> Self {
        self.place = place.into();
        self
    }

    /// The same problem, with a second place that has to do with it.
    pub(crate) fn with_other(mut self, what: impl Into<String>, place: Option<Place>) -> Self {
        self.other = place.map(|place| (what.into(), place));
        self
    }

    /// The same problem, with what to write instead.
    pub(crate) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same problem in other words, and without the help that went with the old ones.
    pub(crate) fn with_message(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self.help = None;
        self
    }

    /// The same problem, at `word` alone, if the place has that word in it.
    pub(crate) fn narrowed_to(mut self, word: &str) -> Self {
        if let Some(place) = &mut self.place {
            let marked = place.text.get(place.start..place.end).unwrap_or_default();
            if let Some(at) = marked.find(word).filter(|_| !word.is_empty()) {
                place.start += at;
                place.end = place.start + word.len();
            }
        }
        self
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The line of the file that it is about.
    pub(crate) fn line(&self) -> Option<&str> {
        self.place.as_ref().map(|place| place.text.as_str())
    }

    fn order(&self) -> Option<(&str, usize, usize)> {
        self.place
            .as_ref()
            .map(|place| (place.file.as_str(), place.line, place.start))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        if let Some(place) = &self.place {
            write!(f, "\n{place}")?;
        }
        if let Some((what, place)) = &self.other {
            write!(f, "\nnote: {what}\n{place}")?;
        }
        if let Some(help) = &self.help {
            write!(f, "\nhelp: {help}")?;
        }
        Ok(())
    }
}

impl Place {
    /// The place of `len` bytes at `offset` of `text`, the file that messages call `shown`.
    pub(crate) fn within(text: &str, shown: String, offset: usize, len: usize) -> Self {
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
        Self {
            file: shown,
            line,
            start: start.min(end),
            end,
            text,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = self.text.get(..self.start).unwrap_or_default();
        let marked = self.text.get(self.start..self.end).unwrap_or_default();
        let number = (self.line + 1).to_string();
        let margin = " ".repeat(number.len());
        let column = before.chars().count() + 1;
        // A tab is as wide as the terminal says: the same tabs before the mark keep it in its place.
        let indent: String = before
            .chars()
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        let marks = "^".repeat(marked.chars().count().max(1));
        writeln!(f, "{margin}--> {}:{number}:{column}", self.file)?;
        writeln!(f, "{margin} |")?;
        writeln!(f, "{number} | {}", self.text)?;
        write!(f, "{margin} | {indent}{marks}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place {
            file: "proto/kv.proto".into(),
            line: 8,
            text: "\trpc Gét(A);".into(),
            start: 5,
            end: 9,
        }
    }

    #[test]
    fn text_shows_place_line_mark_and_help() {
        let problem = Problem::new("bad name").at(place()).with_help("write `Get`");
        assert_eq!(
            format!("{:?}", Error::from(problem)),
            "no code was generated, because of one error\n\n\
             error: bad name\n --> proto/kv.proto:9:6\n  |\n9 | \trpc Gét(A);\n  | \t    ^^^\nhelp: write `Get`\n"
        );
    }

    #[test]
    fn errors_come_sorted_and_once() {
        let mut earlier = place();
        earlier.line = 1;
        let error = Error::new([
            Problem::new("late").at(place()),
            Problem::new("early").at(earlier),
            Problem::new("late").at(place()),
        ]);
        let messages: Vec<&str> = error.problems.iter().map(Problem::message).collect();
        assert_eq!(messages, ["early", "late"]);
    }

    #[test]
    fn a_place_outside_its_line_is_no_panic() {
        let broken = Place {
            start: 400,
            end: 3,
            ..place()
        };
        assert!(broken.to_string().contains("proto/kv.proto:9:1"));
    }
}
