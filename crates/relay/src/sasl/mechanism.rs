//! The mechanisms, and the choice among those that a server offers.

use std::fmt;
use std::str::FromStr;

/// A SASL mechanism by which a [`Worker`](crate::Worker) can log in at a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SaslMechanism {
    /// CRAM-MD5 (RFC 2195).
    CramMd5,
    /// LOGIN, which has no RFC.
    Login,
    /// OAUTHBEARER (RFC 7628): a token.
    OAuthBearer,
    /// PLAIN (RFC 4616).
    Plain,
    /// SCRAM-SHA-1 (RFC 5802).
    ScramSha1,
    /// SCRAM-SHA-1-PLUS, bound to the TLS session by `tls-exporter` (RFC 9266), which TLS 1.3 has.
    ScramSha1Plus,
    /// SCRAM-SHA-256 (RFC 7677).
    ScramSha256,
    /// SCRAM-SHA-256-PLUS, as [`SaslMechanism::ScramSha1Plus`].
    ScramSha256Plus,
    /// SCRAM-SHA-512.
    ScramSha512,
    /// SCRAM-SHA-512-PLUS, as [`SaslMechanism::ScramSha1Plus`].
    ScramSha512Plus,
    /// XOAUTH2, as Google and Microsoft describe it: a token.
    XOAuth2,
}

/// A text names no [`SaslMechanism`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidSaslMechanism;

/// What a login is proved with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SecretKind {
    /// Where nothing else is offered, it is taken for a token: a URL may hold either.
    Password,
    Token,
}

impl SaslMechanism {
    /// The name as EHLO lists it.
    pub fn name(self) -> &'static str {
        match self {
            Self::CramMd5 => "CRAM-MD5",
            Self::Login => "LOGIN",
            Self::OAuthBearer => "OAUTHBEARER",
            Self::Plain => "PLAIN",
            Self::ScramSha1 => "SCRAM-SHA-1",
            Self::ScramSha1Plus => "SCRAM-SHA-1-PLUS",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::ScramSha512Plus => "SCRAM-SHA-512-PLUS",
            Self::XOAuth2 => "XOAUTH2",
        }
    }

    /// Whether it is bound to the TLS session.
    pub(crate) fn binds(self) -> bool {
        matches!(self, Self::ScramSha1Plus | Self::ScramSha256Plus | Self::ScramSha512Plus)
    }
}

impl SecretKind {
    /// Whether a secret of this kind can be used with a mechanism.
    pub(crate) fn is_for(self, mechanism: SaslMechanism) -> bool {
        self == Self::Password || matches!(mechanism, SaslMechanism::OAuthBearer | SaslMechanism::XOAuth2)
    }
}

/// The strongest mechanism that is offered and that a secret of this kind can be used with; or `forced`, whatever is
/// offered.
///
/// With TLS, CRAM-MD5 comes last: servers list it that keep hashes, from which they cannot check it, and TLS has already
/// hidden the password and authenticated the server. For want of TLS, as on loopback, it comes before PLAIN.
///
/// The -PLUS mechanisms are used where they are asked for only: a server does not say which kinds of channel binding it
/// knows (RFC 5929, RFC 9266), and its refusal looks like that of a wrong password.
pub(crate) fn choose(
    offered: &[String],
    kind: SecretKind,
    encrypted: bool,
    forced: Option<SaslMechanism>,
) -> Option<SaslMechanism> {
    use SaslMechanism::{CramMd5, Login, OAuthBearer, Plain, ScramSha1, ScramSha256, ScramSha512, XOAuth2};
    let order: &[SaslMechanism] = match kind {
        SecretKind::Token => &[OAuthBearer, XOAuth2],
        SecretKind::Password if encrypted => {
            &[ScramSha512, ScramSha256, ScramSha1, Plain, Login, CramMd5, OAuthBearer, XOAuth2]
        }
        SecretKind::Password => &[ScramSha512, ScramSha256, ScramSha1, CramMd5, Plain, Login, OAuthBearer, XOAuth2],
    };
    let is_offered = |mechanism: &SaslMechanism| offered.iter().any(|name| name.eq_ignore_ascii_case(mechanism.name()));
    forced.or_else(|| order.iter().copied().find(is_offered))
}

