//! Google's types, which have a form of their own.

use std::collections::BTreeMap;

use codegen_tests::json::acme::json::{Google, Wrappers};
use rpc_runtime::prost_types::{Duration, FieldMask, ListValue, Struct, Timestamp, Value, value::Kind};
use serde_json::to_string;

use crate::{both, reads, refuses};

#[test]
fn a_timestamp_is_a_time_of_rfc_3339() {
    let of = |seconds, nanos| Google {
        at: Some(Timestamp { seconds, nanos }),
        ..Google::default()
    };
    for (text, seconds, nanos) in [
        ("1970-01-01T00:00:00Z", 0, 0),
        ("1972-01-01T10:00:20.021Z", 63_108_020, 21_000_000),
        ("1969-12-31T23:59:59.999999Z", -1, 999_999_000),
        ("2038-01-19T03:14:08.000000001Z", 2_147_483_648, 1),
        ("0001-01-01T00:00:00Z", -62_135_596_800, 0),
        ("9999-12-31T23:59:59.999999999Z", 253_402_300_799, 999_999_999),
    ] {
        both(&format!(r#"{{"at":"{text}"}}"#), &of(seconds, nanos));
    }
    // An offset is read.
    reads(r#"{"at":"1970-01-01T01:30:00.5+01:30"}"#, &of(0, 500_000_000));
    reads(r#"{"at":"1969-12-31T16:00:00-08:00"}"#, &of(0, 0));
    for text in [
        "",
        "1970-01-01",
        "1970-01-01 00:00:00Z",
        "1970-01-01t00:00:00Z",
        "1970-01-01T00:00:00",
        "1970-01-01T00:00:00.Z",
        "1970-01-01T00:00:00.1234567890Z",
        "1970-01-01T00:00:00+0530",
        "+1970-01-01T00:00:00Z",
        "1970-01-01T00:00:0é",
        "1970-13-01T00:00:00Z",
        "1970-02-30T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "1970-01-01T25:00:00Z",
    ] {
        refuses::<Google>(&format!(r#"{{"at":"{text}"}}"#), "expected a time as in RFC 3339");
    }
    refuses::<Google>(r#"{"at":0}"#, "expected a time as in RFC 3339");
    for (seconds, nanos) in [
        (-62_135_596_801, 0),
        (253_402_300_800, 0),
        (0, -1),
        (0, 1_000_000_000),
    ] {
        let error = to_string(&of(seconds, nanos))
            .expect_err("it is out of range")
            .to_string();
        assert!(error.contains("outside of the years 1 to 9999"), "{error}");
    }
}

#[test]
fn a_duration_is_seconds() {
    let of = |seconds, nanos| Google {
        took: Some(Duration { seconds, nanos }),
        ..Google::default()
    };
    for (text, seconds, nanos) in [
        ("0s", 0, 0),
        ("1.500s", 1, 500_000_000),
        ("-0.000001s", 0, -1_000),
        ("-3.000000001s", -3, -1),
        ("315576000000s", 315_576_000_000, 0),
        ("-315576000000s", -315_576_000_000, 0),
    ] {
        both(&format!(r#"{{"took":"{text}"}}"#), &of(seconds, nanos));
    }
    reads(r#"{"took":"1.5s"}"#, &of(1, 500_000_000));
    for text in [
        "",
        "1",
        "s",
        "1.s",
        ".5s",
        "1m",
        "1.0000000001s",
        "--1s",
        "+1s",
        "1e3s",
        "315576000001s",
        "1 s",
    ] {
        refuses::<Google>(
            &format!(r#"{{"took":"{text}"}}"#),
            "expected a duration such as 1.5s",
        );
    }
    for (seconds, nanos) in [
        (1, -1),
        (-1, 1),
        (315_576_000_001, 0),
        (0, 1_000_000_000),
        (i64::MIN, 0),
    ] {
        let error = to_string(&of(seconds, nanos))
            .expect_err("it is no duration")
            .to_string();
        assert!(error.contains("a Duration of"), "{error}");
    }
}

#[test]
fn a_field_mask_is_paths_in_camel_case() {
    let of = |paths: &[&str]| Google {
        mask: Some(FieldMask {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        }),
        ..Google::default()
    };
    both(r#"{"mask":""}"#, &of(&[]));
    both(
        r#"{"mask":"user.displayName,photo"}"#,
        &of(&["user.display_name", "photo"]),
    );
    refuses::<Google>(
        r#"{"mask":"display_name"}"#,
        "the paths of a FieldMask in camelCase",
    );
    for path in ["displayName", "a__b", "a_3"] {
        let error = to_string(&of(&[path])).expect_err("it has no form").to_string();
        assert!(error.contains("of a FieldMask has no form in JSON"), "{error}");
    }
}

#[test]
fn struct_value_and_list_value_hold_any_json() {
    let value = |kind| Value { kind: Some(kind) };
    let list = ListValue {
        values: vec![value(Kind::NumberValue(1.0)), value(Kind::NullValue(0))],
    };
    let object = Struct {
        fields: BTreeMap::from([
            ("a".to_owned(), value(Kind::StringValue("x".into()))),
            ("b".to_owned(), value(Kind::ListValue(list.clone()))),
            ("c".to_owned(), value(Kind::StructValue(Struct::default()))),
        ]),
    };
    let google = Google {
        object: Some(object),
        value: Some(value(Kind::NullValue(0))),
        list: Some(list),
        ..Google::default()
    };
    both(
        r#"{"object":{"a":"x","b":[1.0,null],"c":{}},"value":null,"list":[1.0,null]}"#,
        &google,
    );
    reads(
        r#"{"value":-3}"#,
        &Google {
            value: Some(value(Kind::NumberValue(-3.0))),
            ..Google::default()
        },
    );
    for (kind, reason) in [
        (Some(Kind::NumberValue(f64::NAN)), "holds NaN"),
        (None, "holds nothing"),
    ] {
        let google = Google {
            value: Some(Value { kind }),
            ..Google::default()
        };
        let error = to_string(&google).expect_err("JSON cannot hold it").to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn a_null_value_is_null_and_empty_an_empty_object() {
    both(
        r#"{"empty":{}}"#,
        &Google {
            empty: Some(()),
            ..Google::default()
        },
    );
    reads(r#"{"nullValue":null}"#, &Google::default());
    reads(r#"{"nullValue":"NULL_VALUE"}"#, &Google::default());
    refuses::<Google>(r#"{"nullValue":1}"#, "expected null");
    refuses::<Google>(
        r#"{"empty":{"a":1}}"#,
        "google.protobuf.Empty has no field `a`: it has none",
    );
}

#[test]
fn a_wrapper_is_its_value() {
    let wrappers = Wrappers {
        a_bool: Some(false),
        some_bytes: Some(vec![1]),
        a_double: Some(0.0),
        a_float: Some(f32::INFINITY),
        an_int32: Some(0),
        an_int64: Some(0),
        a_string: Some(String::new()),
        a_uint32: Some(1),
        a_uint64: Some(2),
    };
    both(
        concat!(
            r#"{"aBool":false,"someBytes":"AQ==","aDouble":0.0,"aFloat":"Infinity","anInt32":0,"anInt64":"0","#,
            r#""aString":"","aUint32":1,"aUint64":"2"}"#
        ),
        &wrappers,
    );
    reads(
        r#"{"aBool":null,"anInt64":null,"aString":null}"#,
        &Wrappers::default(),
    );
}
