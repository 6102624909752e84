//! A bounded number of results, each for the same time.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use sansmtp::AuthResult;

use super::mark::Mark;

/// Results by their marks. Where there is no room the oldest is dropped: of the same user, if they have many.
pub(super) struct Store {
    limit: usize,
    lifetime: Duration,
    /// By the place of the mark.
    entries: HashMap<u64, Entry>,
    /// Places, by the order in which they came: the oldest expires first.
    by_age: BTreeMap<u64, u64>,
    /// Places, by each of the names.
    by_name: HashMap<u64, Vec<u64>>,
    /// The age of the next one.
    next_age: u64,
}

/// By which names a result can be found.
#[derive(Clone, Copy)]
pub(super) struct Names {
    pub(super) authcid: Option<u64>,
    pub(super) login: Option<u64>,
}

struct Entry {
    mark: Mark,
    names: Names,
    age: u64,
    until: Duration,
    result: AuthResult,
}

impl Names {
    /// Each of them once.
    pub(super) fn each(self) -> impl Iterator<Item = u64> {
        let login = self.login.filter(|login| self.authcid != Some(*login));
        [self.authcid, login].into_iter().flatten()
    }
}

impl Store {
    pub(super) fn new(limit: usize, lifetime: Duration) -> Self {
        let (entries, by_age, by_name) = Default::default();
        Self { limit, lifetime, entries, by_age, by_name, next_age: 0 }
    }

    pub(super) fn find(&mut self, mark: &Mark, now: Duration) -> Option<&AuthResult> {
        self.drop_expired(now);
        let entry = self.entries.get(&mark.place())?;
        (entry.mark.is(mark) && now < entry.until).then_some(&entry.result)
    }

    /// Keeps a result that was asked for at that time.
    pub(super) fn insert(&mut self, mark: Mark, names: Names, result: AuthResult, asked: Duration) {
        if self.limit == 0 || self.lifetime.is_zero() {
            return;
        }
        self.drop_expired(asked);
        let place = mark.place();
        self.remove_at(place);
        while let Some(oldest) = self.surplus(names) {
            self.remove_at(oldest);
        }
        let age = self.next_age;
        self.next_age += 1;
        self.by_age.insert(age, place);
        for name in names.each() {
            self.by_name.entry(name).or_default().push(place);
        }
        let until = asked.saturating_add(self.lifetime);
        self.entries.insert(place, Entry { mark, names, age, until, result });
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, mark: &Mark) -> bool {
        self.remove_at(mark.place())
    }

    /// Drops whatever has the authcid and not the password.
    pub(super) fn remove_other_passwords(&mut self, names: Names, mark: &Mark) {
        for place in self.places(names.authcid) {
            if self.entries.get(&place).is_some_and(|entry| !entry.mark.has_secret_of(mark)) {
                self.remove_at(place);
            }
        }
    }

    /// How many there were.
    pub(super) fn remove_named(&mut self, name: u64) -> usize {
        let places = self.places(Some(name));
        places.into_iter().filter(|place| self.remove_at(*place)).count()
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.by_age.clear();
        self.by_name.clear();
    }

    /// What has to go before one more of these names comes.
    fn surplus(&self, names: Names) -> Option<u64> {
        let of_name = |name| self.by_name.get(&name).filter(|places| places.len() >= MAX_OF_A_NAME);
        let own = names.each().find_map(|name| of_name(name)?.first().copied());
        let oldest = || self.by_age.first_key_value().map(|(_, place)| *place);
        own.or_else(|| if self.entries.len() >= self.limit { oldest() } else { None })
    }

    fn drop_expired(&mut self, now: Duration) {
        while let Some((_, &place)) = self.by_age.first_key_value() {
            if self.entries.get(&place).is_some_and(|entry| now < entry.until) {
                return;
            }
            self.remove_at(place);
        }
    }

    fn places(&self, name: Option<u64>) -> Vec<u64> {
        name.and_then(|name| self.by_name.get(&name)).cloned().unwrap_or_default()
    }

    fn remove_at(&mut self, place: u64) -> bool {
        let Some(entry) = self.entries.remove(&place) else { return false };
        self.by_age.remove(&entry.age);
        for name in entry.names.each() {
            if let Some(places) = self.by_name.get_mut(&name) {
                places.retain(|other| *other != place);
                if places.is_empty() {
                    self.by_name.remove(&name);
                }
            }
        }
        true
    }
}

/// The mechanisms and identities of one user, so that nobody who may log in can fill all places.
const MAX_OF_A_NAME: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::mark::Marker;

    /// What is in each of the maps, which must agree.
    fn check(store: &Store) {
        assert_eq!(store.entries.len(), store.by_age.len());
        assert!(store.entries.len() <= store.limit);
        for (age, place) in &store.by_age {
            assert_eq!(store.entries[place].age, *age);
        }
        let named: usize = store.entries.values().map(|entry| entry.names.each().count()).sum();
        assert_eq!(named, store.by_name.values().map(Vec::len).sum::<usize>());
        for (name, places) in &store.by_name {
            assert!((1..=MAX_OF_A_NAME).contains(&places.len()));
            assert!(places.iter().all(|place| store.entries[place].names.each().any(|own| own == *name)));
        }
    }

    #[test]
    fn the_maps_agree_whatever_comes() {
        let marker = Marker::new().unwrap();
        let mut store = Store::new(20, Duration::from_secs(10));
        // A linear congruential generator: the same every time.
        let mut state = 1_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut found = 0;
        for second in 0..20_000 {
            let now = Duration::from_millis(second * 300);
            let mark = marker.of_test(random(40));
            let names = Names { authcid: Some(random(4)), login: Some(random(6)).filter(|login| *login < 5) };
            match random(8) {
                0 => drop(store.remove_named(random(6))),
                1 => drop(store.remove(&mark)),
                2 => store.remove_other_passwords(names, &mark),
                3 => found += usize::from(store.find(&mark, now).is_some()),
                _ => store.insert(mark, names, AuthResult::accept(), now),
            }
            check(&store);
        }
        assert!(found > 100, "{found}");
        store.clear();
        check(&store);
    }
}
