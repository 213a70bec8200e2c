//! Errors: what is wrong with the .proto files, where, and what to write instead.

use std::{collections::HashSet, fmt, io, path::Path};

/// The reasons why no code was generated, each with its place and a fix: the first 50, and the number of the others.
///
/// `Debug` prints the same text as `Display`, because a build script's `main` prints `Debug`.
#[derive(Clone)]
pub struct Error {
    problems: Vec<Problem>,
    /// The number of problems that are not in `problems`.
    more: usize,
    /// The number of files that were not checked.
    unchecked: usize,
}

/// One reason why no code was generated.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Problem {
    message: String,
    place: Option<Place>,
    other: Option<(String, Place)>,
    help: Option<String>,
}

/// A part of one line of a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    /// The path of the file, as a user would open it.
    pub(crate) file: String,
    /// The number of the line, from zero.
    pub(crate) line: usize,
    /// The whole line, without its line break; none if the file comes from a descriptor set.
    pub(crate) text: Option<String>,
    /// The start of the part, in bytes.
    pub(crate) start: usize,
    /// The end of the part, in bytes.
    pub(crate) end: usize,
}

impl Error {
    /// The most problems that one error shows.
    pub(crate) const MOST: usize = 50;

    /// An error of the first of `problems`, sorted by file and line, without duplicates.
    pub(crate) fn new(problems: impl IntoIterator<Item = Problem>) -> Self {
        let mut seen = HashSet::new();
        let mut unique: Vec<Problem> = problems
            .into_iter()
            .filter(|problem| seen.insert(problem.clone()))
            .collect();
        unique.sort_by(|a, b| a.order().cmp(&b.order()));
        let more = unique.len().saturating_sub(Self::MOST);
        unique.truncate(Self::MOST);
        Self {
            problems: unique,
            more,
            unchecked: 0,
        }
    }

    /// Adds that this number of files was not checked, because too many others have problems.
    pub(crate) fn with_unchecked(mut self, files: usize) -> Self {
        self.unchecked = files;
        self
    }

    /// The problems that are shown, one by one.
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
        match self.problems.len() + self.more {
            1 => write!(f, "no code was generated: 1 error")?,
            n => write!(f, "no code was generated: {n} errors")?,
        }
        for problem in &self.problems {
            write!(f, "\n\n{problem}")?;
        }
        match self.more {
            0 => {}
            1 => write!(f, "\n\n1 more error is not shown")?,
            n => write!(f, "\n\n{n} more errors are not shown")?,
        }
        if self.unchecked > 0 {
            write!(
                f,
                "\n\nfiles that were not checked because of these errors: {}",
                self.unchecked
            )?;
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
                problem.with_help(format!("the path is relative to {}", folder.display()))
            }
            _ => problem,
        }
    }

    /// Sets the place of the problem.
    pub(crate) fn at(mut self, place: impl Into<Option<Place>>) -> Self {
        self.place = place.into();
        self
    }

    /// Adds a second place, with a note that says how it is related.
    pub(crate) fn with_other(mut self, what: impl Into<String>, place: Option<Place>) -> Self {
        self.other = place.map(|place| (what.into(), place));
        self
    }

    /// Sets the advice what to do.
    pub(crate) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Replaces the message.
    pub(crate) fn with_message(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// Shrinks the place to `word`, if the place contains it.
    pub(crate) fn narrowed_to(mut self, word: &str) -> Self {
        if let Some(place) = &mut self.place {
            let text = place.text.as_deref().unwrap_or_default();
            let marked = text.get(place.start..place.end).unwrap_or_default();
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

    pub(crate) fn help(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// The key by which problems are sorted.
    pub(crate) fn order(&self) -> Option<(&str, usize, usize)> {
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
    /// A place in a file from a descriptor set; `at` is its line and column, in bytes from zero.
    pub(crate) fn compiled(file: &str, at: Option<(usize, usize)>) -> Self {
        // Without source info, only the file is known. The first line of a file holds nothing that has a place.
        let (line, start) = at.unwrap_or_default();
        Self {
            file: file.to_owned(),
            line,
            start,
            end: start,
            text: None,
        }
    }

    /// The file and the line, as in `proto/kv.proto:9`.
    pub(crate) fn short(&self) -> String {
        if self.text.is_none() && self.line == 0 {
            self.file.clone()
        } else {
            format!("{}:{}", self.file, self.line + 1)
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(text) = &self.text else {
            return write!(f, " --> {}", self.short());
        };
        let before = text.get(..self.start).unwrap_or_default();
        let marked = text.get(self.start..self.end).unwrap_or_default();
        let number = (self.line + 1).to_string();
        let margin = " ".repeat(number.len());
        let column = before.chars().count() + 1;
        // The terminal decides how wide a tab is: the same tabs before the mark keep the mark in place.
        let indent: String = before
            .chars()
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        let marks = "^".repeat(marked.chars().count().max(1));
        writeln!(f, "{margin}--> {}:{number}:{column}", self.file)?;
        writeln!(f, "{margin} |")?;
        writeln!(f, "{number} | {text}")?;
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
            text: Some("\trpc Gét(A);".into()),
            start: 5,
            end: 9,
        }
    }

    #[test]
    fn text_shows_place_line_mark_and_help() {
        let problem = Problem::new("bad name").at(place()).with_help("write `Get`");
        assert_eq!(
            format!("{:?}", Error::from(problem)),
            "no code was generated: 1 error\n\n\
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
    fn at_most_fifty_problems_are_shown_and_the_others_counted() {
        let error =
            |count: usize| Error::new((0..count).map(|number| Problem::new(number.to_string()))).to_string();
        assert!(!error(50).contains("more"));
        assert!(error(51).ends_with("\n\n1 more error is not shown\n"));
        // Comparing each problem with each other one would take hours.
        let text = error(300_000);
        assert!(text.starts_with("no code was generated: 300000 errors\n"));
        assert!(text.ends_with("\n\n299950 more errors are not shown\n"));
        assert_eq!(text.matches("error: ").count(), 50);
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
