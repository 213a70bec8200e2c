//! Canonical texts, which are written and read.

use std::collections::HashMap;

use codegen_tests::json::acme::json::{
    A, Choice, Color, D, Lists, Maps, Names, Node, Optional, Scalars,
    choice::{Inner, PickOne, inner},
    legacy::{Level, Old, old},
    names,
};
use rpc_runtime::{
    Bytes, Message,
    prost_types::{Duration, Timestamp, Value, value::Kind},
};
use serde_json::to_string;

use crate::both;

#[test]
fn a_message_of_defaults_is_an_empty_object() {
    both("{}", &Scalars::default());
    both("{}", &Optional::default());
    both("{}", &Lists::default());
    both("{}", &Maps::default());
    both("{}", &Choice::default());
    both("{}", &D {});
}

#[test]
fn each_scalar_has_its_form() {
    let text = concat!(
        r#"{"aDouble":1.5,"aFloat":0.1,"anInt32":-1,"anInt64":"-9223372036854775808","aUint32":4294967295,"#,
        r#""aUint64":"18446744073709551615","aSint32":-2,"aSint64":"-3","aFixed32":4,"aFixed64":"5","aSfixed32":-6,"#,
        r#""aSfixed64":"-7","aBool":true,"aString":"a \"b\" é","someBytes":"+/8=","color":"COLOR_RED","@other":"x","type":"y"}"#
    );
    let scalars = Scalars {
        a_double: 1.5,
        a_float: 0.1,
        an_int32: -1,
        an_int64: i64::MIN,
        a_uint32: u32::MAX,
        a_uint64: u64::MAX,
        a_sint32: -2,
        a_sint64: -3,
        a_fixed32: 4,
        a_fixed64: 5,
        a_sfixed32: -6,
        a_sfixed64: -7,
        a_bool: true,
        a_string: "a \"b\" é".into(),
        some_bytes: Bytes::from_static(&[0xfb, 0xff]),
        color: Color::Red.into(),
        renamed: "x".into(),
        r#type: "y".into(),
    };
    both(text, &scalars);
}

