//! How many connections there are, and may be, over all listeners and from one address.

use std::collections::HashMap;
use std::io;
use std::mem;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sansmtp::{Config, Network, Peer, ProxyInfo, Session};

use crate::engine::Security;
use crate::listening::{ListenerLog, Service};
use crate::sockets::Stream;

/// The limits on connections, and what is counted against them, over all listeners. Clones count together.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) max_connections: usize,
    /// How many more there may be for addresses that have few: whoever is exempt does not lock all others out.
    pub(crate) spare: usize,
    /// Nothing, if the embedder has not said anything: then loopback does not count.
    pub(crate) max_per_address: Option<usize>,
    /// What does not count, either.
    pub(crate) exempt: Vec<Network>,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_source: HashMap<Source, usize>,
}

/// What is counted as one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    V4([u8; 4]),
    /// The /64, of which a customer of any network has at least one.
    V6([u8; 8]),
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: MAX_CONNECTIONS,
            spare: 0,
            max_per_address: None,
            exempt: Vec::new(),
            taken: Arc::default(),
        }
    }
}

impl Limits {
    /// What counts the clients of a proxy, each by the address that the proxy tells.
    pub(crate) fn gate(self: &Arc<Self>, service: &Service) -> Box<Gate> {
        Box::new(Gate {
            limits: Arc::clone(self),
            config: Arc::clone(&service.config),
            log: Arc::clone(&service.log),
            counted: None,
            is_silent: service.security != Security::Clear,
            is_refused: false,
            is_closed: false,
            has_news: false,
        })
    }

    /// Counts a connection, until its place is dropped.
    pub(crate) fn admit(&self, peer: Peer, is_counted_by_address: impl FnOnce() -> bool) -> Result<Place, Refused> {
        let address = peer.address().map(|address| address.ip()).filter(|_| is_counted_by_address());
        let (source, most) = match address {
            Some(address) if self.is_exempt(address) => (Some(Source::from(address)), usize::MAX),
            Some(address) => (Some(Source::from(address)), self.per_address()),
            None => (None, usize::MAX),
        };
        let mut taken = lock(&self.taken);
        let has_few = source.is_some_and(|source| taken.of(source) < MAX_PER_ADDRESS);
        let spare = if has_few { self.spare } else { 0 };
        if taken.all >= self.max_connections.saturating_add(spare) {
            return Err(Refused { peer, line: Some(TOO_MANY) });
        }
        if source.is_some_and(|source| !taken.count(source, most)) {
            return Err(Refused { peer, line: Some(TOO_MANY_FROM_ADDRESS) });
        }
        taken.all += 1;
        Ok(Place { taken: Arc::clone(&self.taken), source })
    }

    /// Whether there may be any number of connections from this address.
    fn is_exempt(&self, address: IpAddr) -> bool {
        self.max_per_address.is_none() && address.to_canonical().is_loopback()
            || self.exempt.iter().any(|network| network.contains(address))
    }

    fn per_address(&self) -> usize {
        self.max_per_address.unwrap_or(MAX_PER_ADDRESS)
    }
}

impl Taken {
    fn of(&self, source: Source) -> usize {
        self.by_source.get(&source).copied().unwrap_or_default()
    }

    /// Counts a connection, unless there are `max` already.
    fn count(&mut self, source: Source, max: usize) -> bool {
        let connections = self.by_source.entry(source).or_default();
        // A limit is at least one: an entry that was made just now stays.
        let has_room = *connections < max;
        *connections += usize::from(has_room);
        has_room
    }

    fn discount(&mut self, source: Source) {
        if let Some(connections) = self.by_source.get_mut(&source) {
            *connections -= 1;
            if *connections == 0 {
                self.by_source.remove(&source);
            }
        }
    }
}

/// A connection's place among those that are allowed. Dropped, it is free for another.
#[derive(Debug)]
#[must_use]
pub struct Place {
    taken: Arc<Mutex<Taken>>,
    source: Option<Source>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.all -= 1;
        if let Some(source) = self.source {
            taken.discount(source);
        }
    }
}

/// Counts a connection by its client's address once a proxy has named it.
#[derive(Debug)]
pub(crate) struct Gate {
    limits: Arc<Limits>,
    config: Arc<Config>,
    log: Arc<ListenerLog>,
    counted: Option<Counted>,
    /// Before TLS that is there from the start, nothing can be said.
    is_silent: bool,
    is_refused: bool,
    is_closed: bool,
    /// Something was read that it has not looked at.
    has_news: bool,
}

impl Gate {
    /// Whether there are too many from the address of this client, who is counted when a proxy has named it.
    pub(crate) fn refuses(&mut self, session: &Session) -> bool {
        if self.is_refused || self.counted.is_some() || session.proxy().and_then(ProxyInfo::source).is_none() {
            return self.is_refused;
        }
        let client = session.peer();
        let Some(address) = client.address() else { return false };
        if self.limits.is_exempt(address.ip()) || self.config.offers_xclient(client) {
            self.counted = Some(Counted(None));
            return false;
        }
        let source = Source::from(address.ip());
        if lock(&self.limits.taken).count(source, self.limits.per_address()) {
            self.counted = Some(Counted(Some((Arc::clone(&self.limits.taken), source))));
            return false;
        }
        self.is_refused = true;
        self.log.too_many(client);
        true
    }

