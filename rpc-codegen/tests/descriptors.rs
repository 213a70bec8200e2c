//! The descriptors that generated servers carry.

#[path = "common/temp_dir.rs"]
mod temp_dir;

use std::fs;

use prost_reflect::{DescriptorPool, DynamicMessage, Value};
use rpc_codegen::Config;
use temp_dir::TempDir;

/// What a build script wrote.
struct Written(TempDir);

impl Written {
    /// Compiles the folder tests/golden/`case`.
    fn of_case(case: &str, set: impl FnOnce(&mut Config) -> &mut Config) -> Self {
        let out = TempDir::new();
        let mut config = Config::new();
        set(config.out_dir(out.path()));
        config
            .compile_dir(format!("tests/golden/{case}"))
            .expect("the case compiles");
        Self(out)
    }

    /// Compiles `files`, each by name with its text.
    fn of_files(files: &[(&str, &str)], set: impl FnOnce(&mut Config) -> &mut Config) -> Self {
        let (folder, out) = (TempDir::new(), TempDir::new());
        for (name, text) in files {
            fs::write(folder.path().join(name), text).expect("it can be written");
        }
        let mut config = Config::new();
        set(config.out_dir(out.path()));
        config.compile_dir(folder.path()).expect("the files compile");
        Self(out)
    }

    /// The set of a package, as it was written; none if there is none.
    fn set(&self, package: &str) -> Option<Vec<u8>> {
        fs::read(self.0.path().join(format!("{package}.binpb"))).ok()
    }

    /// The code of a package.
    fn code(&self, package: &str) -> String {
        fs::read_to_string(self.0.path().join(format!("{package}.rs"))).expect("its package has a file")
    }
}

/// The names of the files of a set, which has all that they import: the pool would refuse it otherwise.
fn names(set: &[u8]) -> Vec<String> {
    let pool = DescriptorPool::decode(set).expect("the set is whole");
    pool.files().map(|file| file.name().to_owned()).collect()
}

const SHOP: [(&str, &str); 3] = [
    (
        "money.proto",
        "syntax = \"proto3\"; package money.v1; message Money { int64 units = 1; }",
    ),
    (
        "orders.proto",
        "syntax = \"proto3\"; package shop.v1; import \"money.proto\"; message Order { money.v1.Money price = 1; } \
         service Orders { rpc Get(Order) returns (Order); }",
    ),
    (
        "stock.proto",
        "syntax = \"proto3\"; package shop.v1; message Item { string name = 1; } \
         service Stock { rpc Get(Item) returns (Item); } service Shelf { rpc Get(Item) returns (Item); }",
    ),
];

#[test]
fn services_of_a_package_share_one_set_with_all_imports() {
    let written = Written::of_files(&SHOP, |config| config);
    let set = written.set("shop.v1").expect("it has services");
    assert_eq!(names(&set), ["money.proto", "orders.proto", "stock.proto"]);
    assert_eq!(written.set("money.v1"), None, "no server of it carries anything");
    let code = written.code("shop.v1");
    assert_eq!(
        code.matches("include_bytes!(\"shop.v1.binpb\")").count(),
        1,
        "{code}"
    );
    assert_eq!(code.matches("fn descriptors(&self)").count(), 3);
}

#[test]
fn options_of_a_file_are_kept_and_its_comments_are_not() {
    // With its own file of descriptors, the generator keeps the comments.
    let out = TempDir::new();
    let with_comments = out.path().join("all.binpb");
    let written = Written::of_case("allow", |config| config.file_descriptor_set_path(&with_comments));
    let set = written.set("vault.v1").expect("it has services");
    let all = fs::read(&with_comments).expect("it was written");
    assert!(
        all.windows(21).any(|part| part == b" A service with rules"),
        "else this test proves nothing"
    );
    assert!(!set.windows(21).any(|part| part == b" A service with rules"));
    let pool = DescriptorPool::decode(&set[..]).expect("the set is whole");
    assert!(
        pool.files()
            .all(|file| file.file_descriptor_proto().source_code_info.is_none())
    );
    let service = pool.get_service_by_name("vault.v1.Vault").expect("it is there");
    let extension = pool.get_extension_by_name("rpc.service").expect("it is imported");
    let options = service.options();
    let options = options.get_extension(&extension);
    let allow = options.as_message().and_then(|options| {
        let allow = options.get_field_by_name("allow")?;
        Some(allow.as_list()?.to_vec())
    });
    assert_eq!(
        allow,
        Some(vec![
            Value::String("reader".to_owned()),
            Value::String("admin".to_owned())
        ])
    );
}

#[test]
fn a_set_is_the_same_with_comments_and_without() {
    let out = TempDir::new();
    let path = out.path().join("all.binpb");
    let with = Written::of_case("allow", |config| config.file_descriptor_set_path(&path));
    let without = Written::of_case("allow", |config| config);
    let decoded = |written: &Written| {
        let set = written.set("vault.v1").expect("it has services");
        let pool = DescriptorPool::global();
        let ty = pool.get_message_by_name("google.protobuf.FileDescriptorSet");
        DynamicMessage::decode(ty.expect("it is well known"), &set[..]).expect("it is whole")
    };
    assert_eq!(decoded(&with), decoded(&without));
}

#[test]
fn a_descriptor_set_as_input_gives_its_files_without_comments() {
    for input in ["source_info", "buf"] {
        let out = TempDir::new();
        let mut config = Config::new();
        let config = config.descriptor_set(format!("tests/sets/{input}.bin"));
        config.out_dir(out.path()).compile().expect("the set compiles");
        let set = Written(out).set("paint.v1").expect("it has services");
        assert!(names(&set).contains(&"paint.proto".to_owned()), "{input}");
        let pool = DescriptorPool::decode(&set[..]).expect("the set is whole");
        let mut files = pool.files();
        assert!(
            files.all(|file| file.file_descriptor_proto().source_code_info.is_none()),
            "{input}"
        );
    }
}

#[test]
fn only_servers_carry_descriptors() {
    let clients = Written::of_files(&SHOP, Config::client_only);
    assert_eq!(clients.set("shop.v1"), None);
    assert!(!clients.code("shop.v1").contains("DESCRIPTORS"));
    let one = Written::of_files(&SHOP, |config| {
        config.client_only().server_only_for(".shop.v1.Stock")
    });
    let set = one.set("shop.v1").expect("one is a server");
    assert_eq!(names(&set), ["stock.proto"]);
}

#[test]
fn a_build_script_leaves_descriptors_out() {
    let written = Written::of_files(&SHOP, Config::without_descriptors);
    assert_eq!(written.set("shop.v1"), None);
    assert!(!written.code("shop.v1").to_lowercase().contains("descriptors"));
}
