//! XCLIENT, Postfix's extension by which a filter or proxy that speaks SMTP says whom it speaks for.
//!
//! It is offered in EHLO's reply to the peers that [`XClient`] trusts, and refused with `550 5.7.0` to
//! anybody else. What it says replaces what the server knows of the client: the session goes back to the
//! greeting, with the connect hook and its 220, and the client says EHLO again. TLS stays. This is the
//! extension of Postfix's `XCLIENT_README`, with these choices where it leaves some:
//!
//! * Who may use it is decided by [`Session::peer`](crate::Session::peer), so that behind a PROXY header it is
//!   the client's address that counts, and after `ADDR=` the address that was given. "Once ADDR is sent, the
//!   client is usually no longer authorized".
//! * A command whose attributes are not all sound changes nothing: `501 5.5.4`.
//! * Attributes persist until they are given anew; a LOGIN only until the next XCLIENT, as one client's
//!   must not become the next one's.
//! * HELO and PROTO are told, in [`XClientInfo`]; the client still has to say EHLO.
//! * STARTTLS makes the server forget all of it (RFC 3207, section 4.2).
//!
//! ```
//! use sansmtp::{Config, XClient};
//!
//! let filter = XClient::from_networks(["127.0.0.1".parse()?, "::1".parse()?]);
//! let config = Config::builder("mx.example.org").xclient(filter).build()?;
//! # let _ = config;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use alloc::boxed::Box;
use alloc::string::String;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::command::xtext;
use crate::network::{Network, Trusted};
use crate::session::{Greeting, Peer};

/// Who may use XCLIENT, and for what. See the [module](self).
#[derive(Clone, Debug)]
#[must_use]
pub struct XClient {
    trusted: Trusted,
    allows_login: bool,
}

impl XClient {
    /// Offers XCLIENT to exactly those peers for which `trusts` holds. It is asked at each EHLO and XCLIENT.
    ///
    /// Whoever is trusted can claim any address.
    pub fn from_trusted(trusts: impl Fn(&Peer) -> bool + Send + Sync + 'static) -> Self {
        Self { trusted: Trusted::new(trusts), allows_login: false }
    }

    /// Offers XCLIENT to exactly those peers whose address is in one of the networks.
    pub fn from_networks(networks: impl IntoIterator<Item = Network>) -> Self {
        Self { trusted: Trusted::networks(networks), allows_login: false }
    }

    /// Lets LOGIN authenticate the client, without any password and whether or not AUTH is offered: whoever
    /// is trusted can then be anybody. Off unless changed; LOGIN is then refused with `501 5.5.4`, unless it
    /// says `[UNAVAILABLE]`.
    ///
    /// The login is the session's as if it were that of an AUTH by a mechanism named XCLIENT, and
    /// [`Event::AuthSucceeded`](crate::Event::AuthSucceeded) tells of it. An XCLIENT without LOGIN logs
    /// out.
    pub fn allow_login(mut self, allow: bool) -> Self {
        self.allows_login = allow;
        self
    }

    pub(crate) fn trusts(&self, peer: Peer) -> bool {
        self.trusted.trusts(peer)
    }

    pub(crate) fn allows_login(&self) -> bool {
        self.allows_login
    }

    /// What EHLO lists.
    pub(crate) fn attributes(&self) -> &'static str {
        if self.allows_login {
            "NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"
        } else {
            "NAME ADDR PORT PROTO HELO DESTADDR DESTPORT"
        }
    }
}

/// What an attribute says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Attribute<T> {
    /// `[UNAVAILABLE]`: there is none.
    Unavailable,
    /// `[TEMPUNAVAIL]`: it could not be found out. Of NAME only.
    TemporarilyUnavailable,
    /// This.
    Known(T),
}

impl<T> Attribute<T> {
    /// The value, if there is one.
    pub fn known(self) -> Option<T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unavailable | Self::TemporarilyUnavailable => None,
        }
    }
}

/// What XCLIENT commands have said of the client. `None` for an attribute that was not given.
///
/// Text is printable ASCII of 1 to 255 octets.
#[derive(Clone, Debug)]
pub struct XClientInfo {
    sender: Peer,
    name: Option<Attribute<Box<str>>>,
    address: Option<Attribute<IpAddr>>,
    port: Option<Attribute<u16>>,
    protocol: Option<Greeting>,
    helo: Option<Attribute<Box<str>>>,
    login: Option<Attribute<Box<str>>>,
    destination_address: Option<Attribute<IpAddr>>,
    destination_port: Option<Attribute<u16>>,
}

impl XClientInfo {
    pub(crate) fn new(sender: Peer) -> Self {
        Self {
            sender,
            name: None,
            address: None,
            port: None,
            protocol: None,
            helo: None,
            login: None,
            destination_address: None,
            destination_port: None,
        }
    }

    /// Who said XCLIENT: where the connection came from before the first.
    #[must_use]
    pub fn sender(&self) -> Peer {
        self.sender
    }

