//! The trace context of a call, in the headers of the W3C.

use http::{HeaderMap, HeaderName, HeaderValue};
use rpc_runtime::{Metadata, trace::TraceContext};

/// Takes the trace context of a call out of the metadata that was read of its headers.
pub(crate) fn take(metadata: &mut Metadata) -> Option<TraceContext> {
    if !KEYS.iter().any(|key| metadata.contains_key(key)) {
        return None;
    }
    // Several headers of one name are a list, as in all of HTTP. Two parents are no valid parent.
    let [parent, state, baggage] = KEYS.map(|key| {
        let values = metadata.get_all(key).map(|value| String::from_utf8_lossy(value));
        values.collect::<Vec<_>>().join(",")
    });
    for key in KEYS {
        metadata.remove(key);
    }
    TraceContext::parse(&parent, &state, &baggage)
}

/// Writes a trace context, in place of headers that are there.
pub(crate) fn write(trace: &TraceContext, headers: &mut HeaderMap) {
    let parent = trace.traceparent().unwrap_or_default();
    for (key, value) in KEYS
        .into_iter()
        .zip([parent.as_str(), trace.tracestate(), trace.baggage()])
    {
        let name = HeaderName::from_static(key);
        match HeaderValue::from_str(value) {
            Ok(value) if !value.is_empty() => {
                headers.insert(name, value);
            }
            _ => {
                headers.remove(name);
            }
        }
    }
}

/// The names of the headers.
const KEYS: [&str; 3] = ["traceparent", "tracestate", "baggage"];

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_trace_is_taken_out_of_the_metadata_and_written_again() {
        let mut metadata = Metadata::from([
            ("x-user", "ada"),
            ("traceparent", PARENT),
            ("tracestate", "a=1"),
            ("baggage", "c=3"),
            ("tracestate", "b=2"),
        ]);
        let trace = take(&mut metadata).unwrap();
        assert_eq!(metadata, Metadata::from([("x-user", "ada")]));
        assert_eq!(trace.tracestate(), "a=1,b=2");
        let mut headers = HeaderMap::new();
        headers.insert("baggage", HeaderValue::from_static("old=1"));
        write(&trace, &mut headers);
        assert_eq!(headers["traceparent"], PARENT);
        assert_eq!(headers["tracestate"], "a=1,b=2");
        assert_eq!(headers["baggage"], "c=3");
    }

    #[test]
    fn what_is_invalid_is_dropped() {
        let two = [
            ("traceparent", PARENT),
            ("traceparent", PARENT),
            ("tracestate", "a=1"),
        ];
        let mut metadata = Metadata::from(two);
        assert_eq!(take(&mut metadata), None);
        assert!(metadata.is_empty());
        assert_eq!(take(&mut metadata), None);
    }
}