/// In any case, as RFC 4422 (section 3.1) does not have two names that differ in nothing else.
impl FromStr for SaslMechanism {
    type Err = InvalidSaslMechanism;

    fn from_str(text: &str) -> Result<Self, InvalidSaslMechanism> {
        ALL.into_iter().find(|mechanism| mechanism.name().eq_ignore_ascii_case(text)).ok_or(InvalidSaslMechanism)
    }
}

impl fmt::Display for SaslMechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for InvalidSaslMechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the mechanism must be one of ")?;
        for (place, mechanism) in ALL.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{mechanism}")?;
        }
        Ok(())
    }
}

impl std::error::Error for InvalidSaslMechanism {}

const ALL: [SaslMechanism; 11] = [
    SaslMechanism::ScramSha512Plus,
    SaslMechanism::ScramSha512,
    SaslMechanism::ScramSha256Plus,
    SaslMechanism::ScramSha256,
    SaslMechanism::ScramSha1Plus,
    SaslMechanism::ScramSha1,
    SaslMechanism::CramMd5,
    SaslMechanism::Plain,
    SaslMechanism::Login,
    SaslMechanism::OAuthBearer,
    SaslMechanism::XOAuth2,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(offered: &str, kind: SecretKind, encrypted: bool) -> Option<&'static str> {
        let offered: Vec<_> = offered.split(' ').map(str::to_owned).collect();
        choose(&offered, kind, encrypted, None).map(SaslMechanism::name)
    }

    #[test]
    fn the_strongest_that_both_sides_have_is_chosen() {
        use SecretKind::{Password, Token};
        for (offered, kind, encrypted, expected) in [
            ("PLAIN LOGIN", Password, true, Some("PLAIN")),
            ("LOGIN XOAUTH2", Password, true, Some("LOGIN")),
            ("LOGIN PLAIN CRAM-MD5", Password, true, Some("PLAIN")),
            ("LOGIN PLAIN CRAM-MD5", Password, false, Some("CRAM-MD5")),
            ("CRAM-MD5 XOAUTH2", Password, true, Some("CRAM-MD5")),
            ("plain scram-sha-1 SCRAM-SHA-256", Password, true, Some("SCRAM-SHA-256")),
            ("SCRAM-SHA-256 SCRAM-SHA-512", Password, false, Some("SCRAM-SHA-512")),
            ("SCRAM-SHA-256-PLUS SCRAM-SHA-1", Password, true, Some("SCRAM-SHA-1")),
            ("GSSAPI XOAUTH2", Password, true, Some("XOAUTH2")),
            ("XOAUTH2 OAUTHBEARER PLAIN", Token, true, Some("OAUTHBEARER")),
            ("XOAUTH2 PLAIN", Token, true, Some("XOAUTH2")),
            ("PLAIN LOGIN SCRAM-SHA-256 CRAM-MD5", Token, true, None),
            ("GSSAPI NTLM", Password, true, None),
            ("", Password, true, None),
        ] {
            assert_eq!(chosen(offered, kind, encrypted), expected, "{offered}");
        }
        let forced = choose(&["PLAIN".to_owned()], Password, true, Some(SaslMechanism::ScramSha256Plus));
        assert_eq!(forced, Some(SaslMechanism::ScramSha256Plus));
    }

    #[test]
    fn names_are_read_in_any_case() {
        for mechanism in ALL {
            assert_eq!(mechanism.name().to_lowercase().parse(), Ok(mechanism));
        }
        assert_eq!("PLAI".parse::<SaslMechanism>(), Err(InvalidSaslMechanism));
        assert!(InvalidSaslMechanism.to_string().ends_with("one of SCRAM-SHA-512-PLUS, SCRAM-SHA-512, SCRAM-SHA-256-PLUS, SCRAM-SHA-256, SCRAM-SHA-1-PLUS, SCRAM-SHA-1, CRAM-MD5, PLAIN, LOGIN, OAUTHBEARER, XOAUTH2"));
    }
}
