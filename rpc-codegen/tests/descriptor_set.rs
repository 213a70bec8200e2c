//! Descriptor sets as input.

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::{TempDir, compare};
use prost_reflect::{DescriptorPool, DynamicMessage, Value, prost::Message};
use rpc_codegen::Config;

/// The generated code of `config`: the names of the files, and their texts.
fn generate(config: &mut Config, compile: impl FnOnce(&Config)) -> Vec<(String, String)> {
    let out = TempDir::new();
    compile(config.out_dir(out.path()));
    let entries = fs::read_dir(out.path()).expect("there is a folder");
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("it can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect();
    files.sort();
    files
        .iter()
        .map(|file| {
            let name = file
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            (name, fs::read_to_string(file).expect("it can be read"))
        })
        .collect()
}

/// The code of the descriptor set at `path`.
fn from_set(path: &Path) -> Vec<(String, String)> {
    generate(Config::new().descriptor_set(path), |config| {
        config.compile().expect("the set compiles");
    })
}

/// The code of the golden case `case`, and its descriptor set, written to `path`.
fn from_files(case: &str, path: &Path) -> Vec<(String, String)> {
    let folder = Path::new("tests/golden").join(case);
    generate(Config::new().file_descriptor_set_path(path), |config| {
        config.compile_dir(&folder).expect("the case compiles");
    })
}

/// Rewrites the descriptor set at `path`: `change` gets each file, and says whether it stays.
fn rewrite(path: &Path, mut change: impl FnMut(&str, &mut DynamicMessage) -> bool) {
    let pool = DescriptorPool::global();
    let ty = pool
        .get_message_by_name("google.protobuf.FileDescriptorSet")
        .expect("it is well known");
    let bytes = fs::read(path).expect("it was written");
    let mut set = DynamicMessage::decode(ty, &bytes[..]).expect("it is whole");
    let files = set.get_field_by_name_mut("file").expect("a set has files");
    files
        .as_list_mut()
        .expect("there are several")
        .retain_mut(|value| {
            let file = value.as_message_mut().expect("a file is a message");
            let name = file.get_field_by_name("name").expect("a file has a name");
            let name = name.as_str().unwrap_or_default().to_owned();
            change(&name, file)
        });
    fs::write(path, set.encode_to_vec()).expect("it can be written");
}

/// The error for the descriptor set at `path`, without the path.
fn error_of(path: &Path) -> String {
    let out = TempDir::new();
    let mut config = Config::new();
    let result = config.descriptor_set(path).out_dir(out.path()).compile();
    let error = result.expect_err("the set is wrong");
    format!("Error: {error:?}").replace(&path.display().to_string(), "shop.bin")
}

/// The lines that are no comments.
fn code(files: &[(String, String)]) -> Vec<String> {
    let lines = files.iter().flat_map(|(_, text)| text.lines());
    let lines = lines.filter(|line| !line.trim_start().starts_with("//") && !line.is_empty());
    lines.map(str::to_owned).collect()
}

#[test]
fn the_code_is_that_of_the_files() {
    for case in ["flatten", "grpc", "kv", "packages", "streams"] {
        let folder = TempDir::new();
        let path = folder.path().join("set.bin");
        let files = from_files(case, &path);
        assert_eq!(files, from_set(&path), "{case}");
    }
}

#[test]
fn a_set_in_memory_gives_the_same_code_as_its_file() {
    let folder = TempDir::new();
    let path = folder.path().join("set.bin");
    let files = from_files("flatten", &path);
    let bytes = fs::read(&path).expect("it was written");
    let compile = |config: &Config| config.compile().expect("the set compiles");
    // The last one counts.
    let mut config = Config::new();
    let config = config.descriptor_set("nowhere.bin").descriptor_set_bytes(bytes);
    assert_eq!(files, generate(config, compile));
    let mut config = Config::new();
    let config = config.descriptor_set_bytes(&b"junk"[..]).descriptor_set(&path);
    assert_eq!(files, generate(config, compile));
}

#[test]
fn a_set_in_memory_that_is_cut_is_an_error_that_names_the_option() {
    let out = TempDir::new();
    let mut config = Config::new();
    config.descriptor_set_bytes(&b"junk"[..]).out_dir(out.path());
    let error = config.compile().expect_err("it is no set").to_string();
    assert!(
        error.contains("error: the value of `Config::descriptor_set_bytes` is not a whole descriptor set: "),
        "{error}"
    );
}

#[test]
fn two_sets_in_memory_do_not_overwrite_each_other() {
    let folder = TempDir::new();
    let out = TempDir::new();
    let mut config = Config::new();
    config.out_dir(out.path());
    for case in ["kv", "streams"] {
        let path = folder.path().join(case);
        from_files(case, &path);
        let bytes = fs::read(&path).expect("it was written");
        config.descriptor_set_bytes(bytes).compile().expect("it compiles");
    }
    let all = fs::read_to_string(out.path().join("rpc_protos.rs")).expect("it was written");
    let kv = all.contains("kv.v1.rs");
    assert!(kv && all.contains("tape.v1.rs"), "{all}");
}

#[test]
fn without_source_info_only_the_comments_are_missing() {
    let folder = TempDir::new();
    let path = folder.path().join("set.bin");
    let with_comments = from_files("flatten", &path);
    rewrite(&path, |_, file| {
        file.clear_field_by_name("source_code_info");
        true
    });
    let without = from_set(&path);
    assert_ne!(with_comments, without);
    assert_eq!(code(&with_comments), code(&without));
}

#[test]
fn imports_that_this_crate_contains_may_be_missing() {
    let folder = TempDir::new();
    let path = folder.path().join("set.bin");
    let files = from_files("flatten", &path);
    let mut removed = Vec::new();
    rewrite(&path, |name, _| {
        let is_served = name == "rpc/options.proto" || name.starts_with("google/");
        if is_served {
            removed.push(name.to_owned());
        }
        !is_served
    });
    assert!(removed.contains(&"rpc/options.proto".to_owned()), "{removed:?}");
    assert_eq!(files, from_set(&path));
}

/// Needs no protoc: tests/sets/README.md says how the sets were written.
#[test]
fn sets_of_protoc_give_the_same_code() {
    let folder = TempDir::new();
    let files = from_files("flatten", &folder.path().join("set.bin"));
    assert_eq!(files, from_set(Path::new("tests/sets/source_info.bin")));
    assert_eq!(code(&files), code(&from_set(Path::new("tests/sets/imports.bin"))));
    let error = error_of(Path::new("tests/sets/edition.bin"));
    assert!(error.contains("written in edition 2023"), "{error}");
    assert!(
        error.contains(" --> an_edition_is_not_supported_yet.proto\n"),
        "{error}"
    );
}

/// Needs no buf: tests/sets/README.md says how the sets were written.
#[test]
fn sets_of_buf_give_the_same_code() {
    let folder = TempDir::new();
    let files = from_files("flatten", &folder.path().join("set.bin"));
    let set = Path::new("tests/sets/buf.bin");
    assert_eq!(files, from_set(set));
    let bytes = fs::read(set).expect("it is there");
    // Field 8042 of a file, as bytes with a length. In it buf says what it knows of the file.
    let extension = [0xd2, 0xf6, 0x03];
    let files = bytes.windows(3).filter(|window| *window == extension).count();
    assert_eq!(files, 2, "the set is one of buf");
}

/// `buf build --type` leaves out what the service does not need, messages and imports, too.
#[test]
fn a_set_of_buf_with_one_service_gives_the_code_of_that_service() {
    let code = from_set(Path::new("tests/sets/buf_type.bin"));
    let names: Vec<&str> = code.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["_.rs", "acme.rs", "rpc_protos.rs", "shop.v1.rs"]);
    let text = &code[3].1;
    assert!(
        text.contains("trait Orders") && !text.contains("trait More"),
        "{text}"
    );
}

