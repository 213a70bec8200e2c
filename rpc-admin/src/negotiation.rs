//! Negotiation: what the headers of a request say about the form of the answer.

use http::{
    HeaderMap, HeaderName,
    header::{ACCEPT, ACCEPT_ENCODING},
};

/// True if a request asks for JSON, and not as much for text.
pub(crate) fn prefers_json(headers: &HeaderMap) -> bool {
    let accept = joined(headers, &ACCEPT);
    quality(&accept, "application/json") > quality(&accept, "text/plain")
}

/// True if the answer may be compressed by gzip.
pub(crate) fn accepts_gzip(headers: &HeaderMap) -> bool {
    quality(&joined(headers, &ACCEPT_ENCODING), "gzip") > 0.0
}

/// All values of a header, as one list. A value that is no text is left out.
pub(crate) fn joined(headers: &HeaderMap, name: &HeaderName) -> String {
    let values = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok());
    values.collect::<Vec<_>>().join(",")
}

/// How much a list such as `text/plain;q=0.5, */*` wants `what`, between 0 and 1. The entry that says most about it counts.
fn quality(list: &str, what: &str) -> f32 {
    let of_type = what.split_once('/').map(|(kind, _)| format!("{kind}/*"));
    let (mut best, mut quality) = (0, 0.0);
    for entry in list.split(',') {
        let mut parts = entry.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let precision = match name {
            _ if name.eq_ignore_ascii_case(what) => 3,
            _ if of_type
                .as_deref()
                .is_some_and(|of_type| name.eq_ignore_ascii_case(of_type)) =>
            {
                2
            }
            "*" | "*/*" => 1,
            _ => continue,
        };
        if precision > best {
            let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
            // A weight that is no number asks for nothing.
            quality = weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0));
            best = precision;
        }
    }
    quality
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn with(name: HeaderName, values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name.clone(), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn json_is_for_those_that_ask_for_it() {
        for (accept, json) in [
            (&["application/json"][..], true),
            (&["text/html, application/json;q=0.9"], true),
            (&["text/plain;q=0.1", "application/json; q=0.2"], true),
            (&["application/*, text/plain;q=0.9"], true),
            // curl, and a browser.
            (&["*/*"], false),
            (
                &["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"],
                false,
            ),
            (&["application/json;q=0.5, text/plain"], false),
            (&["application/json;q=no"], false),
            (&[], false),
        ] {
            assert_eq!(prefers_json(&with(ACCEPT, accept)), json, "{accept:?}");
        }
    }

    #[test]
    fn gzip_is_for_those_that_take_it() {
        for (accept, gzip) in [
            (&["gzip"][..], true),
            (&["deflate, GZIP;q=1.0, *;q=0.5"], true),
            (&["*"], true),
            (&["gzip;q=0, *"], false),
            (&["identity"], false),
            (&[], false),
        ] {
            assert_eq!(accepts_gzip(&with(ACCEPT_ENCODING, accept)), gzip, "{accept:?}");
        }
    }
}
