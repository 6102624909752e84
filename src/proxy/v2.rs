//! Version 2: a binary header (section 2.2).

use alloc::boxed::Box;
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::MalformedHeader;
use super::info::{Address, Command, ProxyInfo, Transport, Version};
use super::tlv;
use crate::session::Peer;

/// How the header begins.
pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The part in front of addresses and TLVs.
pub(super) const FIXED_OCTETS: usize = 16;

/// The length of the whole header, once its fixed part is there; each octet of that is looked at as soon as it has
/// come. `octets` begins with the signature, as far as it goes.
pub(super) fn length(octets: &[u8], max_octets: u16) -> Result<Option<usize>, MalformedHeader> {
    let mut fields = octets.iter().skip(SIGNATURE.len()).copied();
    let Some(version_and_command) = fields.next() else { return Ok(None) };
    let command = command(version_and_command)?;
    let Some(family_and_transport) = fields.next() else { return Ok(None) };
    if command == Command::Proxy {
        transport(family_and_transport)?;
        family_octets(family_and_transport)?;
    }
    let (Some(high), Some(low)) = (fields.next(), fields.next()) else { return Ok(None) };
    let length = u16::from_be_bytes([high, low]);
    if length > max_octets {
        return Err(MalformedHeader::TooLong);
    }
    Ok(Some(FIXED_OCTETS + usize::from(length)))
}

/// Reads a whole header, whose fixed part [`length`] has found to be sound.
pub(super) fn parse(header: &[u8], proxy: Peer) -> Result<ProxyInfo, MalformedHeader> {
    let fixed = header.get(SIGNATURE.len()..).unwrap_or_default();
    let &[version_and_command, family_and_transport, ..] = fixed else { return Err(MalformedHeader::NoHeader) };
    let mut info = ProxyInfo {
        proxy,
        version: Version::Two,
        command: command(version_and_command)?,
        transport: Transport::Unspecified,
        source: None,
        destination: None,
        tlvs: Box::default(),
    };
    if info.command == Command::Local {
        // The block is discarded, and the family ignored.
        return Ok(info);
    }
    info.transport = transport(family_and_transport)?;
    let address_octets = family_octets(family_and_transport)?;
    let block = header.get(FIXED_OCTETS..).unwrap_or_default();
    let (addresses, tlvs) = block.split_at_checked(address_octets).ok_or(MalformedHeader::Addresses)?;
    if info.transport != Transport::Unspecified {
        let ends = endpoints(addresses);
        (info.source, info.destination) = (ends.clone().map(|(source, _)| source), ends.map(|(_, end)| end));
    }
    match tlv::check(header, FIXED_OCTETS + address_octets) {
        Ok(()) => info.tlvs = tlvs.into(),
        // Where the family is unspecified, these may be addresses of a kind that nobody here knows, to be
        // ignored.
        Err(MalformedHeader::Tlv) if address_octets == 0 => {}
        Err(malformed) => return Err(malformed),
    }
    Ok(info)
}

fn command(octet: u8) -> Result<Command, MalformedHeader> {
    match octet {
        0x20 => Ok(Command::Local),
        0x21 => Ok(Command::Proxy),
        0x22..=0x2F => Err(MalformedHeader::Command),
        _ => Err(MalformedHeader::Version),
    }
}

fn transport(octet: u8) -> Result<Transport, MalformedHeader> {
    match octet & 0x0F {
        0 => Ok(Transport::Unspecified),
        1 => Ok(Transport::Stream),
        2 => Ok(Transport::Datagram),
        _ => Err(MalformedHeader::Family),
    }
}

/// How many octets the addresses of a family have.
fn family_octets(octet: u8) -> Result<usize, MalformedHeader> {
    match octet >> 4 {
        0 => Ok(0),
        1 => Ok(INET_OCTETS),
        2 => Ok(INET6_OCTETS),
        3 => Ok(UNIX_OCTETS),
        _ => Err(MalformedHeader::Family),
    }
}

/// Source and destination, by the length that their family has.
fn endpoints(octets: &[u8]) -> Option<(Address, Address)> {
    match octets.len() {
        INET_OCTETS => {
            let (source, rest) = octets.split_first_chunk::<4>()?;
            let (destination, ports) = rest.split_first_chunk::<4>()?;
            let (from, to) = ports_of(ports)?;
            let socket = |address: [u8; 4], port| Address::Socket(SocketAddr::from((Ipv4Addr::from(address), port)));
            Some((socket(*source, from), socket(*destination, to)))
        }
        INET6_OCTETS => {
            let (source, rest) = octets.split_first_chunk::<16>()?;
            let (destination, ports) = rest.split_first_chunk::<16>()?;
            let (from, to) = ports_of(ports)?;
            let socket = |address: [u8; 16], port| Address::Socket(SocketAddr::from((Ipv6Addr::from(address), port)));
            Some((socket(*source, from), socket(*destination, to)))
        }
        UNIX_OCTETS => {
            let (source, destination) = octets.split_at_checked(UNIX_OCTETS / 2)?;
            Some((Address::Unix(path(source)), Address::Unix(path(destination))))
        }
        _ => None,
    }
}

fn ports_of(octets: &[u8]) -> Option<(u16, u16)> {
    let &[a, b, c, d] = octets else { return None };
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

fn path(octets: &[u8]) -> Box<[u8]> {
    let end = octets.iter().rposition(|&octet| octet != 0).map_or(0, |last| last + 1);
    octets.get(..end).unwrap_or_default().into()
}

const INET_OCTETS: usize = 2 * 4 + 2 * 2;
const INET6_OCTETS: usize = 2 * 16 + 2 * 2;
const UNIX_OCTETS: usize = 2 * 108;
