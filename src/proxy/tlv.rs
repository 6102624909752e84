//! TLVs, the part of a version 2 header behind its addresses (section 2.2).

use super::MalformedHeader;
use super::checksum;

/// A type and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlv<'h> {
    kind: u8,
    value: &'h [u8],
}

impl<'h> Tlv<'h> {
    /// `PP2_TYPE_ALPN`.
    pub const ALPN: u8 = 0x01;
    /// `PP2_TYPE_AUTHORITY`.
    pub const AUTHORITY: u8 = 0x02;
    /// `PP2_TYPE_CRC32C`.
    pub const CRC32C: u8 = 0x03;
    /// `PP2_TYPE_NOOP`.
    pub const NOOP: u8 = 0x04;
    /// `PP2_TYPE_UNIQUE_ID`.
    pub const UNIQUE_ID: u8 = 0x05;
    /// `PP2_TYPE_SSL`.
    pub const SSL: u8 = 0x20;
    /// `PP2_SUBTYPE_SSL_VERSION`, within [`SSL`](Self::SSL).
    pub const SSL_VERSION: u8 = 0x21;
    /// `PP2_SUBTYPE_SSL_CN`, likewise.
    pub const SSL_CN: u8 = 0x22;
    /// `PP2_SUBTYPE_SSL_CIPHER`, likewise.
    pub const SSL_CIPHER: u8 = 0x23;
    /// `PP2_SUBTYPE_SSL_SIG_ALG`, likewise.
    pub const SSL_SIG_ALG: u8 = 0x24;
    /// `PP2_SUBTYPE_SSL_KEY_ALG`, likewise.
    pub const SSL_KEY_ALG: u8 = 0x25;
    /// `PP2_TYPE_NETNS`.
    pub const NETNS: u8 = 0x30;

    /// The type.
    #[must_use]
    pub fn kind(&self) -> u8 {
        self.kind
    }

    /// The value, as it came.
    #[must_use]
    pub fn value(&self) -> &'h [u8] {
        self.value
    }

    /// Takes the first TLV off.
    fn split(octets: &'h [u8]) -> Option<(Self, &'h [u8])> {
        let (&[kind, high, low], rest) = octets.split_first_chunk()?;
        let (value, rest) = rest.split_at_checked(u16::from_be_bytes([high, low]).into())?;
        Some((Self { kind, value }, rest))
    }

    /// Whether the value is what its type says, but for what lies within [`SSL`](Self::SSL). Types without a
    /// form of their own are left alone.
    fn is_well_formed(self) -> bool {
        match self.kind {
            Self::AUTHORITY | Self::SSL_CN => is_text(self.value),
            Self::SSL_VERSION | Self::SSL_CIPHER | Self::SSL_SIG_ALG | Self::SSL_KEY_ALG | Self::NETNS => {
                self.value.is_ascii() && is_text(self.value)
            }
            Self::CRC32C => self.value.len() == CHECKSUM_OCTETS,
            Self::UNIQUE_ID => self.value.len() <= MAX_UNIQUE_ID_OCTETS,
            _ => true,
        }
    }

    /// Whether a second one would leave open which of the two holds.
    fn is_singular(self) -> bool {
        matches!(
            self.kind,
            Self::ALPN | Self::AUTHORITY | Self::CRC32C | Self::UNIQUE_ID | Self::SSL..=Self::SSL_KEY_ALG | Self::NETNS
        )
    }
}

/// The TLVs of a header, or of its [`Ssl`], in the order in which they came.
#[derive(Clone, Debug)]
pub struct Tlvs<'h> {
    octets: &'h [u8],
}

impl<'h> Tlvs<'h> {
    pub(super) fn new(octets: &'h [u8]) -> Self {
        Self { octets }
    }

    /// The value of the first TLV of a type.
    pub(super) fn value(&self, kind: u8) -> Option<&'h [u8]> {
        self.clone().find(|tlv| tlv.kind == kind).map(|tlv| tlv.value)
    }

    pub(super) fn text(&self, kind: u8) -> Option<&'h str> {
        core::str::from_utf8(self.value(kind)?).ok()
    }

    /// `within` looks into an SSL: only those of a header may hold one.
    fn are_well_formed(&self, within: impl Fn(Tlv<'h>) -> bool) -> bool {
        let (mut seen, mut octets) = ([0_u8; 32], self.octets);
        while let Some((tlv, rest)) = Tlv::split(octets) {
            let bit = 1 << (tlv.kind & 7);
            if let Some(place) = seen.get_mut(usize::from(tlv.kind >> 3)) {
                let again = tlv.is_singular() && *place & bit != 0;
                if again || !tlv.is_well_formed() || (tlv.kind == Tlv::SSL && !within(tlv)) {
                    return false;
                }
                *place |= bit;
            }
            octets = rest;
        }
        octets.is_empty()
    }
}

