//! The headers of a call.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use http::{
    HeaderValue, Request, Uri, Version,
    header::{CONTENT_TYPE, TE, USER_AGENT},
    uri::{Authority, PathAndQuery, Scheme},
};
use rpc_runtime::{Metadata, Result, Status, protocol::OutgoingCall, server::Procedure};

use super::connection::Shared;
use crate::grpc::{
    encoding::{ACCEPTED, Encoding},
    headers::{Room, add_metadata, check_metadata},
    names, timeout, trace,
};

/// What is the same in all requests of a connection.
#[derive(Debug)]
pub(super) struct Target {
    scheme: Scheme,
    authority: Authority,
    /// The requests of the procedures that were called, by their ids, without what differs in each call.
    heads: Mutex<HashMap<u64, Request<()>>>,
    timeout: Mutex<LastTimeout>,
}

/// The deadline of the last call, as a header says it.
#[derive(Debug)]
struct LastTimeout {
    time: Duration,
    value: HeaderValue,
}

impl Target {
    /// The target of requests to `address`, by the name `authority` if the user has given one.
    ///
    /// # Errors
    ///
    /// FAILED_PRECONDITION if the name is none.
    pub(super) fn new(authority: Option<&str>, address: &str) -> Result<Self> {
        let scheme = match address.starts_with("grpcs:") {
            true => Scheme::HTTPS,
            false => Scheme::HTTP,
        };
        let of_address = address.split_once("://").map(|(_, host)| host);
        let of_address = of_address.filter(|_| !address.starts_with("grpc+unix:"));
        let text = authority.or(of_address).unwrap_or("localhost");
        let authority = text.parse().map_err(|_| {
            Status::failed_precondition(format!(
                "{text:?} is no authority of HTTP: give a host, or a host and a port, to Grpc::authority"
            ))
        })?;
        Ok(Self {
            scheme,
            authority,
            heads: Mutex::default(),
            timeout: Mutex::new(LastTimeout {
                time: Duration::ZERO,
                value: HeaderValue::from_static("0n"),
            }),
        })
    }
}

/// Makes the request of a call with this metadata, without its body.
///
/// # Errors
///
/// INVALID_ARGUMENT for metadata that gRPC cannot carry.
pub(super) fn head(shared: &Shared, call: &OutgoingCall, metadata: &Metadata) -> Result<Request<()>> {
    let mut request = shared.target.head(call.procedure(), shared.encoding)?;
    let headers = request.headers_mut();
    if let Some(left) = call.remaining() {
        headers.insert(&names::TIMEOUT, shared.target.timeout(left));
    }
    check_metadata(metadata).map_err(Status::invalid_argument)?;
    if metadata.contains_key(USER_AGENT.as_str()) {
        headers.remove(USER_AGENT);
    }
    // No limit here: a server refuses a header list that is too long.
    add_metadata(metadata, headers, &mut Room(usize::MAX));
    if let Some(trace) = call.trace() {
        trace::write(trace, headers);
    }
    Ok(request)
}

impl Target {
    /// The request of a procedure, without what differs in each call. It is made once.
    fn head(&self, procedure: &Procedure, encoding: Encoding) -> Result<Request<()>> {
        let mut heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(head) = heads.get(&procedure.id()) {
            return Ok(head.clone());
        }
        let head = self.new_head(procedure.path(), encoding)?;
        heads.insert(procedure.id(), head.clone());
        Ok(head)
    }

    fn new_head(&self, path: &str, encoding: Encoding) -> Result<Request<()>> {
        let path = PathAndQuery::try_from(format!("/{path}"))
            .map_err(|_| Status::invalid_argument("the path of the procedure cannot be a path of HTTP"))?;
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(self.scheme.clone());
        uri.authority = Some(self.authority.clone());
        uri.path_and_query = Some(path);
        let uri = Uri::from_parts(uri).map_err(|error| Status::internal(error.to_string()))?;
        let mut request = Request::new(());
        *request.method_mut() = http::Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(&names::ACCEPT_ENCODING, HeaderValue::from_static(ACCEPTED));
        if encoding != Encoding::Identity {
            headers.insert(&names::ENCODING, HeaderValue::from_static(encoding.name()));
        }
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        Ok(request)
    }

    /// The header of a deadline in the time `left`, which it rounds up by at most one percent.
    ///
    /// So calls in a row that have the same timeout have the same header, and HPACK sends that as one byte. A value that is new is not put into
    /// HPACK's table, where it would take the place of what all calls have.
    fn timeout(&self, left: Duration) -> HeaderValue {
        let time = timeout::rounded(left);
        let mut last = self.timeout.lock().unwrap_or_else(PoisonError::into_inner);
        if last.time == time {
            return last.value.clone();
        }
        let mut value = timeout::write(time);
        *last = LastTimeout {
            time,
            value: value.clone(),
        };
        value.set_sensitive(true);
        value
    }
}

/// Who calls, as gRPC wants it: `grpc-`, the language, and the implementation.
const AGENT: &str = concat!("grpc-rust-rpc-http/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_is_that_of_the_address_or_of_the_user() {
        for (given, address, scheme, authority) in [
            (None, "grpc://kv.local:80", "http", "kv.local:80"),
            (None, "grpcs://[::1]:443", "https", "[::1]:443"),
            (None, "grpc+unix:/run/kv", "http", "localhost"),
            (None, "grpc+unix:///run/kv", "http", "localhost"),
            (Some("kv"), "grpc+unix:/run/kv", "http", "kv"),
        ] {
            let target = Target::new(given, address).unwrap();
            assert_eq!(
                (target.scheme.as_str(), target.authority.as_str()),
                (scheme, authority)
            );
        }
        assert!(Target::new(Some("a b"), "grpc://kv:80").is_err());
    }

    #[test]
    fn a_timeout_that_comes_again_may_be_indexed() {
        let target = Target::new(None, "grpc://kv:80").unwrap();
        for (millis, value, is_new) in [
            (29_999, "30000000u", true),
            (29_990, "30000000u", false),
            (29_000, "29000000u", true),
            (30_000, "30000000u", true),
        ] {
            let timeout = target.timeout(Duration::from_millis(millis));
            assert_eq!(
                (timeout.to_str().unwrap(), timeout.is_sensitive()),
                (value, is_new)
            );
        }
    }
}
