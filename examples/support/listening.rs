//! Where a program listens, as its command line says.

use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::{Path, PathBuf};

use crate::runtime::Serve;

/// One `--listen` or `--listen-tls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listener {
    pub(crate) place: Place,
    /// TLS from the first octet; STARTTLS otherwise.
    pub(crate) implicit_tls: bool,
}

/// What such an option names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A port of all addresses, of IPv4 and IPv6.
    AnyAddress(u16),
    /// An address, or all those of a name; at least one. As it was written, too.
    Addresses(String, Vec<SocketAddr>),
    /// `unix:PATH`.
    Unix(PathBuf),
}

/// A place that is listened at.
#[derive(Debug)]
pub(crate) struct Bound {
    /// To be told: the address, its port no longer 0, or `unix:PATH`.
    pub(crate) shown: String,
    /// None for a unix socket.
    pub(crate) address: Option<SocketAddr>,
    pub(crate) implicit_tls: bool,
}

/// Why nothing listens at a place.
#[derive(Debug)]
pub(crate) struct CannotListen {
    place: String,
    error: io::Error,
}

impl Place {
    /// Reads the value of `--listen`.
    ///
    /// # Errors
    /// Says what would be right.
    pub(crate) fn starttls(text: &str) -> Result<Self, String> {
        Self::parse(text, 587)
    }

    /// Reads the value of `--listen-tls`.
    ///
    /// # Errors
    /// Says what would be right.
    pub(crate) fn implicit_tls(text: &str) -> Result<Self, String> {
        Self::parse(text, 465)
    }

    /// `usual` is the port to name in an error.
    fn parse(text: &str, usual: u16) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let right = || format!("a path is missing: unix:/run/mail/{usual}");
            return if path.is_empty() { Err(right()) } else { Ok(Self::Unix(path.into())) };
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self::Addresses(text.to_owned(), vec![address]));
        }
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse::<Ipv6Addr>() {
            return Err(format!("a port is missing, or the brackets of an IPv6 address: [{address}]:{usual}"));
        }
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
        let (host, port) = match text.rsplit_once(':') {
            Some(parts) => parts,
            None if is_number(text) => ("", text),
            None if is_host(text) => return Err(format!("a port is missing: {text}:{usual}")),
            None => return Err(expected(usual)),
        };
        if !host.is_empty() && host != "*" && !is_host(host) {
            return Err(expected(usual));
        }
        let port = match port.parse::<u16>() {
            Ok(port) if is_number(text.rsplit(':').next().unwrap_or_default()) => port,
            _ => return Err(format!("a port is a number from 0 to 65535: {host}:{usual}")),
        };
        if host.is_empty() || host == "*" {
            return Ok(Self::AnyAddress(port));
        }
        let found =
            (host, port).to_socket_addrs().map_err(|error| format!("cannot find the addresses of {host}: {error}"))?;
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for address in found {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            Err(format!("{host} has no address"))
        } else {
            Ok(Self::Addresses(text.to_owned(), addresses))
        }
    }

    /// Whether other machines cannot reach it.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::AnyAddress(_) => false,
            Self::Addresses(_, addresses) => addresses.iter().all(|address| address.ip().is_loopback()),
            Self::Unix(_) => true,
        }
    }

    /// Whether both cannot be listened at.
    fn collides_with(&self, other: &Self) -> bool {
        let has_port = |place: &Self, port: u16| match place {
            Self::AnyAddress(other) => *other == port,
            Self::Addresses(_, addresses) => addresses.iter().any(|address| address.port() == port),
            Self::Unix(_) => false,
        };
        match (self, other) {
            (Self::AnyAddress(port), place) | (place, Self::AnyAddress(port)) => *port != 0 && has_port(place, *port),
            (Self::Addresses(_, ours), Self::Addresses(_, theirs)) => {
                ours.iter().any(|address| address.port() != 0 && theirs.contains(address))
            }
            (Self::Unix(our), Self::Unix(their)) => our == their,
            (Self::Addresses(..), Self::Unix(_)) | (Self::Unix(_), Self::Addresses(..)) => false,
        }
    }
}