impl<'h> Iterator for Tlvs<'h> {
    type Item = Tlv<'h>;

    fn next(&mut self) -> Option<Tlv<'h>> {
        let (tlv, rest) = Tlv::split(self.octets)?;
        self.octets = rest;
        Some(tlv)
    }
}

/// Checks the TLVs that begin at `start` of `header`, and the checksum, if there is one.
pub(super) fn check(header: &[u8], start: usize) -> Result<(), MalformedHeader> {
    let mut tlvs = Tlvs::new(header.get(start..).unwrap_or_default());
    let ssl = |tlv: Tlv<'_>| Ssl::parse(tlv.value).is_some_and(|ssl| ssl.tlvs.are_well_formed(|_| false));
    if !tlvs.are_well_formed(ssl) {
        return Err(MalformedHeader::Tlv);
    }
    while let Some(tlv) = tlvs.next() {
        let Ok(told) = <[u8; CHECKSUM_OCTETS]>::try_from(tlv.value) else { continue };
        if tlv.kind == Tlv::CRC32C {
            let after = tlvs.octets;
            let before = header.len().saturating_sub(after.len() + CHECKSUM_OCTETS);
            // Section 2.2.3: computed with zeros in its own place.
            let state = checksum::update(checksum::INITIAL, header.get(..before).unwrap_or_default());
            let state = checksum::update(checksum::update(state, &[0; CHECKSUM_OCTETS]), after);
            if checksum::finish(state) != u32::from_be_bytes(told) {
                return Err(MalformedHeader::Checksum);
            }
        }
    }
    Ok(())
}

/// What the proxy says of the TLS between the client and itself (section 2.2.6).
#[derive(Clone, Debug)]
pub struct Ssl<'h> {
    client: u8,
    verify: u32,
    tlvs: Tlvs<'h>,
}

impl<'h> Ssl<'h> {
    pub(super) fn parse(value: &'h [u8]) -> Option<Self> {
        let (&[client, verify @ ..], tlvs) = value.split_first_chunk::<5>()?;
        Some(Self { client, verify: u32::from_be_bytes(verify), tlvs: Tlvs::new(tlvs) })
    }

    /// Whether the client connected over TLS (`PP2_CLIENT_SSL`).
    #[must_use]
    pub fn is_over_tls(&self) -> bool {
        self.client & 0x01 != 0
    }

    /// Whether the client showed a certificate on this connection (`PP2_CLIENT_CERT_CONN`).
    #[must_use]
    pub fn has_certificate(&self) -> bool {
        self.client & 0x02 != 0
    }

    /// Whether the client showed a certificate on any connection of its TLS session
    /// (`PP2_CLIENT_CERT_SESS`).
    #[must_use]
    pub fn has_certificate_in_session(&self) -> bool {
        self.client & 0x04 != 0
    }

    /// Whether the client showed a certificate, on this connection or earlier in its TLS session, and the
    /// proxy has verified it.
    #[must_use]
    pub fn is_certificate_verified(&self) -> bool {
        self.verify == 0 && (self.has_certificate() || self.has_certificate_in_session())
    }

    /// The `verify` field: zero if a certificate was shown and verified.
    #[must_use]
    pub fn verify(&self) -> u32 {
        self.verify
    }

    /// The version of TLS, such as `TLSv1.3`.
    #[must_use]
    pub fn version(&self) -> Option<&'h str> {
        self.tlvs.text(Tlv::SSL_VERSION)
    }

    /// The Common Name of the client's certificate, without control characters. Whether anybody has
    /// verified that certificate is another question.
    #[must_use]
    pub fn common_name(&self) -> Option<&'h str> {
        self.tlvs.text(Tlv::SSL_CN)
    }

    /// The cipher, such as `ECDHE-RSA-AES128-GCM-SHA256`.
    #[must_use]
    pub fn cipher(&self) -> Option<&'h str> {
        self.tlvs.text(Tlv::SSL_CIPHER)
    }

    /// The algorithm that signed the proxy's certificate, such as `RSA-SHA256`.
    #[must_use]
    pub fn signature_algorithm(&self) -> Option<&'h str> {
        self.tlvs.text(Tlv::SSL_SIG_ALG)
    }

    /// The algorithm of the key of the proxy's certificate, such as `RSA2048`.
    #[must_use]
    pub fn key_algorithm(&self) -> Option<&'h str> {
        self.tlvs.text(Tlv::SSL_KEY_ALG)
    }

    /// All of its TLVs.
    #[must_use]
    pub fn tlvs(&self) -> Tlvs<'h> {
        self.tlvs.clone()
    }
}

/// Text that may be written into a log line.
fn is_text(value: &[u8]) -> bool {
    core::str::from_utf8(value).is_ok_and(|text| !text.chars().any(char::is_control))
}

const CHECKSUM_OCTETS: usize = 4;

/// Section 2.2.5.
const MAX_UNIQUE_ID_OCTETS: usize = 128;
