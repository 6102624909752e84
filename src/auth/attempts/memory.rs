//! The log of one process.

use core::fmt;
use core::hash::{BuildHasher as _, Hash as _, Hasher as _};
use core::net::IpAddr;
use core::time::Duration;
use std::collections::hash_map::RandomState;
use std::sync::{Mutex, MutexGuard, PoisonError};

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::{Attempt, AttemptLog, Reservation};

/// How many failures [`MemoryAttemptLog`] takes before it admits no more.
///
/// Counts drain: after `window`, all that it takes to be barred is forgotten, and after a fraction of
/// it that fraction. An attempt that is not decided yet counts as a failure, and does not drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptLimits {
    /// Failures from one IPv4 address or one IPv6 network of 64 bits; 0 for no limit. 50 unless
    /// changed: many users may share an address. It is also how many logins from one address can be
    /// under way at the same time.
    pub by_address: u32,
    /// Failures for one authcid, from wherever they come; 0 for no limit, which it is unless changed:
    /// with a limit, anybody can keep a user from logging in. Names are told apart as they are written:
    /// where letter case does not matter, wrap the log.
    pub by_user: u32,
    /// Exchanges from one IPv4 address or one IPv6 network of 64 bits that were challenged and not
    /// finished: cancelled, malformed, given up. 0 for no limit. 500 unless changed: some clients cancel
    /// one exchange before each login. Past it, AUTH is `454 4.7.0`.
    pub unfinished_by_address: u32,
    /// How long it takes to forget. 15 minutes unless changed.
    pub window: Duration,
    /// How many addresses and users are remembered at the same time, at 32 octets each: 16,384 unless
    /// changed. Beyond that, those that are furthest from their limit are forgotten first, and never one
    /// with an attempt that is not decided yet: where there is room for no other, nobody else is admitted.
    /// So keep it well above the number of connections.
    pub entries: usize,
}

impl Default for AttemptLimits {
    fn default() -> Self {
        Self {
            by_address: 50,
            by_user: 0,
            unfinished_by_address: 500,
            window: Duration::from_secs(15 * 60),
            entries: 16_384,
        }
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

/// What is counted of an address or a user. A key of 0 is none.
#[derive(Clone, Copy, Default)]
struct Entry {
    key: u64,
    /// On the log's clock, when the level was set last.
    at_ms: u64,
    /// In failures, at that time.
    level: f32,
    /// How many there is room for.
    limit: u32,
    /// Attempts that may become failures. They do not drain.
    reserved: u32,
}

/// A key, and how many failures there is room for.
type Counted = (u64, u32);

/// What one attempt counts for: its address, its user.
type Counts = [Option<Counted>; 2];

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

    fn counts(&self, attempt: &Attempt<'_>) -> Counts {
        let user = Some(attempt.authcid).filter(|authcid| !authcid.is_empty());
        let by_user = user.map(|user| (self.key(Kind::User, |state| user.hash(state)), self.limits.by_user));
        let by_address = self.by_address(attempt, Kind::Address, self.limits.by_address);
        [by_address, by_user.filter(|(_, limit)| *limit > 0)]
    }

    fn unfinished_count(&self, attempt: &Attempt<'_>) -> Option<Counted> {
        self.by_address(attempt, Kind::Unfinished, self.limits.unfinished_by_address)
    }

    fn by_address(&self, attempt: &Attempt<'_>, kind: Kind, limit: u32) -> Option<Counted> {
        let address = match attempt.peer.address().filter(|_| limit > 0)?.ip().to_canonical() {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            // Whoever has one address of a network of 64 bits has all of them.
            IpAddr::V6(address) => address.to_bits() & !u128::from(u64::MAX),
        };
        Some((self.key(kind, |state| address.hash(state)), limit))
    }

    fn key(&self, kind: Kind, hash: impl Fn(&mut std::hash::DefaultHasher)) -> u64 {
        let mut state = self.hasher.build_hasher();
        (kind as u8).hash(&mut state);
        hash(&mut state);
        state.finish().max(1)
    }

    fn table(&self) -> Table<'_> {
        let now_ms = u64::try_from((self.clock)().as_millis()).unwrap_or(u64::MAX);
        let window_ms = u64::try_from(self.limits.window.as_millis()).unwrap_or(u64::MAX).max(1);
        Table { entries: self.entries.lock().unwrap_or_else(PoisonError::into_inner), now_ms, window_ms }
    }
}

impl AttemptLog for MemoryAttemptLog {
    fn admit(&self, attempt: &Attempt<'_>) -> Option<Reservation> {
        let counts = self.counts(attempt);
        let mut table = self.table();
        if !counts.iter().flatten().all(|&counted| table.has_room(counted)) {
            return None;
        }
        let mut reserved = [None; 2];
        for (reserved, counted) in reserved.iter_mut().zip(counts).filter(|(_, counted)| counted.is_some()) {
            *reserved = counted.filter(|&counted| table.reserve(counted));
        }
        if reserved != counts {
            reserved.into_iter().flatten().for_each(|(key, _)| table.release(key));
            return None;
        }
        Some(reservation(counts))
    }

    fn release(&self, reservation: Reservation) {
        let mut table = self.table();
        keys(reservation).for_each(|key| table.release(key));
    }

