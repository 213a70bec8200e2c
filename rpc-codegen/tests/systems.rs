//! What differs between operating systems: line breaks, names of files, lengths of paths, stacks.

#[path = "common/temp_dir.rs"]
mod temp_dir;

use std::{error::Error, fs, path::Path, thread};

use rpc_codegen::Config;
use temp_dir::TempDir;

const HEAD: &str = "syntax = \"proto3\";\n";

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("it is in a folder")).expect("the folder is there");
    fs::write(path, text).expect("the file is written");
}

/// Generated files: names and bytes.
type Files = Vec<(String, Vec<u8>)>;

/// All generated files of the folder `proto`, by name, sorted.
fn generate(proto: &Path) -> Result<Files, Box<dyn Error>> {
    let out = TempDir::new();
    Config::new().out_dir(out.path()).compile_dir(proto)?;
    let mut files = Vec::new();
    for entry in fs::read_dir(out.path())? {
        let entry = entry?;
        files.push((
            entry.file_name().to_string_lossy().into_owned(),
            fs::read(entry.path())?,
        ));
    }
    files.sort();
    Ok(files)
}

/// Copies the .proto files below `from`, each with `line_break` at the end of each line.
fn copy(from: &Path, to: &Path, line_break: &str) {
    for entry in fs::read_dir(from).expect("it is a folder") {
        let path = entry.expect("it can be read").path();
        let target = to.join(path.file_name().expect("it has a name"));
        if path.is_dir() {
            copy(&path, &target, line_break);
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            let text = fs::read_to_string(&path).expect("it is text");
            write(&target, &text.replace("\r\n", "\n").replace('\n', line_break));
        }
    }
}

/// Generates `case` with this line break. Returns the files, or the error's message.
fn outcome(case: &Path, line_break: &str) -> Result<Files, String> {
    let folder = TempDir::new();
    if case.is_dir() {
        copy(case, folder.path(), line_break);
    } else {
        let text = fs::read_to_string(case).expect("it is text");
        write(&folder.path().join("case.proto"), &text.replace('\n', line_break));
    }
    generate(folder.path()).map_err(|error| {
        error
            .to_string()
            .replace(&folder.path().display().to_string(), "")
    })
}

#[test]
fn line_breaks_of_windows_change_neither_code_nor_errors() {
    let (mut codes, mut errors) = (0, 0);
    for folder in ["tests/golden", "tests/errors"] {
        for entry in fs::read_dir(folder).expect("it is a folder") {
            let case = entry.expect("it can be read").path();
            if case.extension().is_some_and(|extension| extension != "proto") {
                continue;
            }
            let (unix, windows) = (outcome(&case, "\n"), outcome(&case, "\r\n"));
            match &unix {
                Ok(_) => codes += 1,
                Err(text) => {
                    assert!(!text.contains('\r'), "{text}");
                    errors += 1;
                }
            }
            assert!(unix == windows, "{}: {unix:?}\n{windows:?}", case.display());
        }
    }
    assert!(codes > 5 && errors > 30, "{codes} and {errors}");
}

#[test]
fn comments_lose_the_line_breaks_of_windows() {
    let folder = TempDir::new();
    let text = "syntax = \"proto3\";\r\npackage a;\r\n\r\n// One.\r\n//\r\n// Two.\r\nmessage A {\r\n  /* Three.\r\n   * Four. */\r\n  \
                string id = 1; // Five.\r\n}\r\n";
    write(&folder.path().join("a.proto"), text);
    for (name, bytes) in generate(folder.path()).expect("it is right") {
        let text = String::from_utf8(bytes).expect("it is text");
        assert!(!text.contains('\r'), "{name}");
        if name == "a.rs" {
            assert!(text.contains("/// One.\n///\n/// Two.\n"), "{text}");
            assert!(text.contains("Four."), "{text}");
            assert!(text.contains("Five.\n"), "{text}");
        }
    }
}

