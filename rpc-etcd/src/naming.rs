//! Naming: the keys and values of servers, in the format of gRPC-Go's package `naming/endpoints`.

use rpc_runtime::discover::Endpoint;
use serde_json::{Map, Value};

/// Returns what the keys of all servers of `service` begin with.
pub(crate) fn prefix(service: &str) -> String {
    format!("{service}/")
}

/// Returns the key behind all keys that begin with `prefix`, which ends with `/`.
pub(crate) fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        // A slash: the next byte is `0`.
        *last += 1;
    }
    end
}

/// Reads the value of a server.
///
/// # Errors
///
/// The value is no server: the error says why.
pub(crate) fn parse(value: &[u8]) -> Result<Endpoint, String> {
    let value: Value = serde_json::from_slice(value).map_err(|error| format!("it is no JSON: {error}"))?;
    let Value::Object(mut fields) = value else {
        return Err("it is no object".to_owned());
    };
    match fields.get("Op").map_or(Some(0), Value::as_i64) {
        Some(0) => {}
        _ => return Err("its Op is not 0".to_owned()),
    }
    let address = match fields.get("Addr").and_then(Value::as_str) {
        None | Some("") => return Err("it has no Addr".to_owned()),
        Some(address) => address,
    };
    let endpoint = Endpoint::new(address);
    Ok(match fields.remove("Metadata") {
        Some(Value::Object(metadata)) => with_metadata(endpoint, metadata),
        // gRPC-Go lets a program put anything there.
        _ => endpoint,
    })
}

fn with_metadata(mut endpoint: Endpoint, metadata: Map<String, Value>) -> Endpoint {
    for (key, value) in metadata {
        endpoint = match (key.as_str(), value) {
            (WEIGHT, Value::Number(weight)) if weight.is_u64() => {
                let weight = weight.as_u64().and_then(|weight| u32::try_from(weight).ok());
                endpoint.with_weight(weight.unwrap_or(u32::MAX))
            }
            (ZONE, Value::String(zone)) => endpoint.with_zone(zone),
            (_, Value::String(text)) => endpoint.with_metadata(key, text),
            (_, Value::Number(number)) => endpoint.with_metadata(key, number.to_string()),
            (_, Value::Bool(value)) => endpoint.with_metadata(key, value.to_string()),
            (_, Value::Null | Value::Array(_) | Value::Object(_)) => endpoint,
        };
    }
    endpoint
}

/// Writes the value of a server, with the fields in the order in which gRPC-Go writes them.
pub(crate) fn write(endpoint: &Endpoint) -> String {
    let mut metadata: Map<String, Value> = endpoint
        .metadata()
        .iter()
        .map(|(key, value)| (key.clone(), value.as_str().into()))
        .collect();
    if endpoint.weight() != 1 {
        metadata.insert(WEIGHT.to_owned(), endpoint.weight().into());
    }
    if let Some(zone) = endpoint.zone() {
        metadata.insert(ZONE.to_owned(), zone.into());
    }
    let address = Value::from(endpoint.address());
    let metadata = match metadata.is_empty() {
        true => Value::Null,
        false => metadata.into(),
    };
    format!(r#"{{"Op":0,"Addr":{address},"Metadata":{metadata}}}"#)
}

const WEIGHT: &str = "weight";
const ZONE: &str = "zone";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_of_a_plain_server_is_exactly_that_of_grpc_go() {
        assert_eq!(
            write(&Endpoint::new("10.0.0.7:5005")),
            r#"{"Op":0,"Addr":"10.0.0.7:5005","Metadata":null}"#
        );
    }

    #[test]
    fn what_is_written_is_read_back() {
        for endpoint in [
            Endpoint::new("10.0.0.7:5005"),
            Endpoint::new("[::1]:5005").with_weight(0).with_zone("a\"\\\n"),
            Endpoint::new("unix:/run/app.sock")
                .with_weight(u32::MAX)
                .with_metadata("version", "1.4"),
        ] {
            assert_eq!(parse(write(&endpoint).as_bytes()), Ok(endpoint));
        }
    }

    #[test]
    fn values_of_others_are_read() {
        let plain = Endpoint::new("h:1");
        for (value, endpoint) in [
            (r#"{"Op":0,"Addr":"h:1","Metadata":null}"#, plain.clone()),
            (r#"{"Addr":"h:1"}"#, plain.clone()),
            (r#"{"Op":0,"Addr":"h:1","Metadata":"anything"}"#, plain.clone()),
            (
                r#"{"Op":0,"Addr":"h:1","Metadata":[1,2],"New":{}}"#,
                plain.clone(),
            ),
            // A weight that is none, and a zone that is none, are entries as others.
            (
                r#"{"Addr":"h:1","Metadata":{"weight":-1,"zone":7}}"#,
                plain
                    .clone()
                    .with_metadata("weight", "-1")
                    .with_metadata("zone", "7"),
            ),
            (
                r#"{"Addr":"h:1","Metadata":{"weight":99999999999,"zone":"a"}}"#,
                plain.clone().with_weight(u32::MAX).with_zone("a"),
            ),
            (
                r#"{"Addr":"h:1","Metadata":{"n":1.5,"b":true,"s":"t","o":{},"a":[],"z":null}}"#,
                plain
                    .with_metadata("n", "1.5")
                    .with_metadata("b", "true")
                    .with_metadata("s", "t"),
            ),
        ] {
            assert_eq!(parse(value.as_bytes()), Ok(endpoint), "{value}");
        }
    }

    #[test]
    fn values_that_are_no_servers_are_errors() {
        let deep = format!(r#"{{"Addr":"h:1","Metadata":{}"#, "[".repeat(100_000));
        for (value, text) in [
            ("", "it is no JSON"),
            ("h:1", "it is no JSON"),
            ("\u{ff}", "it is no JSON"),
            (deep.as_str(), "it is no JSON"),
            ("7", "it is no object"),
            (r#"{"Op":1,"Addr":"h:1"}"#, "its Op is not 0"),
            (r#"{"Op":"0","Addr":"h:1"}"#, "its Op is not 0"),
            (r#"{"Op":0,"Addr":"","Metadata":null}"#, "it has no Addr"),
            (r#"{"Op":0,"Addr":7}"#, "it has no Addr"),
        ] {
            let error = parse(value.as_bytes()).unwrap_err();
            assert!(error.starts_with(text), "{value}: {error}");
        }
    }

    #[test]
    fn the_keys_of_a_service_end_before_those_of_the_next_one() {
        let prefix = prefix("orders");
        let end = end_of(&prefix);
        for (key, is_inside) in [
            ("orders/", true),
            ("orders/\u{10ffff}", true),
            ("orders", false),
            ("orders-2/a", false),
            ("orders0", false),
        ] {
            let key = key.as_bytes();
            assert_eq!(key >= prefix.as_bytes() && key < &end[..], is_inside, "{key:?}");
        }
    }
}
