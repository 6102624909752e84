//! From a recipient to the servers that take its mail on.

mod local;
mod mx;
mod next_hop;
mod relay_url;
mod router;

use std::net::SocketAddr;

use self::mx::MailExchangers;
pub(crate) use self::next_hop::Address;
pub use self::next_hop::{NextHop, Protocol, Security};
pub use self::relay_url::RelayUrlError;
pub(crate) use self::router::{Destination, Host, Router};

/// Where messages are taken.
#[derive(Clone, Debug)]
pub enum Route {
    /// To the first of these servers that can be reached.
    Relays(Vec<NextHop>),
    /// To the recipients' mail exchangers (RFC 5321, section 5.1).
    Mx {
        /// The port of every exchanger: 25, except in tests.
        port: u16,
        /// The DNS server to ask; those of the system otherwise.
        resolver: Option<SocketAddr>,
        /// Whether exchangers may be this host, or in a private network: at an address that is loopback, private,
        /// link-local, unspecified or this host's. Otherwise mail for a domain that has no others fails with 5.4.6.
        allow_local: bool,
    },
}
