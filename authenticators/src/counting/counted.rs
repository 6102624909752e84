//! What is counted, and by which name the server knows it.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sansmtp::Secret;
use sansmtp::auth::{Attempt, AttemptLimits};
use sha2::Sha256;

use crate::sending::{Sent, Window};

/// An address, a user, or what a user has sent, with its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(super) key: Key,
    pub(super) measure: Measure,
}

/// A keyed hash, of which there is a different one for each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    kind: Kind,
    hash: u128,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Address,
    User,
    Sent(Sent, Window),
}

/// How a count is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    /// As a time to live: each failure adds a step, up to the limit.
    Bucket(Bucket),
    /// As what there was in each part of the window.
    Window { part_ms: u64, limit: u32 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    step_ms: u64,
    brim_ms: u64,
}

/// What there is to count: nothing, one, or both. Both are kept in the same way.
pub(crate) type Counts = [Option<Counted>; 2];

/// Makes [`Counts`] of attempts.
pub(crate) struct Counter {
    key: Secret,
    by_address: Option<Bucket>,
    by_user: Option<Bucket>,
}

impl Counter {
    pub(crate) fn new(key: Secret, limits: &AttemptLimits) -> Self {
        let bucket = |limit| Bucket::new(limit, limits.window);
        Self { key, by_address: bucket(limits.by_address), by_user: bucket(limits.by_user) }
    }

    /// The same as in memory: an IPv4 address, an IPv6 network of 64 bits, a name as it is written.
    pub(crate) fn of(&self, attempt: &Attempt<'_>) -> Counts {
        let address = attempt.peer.address().map(|address| match address.ip().to_canonical() {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            // Whoever has one address of a network of 64 bits has all of them.
            IpAddr::V6(address) => address.to_bits() & !u128::from(u64::MAX),
        });
        let user = Some(attempt.authcid).filter(|authcid| !authcid.is_empty());
        let counted = |bucket: Option<Bucket>, kind, octets: Option<&[u8]>| {
            Some(Counted { key: Key::new(&self.key, kind, octets?), measure: Measure::Bucket(bucket?) })
        };
        [
            counted(self.by_address, Kind::Address, address.map(u128::to_be_bytes).as_ref().map(|octets| &octets[..])),
            counted(self.by_user, Kind::User, user.map(str::as_bytes)),
        ]
    }
}

impl Counted {
    /// What a login has sent in a window, of which no more than the limit is to be.
    pub(crate) fn sent(key: &Secret, login: &str, sent: Sent, window: Window, limit: u32) -> Self {
        let part_ms = u64::try_from(window.part().as_millis()).unwrap_or(u64::MAX);
        let key = Key::new(key, Kind::Sent(sent, window), login.as_bytes());
        Self { key, measure: Measure::Window { part_ms, limit } }
    }

    /// How long there is no room for another failure, by the time to live that the server tells; it is negative where
    /// there is no such key. Of what users send, nothing is remembered.
    pub(super) fn barred_for(&self, time_to_live_ms: i64) -> Duration {
        let Measure::Bucket(bucket) = self.measure else { return Duration::ZERO };
        let room_at = bucket.brim_ms.saturating_sub(bucket.step_ms);
        Duration::from_millis(u64::try_from(time_to_live_ms).unwrap_or(0).saturating_sub(room_at))
    }
}

impl Bucket {
    pub(super) fn step_ms(&self) -> u64 {
        self.step_ms
    }

    pub(super) fn brim_ms(&self) -> u64 {
        self.brim_ms
    }
}

impl Key {
    fn new(key: &Secret, kind: Kind, octets: &[u8]) -> Self {
        let hash = mac(key, kind.name(), octets);
        let (hash, _) = hash.split_first_chunk().unwrap_or((&[0; 16], &[]));
        Self { kind, hash: u128::from_be_bytes(*hash) }
    }

    pub(super) fn name(self) -> String {
        let mut name = String::with_capacity(64);
        name.push_str(PREFIX);
        name.push_str(self.kind.name());
        let _ = write!(name, ":{:032x}", self.hash);
        name
    }
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Address => "attempts:address",
            Self::User => "attempts:user",
            Self::Sent(Sent::Message, Window::Hour) => "sending:messages-hour",
            Self::Sent(Sent::Message, Window::Day) => "sending:messages-day",
            Self::Sent(Sent::Recipient, Window::Hour) => "sending:recipients-hour",
            Self::Sent(Sent::Recipient, Window::Day) => "sending:recipients-day",
        }
    }
}

