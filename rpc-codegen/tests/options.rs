//! The errors for wrong options of a build script.

#[path = "common/temp_dir.rs"]
mod temp_dir;

use std::path::MAIN_SEPARATOR;

use rpc_codegen::{BytesType, Config};

use temp_dir::TempDir;

/// The error for the golden case `options` with one more option.
#[track_caller]
fn error(set: impl FnOnce(&mut Config) -> &mut Config) -> String {
    let out = TempDir::new();
    let mut config = Config::new();
    config.out_dir(out.path());
    set(&mut config);
    let result = config.compile_dir("tests/golden/options");
    let error = result.expect_err("the option is wrong").to_string();
    error.replace(MAIN_SEPARATOR, "/")
}

#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "not said: {part}\n\n{text}");
    }
}

#[test]
fn a_path_that_matches_nothing_is_an_error_with_what_is_near() {
    for (path, near) in [
        ("Lable", "help: write `Label`"),
        ("Item.Lable", "help: write `Item.Label`"),
        (".acme.store.Itm", "help: write `.acme.store.Item`"),
        ("acme.store", "help: write `.acme.store`"),
        ("nowhere", "help: write `.acme.v1.Money` for one item"),
    ] {
        let text = error(|config| config.type_attribute(path, "#[derive(Eq)]"));
        let what = format!("`Config::type_attribute`: the path `{path}` matches no message, enum or oneof");
        says(&text, &[&what, near]);
    }
    let text = error(|config| config.field_attribute(".acme.store.Item.shop", "#[doc = \" A shop.\"]"));
    says(
        &text,
        &[
            "`Config::field_attribute`: the path `.acme.store.Item.shop` matches no field, oneof or enum value",
            "help: write `.acme.store.Item.origin.shop`",
        ],
    );
}

#[test]
fn a_type_that_exists_elsewhere_takes_no_attribute() {
    let text = error(|config| {
        config
            .extern_path(".acme.common.v1", "::common")
            .type_attribute(".acme.common.v1.Money", "#[derive(Eq)]")
    });
    says(
        &text,
        &[
            "the path `.acme.common.v1.Money` matches no message, enum or oneof",
            "help: it exists elsewhere or is left out",
        ],
    );
}

#[test]
fn an_extern_path_is_checked_on_both_sides() {
    let text = error(|config| config.extern_path("acme.common.v1", "::common"));
    says(
        &text,
        &[
            "`Config::extern_path`: `acme.common.v1` is not the full path of a package, type or service",
            "help: begin it with a dot: `.acme.common.v1`",
        ],
    );
    let text = error(|config| config.extern_path(".acme.comon.v1", "::common"));
    says(
        &text,
        &[
            "the path `.acme.comon.v1` matches no package",
            "help: write `.acme.common.v1`",
        ],
    );
    for path in ["my-crate", "common::v1", "::common::", ""] {
        let text = error(|config| config.extern_path(".acme.common.v1", path));
        let what = format!("`{path}`, given for `.acme.common.v1`, is not a Rust path from the root");
        says(
            &text,
            &[&what, "help: begin it with `::` and a crate, or with `crate`"],
        );
    }
}

#[test]
fn what_is_left_out_is_used_nowhere() {
    let text = error(|config| config.leave_out(".acme.common.v1"));
    says(
        &text,
        &[
            "error: field `acme.store.Item.price` uses `acme.common.v1.Money`, which is left out\n",
            "--> tests/golden/options/acme/store/store.proto:",
            "procedure `acme.store.Store.rpc_pay` uses `acme.common.v1.Money`, which is left out",
            "`.extern_path(\".acme.common.v1.Money\", \"::a_crate::AType\")`",
        ],
    );
    let text = error(|config| config.leave_out("."));
    says(
        &text,
        &[
            "`.` is not the full path",
            "help: write a path such as `.acme.shop.v1`",
        ],
    );
}

#[test]
fn an_option_for_a_field_needs_a_field_of_its_kind() {
    let text = error(|config| config.btree_map(".acme.store.Item.name"));
    says(
        &text,
        &["`Config::btree_map`: the path `.acme.store.Item.name` matches no map field"],
    );
    let text = error(|config| config.boxed(".acme.store.Item.folders"));
    says(
        &text,
        &["the path `.acme.store.Item.folders` matches no message field"],
    );
    let text = error(|config| config.bytes_type("name", BytesType::Vec));
    says(
        &text,
        &["`Config::bytes_type`: the path `name` matches no bytes field"],
    );
}

#[test]
fn an_option_for_a_service_needs_a_service() {
    let text = error(|config| config.client_only_for("Reprots"));
    says(
        &text,
        &[
            "`Config::client_only_for` or `server_only_for`: the path `Reprots` matches no service",
            "help: write `Reports`",
        ],
    );
    let text = error(|config| {
        config
            .leave_out(".acme.common.v1.Bank")
            .default_handlers(".acme.common.v1.Bank")
    });
    says(
        &text,
        &[
            "`.acme.common.v1.Bank` matches no service",
            "it exists elsewhere or is left out",
        ],
    );
    let text = error(|config| config.trait_attribute(".", "derive(Eq)"));
    says(
        &text,
        &["`Config::trait_attribute`: `derive(Eq)`, given for `.`, is not an attribute"],
    );
}

#[test]
fn values_that_keep_their_prefix_do_not_clash() {
    let out = TempDir::new();
    let mut config = Config::new();
    config
        .out_dir(out.path())
        .file("tests/errors/an_enum_prefix_hides_a_clash.proto");
    config.compile().expect_err("without a prefix they clash");
    config
        .retain_enum_prefix()
        .compile()
        .expect("with it they do not");
}
