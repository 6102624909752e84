//! Addresses that no mail exchanger of somebody else's has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// Whether an address is of this host, or of a network that is not the Internet: whoever has a domain can say in DNS
/// that its exchanger is there, and would so reach what trusts its own host or its own network.
pub(super) fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_local_v4(address),
        IpAddr::V6(address) => match embedded(address) {
            Some(embedded) => is_local_v4(embedded),
            None => is_local_v6(address) || is_own(IpAddr::V6(address)),
        },
    }
}

fn is_local_v4(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    // "This network" (RFC 791) reaches this host on Linux; then shared addresses (RFC 6598).
    let is_special = first == 0 || (first == 100 && (64..128).contains(&second)) || address.is_multicast();
    is_special
        || address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_broadcast()
        || is_own(IpAddr::V4(address))
}

fn is_local_v6(address: Ipv6Addr) -> bool {
    let [first, ..] = address.segments();
    // Site-local addresses (fec0::/10) are out of use, and still routed nowhere.
    let is_site_local = first & 0xffc0 == 0xfec0;
    address.is_loopback()
        || address.is_unspecified()
        || address.is_unique_local()
        || address.is_unicast_link_local()
        || address.is_multicast()
        || is_site_local
}

/// The IPv4 address to which packets to this one go: mapped (RFC 4291, section 2.5.5), translated (RFC 6052) or by 6to4
/// (RFC 3056).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let octets = address.octets();
    let v4 = |octets: &[u8]| <[u8; 4]>::try_from(octets).ok().map(Ipv4Addr::from);
    match address.segments() {
        [0x2002, ..] => v4(octets.get(2..6)?),
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => v4(octets.get(12..)?),
        // Neither :: nor ::1.
        [0, 0, 0, 0, 0, 0, high, _] if high != 0 => v4(octets.get(12..)?),
        _ => address.to_ipv4_mapped(),
    }
}

/// Whether it is an address of this host: a socket can be bound to no other.
fn is_own(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_on_the_internet_is_local() {
        for local in [
            "127.0.0.1",
            "127.8.9.10",
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd12:3456::1",
            "ff02::1",
        ] {
            assert!(is_local(local.parse().unwrap()), "{local}");
        }
        for public in [
            "192.0.2.1",
            "198.51.100.7",
            "172.32.0.1",
            "100.128.0.1",
            "2001:db8::1",
            "::ffff:192.0.2.1",
            "2002:c000:201::",
        ] {
            assert!(!is_local(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn an_address_of_this_host_is_local() {
        // Where there is a way to the Internet, the address that it would be taken from.
        let Ok(socket) = UdpSocket::bind("0.0.0.0:0") else { return };
        if socket.connect("192.0.2.1:9").is_ok() {
            assert!(is_local(socket.local_addr().unwrap().ip()));
        }
    }
}