#[test]
fn floats_beyond_numbers_are_names() {
    for (text, value) in [
        ("\"Infinity\"", f64::INFINITY),
        ("\"-Infinity\"", f64::NEG_INFINITY),
    ] {
        let scalars = Scalars {
            a_double: value,
            a_float: value as f32,
            ..Scalars::default()
        };
        both(&format!(r#"{{"aDouble":{text},"aFloat":{text}}}"#), &scalars);
    }
    let nan = Scalars {
        a_double: f64::NAN,
        a_float: f32::NAN,
        ..Scalars::default()
    };
    let text = to_string(&nan).expect("it can be written");
    assert_eq!(text, r#"{"aDouble":"NaN","aFloat":"NaN"}"#);
    let read: Scalars = serde_json::from_str(&text).expect("it can be read");
    assert!(read.a_double.is_nan() && read.a_float.is_nan());
}

#[test]
fn an_optional_field_is_written_if_it_is_there_even_with_its_default() {
    let optional = Optional {
        an_int64: Some(0),
        a_string: Some(String::new()),
        some_bytes: Some(Bytes::new()),
        color: Some(0),
        a_bool: Some(false),
    };
    both(
        r#"{"anInt64":"0","aString":"","someBytes":"","color":"COLOR_UNSPECIFIED","aBool":false}"#,
        &optional,
    );
}

#[test]
fn an_enum_value_without_a_name_is_its_number() {
    let of = |color| Scalars {
        color,
        ..Scalars::default()
    };
    both(r#"{"color":77}"#, &of(77));
    both(r#"{"color":"COLOR_BLUE"}"#, &of(-2));
    // By itself, an enum can only hold the values that it knows.
    both(r#""COLOR_RED""#, &Color::Red);
    both(r#""HIGH""#, &Level::High);
}

#[test]
fn repeated_fields_are_arrays() {
    let lists = Lists {
        longs: vec![1, 0, -1],
        doubles: vec![0.5, f64::INFINITY],
        strings: vec!["a".into(), String::new()],
        bytes_list: vec![Bytes::from_static(b"a"), Bytes::new()],
        colors: vec![1, 0, 9],
        nodes: vec![Node::default(), node("n")],
        times: vec![Timestamp::default()],
        values: vec![value(Kind::NullValue(0)), value(Kind::BoolValue(true))],
    };
    both(
        concat!(
            r#"{"longs":["1","0","-1"],"doubles":[0.5,"Infinity"],"strings":["a",""],"bytesList":["YQ==",""],"#,
            r#""colors":["COLOR_RED","COLOR_UNSPECIFIED",9],"nodes":[{},{"name":"n"}],"times":["1970-01-01T00:00:00Z"],"#,
            r#""values":[null,true]}"#
        ),
        &lists,
    );
}

#[test]
fn maps_are_objects_in_the_order_of_their_keys() {
    let maps = Maps {
        texts: HashMap::from([
            ("b".into(), "1".into()),
            ("a".into(), "2".into()),
            (String::new(), "3".into()),
        ]),
        by_bool: HashMap::from([(true, 1), (false, 0)]),
        by_long: HashMap::from([(-5, Bytes::from_static(b"a"))]),
        by_number: HashMap::from([(10, 1), (9, 5)]),
        nodes: HashMap::from([("n".into(), node("x"))]),
        durations: HashMap::from([("d".into(), Duration { seconds: 1, nanos: 0 })]),
        values: HashMap::from([("v".into(), value(Kind::NullValue(0)))]),
        doubles: HashMap::from([("d".into(), f64::NEG_INFINITY)]),
    };
    both(
        concat!(
            r#"{"texts":{"":"3","a":"2","b":"1"},"byBool":{"false":"0","true":"1"},"byLong":{"-5":"YQ=="},"#,
            r#""byNumber":{"9":5,"10":"COLOR_RED"},"nodes":{"n":{"name":"x"}},"durations":{"d":"1s"},"values":{"v":null},"#,
            r#""doubles":{"d":"-Infinity"}}"#
        ),
        &maps,
    );
}

#[test]
fn a_field_of_a_oneof_is_written_even_with_its_default() {
    let cases = [
        (r#"{"number":"0"}"#, PickOne::Number(0)),
        (r#"{"text":""}"#, PickOne::Text(String::new())),
        (r#"{"color":"COLOR_UNSPECIFIED"}"#, PickOne::Color(0)),
        (r#"{"node":{}}"#, PickOne::Node(Node::default())),
        (
            r#"{"choice":{"before":"b"}}"#,
            PickOne::Choice(Box::new(choice("b"))),
        ),
        (r#"{"nothing":null}"#, PickOne::Nothing(0)),
        (r#"{"value":null}"#, PickOne::Value(value(Kind::NullValue(0)))),
        (r#"{"someBytes":""}"#, PickOne::SomeBytes(Bytes::new())),
        (r#"{"empty":{}}"#, PickOne::Empty(())),
    ];
    for (text, pick) in cases {
        let choice = Choice {
            pick_one: Some(pick),
            ..Choice::default()
        };
        both(text, &choice);
    }
    let inner = Choice {
        inner: Some(Inner {
            one: Some(inner::One::Yes(false)),
        }),
        ..Choice::default()
    };
    both(r#"{"inner":{"yes":false}}"#, &inner);
}

#[test]
fn a_message_may_lie_in_itself() {
    let tree = Node {
        name: "a".into(),
        next: Some(Box::new(node("b"))),
        children: vec![node("c"), Node::default()],
    };
    both(
        r#"{"name":"a","next":{"name":"b"},"children":[{"name":"c"},{}]}"#,
        &tree,
    );
}

#[test]
fn a_chain_that_prost_refuses_is_refused_here_without_overflow() {
    let mut chain = Node::default();
    for _ in 0..10_000 {
        chain = Node {
            next: Some(Box::new(chain)),
            ..Node::default()
        };
    }
    let error = to_string(&chain).expect_err("it is too deep").to_string();
    assert!(error.contains("more than 100 levels deep"), "{error}");
    // Dropping the chain recursively would need a large stack, too.
    while let Some(next) = chain.next.take() {
        chain = *next;
    }
}

#[test]
fn proto2_has_required_fields_defaults_and_groups() {
    let old = Old {
        key: String::new(),
        count: Some(0),
        level: Some(Level::Low.into()),
        part: Some(old::Part { size: Some(5) }),
        piece: vec![old::Piece { whole: true }],
        marks: vec![1],
    };
    both(
        r#"{"key":"","count":0,"level":"LOW","part":{"size":"5"},"piece":[{"whole":true}],"marks":["1"]}"#,
        &old,
    );
    let decoded = Old::decode(&old.encode_to_vec()[..]).expect("groups can be decoded");
    assert_eq!(decoded, old);
    // Defaults of proto2 stand in the .proto file, so an absent field stays absent.
    both(
        r#"{"key":"k"}"#,
        &Old {
            key: "k".into(),
            ..Old::default()
        },
    );
}

#[test]
fn names_of_the_generated_code_do_not_matter() {
    let names = Names {
        s: names::S::One.into(),
        a: A::One.into(),
        many: vec![A::Zero.into()],
        old: None,
    };
    both(r#"{"s":"S_ONE","a":"A_ONE","many":["A_ZERO"]}"#, &names);
}

#[test]
fn keywords_of_rust_are_plain_names_in_json() {
    use codegen_tests::acme::r#type::r#async::{
        Match,
        r#match::{Enum, Impl, Where},
    };
    let of = |r#impl| Match { r#impl: Some(r#impl) };
    both(
        r#"{"where":{"fn":"f"}}"#,
        &of(Impl::Where(Where { r#fn: "f".into() })),
    );
    both(r#"{"enum":"ENUM_LOOP"}"#, &of(Impl::Enum(Enum::Loop.into())));
    both(r#"{"struct":"s"}"#, &of(Impl::Struct("s".into())));
}

#[test]
fn what_json_holds_is_what_the_wire_holds() {
    let text = r#"{"before":"b","node":{"next":{"name":"n"}},"after":"a"}"#;
    let choice: Choice = serde_json::from_str(text).expect("it can be read");
    let bytes = choice.encode_to_vec();
    let decoded = Choice::decode(&bytes[..]).expect("it can be decoded");
    assert_eq!(
        to_string(&decoded).expect("it can be written"),
        r#"{"before":"b","after":"a","node":{"next":{"name":"n"}}}"#
    );
}

fn node(name: &str) -> Node {
    Node {
        name: name.into(),
        ..Node::default()
    }
}

fn choice(before: &str) -> Choice {
    Choice {
        before: before.into(),
        ..Choice::default()
    }
}

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}
