//! The headers of a call.

use http::{
    HeaderMap, HeaderValue, Request, Uri, Version,
    header::{CONTENT_TYPE, TE, USER_AGENT},
    uri::{Authority, PathAndQuery, Scheme},
};
use rpc_runtime::{Metadata, Result, Status, protocol::OutgoingCall};

use super::connection::Shared;
use crate::grpc::{
    encoding::{ACCEPTED, Encoding},
    headers::{Room, add_metadata, check_metadata},
    names, timeout, trace,
};

/// What is the same in all requests of a connection.
#[derive(Clone, Debug)]
pub(super) struct Target {
    scheme: Scheme,
    authority: Authority,
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
        Ok(Self { scheme, authority })
    }
}

/// Makes the request of a call with this metadata, without its body.
///
/// # Errors
///
/// INVALID_ARGUMENT for metadata that gRPC cannot carry.
pub(super) fn head(shared: &Shared, call: &OutgoingCall, metadata: &Metadata) -> Result<Request<()>> {
    let path = format!("/{}", call.procedure().path());
    let path = PathAndQuery::try_from(path)
        .map_err(|_| Status::invalid_argument("the path of the procedure cannot be a path of HTTP"))?;
    let target = &shared.target;
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(target.scheme.clone());
    uri.authority = Some(target.authority.clone());
    uri.path_and_query = Some(path);
    let uri = Uri::from_parts(uri).map_err(|error| Status::internal(error.to_string()))?;
    let mut request = Request::new(());
    *request.method_mut() = http::Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = uri;
    add_headers(shared, call, metadata, request.headers_mut())?;
    Ok(request)
}

fn add_headers(
    shared: &Shared,
    call: &OutgoingCall,
    metadata: &Metadata,
    headers: &mut HeaderMap,
) -> Result<()> {
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(&names::ACCEPT_ENCODING, HeaderValue::from_static(ACCEPTED));
    if shared.encoding != Encoding::Identity {
        headers.insert(&names::ENCODING, HeaderValue::from_static(shared.encoding.name()));
    }
    if let Some(left) = call.remaining() {
        let mut left = timeout::write(left);
        // It differs in each call: HPACK is not to put it into its table, where it would take the place of what all calls have.
        left.set_sensitive(true);
        headers.insert(&names::TIMEOUT, left);
    }
    check_metadata(metadata).map_err(Status::invalid_argument)?;
    // No limit here: a server refuses a header list that is too long.
    add_metadata(metadata, headers, &mut Room(usize::MAX));
    if let Some(trace) = call.trace() {
        trace::write(trace, headers);
    }
    headers
        .entry(USER_AGENT)
        .or_insert(HeaderValue::from_static(AGENT));
    Ok(())
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
}