    /// Closes. What a client that was refused is told, if anything can be said.
    pub(crate) fn close(&mut self) -> Option<&'static str> {
        self.is_closed = true;
        (!self.is_silent).then_some(TOO_MANY_FROM_ADDRESS)
    }

    /// Something was read: the client may be known by it.
    pub(crate) fn expect_news(&mut self) {
        self.has_news = self.counted.is_none();
    }

    /// Whether something was read since this was asked last.
    pub(crate) fn has_news(&mut self) -> bool {
        mem::take(&mut self.has_news)
    }

    /// Whether it was [closed](Self::close).
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }
}

/// A connection that counts for its address, if that counts. Dropped, it does not any more.
#[derive(Debug)]
struct Counted(Option<(Arc<Mutex<Taken>>, Source)>);

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some((taken, source)) = &self.0 {
            lock(taken).discount(*source);
        }
    }
}

/// A connection for which there is no place.
#[derive(Debug)]
#[must_use]
pub struct Refused {
    peer: Peer,
    /// What it is told. Under TLS nothing can be said yet.
    line: Option<&'static str>,
}

impl Refused {
    /// The same where nothing can be said in the clear.
    #[cfg(feature = "rustls")]
    pub(crate) fn silent(self) -> Self {
        Self { line: None, ..self }
    }

    /// Tells the peer, without waiting for anything, and closes the connection.
    pub fn tell(self, stream: io::Result<Stream>) {
        let Self { peer, line } = self;
        let told = stream.and_then(|stream| line.map_or(Ok(()), |line| stream.turn_away(line.as_bytes())));
        if let Err(error) = told {
            tracing::debug!(%peer, %error, "connection lost");
        }
    }
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        // A socket for both protocols has IPv4 addresses as `::ffff:192.0.2.1`.
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    // No panic leaves it half changed.
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many connections there may be unless the embedder, or the limit on open files, says otherwise.
pub(crate) const MAX_CONNECTIONS: usize = 10_000;
const MAX_PER_ADDRESS: usize = 50;

const TOO_MANY: &str = "421 4.7.0 Too many connections, try again later\r\n";
const TOO_MANY_FROM_ADDRESS: &str = "421 4.7.0 Too many connections from your address\r\n";

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn admit(limits: &Limits, address: &str) -> Option<Place> {
        limits.admit(SocketAddr::new(address.parse().unwrap(), 25).into(), || true).ok()
    }

    #[test]
    fn an_ipv6_customer_is_one_address() {
        let limits = Limits { max_per_address: Some(1), ..Limits::default() };
        let mut places = Vec::new();
        for (address, has_place) in [
            ("192.0.2.1", true),
            ("::ffff:192.0.2.1", false),
            ("192.0.2.2", true),
            ("2001:db8::1", true),
            ("2001:db8::ffff:1", false),
            ("2001:db8:0:1::1", true),
            // As the first four octets of an IPv6 address, it is another one.
            ("c000:201::", true),
        ] {
            let place = admit(&limits, address);
            assert_eq!(place.is_some(), has_place, "{address}");
            places.extend(place);
        }
        assert_eq!(lock(&limits.taken).all, 5);
        assert!(limits.admit(Peer::local(), || true).is_ok());
        assert!(limits.admit(SocketAddr::from(([192, 0, 2, 1], 25)).into(), || false).is_ok());
        drop(places);
        let taken = lock(&limits.taken);
        assert_eq!((taken.all, taken.by_source.len()), (0, 0));
    }

    /// Unless a number is given, which means everybody.
    #[test]
    fn loopback_and_named_networks_are_exempt() {
        let mut limits = Limits { exempt: vec!["192.0.2.0/24".parse().unwrap()], ..Limits::default() };
        let admitted = |limits: &Limits, address| {
            let places: Vec<_> = (0..60).map_while(|_| admit(limits, address)).collect();
            places.len()
        };
        for (address, usual, given) in [
            ("127.0.0.1", 60, 2),
            ("::1", 60, 2),
            ("::ffff:127.0.0.2", 60, 2),
            ("192.0.2.1", 60, 60),
            ("198.51.100.1", 50, 2),
            ("2001:db8::1", 50, 2),
        ] {
            limits.max_per_address = None;
            assert_eq!(admitted(&limits, address), usual, "{address}");
            limits.max_per_address = Some(2);
            assert_eq!(admitted(&limits, address), given, "{address}");
        }
        let taken = lock(&limits.taken);
        assert_eq!((taken.all, taken.by_source.len()), (0, 0));
    }

    #[test]
    fn whoever_is_exempt_leaves_places_for_others() {
        let limits = Limits { max_connections: 100, spare: 10, ..Limits::default() };
        let crowd: Vec<_> = (0..200).map_while(|_| admit(&limits, "127.1.0.1")).collect();
        assert_eq!(crowd.len(), 100);
        assert!(limits.admit(Peer::local(), || true).is_err());
        let others: Vec<_> = (0..200).map_while(|_| admit(&limits, "127.0.0.1")).collect();
        assert_eq!(others.len(), 10);
        assert!(admit(&limits, "192.0.2.1").is_none());
    }

    #[test]
    fn a_place_is_free_again_after_a_panic() {
        let limits = Limits { max_connections: 1, ..Limits::default() };
        let place = admit(&limits, "192.0.2.1");
        assert!(admit(&limits, "192.0.2.2").is_none());
        let panicked = std::thread::spawn(move || {
            let _place = place;
            panic!("as asked");
        });
        assert!(panicked.join().is_err());
        assert!(admit(&limits, "192.0.2.2").is_some());
    }
}
