//! What protox says about a file, in our own words and with its place.

use std::ops::Range;

use miette::Diagnostic;
use protox::file::File;

use super::{OPTIONS_NAME, Sources, place_in};
use crate::error::{Place, Problem, closest};

/// Parses the text of the file `name`, which messages call `shown`.
pub(super) fn parse(name: &str, shown: &str, text: &str) -> Result<File, Vec<Problem>> {
    let place = |offset, len| Some(place_in(text, shown.to_owned(), offset, len));
    if let Some(edition) = edition(text) {
        return Err(vec![
            Problem::new("editions are not supported yet")
                .at(place(edition.start, edition.len()))
                .with_help("write `syntax = \"proto3\";` instead (fields with presence are `optional`)"),
        ]);
    }
    File::from_source(name, text).map_err(|error| problems(&error, place))
}

impl Sources {
    /// What the compiler says about one of the files.
    pub(super) fn diagnose(&self, error: &protox::Error) -> Vec<Problem> {
        let text = error.to_string();
        if let Some(cycle) = text.strip_prefix("import cycle detected: ") {
            return vec![self.import_cycle(cycle)];
        }
        let name = error.file().unwrap_or_default();
        let mut problems = problems(error, |offset, len| self.place_at(name, offset, len));
        for problem in &mut problems {
            if !problem.has_help() {
                if let Some(help) = self.help(name, problem.message()) {
                    *problem = problem.clone().with_help(help);
                }
            }
        }
        problems
    }

    fn import_cycle(&self, cycle: &str) -> Problem {
        let mut names = cycle.rsplit(" -> ");
        let imported = names.next().unwrap_or_default();
        let importer = names.next().unwrap_or_default();
        let index = self.files.get(importer).and_then(|source| {
            source
                .parsed
                .file_descriptor_proto()
                .dependency
                .iter()
                .position(|name| name == imported)
        });
        let place = index
            .and_then(|index| i32::try_from(index).ok())
            .and_then(|index| self.place(importer, &[3, index]));
        Problem::new(format!("files import each other in a circle: {cycle}"))
            .at(place)
            .with_help("move what both need into a file of its own")
    }

    /// What to write instead, for the mistakes that the compiler's own words do not explain.
    fn help(&self, file: &str, message: &str) -> Option<String> {
        let name = message.split('\'').nth(1)?;
        let proto = self.files.get(file)?.parsed.file_descriptor_proto();
        let imports_options = proto.dependency.iter().any(|import| import == OPTIONS_NAME);
        let in_other_rpc = proto.package().split('.').skip(1).any(|part| part == "rpc");
        let last = name.rsplit(['.', '(', ')']).find(|part| !part.is_empty())?;
        if name.starts_with("rpc.") || name.contains(".rpc.") || name.contains("(rpc.") {
            if in_other_rpc && ["service", "procedure"].contains(&last) {
                return Some(format!(
                    "inside of package {} the name `rpc` means another package: write `option (.rpc.{last}) = ..`",
                    proto.package()
                ));
            }
            if !imports_options {
                return Some(format!("add `import \"{OPTIONS_NAME}\";` at the top of the file"));
            }
            return Some(match closest(last, ["service", "procedure"]) {
                Some(close) => format!("write `option (rpc.{close}) = ..`"),
                None => "the options are `(rpc.service)` and `(rpc.procedure)`".to_owned(),
            });
        }
        (message.contains("option") || message.contains("field") || message.contains("is not defined"))
            .then(|| closest(last, ["flatten", "blocking", "spawn"]))
            .flatten()
            .filter(|close| *close != last)
            .map(|close| format!("write `{close}`"))
    }
}

/// The problem that `error` is, and those beside it.
fn problems(error: &dyn Diagnostic, place: impl Fn(usize, usize) -> Option<Place>) -> Vec<Problem> {
    let one = |error: &dyn Diagnostic| {
        let mut problem = Problem::new(error.to_string());
        let labels: Vec<_> = error.labels().into_iter().flatten().collect();
        // Of two labels the last one is where the rule was broken, and the first one why.
        if let Some(label) = labels.last() {
            problem = problem.at(place(label.offset(), label.len()));
        }
        if let [other, _] = &labels[..] {
            let what = other
                .label()
                .unwrap_or("see also")
                .trim_end_matches('…')
                .to_owned();
            problem = problem.with_other(what, place(other.offset(), other.len()));
        }
        match error.help() {
            Some(help) => problem.with_help(help.to_string()),
            None => problem,
        }
    };
    let related = error.related().into_iter().flatten().map(one);
    [one(error)].into_iter().chain(related).collect()
}

/// Where a file says `edition` instead of `syntax`, if it does.
fn edition(text: &str) -> Option<Range<usize>> {
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    loop {
        rest = rest.trim_start();
        if let Some(comment) = rest.strip_prefix("//") {
            rest = comment.split_once('\n').map_or("", |(_, rest)| rest);
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = comment.split_once("*/").map_or("", |(_, rest)| rest);
        } else {
            break;
        }
    }
    let start = text.len() - rest.len();
    let follows = rest.strip_prefix("edition")?.trim_start();
    follows.starts_with('=').then(|| {
        let statement = rest
            .split_once(['\n', ';'])
            .map_or(rest, |(statement, _)| statement);
        start..start + statement.len()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edition_is_found_behind_comments_only() {
        let text = "// about\n/* more */ edition = \"2023\";\n";
        assert_eq!(
            edition(text).map(|range| &text[range]),
            Some("edition = \"2023\"")
        );
        assert_eq!(edition("syntax = \"proto3\"; // edition = \"2023\";"), None);
        assert_eq!(edition("editions = 1;"), None);
        assert_eq!(edition("/* never closed"), None);
    }
}
