//! The PROXY protocol, versions 1 and 2: a proxy tells whom it speaks for.
//!
//! A proxy or load balancer in front of the server puts a header in front of what the client sends
//! (`doc/proxy-protocol.txt` of HAProxy; section numbers here are those of that specification, as of
//! 2020/03/05). Which peers do so is a matter of the configuration alone and never guessed from what they
//! send (section 2): [`Proxy::from_networks`] or [`Proxy::from_trusted`].
//!
//! * From a trusted peer, nothing is looked at before its header, and nothing is said: no greeting, no TLS
//!   handshake, no hook. The header is in the clear also where TLS is implicit; the handshake comes
//!   behind it.
//! * A header that is malformed, or not there in time, ends the connection without a word (section 2.1:
//!   what does not match exactly is discarded and the connection aborted);
//!   [`Event::ProxyRefused`](crate::Event::ProxyRefused) says why.
//! * From anybody else a header is what any other octets are: no command.
//!
//! Then [`Session::peer`](crate::Session::peer) is the client's address, for hooks, events, the
//! [`AttemptLog`](crate::auth::AttemptLog) and whatever else asks, and
//! [`Session::proxy`](crate::Session::proxy) has the rest.
//!
//! ```
//! use sansmtp::{Config, Proxy};
//!
//! let proxy = Proxy::from_networks(["192.0.2.0/28".parse()?, "2001:db8::25".parse()?]);
//! let config = Config::builder("mx.example.org").proxy(proxy).build()?;
//! # let _ = config;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Reader`] reads headers for whoever wants to do so without a connection.

mod checksum;
mod info;
mod reader;
#[cfg(test)]
mod tests;
mod tlv;
mod v1;
mod v2;

use core::fmt;
use core::time::Duration;

use crate::network::{Network, Trusted};
use crate::session::Peer;

pub use info::{Address, Command, ProxyInfo, Transport, Version};
pub use reader::{MalformedHeader, Reader};
pub use tlv::{Ssl, Tlv, Tlvs};

/// Which peers are proxies, and what is made of what they say. See the [module](self).
#[derive(Clone, Debug)]
#[must_use]
pub struct Proxy {
    trusted: Trusted,
    timeout: Duration,
    max_octets: u16,
    believes_tls: bool,
}

impl Proxy {
    /// Expects a header from exactly those peers for which `trusts` holds. It is asked when a
    /// connection begins, with the address from which it comes.
    ///
    /// Whoever is trusted can claim any address, so a peer must not be trusted that a client can be.
    pub fn from_trusted(trusts: impl Fn(&Peer) -> bool + Send + Sync + 'static) -> Self {
        Self::new(Trusted::new(trusts))
    }

    /// Expects a header from exactly those peers whose address is in one of the networks.
    pub fn from_networks(networks: impl IntoIterator<Item = Network>) -> Self {
        Self::new(Trusted::networks(networks))
    }

    fn new(trusted: Trusted) -> Self {
        Self { trusted, timeout: Duration::from_secs(5), max_octets: reader::USUAL_MAX_OCTETS, believes_tls: false }
    }

    /// How long to wait for the whole header, however many reads it takes: 5 seconds unless changed.
    /// Section 2 asks for at least 3, so that a lost segment can be sent again.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How many octets of addresses and TLVs a header of version 2 may have behind its first 16: 4,096
    /// unless changed. Section 2 wants a whole header to fit into 536. A connection keeps its TLVs until
    /// its end.
    pub fn max_octets(mut self, max_octets: u16) -> Self {
        self.max_octets = max_octets;
        self
    }

    /// Takes a client for being under TLS when the proxy says that it has taken TLS off
    /// ([`ProxyInfo::ssl`]). Off unless changed: what comes from the proxy is then in the clear, on whatever
    /// there is between the two.
    ///
    /// [`Session::tls`](crate::Session::tls) then tells what the proxy has told: version, cipher by
    /// OpenSSL's name, server name and ALPN; no certificates and no channel bindings, so that no mechanism
    /// rests on them. [`Session::is_tls_offloaded`](crate::Session::is_tls_offloaded) tells it apart.
    /// A TLS handshake with the proxy itself takes its place.
    pub fn believe_offloaded_tls(mut self, believe: bool) -> Self {
        self.believes_tls = believe;
        self
    }

    pub(crate) fn expects_header_from(&self, peer: Peer) -> bool {
        self.trusted.trusts(peer)
    }

    pub(crate) fn reader(&self, peer: Peer) -> Reader {
        Reader::new(peer).max_octets(self.max_octets)
    }

    /// How long the header may take.
    pub(crate) fn header_timeout(&self) -> Duration {
        self.timeout
    }

    pub(crate) fn believes_offloaded_tls(&self) -> bool {
        self.believes_tls
    }
}

/// Why a connection from a proxy was closed before its greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProxyRefusal {
    /// It does not begin with a header.
    Malformed(MalformedHeader),
    /// No whole header came in time.
    Timeout,
    /// The connection ended before a whole header had come: many health checks do so.
    ConnectionLost,
}

impl fmt::Display for ProxyRefusal {
    /// A stable word for log lines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(malformed) => f.write_str(malformed.word()),
            Self::Timeout => f.write_str("timeout"),
            Self::ConnectionLost => f.write_str("connection-lost"),
        }
    }
}
