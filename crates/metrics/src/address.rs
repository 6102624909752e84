//! Where Prometheus finds the numbers.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// A place to serve metrics at, which strangers cannot reach: what is counted tells how much mail there is and whose
/// logins fail. For a Prometheus on another host, a proxy in front of this authenticates it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Address {
    /// A port on loopback.
    Loopback(SocketAddr),
    /// A unix socket; the rights to its directory say who may connect.
    Unix(PathBuf),
}

/// Why a text is no [`Address`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidAddress {
    /// It is neither `IP:PORT` nor `unix:PATH`.
    Syntax,
    /// Others than this host could connect.
    Public,
}

impl TryFrom<SocketAddr> for Address {
    type Error = InvalidAddress;

    fn try_from(address: SocketAddr) -> Result<Self, InvalidAddress> {
        if address.ip().to_canonical().is_loopback() {
            Ok(Self::Loopback(address))
        } else {
            Err(InvalidAddress::Public)
        }
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        match text.strip_prefix("unix:") {
            Some("") => Err(InvalidAddress::Syntax),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse::<SocketAddr>().map_err(|_| InvalidAddress::Syntax)?.try_into(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loopback(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl fmt::Display for InvalidAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syntax => "neither IP:PORT, as 127.0.0.1:9125, nor unix:PATH",
            Self::Public => {
                "others than this host could read the metrics there: use loopback or unix:PATH, and a proxy in front"
            }
        })
    }
}

impl std::error::Error for InvalidAddress {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_host_is_served() {
        for address in ["127.0.0.1:9125", "[::1]:0", "[::ffff:127.0.0.1]:1", "unix:metrics", "unix:/run/mail/metrics"] {
            assert!(address.parse::<Address>().is_ok_and(|parsed| parsed.to_string() == address), "{address}");
        }
        for public in ["0.0.0.0:9125", "192.0.2.1:80", "[::]:9125"] {
            assert_eq!(public.parse::<Address>(), Err(InvalidAddress::Public), "{public}");
        }
        for wrong in ["", "unix:", "9125", "localhost:9125", "127.0.0.1"] {
            assert_eq!(wrong.parse::<Address>(), Err(InvalidAddress::Syntax), "{wrong}");
        }
    }
}
