//! Version 1: a line of text (section 2.1).

use alloc::boxed::Box;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::info::{Address, Command, ProxyInfo, Transport, Version};
use crate::session::Peer;

/// How the line begins.
pub(super) const SIGNATURE: &[u8] = b"PROXY ";

/// The longest line, CRLF included.
pub(super) const MAX_OCTETS: usize = 107;

/// Reads a line, without its CRLF.
pub(super) fn parse(line: &[u8], proxy: Peer) -> Option<ProxyInfo> {
    let fields = line.strip_prefix(SIGNATURE)?;
    let mut info = ProxyInfo {
        proxy,
        version: Version::One,
        command: Command::Proxy,
        transport: Transport::Unspecified,
        source: None,
        destination: None,
        tlvs: Box::default(),
    };
    // Whatever comes behind UNKNOWN must be ignored.
    if fields == b"UNKNOWN" || fields.starts_with(b"UNKNOWN ") {
        return Some(info);
    }
    let mut fields = core::str::from_utf8(fields).ok()?.split(' ');
    let address: fn(&str) -> Option<IpAddr> = match fields.next()? {
        "TCP4" => |text| text.parse::<Ipv4Addr>().ok().map(Into::into),
        "TCP6" => |text| text.parse::<Ipv6Addr>().ok().map(Into::into),
        _ => return None,
    };
    let (source, destination) = (address(fields.next()?)?, address(fields.next()?)?);
    let (source_port, destination_port) = (port(fields.next()?)?, port(fields.next()?)?);
    if fields.next().is_some() {
        return None;
    }
    info.transport = Transport::Stream;
    info.source = Some(Address::Socket(SocketAddr::new(source, source_port)));
    info.destination = Some(Address::Socket(SocketAddr::new(destination, destination_port)));
    Some(info)
}

/// A decimal number without leading zeros.
fn port(text: &str) -> Option<u16> {
    let canonical = text.bytes().all(|octet| octet.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| canonical)
}
