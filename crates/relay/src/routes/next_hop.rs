//! A server that takes mail on, and how to speak with it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::credentials::Credentials;

/// A server that takes mail on: a relay that a URL names, or a mail exchanger.
///
/// Neither `Debug` nor `Display` shows the password, and `Display` leaves the authcid out too, so that the
/// value can go to logs and reports as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// What is spoken with it.
    pub protocol: Protocol,
    /// How the connection is protected.
    pub security: Security,
    /// A domain name in ASCII, or an IP address without brackets; `localhost` if there is a `socket`.
    pub host: String,
    /// Not 0, unless there is a `socket`.
    pub port: u16,
    /// The Unix domain socket at which it is reached, rather than at host and port. TLS is not used there.
    pub socket: Option<PathBuf>,
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

/// What is spoken with a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// LMTP (RFC 2033), which delivers into mailboxes: each recipient has a reply of its own behind the mail data.
    Lmtp,
    /// SMTP (RFC 5321).
    Smtp,
}

/// Where a next hop is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Unix(Arc<Path>),
}

impl NextHop {
    /// A mail exchanger, which is given mail by whoever has some: without a login, and under TLS where it offers that.
    pub(crate) fn exchanger(host: String, port: u16) -> Self {
        Self {
            protocol: Protocol::Smtp,
            security: Security::Opportunistic,
            host,
            port,
            socket: None,
            credentials: None,
        }
    }

    /// Whether the host is this machine: by a socket, by address or by the name that RFC 6761 (section 6.3) reserves.
    pub fn is_loopback(&self) -> bool {
        if self.socket.is_some() {
            return true;
        }
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
        let (host, port, scheme) = (&self.host, self.port, self.scheme());
        match &self.socket {
            Some(path) => write!(f, "{scheme}:{}", path.display()),
            None if host.contains(':') => write!(f, "{scheme}://[{host}]:{port}"),
            None => write!(f, "{scheme}://{host}:{port}"),
        }
    }
}

impl NextHop {
    fn scheme(&self) -> &'static str {
        match (self.protocol, self.security) {
            _ if self.socket.is_some() => "lmtp+unix",
            (Protocol::Lmtp, Security::Opportunistic) => "lmtp",
            (Protocol::Lmtp, Security::StartTls) => "lmtp+starttls",
            (Protocol::Lmtp, Security::Implicit) => "lmtps",
            (Protocol::Smtp, Security::Opportunistic) => "smtp",
            (Protocol::Smtp, Security::StartTls) => "smtp+starttls",
            (Protocol::Smtp, Security::Implicit) => "smtps",
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}