#[test]
fn a_missing_import_is_an_error_that_names_both_files() {
    let folder = TempDir::new();
    let path = folder.path().join("set.bin");
    from_files("packages", &path);
    rewrite(&path, |name, _| name != "acme/types.proto");
    compare(
        Path::new("tests/errors/a_set_lacks_an_import.txt"),
        &error_of(&path),
    );
}

#[test]
fn an_edition_is_an_error_that_names_the_file() {
    let folder = TempDir::new();
    let path = folder.path().join("set.bin");
    from_files("kv", &path);
    rewrite(&path, |name, file| {
        if name == "kv.proto" {
            file.set_field_by_name("syntax", Value::String("editions".to_owned()));
            file.set_field_by_name("edition", Value::EnumNumber(1000));
        }
        true
    });
    compare(
        Path::new("tests/errors/a_set_has_an_edition.txt"),
        &error_of(&path),
    );
}

#[test]
fn our_own_rules_are_checked_with_file_and_line() {
    let folder = TempDir::new();
    let path = folder.path().join("set.bin");
    let proto = folder.path().join("kv.proto");
    let text =
        "syntax = \"proto3\";\npackage shop.v1;\nmessage A {}\nservice Kv {\n  rpc a_b(A) returns (A);\n}\n";
    fs::write(&proto, text).expect("it can be written");
    let out = TempDir::new();
    let mut config = Config::new();
    let config = config
        .file(&proto)
        .out_dir(out.path())
        .file_descriptor_set_path(&path);
    config.compile().expect("the file compiles");
    // A second procedure, whose stub has the same name.
    rewrite(&path, |_, file| {
        let services = file.get_field_by_name_mut("service").and_then(Value::as_list_mut);
        let service = services
            .and_then(|services| services[0].as_message_mut())
            .expect("it is there");
        let methods = service
            .get_field_by_name_mut("method")
            .and_then(Value::as_list_mut);
        let methods = methods.expect("it has one");
        let mut second = methods[0].clone();
        let method = second.as_message_mut().expect("it is a message");
        method.set_field_by_name("name", Value::String("A_B".to_owned()));
        methods.push(second);
        true
    });
    let error = error_of(&path);
    assert!(error.contains("\n --> kv.proto"), "{error}");
}