#[test]
fn packages_named_after_devices_get_other_files() {
    let folder = TempDir::new();
    for (number, package) in ["con", "aux.v1", "nul", "com1.x", "acme.prn"].iter().enumerate() {
        let text = format!(
            "{HEAD}package {package}; message A {{ string id = 1; string to = 2; }} service S {{ rpc Get(A) returns (A); }}"
        );
        write(&folder.path().join(format!("file{number}.proto")), &text);
    }
    let files = generate(folder.path()).expect("the packages are right");
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    let sources: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| name.ends_with(".rs"))
        .collect();
    assert_eq!(
        sources,
        [
            "_aux.v1.rs",
            "_com1.x.rs",
            "_con.rs",
            "_nul.rs",
            "acme.prn.rs",
            "rpc_protos.rs"
        ]
    );
    let (_, all) = &files[files.len() - 1];
    let all = String::from_utf8_lossy(all);
    assert!(
        all.contains("include!(\"_aux.v1.rs\");") && all.contains("pub mod aux {"),
        "{all}"
    );
}

#[test]
fn packages_that_differ_by_case_only_are_refused_by_both_names() {
    let folder = TempDir::new();
    for (file, package) in [("one.proto", "shop.v1"), ("two.proto", "Shop.v1")] {
        write(
            &folder.path().join(file),
            &format!(
                "{HEAD}package {package}; message {} {{}}",
                file.replace(".proto", "")
            ),
        );
    }
    let error = generate(folder.path())
        .expect_err("the files would be one")
        .to_string();
    assert!(
        error.contains("package `Shop` and package `shop` are both named `shop` in Rust")
            || error.contains("package `shop` and package `Shop` are both named `shop` in Rust"),
        "{error}"
    );
    assert!(
        error.contains("one.proto:2") && error.contains("two.proto:2"),
        "{error}"
    );
}

#[test]
fn an_import_that_differs_by_case_only_is_refused_on_every_system() {
    let folder = TempDir::new();
    let at = |name: &str| folder.path().join(name);
    write(
        &at("shop/types.proto"),
        &format!("{HEAD}package a; message A {{}}"),
    );
    write(
        &at("user.proto"),
        &format!("{HEAD}import \"Shop/Types.proto\"; package b; message B {{ a.A a = 1; }}"),
    );
    let error = generate(folder.path())
        .expect_err("Linux has no such file")
        .to_string();
    assert!(
        error.contains("import \"Shop/Types.proto\" was not found"),
        "{error}"
    );
    assert!(
        error.contains("help: write `import \"shop/types.proto\";`"),
        "{error}"
    );
}

#[test]
fn a_path_in_another_case_is_one_file_where_case_does_not_count() {
    let (folder, out) = (TempDir::new(), TempDir::new());
    let file = folder.path().join("shop/types.proto");
    write(&file, &format!("{HEAD}package a; message A {{}}"));
    write(
        &folder.path().join("shop/user.proto"),
        &format!("{HEAD}import \"shop/types.proto\"; package a; message B {{ A a = 1; }}"),
    );
    let other = folder.path().join("Shop/Types.proto");
    let mut config = Config::new();
    config.out_dir(out.path()).include_path(folder.path());
    let result = config
        .file(folder.path().join("shop/user.proto"))
        .file(&other)
        .compile();
    if other.is_file() {
        result.expect("both are one file");
        let text = fs::read_to_string(out.path().join("a.rs")).expect("it is there");
        assert!(text.contains("from shop/types.proto, shop/user.proto;"), "{text}");
    } else {
        let error = result.expect_err("there is no such file").to_string();
        assert!(error.contains("cannot read"), "{error}");
    }
}

#[test]
fn an_import_is_a_relative_path_with_slashes() {
    let import = |import: &str| {
        let folder = TempDir::new();
        write(
            &folder.path().join("shop/types.proto"),
            &format!("{HEAD}package a; message A {{}}"),
        );
        let text = format!("{HEAD}import \"{import}\"; package b; message B {{ a.A a = 1; }}");
        write(&folder.path().join("user.proto"), &text);
        generate(folder.path())
            .map(drop)
            .map_err(|error| error.to_string())
    };
    import("shop/types.proto").expect("it is there");
    for name in [
        "shop\\\\types.proto",
        "/shop/types.proto",
        "../types.proto",
        "C:/shop/types.proto",
        "c:types.proto",
    ] {
        let error = import(name).expect_err("it is no relative path");
        assert!(error.contains("error: this is not the name of a file"), "{error}");
        assert!(error.contains("user.proto:2:8"), "{error}");
        assert!(
            error.contains("help: write its path below an include path"),
            "{error}"
        );
    }
}

