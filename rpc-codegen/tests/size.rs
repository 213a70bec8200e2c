//! Large inputs: each would take hours if a step compared all items with all others, or followed all paths.

#[path = "common/temp_dir.rs"]
mod temp_dir;

use std::{error::Error, fmt::Write as _, fs};

use rpc_codegen::Config;
use temp_dir::TempDir;

/// Compiles `files`, each by name with its text.
fn compile(files: &[(&str, &str)]) -> Result<String, Box<dyn Error>> {
    let (folder, out) = (TempDir::new(), TempDir::new());
    for (name, text) in files {
        fs::write(folder.path().join(name), text)?;
    }
    Config::new().out_dir(out.path()).compile_dir(folder.path())?;
    Ok(fs::read_to_string(out.path().join("big.rs"))?)
}

const HEAD: &str = "syntax = \"proto3\";\npackage big;\nservice S { rpc Get(M0) returns (M0); }\n";

#[test]
fn a_chain_of_a_thousand_messages_is_no_work() {
    let mut proto = HEAD.to_owned();
    for number in 0..1000 {
        let next = number + 1;
        let _ = writeln!(
            proto,
            "message M{number} {{ M{next} next = 1; repeated M{next} more = 2; }}"
        );
    }
    proto += "message M1000 { int32 a = 1; }\n";
    let text = compile(&[("big.proto", &proto)]).expect("a long chain is allowed");
    assert!(text.contains("struct M1000"));
}

#[test]
fn a_chain_of_required_fields_is_no_work() {
    let mut proto = HEAD.replace("proto3", "proto2");
    for number in 0..3000 {
        let next = number + 1;
        let _ = writeln!(
            proto,
            "message M{number} {{ required M{next} next = 1; required M{next} same = 2; }}"
        );
    }
    proto += "message M3000 { optional int32 a = 1; }\n";
    let text = compile(&[("big.proto", &proto)]).expect("the chain has an end");
    assert!(text.contains("struct M3000"));
}

#[test]
fn a_ladder_of_a_hundred_messages_derives_what_prost_would() {
    // 2^100 paths lead from the first message to the last one.
    for (last, derives) in [
        ("int32 a = 1;", "#[derive(Clone, Copy, PartialEq, Eq, Hash, ::"),
        ("string a = 1;", "#[derive(Clone, PartialEq, Eq, Hash, ::"),
        ("float a = 1;", "#[derive(Clone, Copy, PartialEq, ::"),
        ("repeated M100 a = 1;", "#[derive(Clone, PartialEq, ::"),
    ] {
        let mut proto = HEAD.to_owned();
        for number in 0..100 {
            let next = number + 1;
            let _ = writeln!(
                proto,
                "message M{number} {{ M{next} left = 1; M{next} right = 2; }}"
            );
        }
        let _ = writeln!(proto, "message M100 {{ {last} }}");
        let text = compile(&[("big.proto", &proto)]).expect("a ladder is allowed");
        let (before, _) = text.split_once("struct M0 ").expect("the first message is there");
        let line = before.lines().rfind(|line| line.starts_with("#[derive"));
        assert!(
            line.is_some_and(|line| line.starts_with(derives)),
            "{last} {line:?}"
        );
    }
}

#[test]
fn twenty_thousand_shared_names_are_one_problem() {
    let mut proto = HEAD.to_owned();
    for number in 0..20_000 {
        let _ = writeln!(proto, "message M{number} {{ int32 a = 1; }}");
    }
    let error = compile(&[("a.proto", &proto), ("b.proto", &proto)]).expect_err("two files define all names");
    let error = error.to_string();
    assert!(error.starts_with("no code was generated: 1 error\n"), "{error}");
    assert!(
        error.contains("both define `big.M0` and 20000 other names\n"),
        "{error}"
    );
    assert!(
        error.contains("help: the files have the same text: keep one of them"),
        "{error}"
    );
}

#[test]
fn twenty_thousand_names_defined_twice_are_fifty_problems_and_a_count() {
    let mut proto = HEAD.to_owned();
    for number in 0..20_000 {
        let _ = writeln!(proto, "message M{number} {{ int32 a = 1; int32 a = 2; }}");
    }
    let error = compile(&[("a.proto", &proto)]).expect_err("each message has a field twice");
    let error = error.to_string();
    assert!(error.starts_with("no code was generated: 20000 errors\n"));
    assert_eq!(error.matches("is defined twice").count(), 50);
    assert!(error.ends_with("\n\n19950 more errors are not shown\n"));
}

#[test]
fn twenty_thousand_unknown_names_are_fifty_problems_and_a_count() {
    let mut proto = HEAD.to_owned();
    for number in 0..20_000 {
        let _ = writeln!(proto, "message M{number} {{ Missing{number} a = 1; }}");
    }
    let error = compile(&[("a.proto", &proto)]).expect_err("no type is there");
    let error = error.to_string();
    assert!(
        error.starts_with("no code was generated: 20000 errors\n"),
        "{error}"
    );
    assert_eq!(error.matches("is not defined").count(), 50);
}

#[test]
fn twenty_thousand_mistakes_in_one_file_are_the_first_one_and_a_count() {
    let mut proto = format!("{HEAD}message M0 {{\n");
    for number in 0..20_000 {
        let _ = writeln!(proto, "int32 field{number} = 1;");
    }
    proto += "}\n";
    let error = compile(&[("a.proto", &proto)]).expect_err("all fields have one number");
    let error = error.to_string();
    assert!(error.starts_with("no code was generated: 1 error\n"), "{error}");
    assert!(
        error.contains("error: field number '1' is already used\n"),
        "{error}"
    );
    assert!(error.contains("6 | int32 field1 = 1;\n"), "{error}");
    assert!(
        error.ends_with("help: correct it, then the 19998 other mistakes in this file\n"),
        "{error}"
    );
}

#[test]
fn after_twenty_files_with_mistakes_the_others_are_counted() {
    let files: Vec<(String, String)> = (0..30)
        .map(|number| {
            let text = format!("syntax = \"proto3\"; message M{number} {{ int32 a = 1; int32 b = 1; }}");
            (format!("{number:02}.proto"), text)
        })
        .collect();
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    let error = compile(&files).expect_err("all files are wrong").to_string();
    assert!(error.starts_with("no code was generated: 20 errors\n"), "{error}");
    assert!(
        error.ends_with("\n\nfiles that were not checked because of these errors: 10\n"),
        "{error}"
    );
}
