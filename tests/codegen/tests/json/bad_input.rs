//! Texts that are refused, each with an error that says why.

use codegen_tests::json::acme::json::{Choice, Color, Lists, Maps, Node, Scalars, legacy::Old};

use crate::refuses;

#[test]
fn an_unknown_field_is_refused_with_the_names_that_there_are() {
    refuses::<Node>(
        r#"{"nam":"x"}"#,
        "acme.json.Node has no field `nam`: its fields are name, next, children",
    );
    refuses::<Scalars>(r#"{"AnInt32":1}"#, "has no field `AnInt32`");
}

#[test]
fn a_field_may_come_once() {
    refuses::<Node>(r#"{"name":"a","name":"b"}"#, "duplicate field `name`");
    refuses::<Scalars>(r#"{"anInt32":1,"an_int32":1}"#, "duplicate field `anInt32`");
    refuses::<Choice>(
        r#"{"number":1,"text":"x"}"#,
        "`text` is of a oneof that already has a value",
    );
    refuses::<Maps>(r#"{"texts":{"a":"1","a":"2"}}"#, "a key appears twice in a map");
}

#[test]
fn a_value_of_another_type_is_refused() {
    refuses::<Scalars>(r#"{"aString":1}"#, "expected a string");
    refuses::<Scalars>(r#"{"aBool":"true"}"#, "expected a boolean");
    refuses::<Scalars>(r#"{"someBytes":[1]}"#, "expected bytes in base64");
    refuses::<Scalars>(r#"{"anInt32":true}"#, "expected an integer in the range of i32");
    refuses::<Lists>(r#"{"longs":1}"#, "expected an array");
    refuses::<Maps>(r#"{"texts":[]}"#, "expected an object whose keys are text");
    refuses::<Node>(
        r#"{"next":[]}"#,
        "expected an object with the fields of acme.json.Node",
    );
    refuses::<Node>("null", "expected an object with the fields of acme.json.Node");
}

#[test]
fn a_number_out_of_range_is_refused() {
    for (field, numbers) in [
        (
            "anInt32",
            &[
                "2147483648",
                "-2147483649",
                "0.5",
                "1e40",
                "\"1.5\"",
                "\"\"",
                "\" 1\"",
                "\"+1\"",
                "\"NaN\"",
            ][..],
        ),
        ("aUint32", &["-1", "4294967296", "\"-1\""]),
        ("anInt64", &["9223372036854775808", "-1e30", "\"0x1\"", "\"inf\""]),
        (
            "aUint64",
            &["-1", "18446744073709551616", "\"18446744073709551616\""],
        ),
    ] {
        for number in numbers {
            refuses::<Scalars>(
                &format!(r#"{{"{field}":{number}}}"#),
                "expected an integer in the range of",
            );
        }
    }
    for number in [
        "1e39",
        "\"-1e39\"",
        "\"nan\"",
        "\"inf\"",
        "\"\"",
        "\"+1\"",
        "true",
    ] {
        refuses::<Scalars>(
            &format!(r#"{{"aFloat":{number}}}"#),
            "expected a number in the range of f32",
        );
    }
    for number in ["\"nan\"", "\"infinity\"", "\"1e400\"", "\"0x1\""] {
        refuses::<Scalars>(&format!(r#"{{"aDouble":{number}}}"#), "expected a number");
    }
}

#[test]
fn bytes_that_are_not_base64_are_refused() {
    for text in ["a", "a*==", "+_8="] {
        refuses::<Scalars>(
            &format!(r#"{{"someBytes":"{text}"}}"#),
            "bytes are not valid base64",
        );
    }
}

#[test]
fn a_name_that_the_enum_does_not_have_is_refused() {
    let expected =
        "expected a value of acme.json.Color: COLOR_UNSPECIFIED, COLOR_RED, COLOR_SCARLET, COLOR_BLUE";
    refuses::<Scalars>(r#"{"color":"RED"}"#, expected);
    refuses::<Scalars>(r#"{"color":2147483648}"#, expected);
    refuses::<Scalars>(r#"{"color":0.5}"#, expected);
    // By itself, an enum can only hold the values that it knows.
    refuses::<Color>("77", expected);
}

#[test]
fn null_inside_of_a_list_or_map_is_refused() {
    refuses::<Lists>(r#"{"longs":[null]}"#, "expected an integer in the range of i64");
    refuses::<Lists>(r#"{"nodes":[null]}"#, "expected an object");
    refuses::<Maps>(r#"{"texts":{"a":null}}"#, "expected a string");
}

#[test]
fn a_map_s_key_of_another_type_is_refused() {
    refuses::<Maps>(r#"{"byBool":{"yes":"1"}}"#, "expected true and false");
    refuses::<Maps>(r#"{"byLong":{"a":""}}"#, "expected integers in the range of i64");
    refuses::<Maps>(
        r#"{"byNumber":{"-1":1}}"#,
        "expected integers in the range of u32",
    );
}

#[test]
fn a_required_field_that_is_missing_is_refused() {
    refuses::<Old>("{}", "missing field `key`");
}

#[test]
fn a_message_in_itself_too_often_is_refused() {
    let text = format!(
        "{}{}",
        r#"{"next":"#.repeat(110),
        "{}".to_owned() + &"}".repeat(110)
    );
    refuses::<Node>(&text, "more than 100 levels deep");
}
