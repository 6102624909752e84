//! Octets to headers.

use alloc::vec::Vec;
use core::fmt;

use super::info::ProxyInfo;
use super::{v1, v2};
use crate::session::Peer;

/// Reads the header at the beginning of a connection, however it is cut.
///
/// It keeps what has come of a header that is not whole yet: at most 107 octets of version 1, and of version
/// 2 the 16 octets of its fixed part and [`max_octets`](Self::max_octets).
///
/// ```
/// use sansmtp::Peer;
/// use sansmtp::proxy::Reader;
///
/// let mut reader = Reader::new(Peer::local());
/// let mut input: &[u8] = b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 25";
/// assert!(reader.read(&mut input)?.is_none());
/// let mut input: &[u8] = b"\r\nEHLO client.example.com\r\n";
/// let header = reader.read(&mut input)?.expect("a whole header");
/// assert_eq!(header.peer().to_string(), "192.168.0.1:56324");
/// assert_eq!(input, b"EHLO client.example.com\r\n");
/// # Ok::<(), sansmtp::proxy::MalformedHeader>(())
/// ```
#[derive(Debug)]
pub struct Reader {
    proxy: Peer,
    max_octets: u16,
    partial: Vec<u8>,
}

impl Reader {
    /// Reads what `proxy`, the other end of the connection, has to tell.
    #[must_use]
    pub fn new(proxy: Peer) -> Self {
        Self { proxy, max_octets: USUAL_MAX_OCTETS, partial: Vec::new() }
    }

    /// How many octets may follow the fixed part of a header of version 2: 4,096 unless changed.
    #[must_use]
    pub fn max_octets(mut self, max_octets: u16) -> Self {
        self.max_octets = max_octets;
        self
    }

    /// Takes the header off the front of `input`. `None` as long as it is not whole; then `input` is used
    /// up.
    ///
    /// # Errors
    ///
    /// [`MalformedHeader`] as soon as nothing that could follow would make a header of it. The connection
    /// is of no more use, nor is this reader.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<ProxyInfo>, MalformedHeader> {
        let available: &[u8] = input;
        let kept = self.partial.len();
        if kept == 0 {
            // The usual case: the header is whole, and nothing is copied.
            if let Some(length) = extent(available, self.max_octets)? {
                if let Some((header, rest)) = available.split_at_checked(length) {
                    *input = rest;
                    return parse(header, self.proxy).map(Some);
                }
            }
        }
        let longest = v1::MAX_OCTETS.max(v2::FIXED_OCTETS + usize::from(self.max_octets));
        let taken = available.get(..longest.saturating_sub(kept)).unwrap_or(available);
        self.partial.extend_from_slice(taken);
        let length = extent(&self.partial, self.max_octets)?;
        if let Some(header) = length.and_then(|length| self.partial.get(..length)) {
            let info = parse(header, self.proxy);
            *input = available.get(header.len().saturating_sub(kept)..).unwrap_or_default();
            self.partial = Vec::new();
            return info.map(Some);
        }
        *input = &[];
        Ok(None)
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.partial.len()
    }
}

/// How long the header is that `octets` begins with, once that can be told. It looks at the octets in their
/// order, so that what is found does not depend on how many have come.
fn extent(octets: &[u8], max_octets: u16) -> Result<Option<usize>, MalformedHeader> {
    let begins_as = |signature: &[u8]| octets.iter().zip(signature).all(|(octet, expected)| octet == expected);
    if begins_as(v1::SIGNATURE) {
        line_length(octets)
    } else if begins_as(v2::SIGNATURE) {
        v2::length(octets, max_octets)
    } else {
        Err(MalformedHeader::NoHeader)
    }
}

/// The length of version 1's line, CRLF included.
fn line_length(octets: &[u8]) -> Result<Option<usize>, MalformedHeader> {
    let octets = octets.get(..v1::MAX_OCTETS).unwrap_or(octets);
    let end = octets.iter().position(|octet| matches!(octet, b'\r' | b'\n'));
    match end.map(|end| octets.get(end..).unwrap_or_default()) {
        Some([b'\r', b'\n', ..]) => Ok(end.map(|end| end + 2)),
        None | Some(b"\r") if octets.len() < v1::MAX_OCTETS => Ok(None),
        None | Some(b"\r") => Err(MalformedHeader::TooLong),
        Some(_) => Err(MalformedHeader::BareNewline),
    }
}

fn parse(header: &[u8], proxy: Peer) -> Result<ProxyInfo, MalformedHeader> {
    match header.strip_suffix(b"\r\n") {
        Some(line) if header.starts_with(v1::SIGNATURE) => v1::parse(line, proxy).ok_or(MalformedHeader::Line),
        _ => v2::parse(header, proxy),
    }
}

/// Why octets are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MalformedHeader {
    /// They begin as no header does.
    NoHeader,
    /// Version 1: a CR or LF stands alone.
    BareNewline,
    /// Version 1: the line is not one of those that there are.
    Line,
    /// Version 1: no CRLF within 107 octets. Version 2: more octets than the limit allows.
    TooLong,
    /// The signature of version 2 with another version behind it.
    Version,
    /// Version 2: neither LOCAL nor PROXY.
    Command,
    /// Version 2: no such address family or transport.
    Family,
    /// Version 2: fewer octets than the addresses of its family have.
    Addresses,
    /// Version 2: a TLV is cut short, comes twice, or has a value that its type does not allow.
    Tlv,
    /// Version 2: the checksum is wrong.
    Checksum,
}

impl MalformedHeader {
    /// A stable word for log lines.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::NoHeader => "no-header",
            Self::BareNewline => "bare-newline",
            Self::Line => "line",
            Self::TooLong => "too-long",
            Self::Version => "version",
            Self::Command => "command",
            Self::Family => "family",
            Self::Addresses => "addresses",
            Self::Tlv => "tlv",
            Self::Checksum => "checksum",
        }
    }
}

impl fmt::Display for MalformedHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoHeader => "no PROXY header",
            Self::BareNewline => "a CR or LF on its own in a PROXY line",
            Self::Line => "not a PROXY line of version 1",
            Self::TooLong => "the PROXY header is too long",
            Self::Version => "a PROXY header of an unknown version",
            Self::Command => "a PROXY header with an unknown command",
            Self::Family => "a PROXY header with an unknown address family or transport",
            Self::Addresses => "a PROXY header without room for its addresses",
            Self::Tlv => "a PROXY header with a malformed TLV",
            Self::Checksum => "a PROXY header with a wrong checksum",
        })
    }
}

impl core::error::Error for MalformedHeader {}

/// Enough for every TLV that is defined, with room for some.
pub(super) const USUAL_MAX_OCTETS: u16 = 4096;
