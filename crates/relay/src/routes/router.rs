//! From a recipient's domain to the destination of its mail, and to the servers there.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Address, MailExchangers, NextHop, Route};
use crate::delivery::StartError;
use crate::idn::same_domain;
use crate::spool::Answer;

/// Servers of which any takes the mail. The queue counts sessions, and failures, by this.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Destination {
    /// The relays that all mail goes to.
    Relays,
    /// A domain whose mail exchangers are to be looked up.
    Domain(Arc<str>),
    /// Mail exchangers, which several domains may share: their names, sorted; or the address of a literal.
    Exchangers(Arc<str>),
}

/// A server to try, with the addresses at which it may be reached.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) next_hop: NextHop,
    pub(crate) addresses: Vec<Address>,
}

/// Where a domain's mail goes, best server first.
#[derive(Clone, Debug)]
pub(crate) struct Routed {
    pub(crate) destination: Destination,
    pub(crate) hosts: Arc<[Host]>,
}

/// Why there is no server to try.
#[derive(Clone, Debug)]
pub(crate) struct NoRoute {
    /// Whether looking again is pointless.
    pub(crate) is_permanent: bool,
    pub(crate) answer: Answer,
}

/// Finds the servers for a domain, and remembers them for a short while.
#[derive(Debug)]
pub(crate) struct Router {
    way: Way,
    known: Mutex<HashMap<Arc<str>, (Routed, Instant)>>,
}

#[derive(Debug)]
enum Way {
    Relays(Vec<NextHop>),
    Exchangers { exchangers: Box<MailExchangers>, port: u16 },
}

impl Router {
    /// Prepares to find servers along a route. Call within a tokio runtime.
    ///
    /// # Errors
    /// Where the system's configuration of DNS cannot be read.
    pub(crate) fn new(route: Route, hostname: &str) -> Result<Self, StartError> {
        let way = match route {
            Route::Relays(relays) => Way::Relays(relays),
            Route::Mx { port, resolver, allow_local } => {
                Way::Exchangers { exchangers: Box::new(MailExchangers::new(resolver, hostname, allow_local)?), port }
            }
        };
        Ok(Self { way, known: Mutex::default() })
    }

    /// Whether all mail goes one way, whoever it is for.
    pub(crate) fn has_one_way(&self) -> bool {
        matches!(self.way, Way::Relays(_))
    }

    /// The part of a message that a recipient belongs to: those of one domain, in A-labels, or all where
    /// all mail goes one way.
    pub(crate) fn part(&self, forward_path: &str) -> String {
        match self.way {
            Way::Relays(_) => String::new(),
            Way::Exchangers { .. } => same_domain(forward_path.rsplit_once('@').map_or("", |(_, domain)| domain)),
        }
    }

    /// The destination of a part, as far as it is known without asking DNS.
    pub(crate) fn destination(&self, part: &Arc<str>) -> Destination {
        match &self.way {
            Way::Relays(_) => Destination::Relays,
            Way::Exchangers { .. } => {
                self.remembered(part).map_or_else(|| Destination::Domain(Arc::clone(part)), |found| found.destination)
            }
        }
    }

    /// Finds the destination of a part, and the servers there.
    ///
    /// # Errors
    /// Where there is none, or none can be found now.
    pub(crate) async fn find(&self, part: &Arc<str>) -> Result<Routed, NoRoute> {
        if let Some(found) = self.remembered(part) {
            return Ok(found);
        }
        match &self.way {
            Way::Relays(relays) => {
                let hosts = relay_hosts(relays).await?;
                let routed = Routed { destination: Destination::Relays, hosts: hosts.into() };
                self.remember(part, &routed);
                Ok(routed)
            }
            Way::Exchangers { exchangers, port } => {
                let found = exchangers.look_up(part).await.map_err(|error| NoRoute {
                    is_permanent: error.is_permanent(),
                    answer: Answer::own_words(error.status(), &format!("{part}: {error}")),
                })?;
                let mut names: Vec<_> = found.iter().map(|exchanger| exchanger.host.as_str()).collect();
                names.sort_unstable();
                let destination = Destination::Exchangers(names.join(" ").into());
                let host = |exchanger: super::mx::Exchanger| Host {
                    addresses: exchanger.addresses.iter().map(|ip| SocketAddr::new(*ip, *port).into()).collect(),
                    next_hop: NextHop::exchanger(exchanger.host, *port),
                };
                let routed = Routed { destination, hosts: found.into_iter().map(host).collect() };
                self.remember(part, &routed);
                Ok(routed)
            }
        }
    }

