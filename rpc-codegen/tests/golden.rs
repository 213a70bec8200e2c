//! The generated code, compared with reviewed code: one folder for each case.

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::{TempDir, compare};
use rpc_codegen::Config;

/// Generates code for the folder tests/golden/`case`, and compares it with expected.rs.
#[track_caller]
fn check(case: &str) {
    let folder = Path::new("tests/golden").join(case);
    compare(
        &folder.join("expected.rs"),
        &generate(&folder, &mut Config::new()),
    );
}

fn generate(folder: &Path, config: &mut Config) -> String {
    let out = TempDir::new();
    config
        .out_dir(out.path())
        .compile_dir(folder)
        .expect("the case compiles");
    let entries = fs::read_dir(out.path()).expect("there is a folder");
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("it can be read").path())
        .collect();
    files.sort();
    let mut all = String::new();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let text = fs::read_to_string(&file).expect("it can be read");
        all += &format!("// ==== {name} ====\n{text}\n");
    }
    all
}

#[test]
fn the_kv_demo() {
    check("kv");
}

#[test]
fn a_grpc_file_compiles_as_it_stands() {
    check("grpc");
}

#[test]
fn fields_become_arguments_and_values() {
    check("flatten");
}

#[test]
fn packages_import_each_other() {
    check("packages");
}

#[test]
fn streams_go_both_ways() {
    check("streams");
}

#[test]
fn messages_have_json_on_request() {
    let folder = Path::new("tests/golden/json");
    let text = generate(folder, Config::new().json(".shop.v1.Order"));
    compare(&folder.join("expected.rs"), &text);
}

#[test]
fn two_runs_write_the_same_bytes() {
    let folder = Path::new("tests/golden/flatten");
    let generate = || generate(folder, &mut Config::new());
    assert_eq!(generate(), generate());
}
