//! Address: the place where a server listens and a client connects, as text.

use std::{borrow::Cow, fmt, net::Ipv6Addr, path::PathBuf};

use super::{Transport, os::HAS_PIPES};
use crate::{Code, Error};

/// An address: `tcp://host:port`, `tls://host:port`, `unix:/path` (on Windows `pipe:name`) or `mem:name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// A host name or an IP address, and a port.
    Tcp(String),
    /// The same, for TLS over TCP. Only with the feature `tls` or `tls-ring`.
    Tls(String),
    /// The path of a Unix socket. On Windows the name of a pipe.
    Local(PathBuf),
    /// A name inside this process.
    Memory(String),
    /// The name of streams that code outside of this crate accepts.
    Custom(String),
}

impl Address {
    /// Parses an address of another protocol, which is reached by `transport`: it has a `scheme` of its own.
    ///
    /// # Errors
    ///
    /// As [`Address::parse`]; also for a transport of which an address says nothing. If there is no TLS in this build, it names the scheme
    /// `without_tls`.
    pub(crate) fn parse_as(
        text: &str,
        scheme: &str,
        transport: Transport,
        without_tls: Option<&str>,
    ) -> Result<Self, Error> {
        read_as(text, scheme, transport, without_tls).map_err(|Mistake { why, proposal }| {
            let proposal = proposal.unwrap_or_else(|| match transport {
                Transport::Unix => format!("{scheme}:/path"),
                _ => format!("{scheme}://host:port"),
            });
            let text = format!("bad address {text:?}: {why}; write {proposal}");
            Error::local(Code::InvalidArgument, text)
        })
    }

    /// Parses the address of a server, which may be one of gRPC.
    ///
    /// # Errors
    ///
    /// As [`Address::parse`]. For an address of HTTP it also names that of gRPC.
    pub(crate) fn parse_server(text: &str) -> Result<Self, Error> {
        Self::parse(text).map_err(|error| match propose_grpc(text) {
            Some(proposal) => {
                let text = format!(
                    "{}, or for a gRPC server {proposal} and .protocol(rpc_http::Grpc::new())",
                    error.message()
                );
                Error::local(Code::InvalidArgument, text)
            }
            None => error,
        })
    }

    /// The error of an address of HTTP where the client speaks gRPC; `None` if it is no address of HTTP.
    pub(crate) fn error_with_grpc(text: &str) -> Option<Error> {
        let proposal = propose_grpc(text)?;
        let text = format!("bad address {text:?}: {OTHER_SCHEME}; write {proposal}");
        Some(Error::local(Code::InvalidArgument, text))
    }

    /// Parses an address.
    ///
    /// # Errors
    ///
    /// INVALID_ARGUMENT for any other text, with the mistake and what to write.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        read(text).map_err(|Mistake { why, proposal }| {
            let proposal = proposal.unwrap_or_else(|| FORMS.to_owned());
            let text = format!("bad address {text:?}: {why}; write {proposal}");
            Error::local(Code::InvalidArgument, text)
        })
    }
}

/// What an address looks like.
const FORMS: &str = match (cfg!(feature = "_tls"), HAS_PIPES) {
    (true, false) => "tcp://host:port, tls://host:port, unix:/path or mem:name",
    (false, false) => "tcp://host:port, unix:/path or mem:name",
    (true, true) => "tcp://host:port, tls://host:port, pipe:name or mem:name",
    (false, true) => "tcp://host:port, pipe:name or mem:name",
};

/// Checks a host and a port, as they follow `tcp://`.
///
/// # Errors
///
/// The mistake. What it proposes is a host and a port, too.
pub(crate) fn check_host(text: &str) -> Result<(), Mistake> {
    match read_host(text, "tcp") {
        Ok(_) => Ok(()),
        Err(Mistake { why, proposal }) => {
            let host = |proposal: String| Some(proposal.strip_prefix("tcp://")?.to_owned());
            Err(Mistake::new(why, proposal.and_then(host)))
        }
    }
}

/// The mistake in a text, and the address that was probably meant.
#[derive(Debug)]
pub(crate) struct Mistake {
    pub(crate) why: Cow<'static, str>,
    pub(crate) proposal: Option<String>,
}

impl Mistake {
    fn new(why: impl Into<Cow<'static, str>>, proposal: Option<String>) -> Self {
        let why = why.into();
        Self { why, proposal }
    }
}

