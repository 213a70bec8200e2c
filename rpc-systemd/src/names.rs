//! The names of sockets in LISTEN_FDNAMES: of a unit of systemd, or of an address that a process before this one has listened on.

/// The name of one socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// From systemd.
    Unit(String),
    /// From the process before: the address as its program has written it.
    Address(String),
}

impl Name {
    /// Reads the names of `count` sockets. Those that are missing are empty.
    pub(crate) fn read(names: &str, count: usize) -> Vec<Self> {
        let given = names.split(':').map(Self::parse);
        let missing = std::iter::repeat_with(|| Self::Unit(String::new()));
        given.chain(missing).take(count).collect()
    }

    fn parse(name: &str) -> Self {
        match name.strip_prefix(PREFIX) {
            // In this order: an escaped percent sign must not begin another escape.
            Some(address) => Self::Address(address.replace("%3A", ":").replace("%25", "%")),
            None => Self::Unit(name.to_owned()),
        }
    }

    /// Writes the names of sockets of these addresses. A name has no colon, because colons stand between names.
    pub(crate) fn write<'a>(addresses: impl Iterator<Item = &'a str>) -> String {
        let names = addresses.map(|address| {
            let escaped = address.replace('%', "%25").replace(':', "%3A");
            format!("{PREFIX}{escaped}")
        });
        names.collect::<Vec<_>>().join(":")
    }
}

/// Begins the name of each socket that is handed over.
const PREFIX: &str = "rpc=";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_in_names() {
        let addresses = [
            "tcp://127.0.0.1:0",
            "tls://[::1]:443",
            "unix:/run/50%25/a%3Ab:c.sock",
            "tcp://[fe80::1%eth0]:1",
        ];
        let names = Name::write(addresses.into_iter());
        let read = Name::read(&names, addresses.len());
        let expected = addresses.map(|address| Name::Address(address.to_owned()));
        assert_eq!(read, expected);
    }

    #[test]
    fn there_are_as_many_names_as_sockets() {
        let unit = |name: &str| Name::Unit(name.to_owned());
        assert_eq!(
            Name::read("kv.socket:admin:extra", 2),
            [unit("kv.socket"), unit("admin")]
        );
        assert_eq!(Name::read("", 2), [unit(""), unit("")]);
        assert_eq!(Name::read("kv", 2), [unit("kv"), unit("")]);
    }
}