    /// NAME: the client's host name: letters, digits, dots, hyphens and underscores.
    #[must_use]
    pub fn name(&self) -> Option<Attribute<&str>> {
        text(&self.name)
    }

    /// ADDR: the client's address.
    #[must_use]
    pub fn address(&self) -> Option<Attribute<IpAddr>> {
        self.address
    }

    /// PORT: the client's port.
    #[must_use]
    pub fn port(&self) -> Option<Attribute<u16>> {
        self.port
    }

    /// PROTO: how the client introduced itself, with HELO (SMTP) or EHLO (ESMTP).
    #[must_use]
    pub fn protocol(&self) -> Option<Greeting> {
        self.protocol
    }

    /// HELO: the name that the client gave with HELO or EHLO.
    #[must_use]
    pub fn helo(&self) -> Option<Attribute<&str>> {
        text(&self.helo)
    }

    /// LOGIN: whom the client is logged in as.
    #[must_use]
    pub fn login(&self) -> Option<Attribute<&str>> {
        text(&self.login)
    }

    /// DESTADDR: the address to which the client connected.
    #[must_use]
    pub fn destination_address(&self) -> Option<Attribute<IpAddr>> {
        self.destination_address
    }

    /// DESTPORT: the port to which the client connected.
    #[must_use]
    pub fn destination_port(&self) -> Option<Attribute<u16>> {
        self.destination_port
    }

    /// The login that counts.
    pub(crate) fn logged_in(&self) -> Option<&str> {
        self.login()?.known()
    }

    /// Whom the connection now comes from; it came from `before`. A port that nobody told is 0.
    pub(crate) fn peer(&self, before: Peer) -> Peer {
        let port = self.port.map(|port| port.known().unwrap_or(0));
        match self.address {
            Some(Attribute::Known(address)) => SocketAddr::new(address, port.unwrap_or(0)).into(),
            Some(Attribute::Unavailable | Attribute::TemporarilyUnavailable) => Peer::unknown(),
            None => match (before.address(), port) {
                (Some(address), Some(port)) => SocketAddr::new(address.ip(), port).into(),
                _ => before,
            },
        }
    }

    /// Takes in what the arguments of a command say. After `None`, this is of no more use.
    pub(crate) fn update(&mut self, arguments: &[u8], login_allowed: bool) -> Option<()> {
        self.login = None;
        let mut seen = [false; NAMES.len()];
        let mut value = String::new();
        for word in arguments.split(|&octet| octet == b' ').filter(|word| !word.is_empty()) {
            let (name, encoded) = word.split_at_checked(memchr::memchr(b'=', word)?)?;
            let place = NAMES.iter().position(|(known, _)| known.eq_ignore_ascii_case(name))?;
            if core::mem::replace(seen.get_mut(place)?, true) {
                return None;
            }
            value.clear();
            xtext::decode_onto(&mut value, encoded.get(1..)?)?;
            if value.len() > MAX_VALUE_OCTETS {
                return None;
            }
            match NAMES.get(place)?.1 {
                Key::Name => self.name = Some(read_name(&value)?),
                Key::Addr => self.address = Some(read(&value, read_address)?),
                Key::Port => self.port = Some(read(&value, read_port)?),
                Key::Proto => self.protocol = Some(read_protocol(&value)?),
                Key::Helo => self.helo = Some(read(&value, |value| Some(value.into()))?),
                Key::Login => self.login = Some(read(&value, |value| login_allowed.then(|| value.into()))?),
                Key::DestAddr => self.destination_address = Some(read(&value, read_address)?),
                Key::DestPort => self.destination_port = Some(read(&value, read_port)?),
            }
        }
        Some(())
    }
}

#[derive(Clone, Copy)]
enum Key {
    Name,
    Addr,
    Port,
    Proto,
    Helo,
    Login,
    DestAddr,
    DestPort,
}

const NAMES: [(&[u8], Key); 8] = [
    (b"NAME", Key::Name),
    (b"ADDR", Key::Addr),
    (b"PORT", Key::Port),
    (b"PROTO", Key::Proto),
    (b"HELO", Key::Helo),
    (b"LOGIN", Key::Login),
    (b"DESTADDR", Key::DestAddr),
    (b"DESTPORT", Key::DestPort),
];

/// A value, or `[UNAVAILABLE]` in any case. `[TEMPUNAVAIL]` is for host names only.
fn read<T>(value: &str, known: impl FnOnce(&str) -> Option<T>) -> Option<Attribute<T>> {
    if value.eq_ignore_ascii_case("[UNAVAILABLE]") {
        return Some(Attribute::Unavailable);
    }
    if value.eq_ignore_ascii_case(TEMPORARILY_UNAVAILABLE) {
        return None;
    }
    known(value).map(Attribute::Known)
}

fn read_name(value: &str) -> Option<Attribute<Box<str>>> {
    if value.eq_ignore_ascii_case(TEMPORARILY_UNAVAILABLE) {
        return Some(Attribute::TemporarilyUnavailable);
    }
    let is_name = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_' | b'.');
    read(value, |value| value.bytes().all(is_name).then(|| value.into()))
}

