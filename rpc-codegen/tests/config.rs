//! The effect of each option of `Config`.

#[path = "common/temp_dir.rs"]
mod temp_dir;

use std::{
    fs,
    time::{Duration, SystemTime},
};

use prost_reflect::DescriptorPool;
use rpc_codegen::Config;

use temp_dir::TempDir;

/// The generated code of the Kv demo.
fn kv(set: impl FnOnce(&mut Config) -> &mut Config) -> String {
    let out = TempDir::new();
    let mut config = Config::new();
    config.file("tests/golden/kv/kv.proto").out_dir(out.path());
    set(&mut config);
    config.compile().expect("the demo compiles");
    fs::read_to_string(out.path().join("demo.kv.v1.rs")).expect("its package has a file")
}

#[test]
fn one_half_leaves_the_other_out() {
    let client = kv(|config| config.client_only());
    assert!(client.contains("pub struct KvClient") && !client.contains("KvServer"));
    assert!(!client.contains("pub trait Kv") && !client.contains("in_process"));
    let server = kv(|config| config.server_only());
    assert!(server.contains("pub trait Kv") && server.contains("pub struct KvServer"));
    assert!(!server.contains("KvClient") && !server.contains("KvSend"));
}

#[test]
fn a_renamed_runtime_is_named_everywhere() {
    let text = kv(|config| config.runtime_path("::acme::rpc"));
    assert!(text.contains("::acme::rpc::codegen::prost::Message"));
    assert!(!text.contains("rpc_runtime"));
}

#[test]
fn attributes_stand_where_their_paths_lead() {
    let text = kv(|config| {
        config
            .type_attribute("UpdateRequest", "#[non_exhaustive]")
            .field_attribute("key", "#[doc(alias = \"name\")]")
    });
    assert!(text.contains("#[non_exhaustive]\n#[derive("));
    assert_eq!(text.matches("#[doc(alias = \"name\")]").count(), 2);
}

#[test]
fn json_goes_where_its_paths_lead() {
    let with_json = |path: &str| {
        let text = kv(|config| config.json(path));
        let messages = ["UpdateRequest", "FetchRequest", "FetchReply"];
        messages.map(|message| text.contains(&format!("json::Object for {message} {{")))
    };
    assert_eq!(with_json("."), [true; 3]);
    assert_eq!(with_json(".demo"), [true; 3]);
    assert_eq!(with_json(".demo.kv.v1"), [true; 3]);
    assert_eq!(with_json(".demo.kv.v1.FetchReply"), [false, false, true]);
    assert_eq!(with_json("FetchRequest"), [false, true, false]);
    assert_eq!(with_json("v1.FetchRequest"), [false, true, false]);
}

#[test]
fn the_descriptor_set_keeps_our_options() {
    let out = TempDir::new();
    let path = out.path().join("deep/kv.bin");
    kv(|config| config.file_descriptor_set_path(&path));
    let bytes = fs::read(&path).expect("it was written");
    let pool = DescriptorPool::decode(&bytes[..]).expect("it has all imports");
    let service = pool
        .get_service_by_name("demo.kv.v1.Kv")
        .expect("the service is in it");
    let option = pool
        .get_extension_by_name("rpc.service")
        .expect("the option is in it");
    assert!(service.options().has_extension(&option));
}

#[test]
fn the_same_text_is_not_written_again() {
    let out = TempDir::new();
    let mut config = Config::new();
    config.file("tests/golden/kv/kv.proto").out_dir(out.path());
    config.compile().expect("the demo compiles");
    let file = out.path().join("demo.kv.v1.rs");
    // Long ago, in whole seconds, which every file system can store.
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let opened = fs::File::options().write(true).open(&file).expect("it is there");
    opened.set_modified(then).expect("it is ours");
    config.compile().expect("the demo compiles");
    let modified = fs::metadata(&file)
        .and_then(|metadata| metadata.modified())
        .expect("it is there");
    assert_eq!(modified, then);
}