fn read(text: &str) -> Result<Address, Mistake> {
    let trimmed = text.trim();
    if trimmed != text {
        let proposal = match read(trimmed) {
            Ok(_) => Some(trimmed.to_owned()),
            Err(mistake) => mistake.proposal,
        };
        return Err(Mistake::new("it begins or ends with a space", proposal));
    }
    if let Some(host) = text.strip_prefix("tcp://") {
        return read_host(host, "tcp").map(Address::Tcp);
    }
    if let Some(host) = text.strip_prefix("tls://") {
        if !cfg!(feature = "_tls") {
            return Err(no_tls(host, Some("tcp")));
        }
        return read_host(host, "tls").map(Address::Tls);
    }
    if let Some(path) = text.strip_prefix("unix:") {
        return read_unix(path, "unix");
    }
    if let Some(name) = text.strip_prefix("pipe:") {
        return read_pipe(name);
    }
    if let Some(name) = text.strip_prefix("mem:") {
        if name.is_empty() {
            return Err(Mistake::new("the name is missing", None));
        }
        return Ok(Address::Memory(name.to_owned()));
    }
    Err(mistake(text))
}

/// Parses an address of another protocol.
fn read_as(
    text: &str,
    scheme: &str,
    transport: Transport,
    without_tls: Option<&str>,
) -> Result<Address, Mistake> {
    let rest = text.strip_prefix(scheme).and_then(|rest| rest.strip_prefix(':'));
    let rest = rest.unwrap_or_default();
    if transport == Transport::Unix {
        return read_unix(rest, scheme);
    }
    let Some(host) = rest.strip_prefix("//") else {
        let proposal = propose_host(rest.trim_matches('/'), scheme);
        return Err(Mistake::new(
            format!("two slashes must follow {scheme}:"),
            proposal,
        ));
    };
    match transport {
        Transport::Tcp => read_host(host, scheme).map(Address::Tcp),
        Transport::Tls if !cfg!(feature = "_tls") => Err(no_tls(host, without_tls)),
        Transport::Tls => read_host(host, scheme).map(Address::Tls),
        transport => Err(Mistake::new(
            format!("its protocol asks for the transport {transport:?}, which no address names"),
            None,
        )),
    }
}

/// The mistake in an address with TLS where there is no TLS. The same place has an address of the scheme `plain` without it.
fn no_tls(host: &str, plain: Option<&str>) -> Mistake {
    Mistake::new(WITHOUT_TLS, plain.and_then(|scheme| propose_host(host, scheme)))
}

/// Parses the text after `unix:` or another `scheme`.
fn read_unix(path: &str, scheme: &str) -> Result<Address, Mistake> {
    if HAS_PIPES {
        return Err(no_unix_sockets(path, scheme));
    }
    // People who know URLs write `unix:///run/x.sock`.
    let url = path.strip_prefix("//");
    let path = url.unwrap_or(path);
    if path.is_empty() {
        return Err(Mistake::new("the path is missing", None));
    }
    if url.is_some() && !path.starts_with('/') {
        let why = format!("the path after {scheme}:// must be absolute; a relative path is {scheme}:{path}");
        return Err(Mistake::new(why, Some(format!("{scheme}:/{path}"))));
    }
    Ok(Address::Local(PathBuf::from(path)))
}

/// The mistake in the address of a Unix socket on Windows.
fn no_unix_sockets(path: &str, scheme: &str) -> Mistake {
    if scheme != "unix" {
        let why = format!("Windows has no Unix sockets for {scheme}:, and a gRPC server is reached by TCP");
        return Mistake::new(why, Some("grpc://127.0.0.1:<port>".to_owned()));
    }
    let name = path.rsplit(['/', '\\']).next().unwrap_or_default();
    let name = name.strip_suffix(".sock").unwrap_or(name);
    let proposal = Some(format!("pipe:{name}")).filter(|_| !name.is_empty());
    Mistake::new(NO_UNIX_SOCKETS, proposal.or_else(|| Some("pipe:name".to_owned())))
}