#[test]
fn a_set_cut_anywhere_is_an_error_or_a_smaller_set_and_never_a_panic() {
    let folder = TempDir::new();
    let path = folder.path().join("set.bin");
    from_files("packages", &path);
    let whole = fs::read(&path).expect("it was written");
    let mut refused = 0;
    for end in (0..whole.len()).step_by(7).chain([whole.len() - 1]) {
        fs::write(&path, &whole[..end]).expect("it can be written");
        let out = TempDir::new();
        let mut config = Config::new();
        let result = config.descriptor_set(&path).out_dir(out.path()).compile();
        let text = result.err().map(|error| format!("{error:?}")).unwrap_or_default();
        assert!(!text.contains("panicked"), "cut at {end}: {text}");
        refused += usize::from(text.contains("is not a whole descriptor set"));
    }
    assert!(
        refused > whole.len() / 8,
        "{refused} of {} cuts were refused as such",
        whole.len() / 7
    );
    fs::write(&path, &whole[..whole.len() - 1]).expect("it can be written");
    compare(Path::new("tests/errors/a_set_is_cut.txt"), &error_of(&path));
}

#[test]
fn what_is_no_set_is_an_error_that_says_how_to_write_one() {
    let folder = TempDir::new();
    let path = folder.path().join("set.bin");
    for (bytes, reason) in [
        (&b""[..], "shop.bin holds no .proto file"),
        (
            b"syntax = \"proto3\";\n",
            "shop.bin is not a whole descriptor set",
        ),
    ] {
        fs::write(&path, bytes).expect("it can be written");
        let error = error_of(&path);
        assert!(error.contains(reason), "{error}");
        assert!(
            error.contains("help: write it with `protoc --include_imports"),
            "{error}"
        );
    }
    let missing = error_of(&folder.path().join("nowhere.bin"));
    assert!(missing.contains("error: cannot read"), "{missing}");
}

#[test]
fn files_and_a_set_together_are_an_error() {
    let out = TempDir::new();
    let mut config = Config::new();
    config
        .file("tests/golden/kv/kv.proto")
        .out_dir(out.path())
        .descriptor_set("set.bin");
    let error = config.compile().expect_err("only one can be meant").to_string();
    assert!(
        error.contains("both .proto files and a descriptor set were given"),
        "{error}"
    );
}
