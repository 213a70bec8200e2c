//! Address: where a server listens and a client connects, as text.

use std::{fmt, path::PathBuf};

use crate::{Code, Error};

/// Where a server listens: `tcp://host:port`, `unix:/path` or `mem:name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// A host name or an IP address, and a port.
    Tcp(String),
    /// The path of a Unix socket.
    Unix(PathBuf),
    /// A name inside this process.
    Memory(String),
    /// Where somebody else accepts.
    Custom(String),
}

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    ///
    /// INVALID_ARGUMENT, with what was expected, for any other text.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        if let Some(host) = text.strip_prefix("tcp://") {
            let (name, port) = host
                .rsplit_once(':')
                .ok_or_else(|| invalid(text, "the port is missing"))?;
            if name.is_empty() {
                return Err(invalid(text, "the host is missing"));
            }
            if port.parse::<u16>().is_err() {
                return Err(invalid(text, "the port is no number up to 65535"));
            }
            return Ok(Self::Tcp(host.to_owned()));
        }
        if let Some(path) = text.strip_prefix("unix:") {
            // `unix:///run/x.sock` is what people type who know URLs.
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() {
                return Err(invalid(text, "the path is missing"));
            }
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        if let Some(name) = text.strip_prefix("mem:") {
            if name.is_empty() {
                return Err(invalid(text, "the name is missing"));
            }
            return Ok(Self::Memory(name.to_owned()));
        }
        if text.starts_with("tls://") {
            return Err(invalid(text, "TLS is not there yet"));
        }
        Err(invalid(text, "the scheme is unknown"))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host) => write!(f, "tcp://{host}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Memory(name) => write!(f, "mem:{name}"),
            Self::Custom(name) => f.write_str(name),
        }
    }
}

fn invalid(text: &str, why: &str) -> Error {
    Error::local(
        Code::InvalidArgument,
        format!("bad address {text:?}: {why}; write tcp://host:port, unix:/path or mem:name"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_survives_its_text() {
        for text in [
            "tcp://127.0.0.1:0",
            "tcp://[::1]:5005",
            "tcp://kv.local:65535",
            "unix:/run/kv",
            "mem:kv",
        ] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(
            Address::parse("unix:///run/kv").unwrap(),
            Address::Unix("/run/kv".into())
        );
    }

    #[test]
    fn a_bad_address_says_what_is_wrong() {
        for (text, why) in [
            ("127.0.0.1:5005", "the scheme is unknown"),
            ("tcp://127.0.0.1", "the port is missing"),
            ("tcp://:80", "the host is missing"),
            ("tcp://localhost:65536", "the port is no number up to 65535"),
            ("unix:", "the path is missing"),
            ("mem:", "the name is missing"),
            ("tls://localhost:1", "TLS is not there yet"),
            ("", "the scheme is unknown"),
        ] {
            let error = Address::parse(text).unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument);
            assert!(error.message().contains(why), "{text}: {error}");
        }
    }
}
