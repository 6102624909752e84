//! What a header says.

use alloc::boxed::Box;
use core::fmt;
use core::net::SocketAddr;

use super::tlv::{Ssl, Tlv, Tlvs};
use crate::session::{Peer, TlsInfo, TlsVersion};

/// What a proxy has told of the connection that it relays.
#[derive(Clone, Debug)]
pub struct ProxyInfo {
    pub(super) proxy: Peer,
    pub(super) version: Version,
    pub(super) command: Command,
    pub(super) transport: Transport,
    pub(super) source: Option<Address>,
    pub(super) destination: Option<Address>,
    /// Checked when they were read.
    pub(super) tlvs: Box<[u8]>,
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Version {
    /// The line of text (section 2.1).
    One,
    /// The binary header (section 2.2).
    Two,
}

/// Why the proxy has connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Command {
    /// On its own behalf: a health check.
    Local,
    /// For somebody else. Version 1 knows nothing else.
    Proxy,
}

/// How the client has connected to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Transport {
    /// The proxy does not say.
    Unspecified,
    /// A stream, such as TCP.
    Stream,
    /// Datagrams, such as UDP.
    Datagram,
}

/// One end of the relayed connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// An address and port of IPv4 or IPv6.
    Socket(SocketAddr),
    /// The path of a unix socket on the proxy's machine, up to 108 octets, without the NULs behind it.
    /// A NUL in front of it marks the abstract namespace; it is empty for a socket without a name.
    Unix(Box<[u8]>),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.escape_ascii()),
        }
    }
}

impl ProxyInfo {
    /// The proxy's own address: the other end of the connection to this server.
    #[must_use]
    pub fn proxy(&self) -> Peer {
        self.proxy
    }

    /// The header's version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Why the proxy has connected.
    #[must_use]
    pub fn command(&self) -> Command {
        self.command
    }

    /// How the client has connected to the proxy.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Where the relayed connection comes from. `None` for LOCAL, for UNKNOWN in version 1, and in
    /// version 2 where address family or transport are unspecified: what such a header has in the place of
    /// addresses is ignored, as section 2.2 asks.
    #[must_use]
    pub fn source(&self) -> Option<&Address> {
        self.source.as_ref()
    }

    /// Where the relayed connection went to: the proxy's side of it. `None` where the source is.
    #[must_use]
    pub fn destination(&self) -> Option<&Address> {
        self.destination.as_ref()
    }

    /// Whom the connection comes from: the source, or the proxy itself where there is none. A source
    /// without a network address is [`Peer::unknown`]: what is local to the proxy is not local here.
    #[must_use]
    pub fn peer(&self) -> Peer {
        match self.source {
            Some(Address::Socket(source)) => source.into(),
            Some(Address::Unix(_)) => Peer::unknown(),
            None => self.proxy,
        }
    }

    /// All TLVs, those of unknown types too. None in version 1 and with LOCAL, whose block is discarded
    /// (section 2.2); none where the address family is unspecified and what follows are not TLVs.
    #[must_use]
    pub fn tlvs(&self) -> Tlvs<'_> {
        Tlvs::new(&self.tlvs)
    }

    /// The value of the first TLV of a type, such as 0xEA, of the range for applications (section 2.2.8).
    #[must_use]
    pub fn tlv(&self, kind: u8) -> Option<&[u8]> {
        self.tlvs().value(kind)
    }

    /// The application protocol of the relayed connection (section 2.2.1).
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.tlv(Tlv::ALPN)
    }

    /// The host name that the client asked for (section 2.2.2): under TLS, the server name of RFC 6066.
    /// UTF-8 without control characters.
    #[must_use]
    pub fn authority(&self) -> Option<&str> {
        self.tlvs().text(Tlv::AUTHORITY)
    }

    /// Whether the header had a checksum (section 2.2.3). A wrong one is malformed.
    #[must_use]
    pub fn has_checksum(&self) -> bool {
        self.tlv(Tlv::CRC32C).is_some()
    }

    /// What the proxies call this connection, up to 128 octets of anything (section 2.2.5).
    #[must_use]
    pub fn unique_id(&self) -> Option<&[u8]> {
        self.tlv(Tlv::UNIQUE_ID)
    }

    /// What the proxy says of the client's TLS (section 2.2.6).
    #[must_use]
    pub fn ssl(&self) -> Option<Ssl<'_>> {
        Ssl::parse(self.tlv(Tlv::SSL)?)
    }

    /// The name of the network namespace (section 2.2.7). ASCII without control characters.
    #[must_use]
    pub fn network_namespace(&self) -> Option<&str> {
        self.tlvs().text(Tlv::NETNS)
    }

    /// The TLS that the proxy has taken off, if it says that there was one, of a version of TLS.
    pub(crate) fn offloaded_tls(&self) -> Option<TlsInfo> {
        let ssl = self.ssl().filter(Ssl::is_over_tls)?;
        let version = match ssl.version()? {
            "TLSv1" | "TLSv1.0" => TlsVersion::Tls1_0,
            "TLSv1.1" => TlsVersion::Tls1_1,
            "TLSv1.2" => TlsVersion::Tls1_2,
            "TLSv1.3" => TlsVersion::Tls1_3,
            // The versions before TLS, and whatever comes after it.
            _ => return None,
        };
        let mut tls = TlsInfo::new(version, ssl.cipher().unwrap_or_default());
        tls.server_name = self.authority().map(Into::into);
        tls.alpn_protocol = self.alpn().map(Into::into);
        Some(tls)
    }
}
