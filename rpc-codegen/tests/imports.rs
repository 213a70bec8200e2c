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
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            all += &fs::read_to_string(path)?;
        }
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
fn a_refused_file_leaves_the_options_of_others_alone() {
    let options: String = (1..=60)
        .map(|number| format!("  string name{number} = {};\n", 50_000 + number))
        .collect();
    let options = format!(
        "package a; import \"google/protobuf/descriptor.proto\"; extend google.protobuf.FieldOptions {{\n{options}}}"
    );
    let error = compile(&[
        ("a.proto", &options),
        ("b.proto", "message N { string s = 1 [(c.nothing) = \"x\"]; }"),
        (
            "u.proto",
            "import \"a.proto\"; message M { string s = 1 [(a.name60) = \"x\"]; }",
        ),
    ])
    .expect_err("there is no such option")
    .to_string();
    assert!(error.starts_with("no code was generated: 1 error\n"), "{error}");
    assert!(error.contains("c.nothing"), "{error}");
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

#[cfg(unix)]
mod links {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn files_and_folders_may_be_links() {
        let (store, folder) = (TempDir::new(), TempDir::new());
        write(store.path(), "blob1", "package a; message One { string id = 1; }");
        write(
            store.path(),
            "dir/two.proto",
            "package a; import \"one.proto\"; message Two { One one = 1; }",
        );
        symlink(store.path().join("blob1"), folder.path().join("one.proto")).expect("the link is new");
        symlink(store.path().join("dir"), folder.path().join("sub")).expect("the link is new");
        let text = compile_dir(folder.path(), &[]).expect("links are files of their folder");
        assert!(
            text.contains("struct One") && text.contains("struct Two"),
            "{text}"
        );
    }

    #[test]
    fn an_include_path_may_be_a_link() {
        let (store, folder) = (TempDir::new(), TempDir::new());
        write(
            store.path(),
            "one.proto",
            "package a; message One { string id = 1; }",
        );
        let link = folder.path().join("proto");
        symlink(store.path(), &link).expect("the link is new");
        compile_dir(&link, &[]).expect("a link to a folder is a folder");

        // The file by its real path, the include path by its link, and the other way round.
        for (include, root) in [(link.as_path(), store.path()), (store.path(), link.as_path())] {
            let out = TempDir::new();
            let mut config = Config::new();
            config
                .out_dir(out.path())
                .include_path(include)
                .file(root.join("one.proto"));
            config.compile().expect("both lead to one file");
        }
    }

    #[test]
    fn a_link_to_a_listed_file_or_folder_adds_nothing() {
        let folder = TempDir::new();
        write(
            folder.path(),
            "real/one.proto",
            "package a; message One { string id = 1; }",
        );
        let at = |name: &str| folder.path().join(name);
        symlink(at("real"), at("again")).expect("the link is new");
        symlink(at("real/one.proto"), at("another.proto")).expect("the link is new");
        symlink(folder.path(), at("real/up")).expect("the link is new");
        let text = compile_dir(folder.path(), &[]).expect("each file counts once");
        assert_eq!(text.matches("struct One").count(), 1, "{text}");
        assert!(text.contains("from real/one.proto;"), "{text}");
    }
}