    fn refused(&self, attempt: &Attempt<'_>) {
        let mut table = self.table();
        match attempt.reservation {
            Some(reservation) => keys(reservation).for_each(|key| table.keep(key)),
            None => self.counts(attempt).into_iter().flatten().for_each(|counted| table.count(counted)),
        }
    }

    fn may_begin(&self, attempt: &Attempt<'_>) -> bool {
        self.unfinished_count(attempt).is_none_or(|counted| self.table().has_room(counted))
    }

    fn unfinished(&self, attempt: &Attempt<'_>) {
        if let Some(counted) = self.unfinished_count(attempt) {
            self.table().count(counted);
        }
    }
}

impl fmt::Debug for MemoryAttemptLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryAttemptLog").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// The entries, at a time.
struct Table<'l> {
    entries: MutexGuard<'l, Vec<Entry>>,
    now_ms: u64,
    window_ms: u64,
}

impl Table<'_> {
    /// Whether one more failure stays within the limit. A count that has begun to drain has room again
    /// only when a whole failure is forgotten.
    fn has_room(&mut self, (key, limit): Counted) -> bool {
        let entry = self.find(key).copied();
        entry.is_none_or(|entry| self.level(&entry) + count(entry.reserved) <= count(limit) - 1.0)
    }

    /// Reserves a failure. `false` if the key has no entry and none is free.
    fn reserve(&mut self, counted: Counted) -> bool {
        let entry = self.find_or_insert(counted);
        entry.map(|entry| entry.reserved = entry.reserved.saturating_add(1)).is_some()
    }

    /// Gives a reserved failure back.
    fn release(&mut self, key: u64) {
        if let Some(entry) = self.find(key) {
            entry.reserved = entry.reserved.saturating_sub(1);
        }
    }

    /// Makes a failure of what was reserved for it.
    fn keep(&mut self, key: u64) {
        let Some(&Entry { limit, .. }) = self.find(key).map(|entry| &*entry) else { return };
        self.release(key);
        self.count((key, limit));
    }

    /// Counts a failure.
    fn count(&mut self, counted: Counted) {
        let (now_ms, limit) = (self.now_ms, counted.1);
        let Some(&before) = self.find_or_insert(counted).map(|entry| &*entry) else { return };
        let level = (self.level(&before) + 1.0).min(count(limit));
        if let Some(entry) = self.find(counted.0) {
            *entry = Entry { level, at_ms: now_ms, ..before };
        }
    }

    /// The failures of an entry that are not forgotten yet.
    fn level(&self, entry: &Entry) -> f32 {
        let drained = fraction(self.now_ms.saturating_sub(entry.at_ms), self.window_ms) * count(entry.limit);
        (entry.level - drained).max(0.0)
    }

    fn find(&mut self, key: u64) -> Option<&mut Entry> {
        self.places(key).iter_mut().find(|entry| entry.key == key)
    }

    /// The key's entry, or one in place of that which is furthest from its limit. `None` if all are needed.
    fn find_or_insert(&mut self, (key, limit): Counted) -> Option<&mut Entry> {
        if self.find(key).is_none() {
            let places: [Entry; WAYS] = (&*self.places(key)).try_into().ok()?;
            let free = places.iter().enumerate().filter(|(_, entry)| entry.reserved == 0);
            // Users and addresses have different limits. One that is empty is less full than any.
            let fullness = |entry: &Entry| {
                if entry.key == 0 { -1.0 } else { self.level(entry) / count(entry.limit.max(1)) }
            };
            let (emptiest, _) = free.min_by(|(_, left), (_, right)| fullness(left).total_cmp(&fullness(right)))?;
            let entry = Entry { key, limit, ..Entry::default() };
            *self.places(key).get_mut(emptiest)? = entry;
        }
        self.find(key)
    }

    /// The few places where a key may be.
    fn places(&mut self, key: u64) -> &mut [Entry] {
        let sets = self.entries.len() / WAYS;
        let set = usize::try_from(key % u64::try_from(sets).unwrap_or(1)).unwrap_or(0);
        self.entries.get_mut(set * WAYS..(set + 1) * WAYS).unwrap_or_default()
    }
}

/// What a key is made of, so that no two kinds share one.
#[derive(Clone, Copy)]
enum Kind {
    Address = 1,
    User = 2,
    Unfinished = 3,
}

/// The keys, one in each half.
fn reservation(counts: Counts) -> Reservation {
    let [address, user] = counts.map(|counted| counted.map_or(0, |(key, _)| u128::from(key)));
    Reservation::new(address << 64 | user)
}

fn keys(reservation: Reservation) -> impl Iterator<Item = u64> {
    reservation.halves.into_iter().filter(|key| *key > 0)
}

#[expect(clippy::cast_precision_loss, reason = "limits are small numbers, and an estimate will do")]
fn count(limit: u32) -> f32 {
    limit as f32
}

#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "an estimate will do")]
fn fraction(part: u64, whole: u64) -> f32 {
    (part as f64 / whole as f64) as f32
}

/// How many places a key may be in.
const WAYS: usize = 8;

static_assertions::const_assert!(size_of::<Entry>() <= 32);
static_assertions::assert_impl_all!(MemoryAttemptLog: Send, Sync);
