//! Target: the resolver that an address such as `dns:///name:port` asks for.

use std::{borrow::Cow, sync::Arc};

use super::{Dns, DynResolver, File};
use crate::{
    Code, Error,
    net::{Mistake, check_host},
};

/// Returns the resolver of a target; `None` for the address of one server, and for anything else.
///
/// # Errors
///
/// INVALID_ARGUMENT for a target with a mistake: it says what to write. Also for a target whose resolver is not built in.
pub(crate) fn resolver_of(target: &str) -> Option<Result<Arc<dyn DynResolver>, Error>> {
    let text = target.trim();
    let (given, rest) = text.split_once(':')?;
    let scheme = SCHEMES
        .into_iter()
        .find(|scheme| given.eq_ignore_ascii_case(scheme))?;
    // A host of that name, and a port.
    if !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let read = match read(scheme, rest) {
        Ok(_) if text != target => Err(Refused::new("it begins or ends with a space", text)),
        Ok(_) if given != scheme => Err(Refused::new(
            "the scheme must be in lower case",
            format!("{scheme}:{rest}"),
        )),
        read => read,
    };
    Some(read.map_err(|Refused { why, advice }| {
        let text = format!("bad address {target:?}: {why}; {advice}");
        Error::local(Code::InvalidArgument, text)
    }))
}

/// Why there is no resolver for a target, and what to do.
struct Refused {
    why: Cow<'static, str>,
    advice: Cow<'static, str>,
}

impl Refused {
    fn new(why: impl Into<Cow<'static, str>>, proposal: impl AsRef<str>) -> Self {
        Self {
            why: why.into(),
            advice: format!("write {}", proposal.as_ref()).into(),
        }
    }
}

fn read(scheme: &str, rest: &str) -> Result<Arc<dyn DynResolver>, Refused> {
    match scheme {
        "dns" => read_dns(rest),
        "file" => read_file(rest),
        "srv" => Err(Refused::new("SRV records are not followed yet", DNS_FORM)),
        _ => Err(Refused {
            why: "etcd is followed by the crate rpc-etcd".into(),
            advice: "give its resolver to `ClientBuilder::resolver`".into(),
        }),
    }
}

/// Reads what follows `dns:`.
fn read_dns(rest: &str) -> Result<Arc<dyn DynResolver>, Refused> {
    let refused = |Mistake { why, proposal }: Mistake| {
        let proposal = proposal.map_or_else(|| DNS_FORM.to_owned(), |host| format!("dns:///{host}"));
        Refused::new(why, proposal)
    };
    if let Some(host) = rest.strip_prefix("///") {
        return match check_host(host) {
            Ok(()) => Ok(Arc::new(Dns::checked(host.to_owned()))),
            Err(mistake) => Err(refused(mistake)),
        };
    }
    let rest = rest.trim_start_matches('/');
    // Other libraries let a target name the server that is asked.
    let (why, host) = match rest.split_once('/') {
        Some((_, host)) if !host.is_empty() => {
            ("no server of DNS can be named: the system's are asked", host)
        }
        _ => ("three slashes must follow dns:", rest),
    };
    let proposal = match check_host(host) {
        Ok(()) => Some(host.to_owned()),
        Err(mistake) => mistake.proposal,
    };
    Err(refused(Mistake {
        why: why.into(),
        proposal,
    }))
}

/// Reads what follows `file:`.
fn read_file(rest: &str) -> Result<Arc<dyn DynResolver>, Refused> {
    match (rest.strip_prefix("///"), rest.trim_matches('/')) {
        (_, "") => Err(Refused::new("the path is missing", "file:///path")),
        (Some(path), _) => Ok(Arc::new(File::of_target(path))),
        (None, path) => Err(Refused::new(
            "three slashes must follow file:",
            format!("file:///{path}"),
        )),
    }
}

/// The schemes of targets.
const SCHEMES: [&str; 4] = ["dns", "file", "etcd", "srv"];

/// What a target of DNS looks like.
const DNS_FORM: &str = "dns:///name:port";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_have_resolvers_and_addresses_have_none() {
        for target in [
            "dns:///kv.example.com:5005",
            "dns:///kv.example.com.:5005",
            "dns:///[::1]:5005",
            "file:///etc/kv.endpoints",
            "file:///C:/kv.endpoints",
        ] {
            assert!(matches!(resolver_of(target), Some(Ok(_))), "{target}");
        }
        for address in [
            "tcp://kv:5005",
            "unix:/run/kv",
            "mem:dns:///kv:80",
            "kv",
            "dns:5005",
            "dnsx:///kv:80",
            "",
        ] {
            assert!(resolver_of(address).is_none(), "{address}");
        }
    }

    #[test]
    fn a_bad_target_says_what_is_wrong_and_what_to_write() {
        for (target, says) in [
            (
                "dns://kv:80",
                "three slashes must follow dns:; write dns:///kv:80",
            ),
            ("dns:/kv:80", "three slashes must follow dns:; write dns:///kv:80"),
            ("dns:kv:80", "three slashes must follow dns:; write dns:///kv:80"),
            (
                "dns://kv:80/",
                "three slashes must follow dns:; write dns:///kv:80",
            ),
            (
                "dns://kv",
                "three slashes must follow dns:; write dns:///kv:<port>",
            ),
            ("dns:", "three slashes must follow dns:; write dns:///name:port"),
            ("dns:///", "the port is missing; write dns:///name:port"),
            ("dns:///kv", "the port is missing; write dns:///kv:<port>"),
            (
                "dns:///::1",
                "the port is missing, and an IPv6 address needs brackets; write dns:///[::1]:<port>",
            ),
            (
                "dns:///kv:80/path",
                "nothing may follow the port; write dns:///kv:80",
            ),
            (
                "dns://8.8.8.8/kv:80",
                "no server of DNS can be named: the system's are asked; write dns:///kv:80",
            ),
            (
                "DNS:///kv:80",
                "the scheme must be in lower case; write dns:///kv:80",
            ),
            (
                " dns:///kv:80",
                "it begins or ends with a space; write dns:///kv:80",
            ),
            (
                "file://etc/kv",
                "three slashes must follow file:; write file:///etc/kv",
            ),
            (
                "file:/etc/kv",
                "three slashes must follow file:; write file:///etc/kv",
            ),
            ("file:///", "the path is missing; write file:///path"),
            (
                "etcd:///orders",
                "etcd is followed by the crate rpc-etcd; give its resolver to `ClientBuilder::resolver`",
            ),
            (
                "srv:///_kv._tcp.example.com",
                "SRV records are not followed yet; write dns:///name:port",
            ),
        ] {
            let Some(Err(error)) = resolver_of(target) else {
                panic!("{target} is accepted");
            };
            assert_eq!(error.code(), Code::InvalidArgument);
            assert_eq!(error.message(), format!("bad address {target:?}: {says}"));
        }
    }
}
