//! Texts that are not canonical, and are read all the same.

use codegen_tests::json::acme::json::{Choice, Color, Google, Lists, Maps, Scalars, choice::PickOne};
use rpc_runtime::Bytes;

use crate::reads;

#[test]
fn both_names_of_a_field_are_read() {
    let scalars = Scalars {
        an_int32: 1,
        renamed: "x".into(),
        ..Scalars::default()
    };
    reads(r#"{"an_int32":1,"renamed":"x"}"#, &scalars);
    reads(r#"{"anInt32":1,"@other":"x"}"#, &scalars);
}

#[test]
fn a_number_may_be_text_and_text_a_number() {
    let one = Scalars {
        a_double: 1.0,
        a_float: 1.0,
        an_int32: 1,
        an_int64: 1,
        a_uint64: 1,
        ..Scalars::default()
    };
    for number in ["1", "\"1\"", "1.0", "1e0", "\"1.0\"", "10e-1"] {
        let text = format!(
            r#"{{"aDouble":{number},"aFloat":{number},"anInt32":{number},"anInt64":{number},"aUint64":{number}}}"#
        );
        reads(&text, &one);
    }
    let exponent = Scalars {
        an_int32: 100_000,
        ..Scalars::default()
    };
    reads(r#"{"anInt32":1e5}"#, &exponent);
}

#[test]
fn bytes_may_be_of_either_alphabet_with_or_without_padding() {
    let scalars = Scalars {
        some_bytes: Bytes::from_static(&[0xfb, 0xff]),
        ..Scalars::default()
    };
    for text in ["+/8=", "+/8", "-_8=", "-_8"] {
        reads(&format!(r#"{{"someBytes":"{text}"}}"#), &scalars);
    }
}

#[test]
fn an_enum_value_may_be_its_number_or_an_alias() {
    let scalars = Scalars {
        color: Color::Red.into(),
        ..Scalars::default()
    };
    for color in ["1", "\"COLOR_SCARLET\"", "1.0"] {
        reads(&format!(r#"{{"color":{color}}}"#), &scalars);
    }
    reads("1", &Color::Red);
}

#[test]
fn null_means_that_a_field_is_absent() {
    reads(
        r#"{"anInt32":null,"aString":null,"someBytes":null,"color":null,"aBool":null,"aDouble":null}"#,
        &Scalars::default(),
    );
    reads(r#"{"longs":null,"nodes":null}"#, &Lists::default());
    reads(r#"{"texts":null}"#, &Maps::default());
    reads(
        r#"{"at":null,"took":null,"any":null,"object":null}"#,
        &Google::default(),
    );
    let number = Choice {
        pick_one: Some(PickOne::Number(1)),
        ..Choice::default()
    };
    reads(r#"{"text":null,"number":"1","node":null}"#, &number);
}
