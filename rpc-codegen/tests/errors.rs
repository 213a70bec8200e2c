//! The errors for wrong .proto files: one file or one folder for each case.

mod common;

use std::{
    fs,
    path::{MAIN_SEPARATOR, Path},
};

use common::{TempDir, compare};
use rpc_codegen::Config;

/// Compiles tests/errors/`case`, a folder or a file, and compares the text that `main` would print.
#[track_caller]
fn check(case: &str) {
    let folder = Path::new("tests/errors").join(case);
    let file = folder.with_extension("proto");
    let out = TempDir::new();
    let mut config = Config::new();
    config.out_dir(out.path());
    let result = if folder.is_dir() {
        config.compile_dir(&folder)
    } else {
        config.file(&file).compile()
    };
    let error = result.expect_err("the case is an error");
    let text = format!("Error: {error:?}").replace(MAIN_SEPARATOR, "/");
    compare(&folder.with_extension("txt"), &text);
}

macro_rules! cases {
    ($($case:ident)*) => { $(#[test] fn $case() { check(stringify!($case)); })* };
}

cases! {
    a_hash_is_by_no_field
    a_name_is_defined_twice
    a_name_is_qualified_wrongly
    a_priority_is_a_wrong_number
    a_priority_is_none
    a_scalar_is_misspelt
    a_stream_stands_outside_of_its_parentheses
    a_type_needs_its_import
    an_allowed_role_has_no_name
    an_allowed_role_is_no_name
    an_edition_is_not_supported_yet
    an_enum_prefix_hides_a_clash
    an_import_is_listed_twice
    an_import_is_misspelt
    an_import_is_near_nothing
    an_import_leads_in_a_circle
    an_import_leads_nowhere
    an_option_is_misspelt
    an_option_needs_its_import
    an_option_of_another_rpc_package
    an_option_s_field_is_misspelt
    anyone_is_allowed_beside_others
    blocking_and_spawn_exclude_each_other
    fields_differ_by_case_only
    google_s_package_is_reserved
    names_are_only_underscores
    names_in_package_rpc_are_reserved
    no_proto_file_is_in_the_folder
    oneof_and_field_have_one_name
    package_rpc_control_is_reserved
    required_fields_lead_in_a_circle
    rpc_terminate_is_built_in
    services_differ_by_case_only
    several_files_have_syntax_errors
    two_files_define_the_same_names
    two_stems_are_the_same
    type_and_package_have_one_name
    type_is_in_another_package
    type_is_not_defined
}

#[test]
fn a_field_without_json_is_an_error_if_its_message_is_selected() {
    let out = TempDir::new();
    let file = out.path().join("shop.proto");
    let text = "syntax = \"proto3\";\npackage shop.v1;\nimport \"google/protobuf/type.proto\";\n\
                message A { google.protobuf.Type type = 1; }\nmessage B { A a = 1; }\nmessage C {}\n";
    fs::write(&file, text).expect("the file is written");
    let compile = |path: &str| Config::new().file(&file).json(path).out_dir(out.path()).compile();
    compile("C").expect("C has nothing of it");
    let error = compile("B").expect_err("A is in B").to_string();
    let message =
        "error: field `shop.v1.A.type` has the type `google.protobuf.Type`, which has no JSON here\n --> ";
    assert!(
        error.contains(message) && error.contains("shop.proto:4:13"),
        "{error}"
    );
    let text = "syntax = \"proto3\";\npackage shop.v1;\nimport \"google/protobuf/timestamp.proto\";\n\
                message A { google.protobuf.Timestamp at = 1; }\n";
    fs::write(&file, text).expect("the file is written");
    let mut config = Config::new();
    let out = TempDir::new();
    config.file(&file).json("A").out_dir(out.path());
    config.compile().expect("a timestamp has JSON");
    config.extern_path(".google.protobuf.Timestamp", "::user::Moment");
    let error = config.compile().expect_err("the type is the user's").to_string();
    assert!(error.contains("which has no JSON here"), "{error}");
}

#[test]
fn one_file_under_two_names_is_one_problem() {
    let out = TempDir::new();
    let mut config = Config::new();
    config
        .out_dir(out.path())
        .file("tests/golden/packages/shop/v1/orders.proto")
        .file("tests/golden/kv/kv.proto")
        .include_path("tests/golden/packages")
        .include_path("tests/golden");
    config
        .include_path("tests")
        .file("tests/golden/kv/../kv/kv.proto");
    config
        .compile()
        .expect("one file may be given twice, and its folder may be in two include paths");

    // Imports by the two names are two files for the compiler.
    let folder = TempDir::new();
    let proto = folder.path().join("proto");
    fs::create_dir(&proto).expect("the folder is new");
    let write = |name: &str, text: &str| fs::write(proto.join(name), text).expect("the file is written");
    write("a.proto", "syntax = \"proto3\"; message A { string id = 1; }");
    write(
        "b.proto",
        "syntax = \"proto3\"; import \"proto/a.proto\"; message B { A a = 1; }",
    );
    let mut config = Config::new();
    config.out_dir(out.path()).include_path(folder.path());
    let error = config
        .compile_dir(&proto)
        .expect_err("the names clash")
        .to_string();
    assert!(
        error.starts_with(
            "no code was generated: 1 error\n\nerror: `a.proto` and `proto/a.proto` are one file under two names\n --> "
        ),
        "{error}"
    );
}

#[test]
fn the_error_for_an_edition_names_the_version_of_the_compiler() {
    let cargo = fs::read_to_string("../Cargo.toml").expect("the workspace is there");
    let version = cargo
        .lines()
        .find_map(|line| line.strip_prefix("protox = \""))
        .expect("it is there");
    let version: Vec<&str> = version.split('.').take(2).collect();
    let text = include_str!("errors/an_edition_is_not_supported_yet.txt");
    assert!(text.contains(&format!("protox {},", version.join("."))), "{text}");
}

#[test]
fn a_missing_folder_is_reported_with_the_current_folder() {
    let error = rpc_codegen::compile_dir("tests/nowhere")
        .expect_err("there is no such folder")
        .to_string();
    assert!(error.contains("error: cannot read tests/nowhere: "), "{error}");
    let folder = std::env::current_dir().expect("there is one");
    let help = format!("help: the path is relative to {}", folder.display());
    assert!(error.contains(&help), "{error}");
}

#[test]
fn outside_of_cargo_an_output_folder_is_required() {
    let error = Config::new()
        .file("tests/golden/kv/kv.proto")
        .compile()
        .expect_err("nowhere to write to");
    assert!(
        error.to_string().contains("OUT_DIR is not set\nhelp: "),
        "{error}"
    );
}

#[test]
fn an_attribute_that_is_not_rust_is_an_error() {
    let out = TempDir::new();
    let mut config = Config::new();
    config
        .file("tests/golden/kv/kv.proto")
        .out_dir(out.path())
        .type_attribute(".", "#[derive(");
    let error = config.compile().expect_err("the attribute is broken").to_string();
    assert!(
        error.contains("`Config::type_attribute`: `#[derive(`, given for `.`, is not an attribute"),
        "{error}"
    );
}

#[test]
fn a_runtime_path_that_is_no_path_is_an_error() {
    let out = TempDir::new();
    let mut config = Config::new();
    config
        .file("tests/golden/kv/kv.proto")
        .out_dir(out.path())
        .runtime_path("not a path");
    let error = config.compile().expect_err("the path is broken").to_string();
    assert!(
        error.contains("error: `not a path` is not the path of a Rust module"),
        "{error}"
    );
}

#[test]
fn a_file_outside_of_the_include_paths_is_an_error() {
    let out = TempDir::new();
    let mut config = Config::new();
    config
        .file("tests/golden/kv/kv.proto")
        .include_path("tests/errors")
        .out_dir(out.path());
    let error = config.compile().expect_err("the file is elsewhere").to_string();
    assert!(
        error.contains("kv.proto is in none of the include paths (tests/errors)"),
        "{error}"
    );
}

#[test]
fn a_file_cut_anywhere_is_an_error_and_never_a_panic() {
    let folder = TempDir::new();
    let out = TempDir::new();
    let file = folder.path().join("cut.proto");
    for whole in [
        include_str!("errors/cut/docs.proto"),
        include_str!("golden/flatten/paint.proto"),
        include_str!("golden/streams/tape.proto"),
    ] {
        for (end, _) in whole.char_indices() {
            fs::write(&file, &whole[..end]).expect("the file is written");
            let mut config = Config::new();
            let result = config.file(&file).out_dir(out.path()).compile();
            let text = result.err().map(|error| format!("{error:?}")).unwrap_or_default();
            assert!(
                !text.contains("panicked") && !text.contains("is not Rust"),
                "cut at {end}: {text}"
            );
        }
    }
}
