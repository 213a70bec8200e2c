//! Diagnostics: the errors of the parser and of prost-reflect, with places and advice.

use std::ops::Range;

use miette::Diagnostic;
use prost_reflect::DescriptorError;
use protox::file::File;

use super::{spelling::closest, text::Text};
use crate::error::{Error, Place, Problem};

/// Parses the text of the file `name`.
pub(super) fn parse(name: &str, text: &Text) -> Result<File, Vec<Problem>> {
    if let Some(range) = edition(&text.text) {
        let problem = edition_problem(edition_of(&text.text[range.clone()]));
        return Err(vec![problem.at(text.place(range.start, range.len()))]);
    }
    File::from_source(name, &text.text).map_err(|error| {
        let problems = problems(&error, |offset, len| text.place(offset, len));
        problems.into_iter().map(with_syntax_help).collect()
    })
}

/// The edition that `statement` sets, with or without the quotes that it should have.
fn edition_of(statement: &str) -> &str {
    let value = statement.split_once('=').map_or("", |(_, value)| value);
    value.trim().trim_matches(['"', '\''])
}

/// The problem of a file that is written in an edition.
pub(super) fn edition_problem(edition: &str) -> Problem {
    Problem::new(format!(
        "the file is written in edition {edition}, and the compiler, {COMPILER}, reads no edition yet"
    ))
    .with_help("write `syntax = \"proto3\";` instead; mark fields with presence `optional`")
}

/// The compiler's name and version, as in Cargo.toml.
const COMPILER: &str = "protox 0.10";

/// Adds advice where the parser's message does not explain the mistake.
fn with_syntax_help(problem: Problem) -> Problem {
    let message = problem.message();
    // The parser expected a message in parentheses, or a procedure.
    let is_stream = message.starts_with("expected '") && message.ends_with("found 'stream'");
    if is_stream && (message.contains("'('") || message.contains("'rpc'")) {
        problem.with_help("write `stream` inside the parentheses: `returns (stream WatchEvent)`")
    } else if problem
        .help()
        .is_some_and(|help| help.starts_with("imports may not contain"))
    {
        // The parser calls this a group's name.
        not_a_name(problem)
    } else {
        problem
    }
}

/// The problem of an import that is no relative path with slashes.
pub(super) fn not_a_name(problem: Problem) -> Problem {
    problem
        .with_message("this is not the name of a file")
        .with_help("write its path below an include path, with slashes: `import \"shop/v1/orders.proto\";`")
}

/// True if prost-reflect found so many mistakes in one file that looking for their places would take minutes.
pub(super) fn is_long(error: &DescriptorError) -> bool {
    error
        .related()
        .is_some_and(|related| related.count() > 10 * Error::MOST)
}

/// The first problem of a long list, and how many follow.
pub(super) fn first_of_many(text: &Text, place: Option<Place>, error: &DescriptorError) -> Option<Problem> {
    let problems = problems(error, |offset, len| text.place(offset, len));
    let others = problems.len() - 1;
    let first = problems.into_iter().next()?.at(place);
    Some(explained(first).with_help(format!(
        "correct it, then the {others} other mistakes in this file"
    )))
}

/// The problems that prost-reflect found in a file.
pub(super) fn linker_problems(text: &Text, error: DescriptorError) -> Vec<Problem> {
    let error = error.with_source_code(&text.text);
    let problems = problems(&error, |offset, len| text.place(offset, len));
    problems.into_iter().map(explained).collect()
}

/// True if a problem of prost-reflect says that a name is not defined.
pub(super) fn is_about_a_name(problem: &Problem) -> bool {
    let message = problem.message();
    (message.starts_with("name '") && message.ends_with("' is not defined"))
        || message.contains("' resolves to '") && message.ends_with("', which is not defined")
}