/// Two listeners that cannot be there together, told in a way that says which.
pub(crate) fn collision(listeners: &[Listener]) -> Option<String> {
    let pairs =
        listeners.iter().enumerate().flat_map(|(at, one)| listeners.iter().take(at).map(move |other| (other, one)));
    let mut colliding = pairs.filter(|(one, other)| one.place.collides_with(&other.place));
    let (one, other) = colliding.next()?;
    let option = |listener: &Listener| if listener.implicit_tls { "--listen-tls" } else { "--listen" };
    Some(format!("{} {} and {} {} are the same", option(one), one.place, option(other), other.place))
}

/// Listens at all of these places.
///
/// A name's address that this machine does not have, as `::1` where IPv6 is off, is left out, unless it is the only one.
///
/// # Errors
/// Names the place where that is not possible.
pub(crate) fn listen<S: Serve>(
    mut server: S,
    listeners: &[Listener],
    socket_mode: Option<u32>,
) -> Result<(S, Vec<Bound>), CannotListen> {
    let mut all = Vec::new();
    for Listener { place, implicit_tls } in listeners {
        let implicit_tls = *implicit_tls;
        let explain = |error| CannotListen { place: place.to_string(), error };
        let before = server.addresses().len();
        match place {
            Place::AnyAddress(port) => server = server.bind_any(*port, implicit_tls).map_err(explain)?,
            Place::Addresses(_, addresses) => {
                for address in here(addresses) {
                    server = server.bind(address, implicit_tls).map_err(explain)?;
                }
            }
            Place::Unix(path) => {
                server = server.bind_unix(path, implicit_tls).map_err(explain)?;
                set_mode(path, socket_mode).map_err(explain)?;
                all.push(Bound { shown: place.to_string(), address: None, implicit_tls });
            }
        }
        let addresses = server.addresses().into_iter().skip(before);
        all.extend(addresses.map(|address| Bound { shown: address.to_string(), address: Some(address), implicit_tls }));
    }
    Ok((server, all))
}

/// Those of several addresses that this machine has.
fn here(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let is_here = |address: &&SocketAddr| {
        let probed = UdpSocket::bind(SocketAddr::new(address.ip(), 0));
        if let Err(error) = &probed {
            tracing::warn!(%address, %error, "not listening on an address that this machine does not have");
        }
        probed.is_ok()
    };
    match addresses {
        [_] => addresses.to_vec(),
        several => {
            let found: Vec<SocketAddr> = several.iter().filter(is_here).copied().collect();
            if found.is_empty() { several.to_vec() } else { found }
        }
    }
}

/// Reads the value of `--socket-mode`.
///
/// # Errors
/// Says what would be right.
pub(crate) fn mode(text: &str) -> Result<u32, &'static str> {
    let digits = text.strip_prefix('0').filter(|rest| rest.len() == 3).unwrap_or(text);
    let octal = digits.len() == 3 && digits.bytes().all(|octet| matches!(octet, b'0'..=b'7'));
    u32::from_str_radix(digits, 8).ok().filter(|_| octal).ok_or("a mode is three octal digits, 660 for example")
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: Option<u32>) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let Some(mode) = mode else { return Ok(()) };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn set_mode(_: &Path, _: Option<u32>) -> io::Result<()> {
    Ok(())
}

/// Whether a text may be a name or an address of IPv4. What else there may be in it the resolver knows.
fn is_host(text: &str) -> bool {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    !text.is_empty() && text.len() <= 255 && text.chars().all(allowed)
}

fn expected(usual: u16) -> String {
    format!(
        "not an address and a port: :{usual} (all addresses), 192.0.2.1:{usual}, [2001:db8::1]:{usual}, localhost:{usual} \
         or unix:PATH"
    )
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnyAddress(port) => write!(f, ":{port}"),
            Self::Addresses(text, _) => f.write_str(text),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl From<SocketAddr> for Place {
    fn from(address: SocketAddr) -> Self {
        Self::Addresses(address.to_string(), vec![address])
    }
}

impl fmt::Display for CannotListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, error } = self;
        write!(f, "cannot listen on {place}: {error}")?;
        let is_socket = place.starts_with("unix:");
        let kind = error.kind();
        f.write_str(if kind == io::ErrorKind::AddrInUse {
            "; another program listens there"
        } else if kind == io::ErrorKind::AddrNotAvailable {
            "; this machine does not have the address"
        } else if kind == io::ErrorKind::NotFound && is_socket {
            "; the directory of the socket has to be there"
        } else if kind == io::ErrorKind::PermissionDenied && !is_socket {
            "; ports below 1024 are for root, and for services with CAP_NET_BIND_SERVICE"
        } else {
            ""
        })
    }
}

