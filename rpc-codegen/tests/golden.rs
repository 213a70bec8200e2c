//! The generated code, compared with reviewed code: one folder for each case.

mod common;

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use common::{TempDir, compare};
use prost_reflect::DescriptorPool;
use rpc_codegen::{BytesType, Config};

include!("golden/options/config.rs");

/// Generates code for the folder tests/golden/`case`, and compares it with expected.rs.
#[track_caller]
fn check(case: &str) {
    check_with(case, |config| config);
}

/// As `check`, with options.
#[track_caller]
fn check_with(case: &str, set: fn(&mut Config) -> &mut Config) {
    let folder = Path::new("tests/golden").join(case);
    compare(&folder.join("expected.rs"), &generate(&folder, set));
}

fn generate(folder: &Path, set: fn(&mut Config) -> &mut Config) -> String {
    let out = TempDir::new();
    set(&mut Config::new())
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
        let bytes = fs::read(&file).expect("it can be read");
        let text = match name.ends_with(".binpb") {
            true => shown(&bytes),
            false => String::from_utf8(bytes).expect("code is text"),
        };
        all += &format!("// ==== {name} ====\n{text}\n");
    }
    all
}

/// The files of a descriptor set, a line for each: its name, how many bytes it has, and its services.
fn shown(set: &[u8]) -> String {
    let pool = DescriptorPool::decode(set).expect("the set is whole");
    let mut text = String::new();
    for file in pool.files() {
        let services: Vec<String> = file
            .services()
            .map(|service| service.full_name().to_owned())
            .collect();
        let bytes = file.encode_to_vec().len();
        let _ = writeln!(text, "// {}, {bytes} bytes, services: {services:?}", file.name());
    }
    text
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
fn rules_say_who_may_call() {
    check("allow");
}

#[test]
fn keys_and_calls_that_may_run_twice_are_marked() {
    check("hash");
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
fn a_build_script_chooses_by_path() {
    check_with("options", options);
}

#[test]
fn messages_have_json_on_request() {
    check_with("json", |config| config.json(".shop.v1.Order"));
}

#[test]
fn two_runs_write_the_same_bytes() {
    let folder = Path::new("tests/golden/flatten");
    let run = || generate(folder, |config| config);
    assert_eq!(run(), run());
}
