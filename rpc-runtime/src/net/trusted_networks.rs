//! TrustedNetworks: the addresses from which proxies may connect.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use crate::{Code, Error};

/// The networks from which proxies may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TrustedNetworks(Vec<Network>);

/// All addresses whose first bits are those of `base`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    base: IpAddr,
    bits: u8,
}

impl TrustedNetworks {
    /// Parses addresses, `192.0.2.1`, and networks, `10.0.0.0/8`.
    ///
    /// # Errors
    ///
    /// INVALID_ARGUMENT for another text, and if there is none.
    pub(crate) fn parse(texts: &[String]) -> Result<Self, Error> {
        if texts.is_empty() {
            let text = "behind_proxies names no address, so no connection would be accepted; write those of your \
                        proxies, such as 10.0.0.0/8";
            return Err(Error::local(Code::InvalidArgument, text));
        }
        let networks = texts.iter().map(|text| {
            Network::parse(text).ok_or_else(|| {
                let text = format!(
                    "behind_proxies: {text:?} is no IP address and no network; write 192.0.2.1 or 10.0.0.0/8"
                );
                Error::local(Code::InvalidArgument, text)
            })
        });
        networks.collect::<Result<_, _>>().map(Self)
    }

    /// Returns whether `peer` is in one of them. An IPv4 address that arrives as `::ffff:192.0.2.1` counts as IPv4.
    pub(super) fn contain(&self, peer: SocketAddr) -> bool {
        let peer = peer.ip().to_canonical();
        self.0.iter().any(|network| network.contains(peer))
    }
}

impl fmt::Display for TrustedNetworks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Network { base, bits }) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{base}/{bits}")?;
        }
        Ok(())
    }
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (base, bits) = match text.split_once('/') {
            Some((base, bits)) => (base, Some(bits.parse().ok()?)),
            None => (text, None),
        };
        let base = base.parse::<IpAddr>().ok()?;
        let all = width(base);
        let bits = bits.unwrap_or(all);
        (bits <= all).then_some(Self { base, bits })
    }

    fn contains(self, address: IpAddr) -> bool {
        let all = width(self.base);
        if width(address) != all {
            return false;
        }
        // A shift by all 128 bits would overflow: with none of them, every address is in it.
        let differing = number(address) ^ number(self.base);
        differing.checked_shr(u32::from(all - self.bits)).unwrap_or(0) == 0
    }
}

/// The number of bits of an address.
fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted(texts: &[&str]) -> Result<TrustedNetworks, Error> {
        let texts: Vec<_> = texts.iter().map(|text| (*text).to_owned()).collect();
        TrustedNetworks::parse(&texts)
    }

    #[test]
    fn an_address_is_in_a_network_if_its_first_bits_are_the_same() {
        for (network, address, is_in) in [
            ("10.0.0.0/8", "10.255.0.1:1", true),
            ("10.0.0.0/8", "11.0.0.1:1", false),
            ("192.0.2.7", "192.0.2.7:9", true),
            ("192.0.2.7", "192.0.2.6:9", false),
            ("192.0.2.0/25", "192.0.2.127:1", true),
            ("192.0.2.0/25", "192.0.2.128:1", false),
            ("10.0.0.0/8", "[::ffff:10.1.2.3]:1", true),
            ("0.0.0.0/0", "203.0.113.9:1", true),
            ("0.0.0.0/0", "[2001:db8::1]:1", false),
            ("::/0", "[2001:db8::1]:1", true),
            ("::/0", "203.0.113.9:1", false),
            ("2001:db8::/32", "[2001:db8:ffff::1]:1", true),
            ("2001:db8::/32", "[2001:db9::1]:1", false),
            ("::1", "[::1]:1", true),
        ] {
            let networks = trusted(&[network]).unwrap();
            assert_eq!(
                networks.contain(address.parse().unwrap()),
                is_in,
                "{address} in {network}"
            );
        }
    }

    #[test]
    fn what_is_no_network_is_refused_with_what_to_write() {
        for text in [
            "",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "10.0.0/8",
            "localhost",
            "10.0.0.1:5005",
            "1.2.3.4/-1",
        ] {
            let error = trusted(&["::1", text]).unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument);
            assert!(error.message().contains("10.0.0.0/8"), "{error}");
        }
        assert!(trusted(&[]).unwrap_err().message().contains("no address"));
    }
}
