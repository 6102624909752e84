//! A server that takes mail on, and how to speak with it.

use std::fmt;
use std::net::IpAddr;

use zeroize::Zeroizing;

/// A server that takes mail on: a relay that a `smtp://`, `smtp+starttls://` or `smtps://` URL names, or a mail exchanger.
///
/// Neither `Debug` nor `Display` shows the password, and `Display` leaves the authcid out too, so that the
/// value can go to logs and reports as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// How the connection is protected.
    pub security: Security,
    /// A domain name in ASCII, or an IP address without brackets.
    pub host: String,
    /// Not 0.
    pub port: u16,
    /// What to log in with, if at all.
    pub credentials: Option<Credentials>,
}

/// How the connection to a next hop is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// `smtp://`: STARTTLS where it is offered (RFC 7435). A password never goes over plain text to a host
    /// other than this one.
    Opportunistic,
    /// `smtp+starttls://`: STARTTLS, with a valid certificate, or no delivery.
    StartTls,
    /// `smtps://`: TLS from the first octet, with a valid certificate (RFC 8314).
    Implicit,
}

/// What this program logs in with at a next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The login name.
    pub authcid: String,
    /// Its password.
    pub password: Password,
}

/// A password that `Debug` does not show and that is wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Shows the password to the code that must send it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<Zeroizing<String>> for Password {
    fn from(password: Zeroizing<String>) -> Self {
        Self(password)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl NextHop {
    /// A mail exchanger, which is given mail by whoever has some: without a login, and under TLS where it offers that.
    pub(crate) fn exchanger(host: String, port: u16) -> Self {
        Self { security: Security::Opportunistic, host, port, credentials: None }
    }

    /// Whether the host is this machine, by address or by the name that RFC 6761 (section 6.3) reserves.
    pub fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => self.host.eq_ignore_ascii_case("localhost"),
        }
    }

    /// Whether the certificate must be valid for the host.
    ///
    /// Where plain text would be good enough, so is a certificate that nobody vouches for.
    pub fn requires_valid_certificate(&self) -> bool {
        self.security != Security::Opportunistic || (self.credentials.is_some() && !self.is_loopback())
    }

    /// Whether a session without TLS may go on to log in and to send.
    pub fn allows_plaintext(&self) -> bool {
        self.security == Security::Opportunistic && (self.credentials.is_none() || self.is_loopback())
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = &self.host;
        let port = self.port;
        if host.contains(':') {
            write!(f, "{}://[{host}]:{port}", self.security.scheme())
        } else {
            write!(f, "{}://{host}:{port}", self.security.scheme())
        }
    }
}

impl Security {
    pub(super) fn scheme(self) -> &'static str {
        match self {
            Self::Opportunistic => "smtp",
            Self::StartTls => "smtp+starttls",
            Self::Implicit => "smtps",
        }
    }

    /// 25 relays between servers, 587 and 465 take submissions (RFC 6409, RFC 8314).
    pub(super) fn default_port(self) -> u16 {
        match self {
            Self::Opportunistic => 25,
            Self::StartTls => 587,
            Self::Implicit => 465,
        }
    }
}
