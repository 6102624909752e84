//! What was found out about tokens, for a short while.

use std::collections::{BTreeMap, HashMap};

/// By the token's SHA-256: to find another token for one needs nobody's memory.
pub(super) type Digest = [u8; 32];

/// So many, of which the oldest goes where there is no room. Times are in seconds since 1970.
pub(super) struct Kept<T> {
    limit: usize,
    entries: HashMap<Digest, Entry<T>>,
    /// In the order in which they came.
    by_age: BTreeMap<u64, Digest>,
    next_age: u64,
}

struct Entry<T> {
    age: u64,
    since: f64,
    until: f64,
    value: T,
}

impl<T: Clone> Kept<T> {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, entries: HashMap::new(), by_age: BTreeMap::new(), next_age: 0 }
    }

    pub(super) fn find(&mut self, digest: &Digest, now: f64) -> Option<T> {
        let entry = self.entries.get(digest)?;
        // A clock that was put back does not make anything last longer.
        if (entry.since..entry.until).contains(&now) {
            return Some(entry.value.clone());
        }
        self.remove(digest);
        None
    }

    pub(super) fn insert(&mut self, digest: Digest, since: f64, until: f64, value: T) {
        if self.limit == 0 || until <= since {
            return;
        }
        self.remove(&digest);
        if self.entries.len() >= self.limit {
            let oldest = self.by_age.pop_first();
            oldest.and_then(|(_, oldest)| self.entries.remove(&oldest));
        }
        let age = self.next_age;
        self.next_age += 1;
        self.by_age.insert(age, digest);
        self.entries.insert(digest, Entry { age, since, until, value });
    }

    fn remove(&mut self, digest: &Digest) {
        if let Some(entry) = self.entries.remove(digest) {
            self.by_age.remove(&entry.age);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lasts_as_long_as_it_should_and_never_longer() {
        let mut kept = Kept::new(2);
        kept.insert([1; 32], 10.0, 20.0, "one");
        for (now, found) in [(10.0, true), (19.9, true), (20.0, false), (15.0, false)] {
            assert_eq!(kept.find(&[1; 32], now), found.then_some("one"), "{now}");
        }
        kept.insert([1; 32], 10.0, 20.0, "one");
        assert_eq!(kept.find(&[1; 32], 9.0), None, "a clock that was put back");
        kept.insert([1; 32], 10.0, 10.0, "one");
        assert_eq!(kept.find(&[1; 32], 10.0), None);
    }

    #[test]
    fn the_oldest_goes() {
        let mut kept = Kept::new(2);
        for number in [1, 2, 1, 3] {
            kept.insert([number; 32], 0.0, 10.0, number);
        }
        assert_eq!([1, 2, 3].map(|number| kept.find(&[number; 32], 1.0)), [Some(1), None, Some(3)]);
        assert_eq!(kept.by_age.len(), 2);
    }
}
