//! Who is trusted: networks, and whatever a closure says.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;
use core::str::FromStr;

use crate::session::Peer;

/// A network of IP addresses, such as `192.0.2.0/24`, `2001:db8::/32` or a single address.
///
/// ```
/// use sansmtp::Network;
///
/// let network: Network = "192.0.2.0/24".parse()?;
/// assert!(network.contains("192.0.2.7".parse()?) && network.contains("::ffff:192.0.2.7".parse()?));
/// assert!("192.0.2.1/24".parse::<Network>().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// The network whose addresses have the first `prefix` bits of `address`. One of IPv4 that is written as IPv6,
    /// `::ffff:192.0.2.0/120`, is what it stands for, `192.0.2.0/24`.
    ///
    /// # Errors
    ///
    /// [`InvalidNetwork`] if the address has no such prefix, or a bit behind it: `10.0.0.1/8` may be
    /// meant as one host or as sixteen million.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, InvalidNetwork> {
        let bits = width(address);
        if prefix > bits || bits_of(address) & host_mask(bits, prefix) != 0 {
            return Err(InvalidNetwork);
        }
        // Adapters give peers as what their addresses stand for, so that it would have nobody in it.
        Ok(match (address.to_canonical(), prefix.checked_sub(MAPPED_BITS)) {
            (IpAddr::V4(mapped), Some(prefix)) if address.is_ipv6() => Self { address: mapped.into(), prefix },
            _ => Self { address, prefix },
        })
    }

    /// How many bits all of its addresses have in common.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether its addresses are those of IPv6.
    #[must_use]
    pub fn is_ipv6(&self) -> bool {
        self.address.is_ipv6()
    }

    /// Whether `address` lies in the network. IPv4 addresses that are written as IPv6 (`::ffff:192.0.2.1`),
    /// as a socket for both protocols gives them, are what they stand for.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = if self.address.is_ipv4() { address.to_canonical() } else { address };
        let bits = width(self.address);
        width(address) == bits && (bits_of(address) ^ bits_of(self.address)) & !host_mask(bits, self.prefix) == 0
    }
}

impl From<IpAddr> for Network {
    /// The address alone.
    fn from(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self { address, prefix: width(address) }
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let Some((address, prefix)) = text.split_once('/') else {
            return text.parse::<IpAddr>().map(Self::from).map_err(|_| InvalidNetwork);
        };
        let digits = prefix.bytes().all(|octet| octet.is_ascii_digit());
        let prefix = prefix.parse().ok().filter(|_| digits).ok_or(InvalidNetwork)?;
        Self::new(address.parse().map_err(|_| InvalidNetwork)?, prefix)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Not a network: no address, no prefix of it, or bits behind the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidNetwork;

impl fmt::Display for InvalidNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("neither an address nor a network with a prefix and nothing behind it")
    }
}

impl core::error::Error for InvalidNetwork {}

/// Which peers are believed.
#[derive(Clone)]
pub(crate) struct Trusted(Arc<dyn Fn(&Peer) -> bool + Send + Sync>);

impl Trusted {
    pub(crate) fn new(trusts: impl Fn(&Peer) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(trusts))
    }

    /// A peer without an address is in no network.
    pub(crate) fn networks(networks: impl IntoIterator<Item = Network>) -> Self {
        let networks: Vec<Network> = networks.into_iter().collect();
        Self::new(move |peer| {
            peer.address().is_some_and(|address| networks.iter().any(|network| network.contains(address.ip())))
        })
    }

    pub(crate) fn trusts(&self, peer: Peer) -> bool {
        (self.0)(&peer)
    }
}

impl fmt::Debug for Trusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trusted")
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn bits_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The bits behind the prefix.
fn host_mask(bits: u8, prefix: u8) -> u128 {
    let behind = u32::from(bits.saturating_sub(prefix));
    1_u128.checked_shl(behind).map_or(u128::MAX, |bit| bit - 1)
}

/// The bits that all IPv4 addresses have in common where they are written as IPv6 (RFC 4291, section 2.5.5.2).
const MAPPED_BITS: u8 = 96;

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap_or_else(|_| panic!("{text}"))
    }

    #[test]
    fn a_network_holds_what_has_its_prefix() {
        for (text, inside, outside) in [
            ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
            ("192.0.2.128/25", "::ffff:192.0.2.129", "192.0.2.127"),
            ("0.0.0.0/0", "255.255.255.255", "2001:db8::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::/0", "2001:db8::1", "192.0.2.1"),
            ("::1/128", "::1", "::"),
            ("::ffff:192.0.2.0/120", "192.0.2.7", "192.0.3.7"),
            ("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.2"),
            ("::ffff:0:0/96", "::ffff:192.0.2.1", "::192.0.2.1"),
        ] {
            assert!(network(text).contains(inside.parse().unwrap()), "{text} {inside}");
            assert!(!network(text).contains(outside.parse().unwrap()), "{text} {outside}");
        }
        assert_eq!(network("10.0.0.0/8").to_string(), "10.0.0.0/8");
        assert_eq!(network("::ffff:10.0.0.0/104"), network("10.0.0.0/8"));
        assert_eq!(network("::ffff:0:0/96"), network("0.0.0.0/0"));
        assert_eq!(network("::fffe:0:0/95").to_string(), "::fffe:0:0/95");
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in
            ["", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.1/8", "10.0/8", "::/129", "::1/0", "a", "10.0.0.0/+8"]
        {
            assert_eq!(text.parse::<Network>(), Err(InvalidNetwork), "{text}");
        }
    }

    #[test]
    fn a_peer_without_an_address_is_in_no_network() {
        let everybody = Trusted::networks([network("0.0.0.0/0"), network("::/0")]);
        assert!(everybody.trusts(Peer::from(core::net::SocketAddr::from(([192, 0, 2, 1], 25)))));
        assert!(!everybody.trusts(Peer::local()));
        assert!(!everybody.trusts(Peer::unknown()));
    }
}
