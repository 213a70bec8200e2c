//! `google.protobuf.Any`.

use codegen_tests::json::acme::json::{Google, Node};
use rpc_runtime::{
    Message,
    prost_types::{Any, Duration},
};
use serde_json::to_string;

use crate::{both, refuses};

fn any(name: &str, message: &impl Message) -> Any {
    Any {
        type_url: format!("type.googleapis.com/{name}"),
        value: message.encode_to_vec(),
    }
}

fn with(any: Any) -> Google {
    Google {
        any: Some(any),
        ..Google::default()
    }
}

#[test]
fn a_generated_message_keeps_its_fields() {
    let node = Node {
        name: "n".into(),
        ..Node::default()
    };
    both(
        r#"{"any":{"@type":"type.googleapis.com/acme.json.Node","name":"n"}}"#,
        &with(any("acme.json.Node", &node)),
    );
}

#[test]
fn a_type_with_a_form_of_its_own_stands_under_value() {
    let second = Duration { seconds: 1, nanos: 0 };
    let inner = any("google.protobuf.Duration", &second);
    let text = r#"{"@type":"type.googleapis.com/google.protobuf.Duration","value":"1s"}"#;
    both(&format!(r#"{{"any":{text}}}"#), &with(inner.clone()));
    let outer = any("google.protobuf.Any", &inner);
    both(
        &format!(r#"{{"any":{{"@type":"type.googleapis.com/google.protobuf.Any","value":{text}}}}}"#),
        &with(outer),
    );
    both(
        r#"{"any":{"@type":"type.googleapis.com/google.protobuf.UInt64Value","value":"7"}}"#,
        &with(any("google.protobuf.UInt64Value", &7_u64)),
    );
    both(
        r#"{"any":{"@type":"type.googleapis.com/google.protobuf.Empty"}}"#,
        &with(any("google.protobuf.Empty", &())),
    );
}

#[test]
fn an_empty_any_is_an_empty_object() {
    both(r#"{"any":{}}"#, &with(Any::default()));
}

#[test]
fn a_list_of_any_holds_several_types() {
    let google = Google {
        more: vec![
            any("acme.json.Node", &Node::default()),
            any("google.protobuf.BoolValue", &true),
        ],
        ..Google::default()
    };
    both(
        concat!(
            r#"{"more":[{"@type":"type.googleapis.com/acme.json.Node"},"#,
            r#"{"@type":"type.googleapis.com/google.protobuf.BoolValue","value":true}]}"#
        ),
        &google,
    );
}

#[test]
fn an_unknown_type_is_an_error_that_names_it() {
    let error = to_string(&with(any("acme.Other", &())))
        .expect_err("nobody knows it")
        .to_string();
    assert!(error.contains("`type.googleapis.com/acme.Other`"), "{error}");
    refuses::<Google>(
        r#"{"any":{"@type":"x/acme.Other"}}"#,
        "an Any holds the type `x/acme.Other`",
    );
    refuses::<Google>(r#"{"any":{"name":"n"}}"#, "no text under `@type`");
    refuses::<Google>(r#"{"any":{"@type":1}}"#, "no text under `@type`");
    refuses::<Google>(
        r#"{"any":{"@type":"x/acme.json.Node","nam":"n"}}"#,
        "has no field `nam`",
    );
    let duration = r#""@type":"x/google.protobuf.Duration""#;
    refuses::<Google>(&format!(r#"{{"any":{{{duration}}}}}"#), "missing field `value`");
    refuses::<Google>(
        &format!(r#"{{"any":{{{duration},"value":"1s","a":1}}}}"#),
        "other keys than",
    );
}

#[test]
fn bytes_that_are_not_of_the_type_are_an_error() {
    let broken = Any {
        type_url: "x/acme.json.Node".into(),
        value: vec![0xff],
    };
    let error = to_string(&with(broken)).expect_err("it is broken").to_string();
    assert!(error.contains("an Any that holds acme.json.Node: "), "{error}");
}

#[test]
fn any_in_any_does_not_overflow_the_stack() {
    let mut nested = Any::default();
    for _ in 0..2_000 {
        nested = any("google.protobuf.Any", &nested);
    }
    let error = to_string(&with(nested)).expect_err("it is too deep").to_string();
    assert!(error.contains("more than 100 levels deep"), "{error}");
}