/// Parses the text after `pipe:`.
fn read_pipe(name: &str) -> Result<Address, Mistake> {
    // People who know Windows write `\\.\pipe\kv`.
    let short = name.rsplit(['/', '\\']).next().unwrap_or_default();
    if !HAS_PIPES {
        let proposal = match short {
            "" => "unix:/path".to_owned(),
            short => format!("unix:/run/{short}.sock"),
        };
        return Err(Mistake::new(NO_PIPES, Some(proposal)));
    }
    if name.is_empty() {
        return Err(Mistake::new("the name is missing", None));
    }
    if name != short {
        let proposal = Some(format!("pipe:{short}")).filter(|_| !short.is_empty());
        return Err(Mistake::new("the name of a pipe has no slashes", proposal));
    }
    // The limit of CreateNamedPipeW: 256 characters, with `\\.\pipe\`.
    if name.encode_utf16().count() > LONGEST_PIPE {
        let why = format!("the name of a pipe may have {LONGEST_PIPE} characters");
        return Err(Mistake::new(why, Some("a shorter one".to_owned())));
    }
    Ok(Address::Local(PathBuf::from(name)))
}

/// Checks the text after `tcp://` or another `scheme`: a host and a port.
fn read_host(host: &str, scheme: &str) -> Result<String, Mistake> {
    let tcp = |authority: &str| Some(format!("{scheme}://{authority}"));
    if let Some((authority, _)) = host.split_once(['/', '?', '#']) {
        let proposal = tcp(authority).filter(|_| !authority.is_empty());
        return Err(Mistake::new("nothing may follow the port", proposal));
    }
    if host.contains(char::is_whitespace) {
        let proposal = tcp(&host.replace(char::is_whitespace, ""));
        return Err(Mistake::new("it contains a space", proposal));
    }
    let is_address = |name: &str| {
        name.split('%')
            .next()
            .unwrap_or_default()
            .parse::<Ipv6Addr>()
            .is_ok()
    };
    let split = if host.starts_with('[') {
        host.split_once(']')
            .and_then(|(name, port)| Some((&host[..=name.len()], port.strip_prefix(':')?)))
    } else {
        host.rsplit_once(':')
    };
    let is_bare = |name: &str| name.contains(':') && !name.starts_with('[');
    let (name, port) = match split {
        // An IPv6 address whose last group looks like a port.
        Some((name, _)) if is_bare(name) && !is_address(name) && is_address(host) => {
            let why = "the port is missing, and an IPv6 address needs brackets";
            return Err(Mistake::new(why, tcp(&format!("[{host}]:<port>"))));
        }
        Some((name, port)) if is_bare(name) => {
            let proposal = tcp(&format!("[{name}]:{port}")).filter(|_| is_address(name));
            return Err(Mistake::new("an IPv6 address needs brackets", proposal));
        }
        Some(split) => split,
        None => {
            let proposal = tcp(&format!("{host}:<port>")).filter(|_| !host.is_empty());
            return Err(Mistake::new("the port is missing", proposal));
        }
    };
    if let Some(name) = name.strip_prefix('[') {
        if !is_address(name.trim_end_matches(']')) {
            return Err(Mistake::new("the text in brackets is not an IPv6 address", None));
        }
    }
    if name.is_empty() {
        return Err(Mistake::new(
            "the host is missing",
            tcp(&format!("127.0.0.1:{port}")),
        ));
    }
    if port.is_empty() {
        return Err(Mistake::new(
            "the port is missing",
            tcp(&format!("{name}:<port>")),
        ));
    }
    if port.parse::<u16>().is_err() {
        return Err(Mistake::new(
            "the port is not a number from 0 to 65535",
            tcp(&format!("{name}:<port>")),
        ));
    }
    Ok(host.to_owned())
}

