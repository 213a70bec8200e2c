//! Address: the parts of an address, as attributes have them.

/// The host and the port of an address such as `tcp://[::1]:5005`; of a Unix socket the path, and no port.
pub(super) fn host_and_port(address: &str) -> (&str, Option<u64>) {
    let Some((scheme, place)) = address.split_once(':') else {
        return (address, None);
    };
    let place = place.strip_prefix("//").unwrap_or(place);
    if scheme.ends_with("unix") {
        return (place, None);
    }
    match place.rsplit_once(':') {
        Some((host, port)) => match port.parse::<u16>() {
            Ok(port) => {
                let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
                (bare.unwrap_or(host), Some(port.into()))
            }
            Err(_) => (place, None),
        },
        None => (place, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_perhaps_a_port() {
        for (address, host, port) in [
            ("tcp://127.0.0.1:5005", "127.0.0.1", Some(5005)),
            ("tls://kv.example:443", "kv.example", Some(443)),
            ("tcp://[::1]:80", "::1", Some(80)),
            ("grpc://kv:50051", "kv", Some(50051)),
            ("unix:/run/kv:5", "/run/kv:5", None),
            ("grpc+unix:///run/kv", "/run/kv", None),
            ("mem:kv", "kv", None),
            ("in-process", "in-process", None),
            ("", "", None),
        ] {
            assert_eq!(host_and_port(address), (host, port), "{address}");
        }
    }
}
