//! Checks that the text of each limit names the setting that bounds it, and that the table of `docs/reference/errors.md` has the text.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use rpc_runtime::Limits;

/// The page with the table of the texts.
const PAGE: &str = include_str!("../docs/reference/errors.md");

/// The folders whose texts are checked.
const SOURCES: [&str; 5] = ["rpc-runtime", "rpc-http", "rpc-admin", "rpc-systemd", "rpc-otel"];

/// The types with settings that may bound something, and where their methods are. Those of `Limits` are its fields.
const SETTERS: [(&str, &str); 9] = [
    ("ServerBuilder", "rpc-runtime/src/server/builder.rs"),
    ("ClientBuilder", "rpc-runtime/src/client/builder.rs"),
    ("Call", "rpc-runtime/src/client/call.rs"),
    ("BearerTokens", "rpc-runtime/src/auth/bearer_tokens.rs"),
    ("Http", "rpc-http/src/http_guest.rs"),
    ("Grpc", "rpc-http/src/outgoing.rs"),
    ("AdminBuilder", "rpc-admin/src/builder.rs"),
    ("Successor", "rpc-systemd/src/successor.rs"),
    ("Builder", "rpc-otel/src/builder.rs"),
];

/// Settings at which nothing fails, and why. A new setting is not for this list if an error, a status or a warning comes from it.
const NOTHING_FAILS: [(&str, &str); 12] = [
    (
        "Limits::keep_alive",
        "the peer is asked then; dead_after bounds its answer",
    ),
    (
        "Limits::linger",
        "the connection has ended, and its calls with it",
    ),
    ("Limits::max_stream_window", "the sender waits"),
    ("ClientBuilder::busy_poll", "a task sleeps then"),
    ("ServerBuilder::busy_poll", "a task sleeps then"),
    ("ServerBuilder::workers", "a number of threads"),
    (
        "Builder::metrics",
        "an interval; rpc_otel::Builder::timeout bounds each sending",
    ),
    ("ClientBuilder::connections", "a number of connections"),
    (UNIX_SERVER_UID, "the number of a user, which an advice names"),
    (
        "Http::keep_alive",
        "the peer is asked then; keep_alive_timeout bounds its answer",
    ),
    (
        "Grpc::keep_alive",
        "the peer is asked then; keep_alive_timeout bounds its answer",
    ),
    (
        "Http::max_header_list",
        "HTTP has the status 431 for it, and the library that answers adds no text",
    ),
];

/// A row of the table.
struct Row {
    /// What the texts have.
    fragments: Vec<&'static str>,
    settings: Vec<&'static str>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rows() -> Vec<Row> {
    let (_, section) = PAGE
        .split_once("\n## Texts that a limit makes")
        .expect("the page has the table");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let mut cells = line.trim_start_matches('|').split(" | ");
            let mut cell = || in_backticks(cells.next().expect("a row has three cells"));
            Row {
                fragments: cell(),
                settings: cell(),
            }
        });
    rows.collect()
}

fn in_backticks(cell: &'static str) -> Vec<&'static str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The settings that may bound something: what takes a number or a time.
fn settings() -> BTreeSet<String> {
    let limits = format!("{:?}", Limits::default());
    let (_, fields) = limits.split_once(" { ").expect("fields");
    let of_limits = fields
        .split(", ")
        .map(|field| format!("Limits::{}", field.split_once(": ").expect("a name").0));
    let mut all: BTreeSet<_> = of_limits.collect();
    for (owner, path) in SETTERS {
        let text = fs::read_to_string(root().join(path)).expect("the file is there");
        all.extend(
            text.lines()
                .filter_map(setter)
                .map(|name| format!("{owner}::{name}")),
        );
    }
    for path in files(&root().join("rpc-runtime/src/limit")) {
        let text = fs::read_to_string(path).expect("it is read");
        let made = text
            .lines()
            .filter_map(|line| line.strip_prefix("pub fn ")?.split_once('('));
        all.extend(
            made.filter(|(_, rest)| !rest.starts_with("call:"))
                .map(|(name, _)| format!("limit::{name}")),
        );
    }
    all
}

/// The name of the method that this line begins, if it sets a number or a time.
fn setter(line: &str) -> Option<&str> {
    let (name, arguments) = line.strip_prefix("    pub fn ")?.split_once('(')?;
    let argument = arguments.trim_start_matches("mut ").strip_prefix("self, ")?;
    let (kind, _) = argument.split_once(": ")?.1.rsplit_once(") ->")?;
    let sets = ["Duration", "impl Into<Option<Duration>>", "u32", "u64", "usize"];
    sets.contains(&kind).then_some(name)
}

/// All files of Rust below `folder` that a program runs.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("it is read").path();
        match path.file_name().and_then(|name| name.to_str()) {
            Some("tests" | "tests.rs" | "fuzz" | "fuzz.rs") => {}
            _ if path.is_dir() => found.extend(files(&path)),
            Some(name) if name.ends_with(".rs") => found.push(path),
            _ => {}
        }
    }
    found
}

