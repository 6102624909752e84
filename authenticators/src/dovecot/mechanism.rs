//! Which mechanisms Dovecot offers, and what it says of them.

use sansmtp::auth::MechanismName;

/// A mechanism that Dovecot offers (`MECH`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mechanism {
    /// Its name, in upper case.
    pub name: MechanismName,
    /// The password itself is sent, or a token: it needs TLS.
    pub plaintext: bool,
    /// It lets in who proves nothing.
    pub anonymous: bool,
    /// It is not to be listed (`private`), as it is no SASL mechanism.
    pub private: bool,
    /// It needs data of the TLS connection, which goes over no version of the protocol that is spoken here.
    pub channel_binding: bool,
}

impl Mechanism {
    /// Whether it is one to offer to clients unasked.
    pub(super) fn is_for_clients(&self) -> bool {
        !self.private && !self.anonymous && !self.channel_binding
    }

    /// Reads the fields behind `MECH`. `None` where the name is none that a client could say.
    pub(super) fn parse<'l>(mut fields: impl Iterator<Item = &'l [u8]>) -> Option<Self> {
        let name = std::str::from_utf8(fields.next()?).ok()?;
        let is_name = |octet: u8| matches!(octet, b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_');
        if !(1..=20).contains(&name.len()) || !name.bytes().all(is_name) {
            return None;
        }
        let mut mechanism = Self {
            name: name.into(),
            plaintext: false,
            anonymous: false,
            private: false,
            channel_binding: name.ends_with("-PLUS"),
        };
        for parameter in fields {
            match parameter {
                b"plaintext" => mechanism.plaintext = true,
                b"anonymous" => mechanism.anonymous = true,
                b"private" => mechanism.private = true,
                b"channel-binding" => mechanism.channel_binding = true,
                // What else there is does not matter here: `dictionary`, `active`, `forward-secrecy`, `mutual-auth`.
                _ => {}
            }
        }
        Some(mechanism)
    }
}