fn read_address(value: &str) -> Option<IpAddr> {
    match value.split_at_checked(5) {
        Some((prefix, address)) if prefix.eq_ignore_ascii_case("IPV6:") => {
            address.parse::<Ipv6Addr>().ok().map(Into::into)
        }
        _ => value.parse::<Ipv4Addr>().ok().map(Into::into),
    }
}

fn read_port(value: &str) -> Option<u16> {
    value.bytes().all(|octet| octet.is_ascii_digit()).then(|| value.parse().ok())?
}

fn read_protocol(value: &str) -> Option<Greeting> {
    if value.eq_ignore_ascii_case("ESMTP") {
        Some(Greeting::Ehlo)
    } else {
        value.eq_ignore_ascii_case("SMTP").then_some(Greeting::Helo)
    }
}

fn text(attribute: &Option<Attribute<Box<str>>>) -> Option<Attribute<&str>> {
    attribute.as_ref().map(|attribute| match attribute {
        Attribute::Unavailable => Attribute::Unavailable,
        Attribute::TemporarilyUnavailable => Attribute::TemporarilyUnavailable,
        Attribute::Known(text) => Attribute::Known(&**text),
    })
}

const TEMPORARILY_UNAVAILABLE: &str = "[TEMPUNAVAIL]";

/// As many as Postfix takes.
const MAX_VALUE_OCTETS: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn info(arguments: &str) -> Option<XClientInfo> {
        let mut info = XClientInfo::new(Peer::local());
        info.update(arguments.as_bytes(), true).map(|()| info)
    }

    #[test]
    fn every_attribute() {
        let info = info(
            "name=spike.porcupine.org Addr=IPv6:2001:db8::1 PORT=1234 PROTO=esmtp HELO=+5B192.0.2.1+5D \
            LOGIN=tim+20the+2Bcat DESTADDR=192.0.2.25 DESTPORT=[unavailable]",
        )
        .unwrap();
        assert_eq!(info.name(), Some(Attribute::Known("spike.porcupine.org")));
        assert_eq!(info.address(), Some(Attribute::Known("2001:db8::1".parse().unwrap())));
        assert_eq!(info.port(), Some(Attribute::Known(1234)));
        assert_eq!(info.protocol(), Some(Greeting::Ehlo));
        assert_eq!(info.helo(), Some(Attribute::Known("[192.0.2.1]")));
        assert_eq!(info.logged_in(), Some("tim the+cat"));
        assert_eq!(info.destination_address(), Some(Attribute::Known([192, 0, 2, 25].into())));
        assert_eq!(info.destination_port(), Some(Attribute::Unavailable));
        assert_eq!(info.peer(Peer::local()), SocketAddr::new("2001:db8::1".parse().unwrap(), 1234).into());
    }

    #[test]
    fn what_is_not_an_attribute_is_refused() {
        for bad in [
            "NAME",
            "NAME=",
            "=x",
            "NAME=a+",
            "NAME=a+0Ab",
            "NAME=a+20b",
            "NAME=a NAME=b",
            "REVERSE_NAME=a",
            "ADDR=2001:db8::1",
            "ADDR=[192.0.2.1]",
            "ADDR=192.0.2.01",
            "ADDR=IPV6:192.0.2.1",
            "ADDR=[TEMPUNAVAIL]",
            "HELO=[TEMPUNAVAIL]",
            "PORT=65536",
            "PORT=+2B25",
            "PORT=-1",
            "PROTO=LMTP",
            "PROTO=[UNAVAILABLE]",
            "DESTPORT=x",
        ] {
            assert!(info(bad).is_none(), "{bad}");
        }
        let long = |octets| alloc::format!("HELO={}", "x".repeat(octets));
        assert!(info(&long(255)).is_some() && info(&long(256)).is_none());
    }

    #[test]
    fn a_login_that_is_not_allowed_is_none() {
        let mut info = XClientInfo::new(Peer::local());
        assert!(info.update(b"LOGIN=[UNAVAILABLE]", false).is_some() && info.logged_in().is_none());
        assert!(info.update(b"LOGIN=tim", false).is_none() && info.logged_in().is_none());
    }

    #[test]
    fn the_peer_is_whom_address_and_port_name() {
        let before = Peer::from(SocketAddr::from(([192, 0, 2, 1], 25)));
        let peer = |arguments| info(arguments).unwrap().peer(before);
        let at = |port| Peer::from(SocketAddr::from(([192, 0, 2, 7], port)));
        assert_eq!(peer("ADDR=192.0.2.7 PORT=9"), at(9));
        assert_eq!(peer("ADDR=192.0.2.7"), at(0));
        assert_eq!(peer("ADDR=192.0.2.7 PORT=[UNAVAILABLE]"), at(0));
        assert_eq!(peer("ADDR=[UNAVAILABLE] PORT=9"), Peer::unknown());
        assert_eq!(peer("PORT=9"), SocketAddr::from(([192, 0, 2, 1], 9)).into());
        assert_eq!(peer("NAME=[TEMPUNAVAIL]"), before);
    }
}