/// Finds the mistake in a text that begins with no known scheme.
fn mistake(text: &str) -> Mistake {
    if let Some(path) = text.strip_prefix("grpc+unix:") {
        return Mistake::new(NO_GRPC, Some(format!("unix:{path}")).filter(|_| !path.is_empty()));
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let scheme = scheme.to_ascii_lowercase();
        return match scheme.as_str() {
            "grpc" => Mistake::new(NO_GRPC, propose_host(host, "tcp")),
            "grpcs" => Mistake::new(NO_GRPC, propose_host(host, "tls")),
            "http" | "h2" | "h2c" | "ws" | "dns" | "rpc" | "tcp4" | "tcp6" | "udp" => {
                Mistake::new(OTHER_SCHEME, propose_host(host, "tcp"))
            }
            "https" | "ssl" | "wss" => Mistake::new(OTHER_SCHEME, propose_host(host, "tls")),
            "tcp" | "tls" => Mistake::new("the scheme must be in lower case", propose_host(host, &scheme)),
            "unix" | "pipe" | "mem" => Mistake::new(
                "the scheme must be in lower case",
                Some(format!("{scheme}:{rest}")),
            ),
            "ipc" | "file" | "npipe" => Mistake::new(
                "the scheme is unknown",
                Some(propose_local(rest)).filter(|_| !rest.is_empty()),
            ),
            _ => Mistake::new("the scheme is unknown", None),
        };
    }
    for scheme in ["tcp", "tls"] {
        if let Some(rest) = text.strip_prefix(scheme).and_then(|rest| rest.strip_prefix(':')) {
            let proposal = propose_host(rest.trim_matches('/'), scheme);
            return Mistake::new(format!("two slashes must follow {scheme}:"), proposal);
        }
    }
    let is_path = text.starts_with(['/', '.', '~', '@']) || text.ends_with(".sock");
    if is_path && !text.contains("//") {
        return Mistake::new("the scheme is missing", Some(propose_local(text)));
    }
    if text.starts_with(r"\\") {
        return Mistake::new("the scheme is missing", Some(propose_local(text)));
    }
    Mistake::new(
        "the scheme is missing",
        propose_host(text.trim_matches('/'), "tcp"),
    )
}

/// The address of the local transport that a path or a name may mean.
fn propose_local(text: &str) -> String {
    let name = text.rsplit(['/', '\\']).next().unwrap_or_default();
    match HAS_PIPES {
        true => format!("pipe:{}", name.strip_suffix(".sock").unwrap_or(name)),
        false => format!("unix:{}", if text.starts_with('\\') { name } else { text }),
    }
}

/// The address of a gRPC server that a URL of HTTP may mean, as other gRPC libraries write it; `None` for another text.
fn propose_grpc(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match &*scheme.to_ascii_lowercase() {
        "http" | "h2" | "h2c" => propose_host(host, "grpc"),
        "https" => propose_host(host, "grpcs"),
        _ => None,
    }
}

/// The address that a host, a port, or both may mean; further mistakes in it are corrected, too.
fn propose_host(host: &str, scheme: &str) -> Option<String> {
    if !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(format!("{scheme}://127.0.0.1:{host}"));
    }
    match read_host(host, scheme) {
        Ok(_) => Some(format!("{scheme}://{host}")),
        Err(mistake) => mistake.proposal,
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host) => write!(f, "tcp://{host}"),
            Self::Tls(host) => write!(f, "tls://{host}"),
            Self::Local(path) => write!(f, "{}:{}", Transport::LOCAL.name(), path.display()),
            Self::Memory(name) => write!(f, "mem:{name}"),
            Self::Custom(name) => f.write_str(name),
        }
    }
}

/// Why a URL is refused.
const OTHER_SCHEME: &str = "the scheme belongs to another protocol";

/// Why `unix:` is refused on Windows.
const NO_UNIX_SOCKETS: &str = "Windows has no Unix sockets for us, and named pipes do the same there";

/// Why `pipe:` is refused on Unix.
const NO_PIPES: &str = "named pipes are only on Windows, and Unix sockets do the same here";

/// The longest name of a pipe, in UTF-16 units.
const LONGEST_PIPE: usize = 256 - r"\\.\pipe\".len();

/// Why a gRPC address is refused by a builder that was given no protocol for it.
const NO_GRPC: &str = "gRPC needs the crate rpc-http: give a client's builder `.protocol(rpc_http::Grpc::new())`, and a \
                       server's `.guest(rpc_http::Http::new().grpc())`, or use our own protocol";

