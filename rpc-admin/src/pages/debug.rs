//! `/debug`: what the process does now, as text or JSON.

mod calls;
mod connections;
mod limits;
mod procedures;

use std::{fmt::Display, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use rpc_runtime::inspect::Listing;
use serde_json::{Value, json};

use super::answers::{json, text};
use crate::{negotiation::prefers_json, query::Query};

#[derive(Clone, Copy, Debug)]
pub(super) enum Page {
    Calls,
    Connections,
    Procedures,
    Limits,
}

/// Answers in the format that the query or the headers ask for.
pub(super) async fn answer<B>(page: Page, request: &Request<B>) -> Response<Bytes> {
    let written = write(page, request.uri().query(), request.headers()).await;
    written.unwrap_or_else(|problem| text(StatusCode::BAD_REQUEST, problem))
}

/// # Errors
///
/// What is wrong with the query.
async fn write(page: Page, query: Option<&str>, headers: &HeaderMap) -> Result<Response<Bytes>, String> {
    let mut query = Query::new(query)?;
    let format = Format::of(&mut query, headers)?;
    match page {
        Page::Calls => calls::write(query, format),
        Page::Connections => connections::write(query, format),
        Page::Procedures => procedures::write(query, format).await,
        Page::Limits => limits::write(query, format),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

impl Format {
    /// The parameter `format` goes before the header Accept.
    ///
    /// # Errors
    ///
    /// A parameter that names no format.
    fn of(query: &mut Query<'_>, headers: &HeaderMap) -> Result<Self, String> {
        match query.take("format").as_deref() {
            Some("text") => Ok(Self::Text),
            Some("json") => Ok(Self::Json),
            Some(other) => Err(format!("there is no format {other}: take text or json\n")),
            None if prefers_json(headers) => Ok(Self::Json),
            None => Ok(Self::Text),
        }
    }
}

/// The first line of a page: how many it lists.
fn heading(count: usize, name: &str) -> String {
    match count {
        1 => format!("1 {}\n", name.trim_end_matches('s')),
        _ => format!("{count} {name}\n"),
    }
}

/// Writes a list: a line for each entry, or an object for each under `name`.
fn list<T: Display>(
    format: Format,
    name: &str,
    found: &Listing<T>,
    object: impl Fn(&T) -> Value,
) -> Response<Bytes> {
    match format {
        Format::Json => {
            let objects: Vec<_> = found.iter().map(object).collect();
            json(&json!({ name: objects, "left_out": found.left_out() }))
        }
        Format::Text => {
            let mut lines = heading(found.entries().len(), name);
            for entry in found {
                lines.push_str(entry.to_string().trim_end());
                lines.push('\n');
            }
            if found.left_out() > 0 {
                lines.push_str(&format!(
                    "and {} more, which the bound of a list leaves out\n",
                    found.left_out()
                ));
            }
            text(StatusCode::OK, lines)
        }
    }
}

/// A time as JSON has it: in seconds.
fn seconds(time: Option<Duration>) -> Value {
    time.map_or(Value::Null, |time| json!(time.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header::ACCEPT};

    use super::*;

    #[test]
    fn the_parameter_goes_before_the_header() {
        let mut wants_json = HeaderMap::new();
        wants_json.insert(ACCEPT, HeaderValue::from_static("application/json"));
        for (query, headers, format) in [
            (None, HeaderMap::new(), Ok(Format::Text)),
            (None, wants_json.clone(), Ok(Format::Json)),
            (Some("format=text"), wants_json, Ok(Format::Text)),
            (Some("format=json"), HeaderMap::new(), Ok(Format::Json)),
            (
                Some("format=xml"),
                HeaderMap::new(),
                Err("there is no format xml: take text or json\n".to_owned()),
            ),
        ] {
            let mut query = Query::new(query).unwrap();
            assert_eq!(Format::of(&mut query, &headers), format);
        }
    }
}
