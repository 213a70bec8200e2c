//! Diagnostics: the errors of the parser and the compiler, with places and advice.

use std::ops::Range;

use miette::Diagnostic;
use prost_types::DescriptorProto;
use protox::file::File;

use super::{Sources, served::OPTIONS_NAME, spelling::closest};
use crate::error::{Place, Problem};

/// Parses the text of the file `name`; `shown` is its name in messages.
pub(super) fn parse(name: &str, shown: &str, text: &str) -> Result<File, Vec<Problem>> {
    let place = |offset, len| Some(Place::within(text, shown.to_owned(), offset, len));
    if let Some(range) = edition(text) {
        let problem = edition_problem(edition_of(&text[range.clone()]));
        return Err(vec![problem.at(place(range.start, range.len()))]);
    }
    File::from_source(name, text).map_err(|error| {
        let problems = problems(&error, place);
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
    } else {
        problem
    }
}

impl Sources {
    /// The problems in an error of the compiler.
    pub(super) fn diagnose(&self, error: &protox::Error) -> Vec<Problem> {
        let text = error.to_string();
        if let Some(cycle) = text.strip_prefix("import cycle detected: ") {
            return vec![self.import_cycle(cycle)];
        }
        let file = error.file().unwrap_or_default();
        let problems = problems(error, |offset, len| {
            Some(self.files.get(file)?.place_at(offset, len))
        });
        problems
            .into_iter()
            .map(|problem| self.explained(file, problem))
            .collect()
    }

    /// Adds advice to `problem`, and shrinks its place to the wrong word.
    fn explained(&self, file: &str, problem: Problem) -> Problem {
        let message = problem.message().to_owned();
        let problem = match shadowed(&message) {
            Some((name, found)) if name == found => {
                problem.with_message(format!("name '{name}' is not defined"))
            }
            _ if message.starts_with("a field with JSON name ''") => problem
                .with_message("two fields of one message have the same name in JSON")
                .with_help("rename one of them"),
            _ => problem,
        };
        let name = last_name(problem.message()).unwrap_or_default().to_owned();
        let help = self.help(file, &problem, &name);
        let problem = problem.narrowed_to(&name);
        match help {
            Some(help) => problem.with_help(help),
            None => problem,
        }
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
            .with_help("move what both files need into a third file")
    }

    /// The advice for a mistake that the compiler's message does not explain.
    fn help(&self, file: &str, problem: &Problem, name: &str) -> Option<String> {
        let message = problem.message();
        let last = name.rsplit('.').next()?;
        if message.contains("option") {
            return option_help(message, last);
        }
        if name.starts_with("rpc.") {
            return Some(self.extension_help(file, message, last));
        }
        if !message.ends_with("is not defined") {
            return None;
        }
        // Procedures take and return messages, never scalars.
        let is_procedure = problem
            .line()
            .is_some_and(|line| line.trim_start().starts_with("rpc "));
        self.type_like(file, last, !is_procedure)
            .map(|name| format!("write `{name}`"))
    }

    /// The advice for an option `(rpc.name)` that does not exist.
    fn extension_help(&self, file: &str, message: &str, name: &str) -> String {
        let proto = self
            .files
            .get(file)
            .map(|source| source.parsed.file_descriptor_proto());
        if !proto.is_some_and(|proto| proto.dependency.iter().any(|import| import == OPTIONS_NAME)) {
            return format!("add `import \"{OPTIONS_NAME}\";` at the top of the file");
        }
        match closest(name, ["service", "procedure"]) {
            Some(close) if shadowed(message).is_some() => {
                let package = proto
                    .map(prost_types::FileDescriptorProto::package)
                    .unwrap_or_default();
                format!("in package {package} write `option (.rpc.{close}) = ..`, with a dot before `rpc`")
            }
            Some(close) => format!("write `option (rpc.{close}) = ..`"),
            None => "the options are `(rpc.service)` and `(rpc.procedure)`".to_owned(),
        }
    }

    /// The type whose name is closest to `name`, as `file` must write it.
    ///
    /// It is a message or enum of the files or, with `scalars`, one of protobuf's scalar types.
    fn type_like(&self, file: &str, name: &str, scalars: bool) -> Option<String> {
        let here = self
            .files
            .get(file)
            .map_or("", |source| source.parsed.file_descriptor_proto().package());
        let mut types: Vec<(String, String)> = Vec::new();
        for source in self.files.values() {
            let file = source.parsed.file_descriptor_proto();
            for proto in &file.enum_type {
                types.push((file.package().to_owned(), proto.name().to_owned()));
            }
            for message in &file.message_type {
                add_types(message, file.package(), &mut types);
            }
        }
        let is_there = types.iter().any(|(_, other)| other == name);
        if scalars && !is_there {
            let known = FOREIGN_SCALARS.iter().find(|(foreign, _)| *foreign == name);
            if let Some((_, scalar)) = known {
                return Some((*scalar).to_owned());
            }
        }
        let own = if scalars { &SCALARS[..] } else { &[] };
        let known = types.iter().map(|(_, name)| name.as_str());
        let close = closest(name, own.iter().copied().chain(known))?;
        match types.iter().find(|(_, other)| other == close) {
            Some((scope, _)) if !scope.is_empty() && (scope != here || is_there) => {
                Some(format!("{scope}.{close}"))
            }
            _ => Some(close.to_owned()),
        }
    }
}

/// Adds a message and all types declared in it, each with its scope.
fn add_types(message: &DescriptorProto, scope: &str, types: &mut Vec<(String, String)>) {
    let is_entry = message
        .options
        .as_ref()
        .is_some_and(prost_types::MessageOptions::map_entry);
    if is_entry {
        return;
    }
    types.push((scope.to_owned(), message.name().to_owned()));
    let inside = if scope.is_empty() {
        message.name().to_owned()
    } else {
        format!("{scope}.{}", message.name())
    };
    for proto in &message.enum_type {
        types.push((inside.clone(), proto.name().to_owned()));
    }
    for nested in &message.nested_type {
        add_types(nested, &inside, types);
    }
}

/// The scalar types of protobuf.
const SCALARS: [&str; 15] = [
    "bool", "bytes", "double", "fixed32", "fixed64", "float", "int32", "int64", "sfixed32", "sfixed64",
    "sint32", "sint64", "string", "uint32", "uint64",
];

/// Scalar types of other languages, and the type in protobuf.
const FOREIGN_SCALARS: [(&str, &str); 20] = [
    ("Bytes", "bytes"),
    ("String", "string"),
    ("boolean", "bool"),
    ("byte", "bytes"),
    ("char", "string"),
    ("f32", "float"),
    ("f64", "double"),
    ("i32", "int32"),
    ("i64", "int64"),
    ("int", "int32"),
    ("integer", "int64"),
    ("long", "int64"),
    ("number", "double"),
    ("str", "string"),
    ("text", "string"),
    ("u16", "uint32"),
    ("u32", "uint32"),
    ("u64", "uint64"),
    ("u8", "uint32"),
    ("uint", "uint32"),
];

/// The advice for a wrong `field` of an option, if the option is ours.
fn option_help(message: &str, field: &str) -> Option<String> {
    if message.contains("rpc.ProcedureOptions.Priority'") {
        let close = closest(&field.to_uppercase(), ["NORMAL", "CONTROL", "BULK"]);
        return Some(match close {
            Some(close) => format!("write `{close}`"),
            None => "write `NORMAL`, `CONTROL` or `BULK`, without quotes".to_owned(),
        });
    }
    let close = closest(field, ["flatten", "blocking", "spawn", "priority"]).filter(|close| *close != field);
    let fields =
        "`(rpc.service)` has `flatten`, and `(rpc.procedure)` has `blocking`, `spawn` and `priority`";
    let is_ours = message.contains("rpc.") && message.contains(" not ");
    close
        .map(|close| format!("write `{close}`"))
        .or_else(|| is_ours.then(|| fields.to_owned()))
}

/// The written name and the name that it resolved to, if the message is about both.
fn shadowed(message: &str) -> Option<(&str, &str)> {
    let (name, rest) = message.strip_prefix('\'')?.split_once("' resolves to '")?;
    Some((name, rest.split_once('\'')?.0))
}

/// The name that a message is about: for `option field '(rpc.service).flaten' is not defined` it is `flaten`.
fn last_name(message: &str) -> Option<&str> {
    if let Some((name, _)) = shadowed(message) {
        return Some(name);
    }
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
fn problems(error: &dyn Diagnostic, place: impl Fn(usize, usize) -> Option<Place>) -> Vec<Problem> {
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
