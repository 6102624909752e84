//! Failures counted across connections.

use crate::session::Peer;

use super::MechanismName;

/// Counts failed authentications across connections, and says who has had enough.
///
/// The engine asks before it asks the authenticator or the AUTH handler hook, and before it believes a
/// mechanism that decides by itself: a client that is not admitted gets `454 4.7.0`. It asks and tells in the middle of
/// [`Connection::poll`](crate::Connection::poll), so neither method may wait: what is shared between
/// machines is kept up to date beside it, or asked by the authenticator.
///
/// [`MemoryAttemptLog`] keeps the counts of one process.
pub trait AttemptLog: Send + Sync {
    /// Whether the attempt may go on.
    fn admits(&self, attempt: &Attempt<'_>) -> bool;

    /// The attempt's credentials were refused.
    fn failed(&self, attempt: &Attempt<'_>);

    /// The attempt succeeded. Nothing, unless overridden: a success should not count against anybody, nor
    /// wash an address clean from which one account's owner guesses the passwords of others.
    fn succeeded(&self, attempt: &Attempt<'_>) {
        let _ = attempt;
    }
}

/// Who tries to authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt<'a> {
    /// Where the connection comes from.
    pub peer: Peer,
    /// The mechanism.
    pub mechanism: MechanismName,
    /// Who it says that it is, where the exchange has got so far; empty where it has not.
    pub authcid: &'a str,
}

impl<'a> Attempt<'a> {
    /// An attempt as the engine would tell of it: for tests of a log, and for failures that were counted
    /// elsewhere.
    #[must_use]
    pub fn new(peer: Peer, mechanism: MechanismName, authcid: &'a str) -> Self {
        Self { peer, mechanism, authcid }
    }
}

#[cfg(feature = "std")]
pub use memory::{AttemptLimits, MemoryAttemptLog};

#[cfg(feature = "std")]
mod memory {
    use core::fmt;
    use core::hash::{BuildHasher as _, Hash as _, Hasher as _};
    use core::net::IpAddr;
    use core::time::Duration;
    use std::collections::hash_map::RandomState;
    use std::sync::{Mutex, PoisonError};

    use alloc::boxed::Box;
    use alloc::vec::Vec;

    use super::{Attempt, AttemptLog};

    /// How many failures [`MemoryAttemptLog`] takes before it admits no more.
    ///
    /// Counts drain: after `window`, all that it takes to be barred is forgotten, and after a fraction of
    /// it that fraction.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct AttemptLimits {
        /// Failures from one IPv4 address or one IPv6 network of 64 bits; 0 for no limit. 50 unless
        /// changed: many users may share an address.
        pub by_address: u32,
        /// Failures for one authcid, from wherever they come; 0 for no limit, which it is unless changed:
        /// with a limit, anybody can keep a user from logging in. Names are told apart as they are written:
        /// where letter case does not matter, wrap the log.
        pub by_user: u32,
        /// How long it takes to forget. 15 minutes unless changed.
        pub window: Duration,
        /// How many addresses and users are remembered at the same time, at 32 octets each: 16,384 unless
        /// changed. Beyond that, those that are furthest from their limit are forgotten first.
        pub entries: usize,
    }

    impl Default for AttemptLimits {
        fn default() -> Self {
            Self { by_address: 50, by_user: 0, window: Duration::from_secs(15 * 60), entries: 16_384 }
        }
    }

    /// Counts failures in memory, of which it takes a fixed amount.
    ///
    /// ```
    /// use sansmtp::auth::{AttemptLimits, Auth, MemoryAttemptLog};
    /// use std::{sync::Arc, time::Instant};
    ///
    /// let started = Instant::now();
    /// let log = MemoryAttemptLog::new(AttemptLimits::default(), move || started.elapsed());
    /// let auth = Auth::new().attempts(Arc::new(log));
    /// # let _ = auth;
    /// ```
    pub struct MemoryAttemptLog {
        limits: AttemptLimits,
        clock: Box<dyn Fn() -> Duration + Send + Sync>,
        /// Unknown to anybody, so that nobody can choose addresses that push a given one out.
        hasher: RandomState,
        entries: Mutex<Vec<Entry>>,
    }

    /// A key, and how full its bucket was at a time. A key of 0 is none.
    #[derive(Clone, Copy, Default)]
    struct Entry {
        key: u64,
        /// In failures, when it was counted last.
        level: f32,
        /// How many there is room for.
        limit: u32,
        at: Duration,
    }

