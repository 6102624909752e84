//! How many connections there are, and may be.

use std::collections::HashMap;
use std::io;
use std::mem;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sansmtp::Peer;

use crate::sockets::Stream;

/// The limits on connections, and what is counted against them, over all listeners.
#[derive(Debug)]
pub(crate) struct Limits {
    pub(crate) max_connections: usize,
    pub(crate) max_per_address: Option<usize>,
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
        Self { max_connections: 10_000, max_per_address: None, taken: Arc::default() }
    }
}

impl Limits {
    /// What counts a connection later, if anything does.
    pub(crate) fn gate(&self, is_silent: bool) -> Option<Box<Gate>> {
        let (max, taken) = (self.max_per_address?, Arc::clone(&self.taken));
        Some(Box::new(Gate { taken, max, counted: None, is_silent, is_closed: false, has_news: false }))
    }

    /// Counts a connection, until its place is dropped.
    pub(crate) fn admit(&self, peer: Peer, is_counted_by_address: impl FnOnce() -> bool) -> Result<Place, Refused> {
        let source = match (self.max_per_address, peer.address()) {
            (Some(max), Some(address)) if is_counted_by_address() => Some((Source::from(address.ip()), max)),
            _ => None,
        };
        let mut taken = lock(&self.taken);
        if taken.all >= self.max_connections {
            return Err(Refused { peer, line: Some(TOO_MANY) });
        }
        if let Some((source, max)) = source
            && !taken.count(source, max)
        {
            return Err(Refused { peer, line: Some(TOO_MANY_FROM_ADDRESS) });
        }
        taken.all += 1;
        Ok(Place { taken: Arc::clone(&self.taken), source: source.map(|(source, _)| source) })
    }
}

impl Taken {
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
    taken: Arc<Mutex<Taken>>,
    max: usize,
    counted: Option<Counted>,
    /// Before TLS that is there from the start, nothing can be said.
    is_silent: bool,
    is_closed: bool,
    /// Something was read that it has not looked at.
    has_news: bool,
}

impl Gate {
    /// Lets a client through, or closes. What one is then told, if anything can be said.
    pub(crate) fn refuse(&mut self, client: Peer) -> Option<Option<&'static str>> {
        let (None, Some(address)) = (&self.counted, client.address()) else { return None };
        let source = Source::from(address.ip());
        if lock(&self.taken).count(source, self.max) {
            self.counted = Some(Counted { taken: Arc::clone(&self.taken), source });
            return None;
        }
        self.is_closed = true;
        Some((!self.is_silent).then_some(TOO_MANY_FROM_ADDRESS))
    }

    /// Something was read: the client may be known by it.
    pub(crate) fn expect_news(&mut self) {
        self.has_news = self.counted.is_none();
    }

    /// Whether something was read since this was asked last.
    pub(crate) fn has_news(&mut self) -> bool {
        mem::take(&mut self.has_news)
    }

    /// Whether a client was refused.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }
}

/// A connection that counts for its address. Dropped, it does not any more.
#[derive(Debug)]
struct Counted {
    taken: Arc<Mutex<Taken>>,
    source: Source,
}

impl Drop for Counted {
    fn drop(&mut self) {
        lock(&self.taken).discount(self.source);
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
        tracing::warn!(%peer, "too many connections");
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