impl Bucket {
    /// `None` where there is no limit.
    fn new(limit: u32, window: Duration) -> Option<Self> {
        let window = u64::try_from(window.as_millis()).unwrap_or(MAX_WINDOW_MS).min(MAX_WINDOW_MS);
        let step_ms = window.checked_div(limit.into())?.max(1);
        Some(Self { step_ms, brim_ms: step_ms.saturating_mul(limit.into()) })
    }
}

/// HMAC-SHA-256 of `octets`, different for each purpose.
pub(crate) fn mac(key: &Secret, purpose: &str, octets: &[u8]) -> [u8; 32] {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.expose_secret()) else { return [0; 32] };
    mac.update(purpose.as_bytes());
    mac.update(&[0]);
    mac.update(octets);
    mac.finalize().into_bytes().into()
}

const PREFIX: &str = "sansmtp:";

/// A year, so that no sum overflows.
const MAX_WINDOW_MS: u64 = 365 * 24 * 60 * 60 * 1000;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use sansmtp::Peer;

    use super::*;

    fn counts(limits: AttemptLimits, address: &str, user: &str) -> Counts {
        let counter = Counter::new(Secret::new(b"a key of the tests".to_vec()), &limits);
        let peer = address.parse::<SocketAddr>().map_or_else(|_| Peer::local(), Peer::from);
        counter.of(&Attempt::new(peer, "PLAIN".into(), user))
    }

    #[test]
    fn addresses_are_networks_where_they_cost_nothing() {
        let limits = AttemptLimits::default();
        let of = |address| counts(limits, address, "tim");
        assert_eq!(of("192.0.2.1:1"), of("192.0.2.1:2"));
        assert_eq!(of("192.0.2.1:1"), of("[::ffff:192.0.2.1]:1"));
        assert_ne!(of("192.0.2.1:1"), of("192.0.2.2:1"));
        assert_eq!(of("[2001:db8::1]:1"), of("[2001:db8::ffff:1:2:3]:1"));
        assert_ne!(of("[2001:db8::1]:1"), of("[2001:db8:0:1::1]:1"));
        assert_eq!(of(""), [None, None]);
        assert!(of("192.0.2.1:1")[1].is_none());
    }

    #[test]
    fn users_are_counted_where_they_have_a_limit() {
        let limits = AttemptLimits { by_address: 0, by_user: 3, ..AttemptLimits::default() };
        let of = |user| counts(limits, "192.0.2.1:1", user);
        assert_eq!(of(""), [None, None]);
        assert!(of("tim")[0].is_none() && of("tim")[1].is_some());
        assert_ne!(of("tim"), of("tom"));
    }

    #[test]
    fn names_show_nothing_and_depend_on_the_key() {
        let limits = AttemptLimits { by_user: 3, ..AttemptLimits::default() };
        let name = counts(limits, "192.0.2.1:1", "tanstaaf")[1].unwrap().key.name();
        assert!(name.starts_with("sansmtp:attempts:user:") && name.len() == 54 && !name.contains("tanstaaf"), "{name}");
        let other = Counter::new(Secret::new(b"another key".to_vec()), &limits);
        let attempt = Attempt::new(Peer::local(), "PLAIN".into(), "tanstaaf");
        assert_ne!(other.of(&attempt)[1].unwrap().key.name(), name);
    }

    #[test]
    fn a_bucket_is_full_after_as_many_steps_as_the_limit() {
        for (limit, window_ms) in [(1, 1000), (3, 1000), (50, 900_000), (7, 3), (u32::MAX, 1000), (1, u64::MAX)] {
            let limits = AttemptLimits {
                by_address: limit,
                window: Duration::from_millis(window_ms),
                ..AttemptLimits::default()
            };
            let counted = counts(limits, "192.0.2.1:1", "")[0].unwrap();
            let Measure::Bucket(bucket) = counted.measure else { panic!("{counted:?}") };
            let after = |failures: u64| i64::try_from(bucket.step_ms() * failures).unwrap();
            let limit = u64::from(limit);
            assert_eq!(after(limit), i64::try_from(bucket.brim_ms()).unwrap());
            assert_eq!(counted.barred_for(after(limit)), Duration::from_millis(bucket.step_ms()));
            assert_eq!(counted.barred_for(after(limit - 1)), Duration::ZERO);
            assert_eq!(counted.barred_for(-2), Duration::ZERO);
        }
    }
}
