//! `Config::json_skip_unknown`, with one selected message.

use codegen_tests::lenient::acme::json::{Lists, Node};

use crate::{both, reads, refuses};

#[test]
fn unknown_fields_are_skipped() {
    let node = Node {
        name: "a".into(),
        ..Node::default()
    };
    reads(r#"{"new":{"x":[1]},"name":"a"}"#, &node);
    refuses::<Node>(r#"{"name":1}"#, "expected a string");
}

#[test]
fn an_unknown_name_of_an_enum_value_is_the_first_value() {
    let lists = Lists {
        colors: vec![0, 1],
        ..Lists::default()
    };
    reads(r#"{"colors":["COLOR_GREEN","COLOR_RED"]}"#, &lists);
}

#[test]
fn messages_inside_of_a_selected_one_have_json() {
    both(
        r#"{"nodes":[{"name":"a"}]}"#,
        &Lists {
            nodes: vec![Node {
                name: "a".into(),
                ..Node::default()
            }],
            ..Lists::default()
        },
    );
}