/// All texts of the sources: the string literals outside of tests.
fn texts() -> Vec<String> {
    let folders = SOURCES.iter().map(|source| root().join(source).join("src"));
    let paths: Vec<_> = folders.flat_map(|folder| files(&folder)).collect();
    let sources = paths
        .iter()
        .map(|path| fs::read_to_string(path).expect("it is read"));
    sources.flat_map(|source| literals(&source)).collect()
}

/// The string literals of a file, up to the module of its tests.
fn literals(source: &str) -> Vec<String> {
    let (mut rest, _) = source
        .split_once("#[cfg(test)]\nmod tests {")
        .unwrap_or((source, ""));
    let mut found = Vec::new();
    while let Some(at) = rest.find(['"', '/', '\'']) {
        let before = rest[..at].chars().next_back();
        rest = &rest[at..];
        if rest.starts_with("//") {
            rest = rest.split_once('\n').map_or("", |(_, next)| next);
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\'") {
            rest = &rest[3..];
        } else if rest.starts_with('"') && !matches!(before, Some('r' | '#')) {
            let (text, next) = literal(&rest[1..]);
            found.push(text);
            rest = next;
        } else if rest.starts_with('"') {
            // A raw literal: of one line, and without settings.
            rest = rest[1..].split_once('"').map_or("", |(_, next)| next);
        } else {
            rest = &rest[1..];
        }
    }
    found
}

/// The text of a literal whose first quote is read, and what follows it.
fn literal(source: &str) -> (String, &str) {
    let mut text = String::new();
    let mut chars = source.char_indices().peekable();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return (text, &source[at + 1..]),
            '\\' => match chars.next() {
                Some((_, '\n')) => while chars.next_if(|(_, char)| char.is_whitespace()).is_some() {},
                Some((_, 'n')) => text.push('\n'),
                Some((_, escaped)) => text.push(escaped),
                None => break,
            },
            char => text.push(char),
        }
    }
    panic!("a literal has no end: {text}")
}

/// True if `text` names `setting`, and not one whose name only begins so.
fn names(text: &str, setting: &str) -> bool {
    let is_word = |char: char| char.is_alphanumeric() || char == '_';
    text.match_indices(setting).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + setting.len()..]);
        !before.ends_with(is_word) && !after.starts_with(is_word)
    })
}

#[test]
fn each_setting_is_named_by_a_text_that_the_page_has() {
    let (rows, texts) = (rows(), texts());
    for setting in settings() {
        let is_listed = rows.iter().any(|row| row.settings.contains(&setting.as_str()));
        let reason = NOTHING_FAILS.iter().find(|(name, _)| *name == setting);
        match reason {
            None => assert!(
                is_listed,
                "name {setting} in the text of what fails because of it, and add the text to the table of errors.md; \
                 or say in NOTHING_FAILS why nothing fails"
            ),
            Some((_, reason)) => {
                assert!(!is_listed, "{setting} is in the table, so \"{reason}\" is not so");
                // A list of limits has the name alone.
                let text = texts
                    .iter()
                    .filter(|text| **text != setting && setting != UNIX_SERVER_UID)
                    .find(|text| names(text, &setting));
                assert_eq!(text, None, "{setting} is named, so \"{reason}\" is not so");
            }
        }
    }
    for (name, _) in NOTHING_FAILS {
        assert!(settings().contains(name), "there is no setting {name}");
    }
}

#[test]
fn each_row_of_the_page_has_its_texts_and_their_settings() {
    let (texts, settings) = (texts(), settings());
    for Row {
        fragments,
        settings: named,
    } in rows()
    {
        for name in &named {
            assert!(settings.contains(*name), "there is no setting {name}");
        }
        for fragment in fragments {
            let found: Vec<_> = texts
                .iter()
                .filter(|text| text.contains(fragment) && named.iter().all(|name| names(text, name)))
                .collect();
            assert!(!found.is_empty(), "no text has \"{fragment}\" and {named:?}");
        }
    }
}

#[test]
fn each_text_that_names_a_setting_is_on_the_page() {
    let rows = rows();
    for text in texts() {
        for setting in settings().iter().filter(|setting| names(&text, setting)) {
            let is_on_page = rows.iter().any(|row| {
                row.settings.contains(&setting.as_str())
                    && row.fragments.iter().any(|fragment| text.contains(fragment))
            });
            // A field of a log line has the name alone.
            let is_field = text == *setting;
            assert!(
                is_on_page || is_field || setting == UNIX_SERVER_UID,
                "errors.md has no text like \"{text}\", of {setting}"
            );
        }
    }
}

const UNIX_SERVER_UID: &str = "ClientBuilder::unix_server_uid";

#[test]
fn texts_are_found_and_comments_are_not() {
    let source = "f(\"one \\\n    two\", '\"', \"say \\\"three\\\"\"); // \"four\"\nlet a: &'a str = r\"five\"; /// \"six\"\n\"7/8\"\n\
                  #[cfg(test)]\nmod tests {\n\"nine\"";
    assert_eq!(literals(source), ["one two", "say \"three\"", "7/8"]);
    assert!(names("raise Limits::max_age: now", "Limits::max_age"));
    assert!(!names("raise Limits::max_age_grace", "Limits::max_age"));
    assert!(!names("raise AdminBuilder::timeout", "Builder::timeout"));
}