/// Adds advice to a problem of prost-reflect, and shrinks its place to the wrong word.
fn explained(problem: Problem) -> Problem {
    // The dot before an option's name is ours: the names are full when they are linked.
    let message = problem.message().replace("'(.", "'(");
    if message.starts_with("a field with JSON name ''") {
        return problem
            .with_message("two fields of one message have the same name in JSON")
            .with_help("rename one of them");
    }
    let name = last_name(&message).unwrap_or_default().to_owned();
    let help = message
        .contains("option")
        .then(|| option_help(&message, name.rsplit('.').next().unwrap_or_default()))
        .flatten();
    let problem = problem.with_message(message).narrowed_to(&name);
    match help {
        Some(help) => problem.with_help(help),
        None => problem,
    }
}

/// The advice for a wrong `field` of an option, if the option is ours.
fn option_help(message: &str, field: &str) -> Option<String> {
    if message.contains("rpc.ProcedureOptions.Priority'") {
        let close = closest(&field.to_uppercase(), ["NORMAL", "CONTROL", "BULK"]);
        return Some(match close {
            Some(close) => format!("write `{close}`"),
            None => "write `NORMAL`, `CONTROL` or `BULK`, without quotes".to_owned(),
        });
    }
    let close = closest(
        field,
        ["flatten", "blocking", "spawn", "priority", "allow", "hash_by"],
    )
    .filter(|close| *close != field);
    let fields = "`(rpc.service)` has `flatten` and `allow`, and `(rpc.procedure)` has `blocking`, `spawn`, `priority`, `allow` and `hash_by`";
    let is_ours = message.contains("rpc.") && message.contains(" not ");
    close
        .map(|close| format!("write `{close}`"))
        .or_else(|| is_ours.then(|| fields.to_owned()))
}

/// The name that a message is about: for `option field '(rpc.service).flaten' is not defined` it is `flaten`.
fn last_name(message: &str) -> Option<&str> {
    // The reason comes after the last colon. It names the field first, then the type.
    let (_, quoted) = message
        .rsplit_once(": ")
        .unwrap_or(("", message))
        .1
        .split_once('\'')?;
    let quoted = quoted.split_once('\'')?.0;
    quoted
        .rsplit([')', '('])
        .find(|part| !part.is_empty())
        .map(|part| part.trim_start_matches('.'))
}

/// The problem of `error`, and the problems related to it.
fn problems(error: &dyn Diagnostic, place: impl Fn(usize, usize) -> Place) -> Vec<Problem> {
    let one = |error: &dyn Diagnostic| {
        let inner = error.diagnostic_source().map(ToString::to_string);
        let inner = inner.or_else(|| error.source().map(ToString::to_string));
        let mut problem = Problem::new(match inner {
            Some(inner) => format!("{error}: {inner}"),
            None => error.to_string(),
        });
        let labels: Vec<_> = error.labels().into_iter().flatten().collect();
        // Of two labels, the last one marks the mistake, and the first one its reason.
        if let Some(label) = labels.last() {
            problem = problem.at(place(label.offset(), label.len()));
        }
        if let [other, _] = &labels[..] {
            let what = other
                .label()
                .unwrap_or("see also")
                .trim_end_matches('…')
                .to_owned();
            problem = problem.with_other(what, Some(place(other.offset(), other.len())));
        }
        match error.help() {
            Some(help) => problem.with_help(help.to_string()),
            None => problem,
        }
    };
    let related = error.related().into_iter().flatten().map(one);
    [one(error)].into_iter().chain(related).collect()
}

/// The range of the statement `edition = ..`, if a file begins with it.
fn edition(text: &str) -> Option<Range<usize>> {
    let mut rest = text;
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

    #[test]
    fn an_edition_is_named_without_its_quotes() {
        for statement in ["edition = \"2023\"", "edition='2023'", "edition = 2023"] {
            assert_eq!(edition_of(statement), "2023");
        }
        assert_eq!(edition_of("edition ="), "");
    }
}