    fn remembered(&self, part: &Arc<str>) -> Option<Routed> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(part).filter(|(_, until)| Instant::now() < *until).map(|(found, _)| found.clone())
    }

    fn remember(&self, part: &Arc<str>, found: &Routed) {
        let (mut known, now) = (self.known.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
        if known.len() >= MAX_KNOWN {
            known.retain(|_, (_, until)| now < *until);
        }
        if known.len() < MAX_KNOWN {
            known.insert(Arc::clone(part), (found.clone(), now + REMEMBERED));
        }
    }
}

impl Destination {
    /// Whether it is this domain, or has this exchanger.
    pub(crate) fn has(&self, name: &str) -> bool {
        match self {
            Self::Relays => false,
            Self::Domain(domain) => **domain == *name,
            Self::Exchangers(names) => names.split(' ').any(|other| other == name),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Relays => f.write_str("the relays"),
            Self::Domain(domain) => f.write_str(domain),
            Self::Exchangers(names) => f.write_str(names),
        }
    }
}

async fn relay_hosts(relays: &[NextHop]) -> Result<Vec<Host>, NoRoute> {
    let mut hosts = Vec::new();
    let mut unknown = None;
    for next_hop in relays {
        if let Some(path) = &next_hop.socket {
            let addresses = vec![Address::Unix(path.as_path().into())];
            hosts.push(Host { next_hop: next_hop.clone(), addresses });
            continue;
        }
        match tokio::net::lookup_host((next_hop.host.as_str(), next_hop.port)).await {
            Ok(addresses) => match usable(next_hop, addresses) {
                Ok(addresses) => hosts.push(Host { next_hop: next_hop.clone(), addresses }),
                Err(error) => {
                    tracing::error!(relay = %next_hop, error, "the relay is not used");
                    unknown = Some(Answer::own_words("4.4.3", &format!("{}: {error}", next_hop.host)));
                }
            },
            Err(error) => {
                tracing::warn!(relay = %next_hop, %error, "cannot look up the relay");
                unknown = Some(Answer::own_words("4.4.3", &format!("{}: {error}", next_hop.host)));
            }
        }
    }
    match unknown {
        Some(answer) if hosts.is_empty() => Err(NoRoute { is_permanent: false, answer }),
        Some(_) | None => Ok(hosts),
    }
}

/// The addresses at which a relay may be reached. `localhost` is this machine (RFC 6761, section 6.3), whatever a resolver
/// says: a password may go there without TLS.
fn usable(next_hop: &NextHop, addresses: impl Iterator<Item = SocketAddr>) -> Result<Vec<Address>, &'static str> {
    let is_usable = |address: &SocketAddr| !next_hop.is_loopback() || address.ip().to_canonical().is_loopback();
    let usable: Vec<_> = addresses.filter(is_usable).map(Address::from).collect();
    if usable.is_empty() { Err("the name has no address of this machine") } else { Ok(usable) }
}

/// For how long the servers of a domain, or the relays' addresses, are remembered: less than most records of DNS are good for, and long enough for a
/// backlog. The resolver remembers what it was told for as long as it was told to.
const REMEMBERED: Duration = Duration::from_secs(60);
const MAX_KNOWN: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_is_this_machine_whatever_a_resolver_says() {
        let addresses: [SocketAddr; 4] =
            ["192.0.2.1:25", "127.0.0.1:25", "[2001:db8::1]:25", "[::1]:25"].map(|address| address.parse().unwrap());
        let usable = |url: &str| usable(&url.parse().unwrap(), addresses.into_iter());
        assert_eq!(usable("smtp://localhost").unwrap(), [Address::from(addresses[1]), Address::from(addresses[3])]);
        assert_eq!(usable("smtp://mx.example").unwrap(), addresses.map(Address::from));
        let elsewhere = super::usable(&"smtp://LOCALHOST".parse().unwrap(), addresses.into_iter().take(1));
        assert_eq!(elsewhere, Err("the name has no address of this machine"));
    }
}