#[test]
fn paths_may_be_longer_than_windows_once_allowed() {
    let folder = TempDir::new();
    let mut deep = folder.path().to_owned();
    while deep.as_os_str().len() < 400 {
        deep.push("a_folder_with_a_name_of_some_forty_letters");
    }
    write(
        &deep.join("proto/shop/types.proto"),
        &format!("{HEAD}package a; message A {{}}"),
    );
    write(
        &deep.join("proto/user.proto"),
        &format!("{HEAD}import \"shop/types.proto\"; package a; message B {{ A a = 1; }}"),
    );
    let out = deep.join("out");
    Config::new()
        .out_dir(&out)
        .compile_dir(deep.join("proto"))
        .expect("the paths are allowed");
    assert!(fs::read_to_string(out.join("a.rs")).is_ok_and(|text| text.contains("struct B")));
}

/// A main thread of Windows has a stack of 1 MiB, and one of Linux 8 MiB.
#[test]
fn the_deepest_messages_need_no_large_stack() {
    // The parser allows no more.
    let depth = 31;
    let folder = TempDir::new();
    let open: String = (0..depth)
        .map(|number| format!("message M{number} {{ string s = 1;\n"))
        .collect();
    write(
        &folder.path().join("deep.proto"),
        &format!("{HEAD}package a;\n{open}{}", "}".repeat(depth)),
    );
    let proto = folder.path().to_owned();
    let run = move || {
        generate(&proto)
            .map(|files| files.len())
            .map_err(|error| error.to_string())
    };
    let small = thread::Builder::new()
        .stack_size(512 << 10)
        .spawn(run)
        .expect("a thread");
    assert_eq!(small.join().expect("no panic"), Ok(2));
}

/// The forms in which Windows writes a path.
#[cfg(windows)]
mod windows {
    use std::path::PathBuf;

    use super::*;

    /// The folder `path` with a drive letter and back-slashes, with slashes, with a small letter, from the root of its drive, and verbatim.
    fn forms(path: &Path) -> Vec<PathBuf> {
        let whole = std::path::absolute(path).expect("it has a whole path");
        let text = whole.to_str().expect("it is text").to_owned();
        assert_eq!(text.as_bytes()[1], b':', "{text}");
        let small = text[..1].to_lowercase() + &text[1..];
        let verbatim = fs::canonicalize(path).expect("it is there");
        assert!(verbatim.to_string_lossy().starts_with(r"\\?\"), "{verbatim:?}");
        vec![
            PathBuf::from(&text),
            text.replace('\\', "/").into(),
            small.into(),
            verbatim,
        ]
    }

    #[test]
    fn each_form_of_a_path_leads_to_its_file() {
        let folder = TempDir::new();
        write(
            &folder.path().join("shop/v1/types.proto"),
            &format!("{HEAD}package a; message A {{}}"),
        );
        write(
            &folder.path().join("shop/user.proto"),
            &format!("{HEAD}import \"shop/v1/types.proto\"; package a; message B {{ A a = 1; }}"),
        );
        for include in forms(folder.path()) {
            for file in forms(&folder.path().join("shop")) {
                let out = TempDir::new();
                for out in forms(out.path()) {
                    let mut config = Config::new();
                    config
                        .out_dir(out)
                        .include_path(&include)
                        .file(file.join("user.proto"));
                    config
                        .compile()
                        .unwrap_or_else(|error| panic!("{include:?} {file:?}: {error}"));
                }
                let text = fs::read_to_string(out.path().join("a.rs")).expect("it is there");
                assert!(
                    text.contains("from shop/user.proto, shop/v1/types.proto;"),
                    "{text}"
                );
            }
            let out = TempDir::new();
            Config::new()
                .out_dir(out.path())
                .compile_dir(&include)
                .expect("the folder is right");
        }
    }

    #[test]
    fn messages_show_back_slashes_only() {
        let folder = TempDir::new();
        write(
            &folder.path().join("shop/v1/types.proto"),
            &format!("{HEAD}package a; message A {{ B b = 1; }}"),
        );
        let error = generate(folder.path()).expect_err("there is no B").to_string();
        assert!(error.contains(r"\shop\v1\types.proto:2:"), "{error}");
    }
}