    impl MemoryAttemptLog {
        /// An empty log. `clock` tells the time since some moment before, and must not run backwards.
        pub fn new(limits: AttemptLimits, clock: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
            let entries = limits.entries.max(1).next_multiple_of(WAYS);
            Self {
                limits,
                clock: Box::new(clock),
                hasher: RandomState::new(),
                entries: Mutex::new(alloc::vec![Entry::default(); entries]),
            }
        }

        /// What is counted for an attempt: a key and the limit for it.
        fn keys(&self, attempt: &Attempt<'_>) -> impl Iterator<Item = (u64, u32)> {
            let address = attempt.peer.address().map(|address| match address.ip().to_canonical() {
                IpAddr::V4(address) => u128::from(address.to_bits()),
                // Whoever has one address of a network of 64 bits has all of them.
                IpAddr::V6(address) => address.to_bits() & !u128::from(u64::MAX),
            });
            let user = Some(attempt.authcid).filter(|authcid| !authcid.is_empty());
            let by_address = address.map(|address| (self.key(1, |state| address.hash(state)), self.limits.by_address));
            let by_user = user.map(|user| (self.key(2, |state| user.hash(state)), self.limits.by_user));
            [by_address, by_user].into_iter().flatten().filter(|(_, limit)| *limit > 0)
        }

        fn key(&self, kind: u8, hash: impl Fn(&mut std::hash::DefaultHasher)) -> u64 {
            let mut state = self.hasher.build_hasher();
            kind.hash(&mut state);
            hash(&mut state);
            state.finish().max(1)
        }

        /// The failures of an entry that are not forgotten yet.
        fn level(&self, entry: &Entry, now: Duration) -> f32 {
            let window = self.limits.window.max(Duration::from_millis(1));
            let drained = now.saturating_sub(entry.at).as_secs_f32() / window.as_secs_f32() * count(entry.limit);
            (entry.level - drained).max(0.0)
        }

        /// How much of its limit an entry has used up: users and addresses have different ones. Less than
        /// nothing where there is none.
        fn fullness(&self, entry: &Entry, now: Duration) -> f32 {
            if entry.key == 0 { -1.0 } else { self.level(entry, now) / count(entry.limit.max(1)) }
        }

        /// Looks at the few places where a key may be.
        fn with_places<T>(&self, key: u64, look: impl FnOnce(&mut [Entry]) -> T) -> T {
            let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            let sets = entries.len() / WAYS;
            let set = usize::try_from(key % u64::try_from(sets).unwrap_or(1)).unwrap_or(0);
            look(entries.get_mut(set * WAYS..(set + 1) * WAYS).unwrap_or_default())
        }
    }

    impl AttemptLog for MemoryAttemptLog {
        fn admits(&self, attempt: &Attempt<'_>) -> bool {
            let now = (self.clock)();
            self.keys(attempt).all(|(key, limit)| {
                let level = self.with_places(key, |places| {
                    let entry = places.iter().find(|entry| entry.key == key);
                    entry.map_or(0.0, |entry| self.level(entry, now))
                });
                // A count that has begun to drain has room again only when a whole failure is forgotten.
                level <= count(limit) - 1.0
            })
        }

        fn failed(&self, attempt: &Attempt<'_>) {
            let now = (self.clock)();
            for (key, limit) in self.keys(attempt) {
                self.with_places(key, |places| {
                    let known = places.iter().position(|entry| entry.key == key);
                    let emptiest = |places: &[Entry]| {
                        let fullness = places.iter().map(|entry| self.fullness(entry, now)).enumerate();
                        fullness.min_by(|(_, left), (_, right)| left.total_cmp(right)).map(|(place, _)| place)
                    };
                    let place = known.or_else(|| emptiest(places));
                    if let Some(entry) = place.and_then(|place| places.get_mut(place)) {
                        let before = if entry.key == key { self.level(entry, now) } else { 0.0 };
                        *entry = Entry { key, level: (before + 1.0).min(count(limit)), limit, at: now };
                    }
                });
            }
        }
    }

    impl fmt::Debug for MemoryAttemptLog {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("MemoryAttemptLog").field("limits", &self.limits).finish_non_exhaustive()
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "limits are small numbers, and an estimate will do")]
    fn count(limit: u32) -> f32 {
        limit as f32
    }

    /// How many places a key may be in.
    const WAYS: usize = 8;

    static_assertions::const_assert!(size_of::<Entry>() <= 32);
    static_assertions::assert_impl_all!(MemoryAttemptLog: Send, Sync);
}
