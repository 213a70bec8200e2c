//! Generated messages as JSON, in protobuf's canonical mapping.

mod any;
mod bad_input;
mod canonical;
mod google;
mod lenient;
mod tolerant;

use std::fmt::Debug;

use serde_core::{Serialize, de::DeserializeOwned};
use serde_json::{from_str, to_string};

/// Checks that `value` is written as `text`, and read from it.
#[track_caller]
fn both<T>(text: &str, value: &T)
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    assert_eq!(to_string(value).expect("it can be written"), text);
    reads(text, value);
}

/// Checks that `value` is read from `text`.
#[track_caller]
fn reads<T: DeserializeOwned + PartialEq + Debug>(text: &str, value: &T) {
    match from_str::<T>(text) {
        Ok(read) => assert_eq!(read, *value, "{text}"),
        Err(error) => panic!("{text}: {error}"),
    }
}

/// Checks that `text` is refused with an error that says `reason`.
#[track_caller]
fn refuses<T: DeserializeOwned + Debug>(text: &str, reason: &str) {
    let error = from_str::<T>(text).expect_err(text).to_string();
    assert!(error.contains(reason), "{text}: {error}");
}
