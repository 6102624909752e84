//! Mechanism names (RFC 4422, section 3.1).

use core::fmt;

/// The name of a SASL mechanism: 1–20 upper-case letters, digits, hyphens and underscores (RFC 4422,
/// section 3.1). Clients may write it in any case.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct MechanismName {
    octets: [u8; MAX_NAME_OCTETS],
    /// One past the maximum marks a name that was too long, so that it can be reported.
    length: u8,
}

impl MechanismName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(self.as_bytes()).unwrap_or("?")
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.octets.get(..usize::from(self.length)).unwrap_or(&self.octets)
    }

    /// The name in upper case if it is one, from a client's AUTH command.
    pub(crate) fn parse(name: &[u8]) -> Option<Self> {
        let mut parsed = Self::from_octets(name);
        parsed.octets.make_ascii_uppercase();
        parsed.is_valid().then_some(parsed)
    }

    pub(crate) fn is_valid(&self) -> bool {
        let length = usize::from(self.length);
        (1..=MAX_NAME_OCTETS).contains(&length)
            && self.as_bytes().iter().all(|octet| matches!(octet, b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_'))
    }

    /// The name, if it is among those that clients are known to send.
    pub(crate) fn well_known(name: &[u8]) -> Option<Self> {
        WELL_KNOWN.iter().find(|known| known.as_bytes().eq_ignore_ascii_case(name)).map(|&known| known.into())
    }

    pub(crate) fn matches(&self, name: &[u8]) -> bool {
        self.as_bytes().eq_ignore_ascii_case(name)
    }

    fn from_octets(name: &[u8]) -> Self {
        let mut octets = [0; MAX_NAME_OCTETS];
        let kept = name.get(..MAX_NAME_OCTETS).unwrap_or(name);
        if let Some(room) = octets.get_mut(..kept.len()) {
            room.copy_from_slice(kept);
        }
        let length = u8::try_from(name.len().min(MAX_NAME_OCTETS + 1)).unwrap_or(u8::MAX);
        Self { octets, length }
    }
}

impl From<&str> for MechanismName {
    /// Takes the name as it is; `build` refuses a configuration with a name that is not one.
    fn from(name: &str) -> Self {
        Self::from_octets(name.as_bytes())
    }
}

impl PartialEq<str> for MechanismName {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for MechanismName {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Display for MechanismName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for MechanismName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// From IANA's registry and from practice.
const WELL_KNOWN: &[&str] = &[
    "ANONYMOUS",
    "CRAM-MD5",
    "DIGEST-MD5",
    "EXTERNAL",
    "GS2-KRB5",
    "GSSAPI",
    "KERBEROS_V4",
    "LOGIN",
    "NTLM",
    "OAUTHBEARER",
    "OTP",
    "PLAIN",
    "SCRAM-SHA-1",
    "SCRAM-SHA-1-PLUS",
    "SCRAM-SHA-256",
    "SCRAM-SHA-256-PLUS",
    "SCRAM-SHA-512",
    "SCRAM-SHA-512-PLUS",
    "XOAUTH2",
];

/// RFC 4422, section 3.1.
const MAX_NAME_OCTETS: usize = 20;