impl std::error::Error for CannotListen {}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str) -> Vec<String> {
        match Place::starttls(text).unwrap() {
            Place::Addresses(_, addresses) => addresses.iter().map(ToString::to_string).collect(),
            other @ (Place::AnyAddress(_) | Place::Unix(_)) => panic!("{other:?}"),
        }
    }

    #[test]
    fn places_are_read() {
        for (text, expected) in [
            (":587", Place::AnyAddress(587)),
            ("587", Place::AnyAddress(587)),
            ("*:0", Place::AnyAddress(0)),
            ("unix:/run/a:b", Place::Unix("/run/a:b".into())),
        ] {
            assert_eq!(Place::starttls(text), Ok(expected), "{text}");
        }
        assert_eq!(addresses("192.0.2.1:587"), ["192.0.2.1:587"]);
        assert_eq!(addresses("[::]:587"), ["[::]:587"]);
        let localhost = addresses("localhost:587");
        assert!(localhost.iter().all(|address| ["127.0.0.1:587", "[::1]:587"].contains(&address.as_str())));
        for (text, local) in
            [(":587", false), ("localhost:587", true), ("unix:x", true), ("[::1]:587", true), ("192.0.2.1:587", false)]
        {
            assert_eq!(Place::starttls(text).unwrap().is_local(), local, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_what_would_be_right() {
        for (text, right) in [
            ("0.0.0.0", "a port is missing: 0.0.0.0:587"),
            ("localhost", "a port is missing: localhost:587"),
            ("::1", "[::1]:587"),
            ("[::1]", "[::1]:587"),
            ("::1:587x", "192.0.2.1:587"),
            ("localhost:", "a number from 0 to 65535: localhost:587"),
            ("localhost:smtp", "a number from 0 to 65535: localhost:587"),
            ("localhost:+25", "a number from 0 to 65535: localhost:587"),
            (":65536", "a number from 0 to 65535: :587"),
            ("", "192.0.2.1:587"),
            ("a b:25", "192.0.2.1:587"),
            ("smtp://a:25", "192.0.2.1:587"),
            ("unix:", "unix:/run/mail/587"),
        ] {
            let error = Place::starttls(text).unwrap_err();
            assert!(error.contains(right), "{text}: {error}");
        }
        assert!(Place::implicit_tls("0.0.0.0").unwrap_err().contains("0.0.0.0:465"));
        assert_eq!((mode("660"), mode("0600"), mode("000")), (Ok(0o660), Ok(0o600), Ok(0)));
        for wrong in ["", "66", "888", "06600", "u+w", "+66"] {
            assert!(mode(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_same_place_twice_is_told() {
        let told = |places: &[&str]| {
            let listener =
                |text: &&str| Listener { place: Place::starttls(text).unwrap(), implicit_tls: text.contains("465") };
            collision(&places.iter().map(listener).collect::<Vec<_>>())
        };
        for places in [
            &["127.0.0.1:25", "127.0.0.1:587"][..],
            &["127.0.0.1:0", "127.0.0.1:0", ":0"],
            &["unix:a", "unix:b", ":25"],
            &["[::1]:25", "127.0.0.1:25"],
        ] {
            assert_eq!(told(places), None, "{places:?}");
        }
        for places in [
            &["127.0.0.1:25", "127.0.0.1:25"][..],
            &["unix:a", ":25", "unix:a"],
            &[":25", "127.0.0.1:25"],
            &["[::1]:25", "25"],
        ] {
            assert!(told(places).is_some(), "{places:?}");
        }
        assert_eq!(
            told(&["0.0.0.0:465", ":25", ":465"]).unwrap(),
            "--listen-tls 0.0.0.0:465 and --listen-tls :465 are the same"
        );
    }
}