/// Why a `tls://` address is refused without the feature.
const WITHOUT_TLS: &str =
    "TLS needs the feature `tls` of the package rpc-runtime: ask for it in Cargo.toml, or go without TLS";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_survives_its_text() {
        for text in [
            "tcp://127.0.0.1:0",
            "tcp://[::1]:5005",
            "tcp://kv.local:65535",
            match HAS_PIPES {
                true => "pipe:kv",
                false => "unix:/run/kv",
            },
            "mem:kv",
        ] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn the_local_transport_of_the_other_system_is_refused_with_the_one_of_this_system() {
        let refused = |text: &str| Address::parse(text).unwrap_err().message().to_owned();
        if HAS_PIPES {
            assert!(Address::parse("pipe:kv").is_ok());
            let text = refused("unix:/run/kv.sock");
            assert!(
                text.ends_with(&format!("{NO_UNIX_SOCKETS}; write pipe:kv")),
                "{text}"
            );
            let text = refused(r"pipe:\\.\pipe\kv");
            assert!(text.ends_with("has no slashes; write pipe:kv"), "{text}");
            assert!(Address::parse(&format!("pipe:{}", "x".repeat(LONGEST_PIPE))).is_ok());
            assert!(Address::parse(&format!("pipe:{}", "x".repeat(LONGEST_PIPE + 1))).is_err());
        } else {
            assert_eq!(
                Address::parse("unix:///run/kv").unwrap(),
                Address::Local("/run/kv".into())
            );
            let text = refused("pipe:kv");
            assert!(
                text.ends_with(&format!("{NO_PIPES}; write unix:/run/kv.sock")),
                "{text}"
            );
            assert!(refused("pipe:").ends_with("write unix:/path"));
        }
    }

    #[test]
    fn a_bad_address_says_what_is_wrong_and_what_to_write() {
        const ANY: &str = FORMS;
        for (text, why, proposal) in [
            ("127.0.0.1:5005", "the scheme is missing", "tcp://127.0.0.1:5005"),
            ("kv.local:5005", "the scheme is missing", "tcp://kv.local:5005"),
            ("localhost", "the scheme is missing", "tcp://localhost:<port>"),
            ("5005", "the scheme is missing", "tcp://127.0.0.1:5005"),
            (":5005", "the scheme is missing", "tcp://127.0.0.1:5005"),
            ("[::1]:5005", "the scheme is missing", "tcp://[::1]:5005"),
            ("::1:5005", "the scheme is missing", "tcp://[::1]:5005"),
            ("localhost:5005/", "the scheme is missing", "tcp://localhost:5005"),
            ("/run/kv", "the scheme is missing", "unix:/run/kv"),
            ("./kv.sock", "the scheme is missing", "unix:./kv.sock"),
            ("kv.sock", "the scheme is missing", "unix:kv.sock"),
            (
                "http://kv:80/path",
                "the scheme belongs to another protocol",
                "tcp://kv:80",
            ),
            ("grpc://kv:80", NO_GRPC, "tcp://kv:80"),
            ("grpcs://kv:80", NO_GRPC, "tls://kv:80"),
            ("grpc+unix:/run/kv", NO_GRPC, "unix:/run/kv"),
            (
                "http://kv",
                "the scheme belongs to another protocol",
                "tcp://kv:<port>",
            ),
            (
                "https://localhost",
                "the scheme belongs to another protocol",
                "tls://localhost:<port>",
            ),
            ("TLS://kv:80", "the scheme must be in lower case", "tls://kv:80"),
            ("tls:kv:80", "two slashes must follow tls:", "tls://kv:80"),
            ("TCP://kv:80", "the scheme must be in lower case", "tcp://kv:80"),
            (
                "Unix:///run/kv",
                "the scheme must be in lower case",
                "unix:/run/kv",
            ),
            ("file:///run/kv", "the scheme is unknown", "unix:/run/kv"),
            ("ftp://kv:80", "the scheme is unknown", ANY),
            ("tcp:/kv:80", "two slashes must follow tcp:", "tcp://kv:80"),
            ("tcp:kv:80", "two slashes must follow tcp:", "tcp://kv:80"),
            ("tcp://127.0.0.1", "the port is missing", "tcp://127.0.0.1:<port>"),
            ("tcp://kv:", "the port is missing", "tcp://kv:<port>"),
            ("tcp://[::1]", "the port is missing", "tcp://[::1]:<port>"),
            ("tcp://", "the port is missing", ANY),
            ("tcp://:80", "the host is missing", "tcp://127.0.0.1:80"),
            ("tcp://::1:1", "an IPv6 address needs brackets", "tcp://[::1]:1"),
            (
                "tcp://::1",
                "the port is missing, and an IPv6 address needs brackets",
                "tcp://[::1]:<port>",
            ),
            ("tcp://a:b:1", "an IPv6 address needs brackets", ANY),
            ("tcp://[kv]:1", "the text in brackets is not an IPv6 address", ANY),
            ("tcp://kv:80/", "nothing may follow the port", "tcp://kv:80"),
            ("tcp://kv:80/path?x", "nothing may follow the port", "tcp://kv:80"),
            ("tcp://kv: 80", "it contains a space", "tcp://kv:80"),
            (" tcp://kv:80\n", "it begins or ends with a space", "tcp://kv:80"),
            (
                "tcp://localhost:65536",
                "the port is not a number from 0 to 65535",
                "tcp://localhost:<port>",
            ),
            (
                "unix://run/kv",
                "the path after unix:// must be absolute; a relative path is unix:run/kv",
                "unix:/run/kv",
            ),
            ("unix:", "the path is missing", ANY),
            ("mem:", "the name is missing", ANY),
            ("", "the scheme is missing", ANY),
        ] {
            if HAS_PIPES && [text, proposal].iter().any(|address| address.contains("unix:")) {
                continue;
            }
            let error = Address::parse(text).unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument);
            assert_eq!(
                error.message(),
                format!("bad address {text:?}: {why}; write {proposal}")
            );
        }
    }

    #[test]
    fn an_address_of_another_protocol_keeps_its_scheme_in_errors() {
        let tcp = Address::parse_as("grpc://kv:80", "grpc", Transport::Tcp, None).unwrap();
        assert_eq!(tcp, Address::Tcp("kv:80".to_owned()));
        let unix = Address::parse_as("grpc+unix:/run/kv", "grpc+unix", Transport::Unix, None);
        match HAS_PIPES {
            true => assert!(
                unix.unwrap_err()
                    .message()
                    .ends_with("write grpc://127.0.0.1:<port>")
            ),
            false => assert_eq!(unix.unwrap(), Address::Local("/run/kv".into())),
        }
        for (text, scheme, transport, says) in [
            (
                "grpc://kv",
                "grpc",
                Transport::Tcp,
                "the port is missing; write grpc://kv:<port>",
            ),
            (
                "grpc:kv:80",
                "grpc",
                Transport::Tcp,
                "two slashes must follow grpc:; write grpc://kv:80",
            ),
            (
                "grpc+unix:",
                "grpc+unix",
                Transport::Unix,
                "the path is missing; write grpc+unix:/path",
            ),
            (
                "x:y",
                "x",
                Transport::Memory,
                "two slashes must follow x:; write x://y:<port>",
            ),
        ] {
            if HAS_PIPES && transport == Transport::Unix {
                continue;
            }
            let error = Address::parse_as(text, scheme, transport, None).unwrap_err();
            assert_eq!(error.message(), format!("bad address {text:?}: {says}"));
        }
    }

    #[test]
    fn without_tls_the_scheme_without_tls_is_proposed() {
        for (host, plain, proposal) in [
            ("127.0.0.1:5140", Some("grpc"), Some("grpc://127.0.0.1:5140")),
            ("kv", Some("tcp"), Some("tcp://kv:<port>")),
            ("kv:80", None, None),
        ] {
            let mistake = no_tls(host, plain);
            assert_eq!(
                (&*mistake.why, mistake.proposal.as_deref()),
                (WITHOUT_TLS, proposal)
            );
        }
        if !cfg!(feature = "_tls") {
            let parsed = Address::parse_as("grpcs://127.0.0.1:5140", "grpcs", Transport::Tls, Some("grpc"));
            let error = parsed.unwrap_err();
            let says = format!("{WITHOUT_TLS}; write grpc://127.0.0.1:5140");
            assert!(error.message().ends_with(&says), "{error}");
        }
    }

    #[test]
    fn each_proposed_address_is_valid() {
        for text in [
            "::1:1",
            "http://[::1]:1/",
            "tcp:/kv:80",
            "Unix:///run/kv",
            " kv:80 ",
            r"\\.\pipe\kv",
        ] {
            if HAS_PIPES && text.starts_with("Unix") {
                continue;
            }
            let error = Address::parse(text).unwrap_err();
            let (_, proposal) = error.message().rsplit_once("write ").unwrap();
            Address::parse(proposal).unwrap();
        }
    }
}