#[test]
fn google_s_types_come_from_the_crate_that_has_them() {
    let crate_of_types = "::google::protobuf";
    // `Empty` stays `()` unless a path names it.
    let text = kv(|config| config.extern_path(".google.protobuf", crate_of_types));
    assert!(
        !text.contains(crate_of_types) && !text.contains("request: ()"),
        "{text}"
    );
    let text = kv(|config| {
        config
            .extern_path(".google.protobuf", crate_of_types)
            .extern_path(".google.protobuf.Empty", "::google::Empty")
    });
    assert!(text.contains("request: ::google::Empty"), "{text}");
}

#[test]
fn google_s_newer_types_come_from_there_too() {
    let folder = TempDir::new();
    let file = folder.path().join("a.proto");
    let text = "syntax = \"proto3\"; package a; import \"google/protobuf/descriptor.proto\";\n\
                message Rule { google.protobuf.FeatureSet features = 1; }\n";
    fs::write(&file, text).expect("the file is written");
    let compile = |config: &mut Config| {
        let out = TempDir::new();
        config.file(&file).out_dir(out.path());
        config.compile().expect("it compiles");
        let rule = fs::read_to_string(out.path().join("a.rs")).expect("it was written");
        (rule, out.path().join("google.protobuf.rs").exists())
    };
    let (rule, is_generated) = compile(&mut Config::new());
    assert!(
        is_generated && rule.contains("super::google::protobuf::FeatureSet"),
        "{rule}"
    );
    let (rule, is_generated) = compile(Config::new().extern_path(".google.protobuf", "::google::protobuf"));
    assert!(
        !is_generated && rule.contains("Option<::google::protobuf::FeatureSet>"),
        "{rule}"
    );
}

#[test]
fn two_calls_share_a_folder() {
    let out = TempDir::new();
    for file in ["tests/golden/kv/kv.proto", "tests/golden/grpc/greeter.proto"] {
        let mut config = Config::new();
        config.file(file).out_dir(out.path());
        config.compile().expect("it compiles");
    }
    let included = fs::read_to_string(out.path().join("rpc_protos.rs")).expect("it was written");
    for file in ["demo.kv.v1.rs", "_.rs"] {
        assert!(
            out.path().join(file).is_file() && included.contains(file),
            "{included}"
        );
    }
}

#[test]
fn two_calls_with_different_code_for_one_package_are_an_error() {
    let out = TempDir::new();
    let mut config = Config::new();
    config.file("tests/golden/kv/kv.proto").out_dir(out.path());
    let mut clients = config.clone();
    clients.client_only();
    config.compile().expect("it compiles");
    let error = clients.compile().expect_err("it is another one").to_string();
    assert!(
        error.contains("demo.kv.v1.rs with other content\nhelp: compile all files in one call"),
        "{error}"
    );
    let text = fs::read_to_string(out.path().join("demo.kv.v1.rs")).expect("it is there");
    assert!(text.contains("KvServer"));
}

#[test]
fn two_calls_with_different_descriptors_at_one_path_are_an_error() {
    let out = TempDir::new();
    let path = out.path().join("all.bin");
    kv(|config| config.file_descriptor_set_path(&path));
    let other = TempDir::new();
    let mut config = Config::new();
    config
        .file("tests/golden/grpc/greeter.proto")
        .out_dir(other.path())
        .file_descriptor_set_path(&path);
    let error = config.compile().expect_err("it is another one").to_string();
    assert!(error.contains("all.bin with other content"), "{error}");
}

#[test]
fn the_same_call_again_replaces_what_it_wrote() {
    let folder = TempDir::new();
    let out = TempDir::new();
    let file = folder.path().join("a.proto");
    let mut config = Config::new();
    config.file(&file).out_dir(out.path());
    for message in ["One", "Two"] {
        let text = format!("syntax = \"proto3\"; package a; message {message} {{}}");
        fs::write(&file, text).expect("the file is written");
        config.compile().expect("it compiles");
    }
    let text = fs::read_to_string(out.path().join("a.rs")).expect("it is there");
    assert!(text.contains("struct Two") && !text.contains("One"), "{text}");
}
