//! Which files an import may name, and which names a file may use.

#[path = "common/temp_dir.rs"]
mod temp_dir;

use std::{error::Error, fs, path::Path};

use rpc_codegen::Config;
use temp_dir::TempDir;

/// Writes `files` into a new folder, each by name with its text, and compiles the folder.
fn compile(files: &[(&str, &str)]) -> Result<String, Box<dyn Error>> {
    let folder = TempDir::new();
    for (name, text) in files {
        write(folder.path(), name, text);
    }
    compile_dir(folder.path(), &[])
}

/// Compiles `folder`, and returns all generated code.
fn compile_dir(folder: &Path, includes: &[&Path]) -> Result<String, Box<dyn Error>> {
    let out = TempDir::new();
    let mut config = Config::new();
    config.out_dir(out.path());
    for include in includes {
        config.include_path(include);
    }
    config.compile_dir(folder)?;
    generated(out.path())
}

fn generated(out: &Path) -> Result<String, Box<dyn Error>> {
    let mut all = String::new();
    for entry in fs::read_dir(out)? {
        all += &fs::read_to_string(entry?.path())?;
    }
    Ok(all)
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().expect("it is in the folder")).expect("the folder is there");
    fs::write(path, format!("syntax = \"proto3\";\n{text}")).expect("the file is written");
}

#[test]
fn packages_that_are_not_imported_hide_no_names() {
    let text = compile(&[
        (
            "a.proto",
            "package env.config.core; message Data { string id = 1; }",
        ),
        // For `user.proto` there is no `env.ext.config`.
        (
            "b.proto",
            "package env.ext.config.other; message Other { string id = 1; }",
        ),
        (
            "user.proto",
            "package env.ext.user; import \"a.proto\"; message User { config.core.Data data = 1; }",
        ),
    ])
    .expect("protoc compiles these files");
    assert!(
        text.contains("Option<super::super::config::core::Data>"),
        "{text}"
    );
}

#[test]
fn types_and_options_that_are_not_imported_hide_no_names() {
    compile(&[
        (
            "options.proto",
            "package acme; import \"google/protobuf/descriptor.proto\";
             message Sign { string text = 1; }
             extend google.protobuf.FieldOptions { Sign sign = 50001; }",
        ),
        (
            "z.proto",
            "package shop.acme; import \"google/protobuf/descriptor.proto\";
             message Sign { string text = 1; }
             extend google.protobuf.FieldOptions { Sign sign = 50002; }",
        ),
        (
            "user.proto",
            "package shop.v1; import \"options.proto\";
             message User { acme.Sign name = 1 [(acme.sign).text = \"x\"]; }",
        ),
    ])
    .expect("protoc compiles these files");
}

#[test]
fn a_package_that_is_imported_hides_names_as_for_protoc() {
    let error = compile(&[
        (
            "a.proto",
            "package env.config.core; message Data { string id = 1; }",
        ),
        (
            "b.proto",
            "package env.ext.config.other; message Other { string id = 1; }",
        ),
        (
            "user.proto",
            "package env.ext.user; import \"a.proto\"; import \"b.proto\";
             message User { config.core.Data data = 1; config.other.Other other = 2; }",
        ),
    ])
    .expect_err("the innermost `config` decides")
    .to_string();
    assert!(
        error.contains("'config.core.Data' resolves to 'env.ext.config.core.Data', which is not defined"),
        "{error}"
    );
    assert!(error.contains("help: write `env.config.core.Data`"), "{error}");
}

#[test]
fn public_imports_lead_through_any_number_of_files() {
    let files = |second: &'static str| {
        [
            ("one.proto", "package a; message One { string id = 1; }"),
            ("two.proto", "package a; import public \"one.proto\";"),
            ("three.proto", second),
            ("four.proto", "package a; import public \"three.proto\";"),
            (
                "user.proto",
                "package b; import \"four.proto\"; message User { a.One one = 1; }",
            ),
        ]
    };
    compile(&files("package a; import public \"two.proto\";")).expect("all imports are public");
    let error = compile(&files("package a; import \"two.proto\";")).expect_err("one import is not public");
    assert!(
        error
            .to_string()
            .contains("help: add `import \"one.proto\";` at the top of the file"),
        "{error}"
    );
}
