//! Who stands in for users that there are not.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::password_hash::{Cost, PasswordHash};
use super::{NOBODY, Store, StoreError};

/// Who stands in for users that there are not, so that the answer takes as long.
///
/// Where the users of a store differ in what their hashes cost, and in which keys they have, so do these: a name without
/// a user is as likely to be of one kind as a name with one is, and always of the same, for as long as the process runs.
pub(super) struct Decoys {
    /// Chooses by a keyed hash of the name.
    key: RandomState,
    /// For a store in which there is nobody yet.
    fallback: Arc<Decoy>,
    known: Mutex<Option<Known>>,
}

/// A user whose row is read, and with whose hash a password is compared, in place of one that there is not.
pub(super) struct Decoy {
    pub(super) name: String,
    pub(super) hash: PasswordHash,
}

struct Known {
    since: Instant,
    kinds: Arc<[Kind]>,
}

/// All users of one kind: what a comparison costs, and what else is kept.
struct Kind {
    /// One of them.
    decoy: Arc<Decoy>,
    /// How many there are of it, and of those before it.
    upto: u64,
}

impl Decoys {
    pub(super) fn new(fallback: PasswordHash) -> Self {
        let fallback = Decoy { name: NOBODY.to_owned(), hash: fallback };
        Self { key: RandomState::new(), fallback: Arc::new(fallback), known: Mutex::default() }
    }

    /// Who stands in for `name`. Asks the store for a sample of its users, now and then; whether there is such a user
    /// makes no difference to that.
    pub(super) fn choose(&self, name: &str, store: &(impl Store + ?Sized)) -> Result<Arc<Decoy>, StoreError> {
        let kinds = self.kinds(store)?;
        let Some(Kind { upto: total, .. }) = kinds.last() else { return Ok(Arc::clone(&self.fallback)) };
        // The share of the whole, so that a user more or less changes the choice for hardly any name.
        let place = (u128::from(self.key.hash_one(name)) * u128::from(*total)) >> u64::BITS;
        let chosen = kinds.iter().find(|kind| place < u128::from(kind.upto));
        Ok(Arc::clone(chosen.map_or(&self.fallback, |kind| &kind.decoy)))
    }

    fn kinds(&self, store: &(impl Store + ?Sized)) -> Result<Arc<[Kind]>, StoreError> {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*known()
            && known.since.elapsed() < KNOWN_FOR
        {
            return Ok(Arc::clone(&known.kinds));
        }
        // Not under the lock: whoever comes meanwhile asks the store, too, and does not wait for this thread.
        let mut counts: BTreeMap<(Cost, [bool; 5]), (u64, Decoy)> = BTreeMap::new();
        for user in store.sample()? {
            // What cannot be read is told when somebody logs in with it.
            if let Ok(Some(hash)) = user.password_hash() {
                let count = counts.entry((hash.cost(), user.has()));
                count.and_modify(|(count, _)| *count += 1).or_insert((1, Decoy { name: user.into_user().name, hash }));
            }
        }
        let mut upto = 0;
        let kinds = counts.into_values().map(|(count, decoy)| {
            upto += count;
            Kind { decoy: Arc::new(decoy), upto }
        });
        let kinds: Arc<[_]> = kinds.collect();
        *known() = Some(Known { since: Instant::now(), kinds: Arc::clone(&kinds) });
        Ok(kinds)
    }

    /// The user who was chosen is gone: the next one is chosen from others.
    pub(super) fn forget(&self) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl fmt::Debug for Decoys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decoys")
    }
}

/// After this a changed store is looked at again.
const KNOWN_FOR: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use zeroize::Zeroizing;

    use super::*;
    use crate::stored::StoredUser;

    /// Three quarters of its users have one kind of hash, a quarter another.
    #[derive(Default)]
    struct Mixed {
        asked: AtomicUsize,
        down: AtomicBool,
        empty: bool,
    }

    const CHEAP: &str = "$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
    const DEAR: &str = "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc8";

    impl Store for Mixed {
        fn find(&self, _: &str) -> Result<Option<StoredUser>, StoreError> {
            Ok(None)
        }

        fn sample(&self) -> Result<Vec<StoredUser>, StoreError> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            if self.down.load(Ordering::Relaxed) {
                return Err(StoreError::new("down"));
            }
            let users = if self.empty { 0 } else { 100 };
            let hash = |user| if user % 4 == 0 { DEAR } else { CHEAP };
            let with = |name: String, hash: &str| {
                StoredUser::new(name, false).with_password(Some(Zeroizing::new(hash.to_owned())))
            };
            let broken = with("broken".to_owned(), "cannot be read");
            Ok((0..users).map(|user| with(format!("user{user}"), hash(user))).chain([broken]).collect())
        }
    }

    fn cost(text: &str) -> Cost {
        text.parse::<PasswordHash>().unwrap().cost()
    }

    fn decoys() -> Decoys {
        Decoys::new("{CRAM-MD5}e02d374fde0dc75a17a557039a3a5338c7743304777dccd376f332bee68d2cf6".parse().unwrap())
    }

    #[test]
    fn names_share_the_costs_out_as_users_do_and_each_keeps_its_own() {
        let (store, decoys) = (Mixed::default(), decoys());
        let costs = || -> Vec<Cost> {
            (0..4000).map(|name: u32| decoys.choose(&name.to_string(), &store).unwrap().hash.cost()).collect()
        };
        let first = costs();
        assert_eq!(first, costs());
        let dear = first.iter().filter(|found| **found == cost(DEAR)).count();
        assert!((800..1200).contains(&dear), "{dear}");
        assert!(first.iter().all(|found| [cost(DEAR), cost(CHEAP)].contains(found)));
        assert_eq!(store.asked.into_inner(), 1);
    }

    #[test]
    fn an_empty_store_costs_what_a_new_hash_does_and_a_store_that_is_down_is_asked_again() {
        let decoys = decoys();
        assert_eq!(
            decoys.choose("tim", &Mixed { empty: true, ..Mixed::default() }).unwrap().hash.cost(),
            Cost::CramMd5
        );
        let (store, decoys) = (Mixed::default(), self::decoys());
        store.down.store(true, Ordering::Relaxed);
        assert!(decoys.choose("tim", &store).is_err());
        store.down.store(false, Ordering::Relaxed);
        assert!(decoys.choose("tim", &store).is_ok());
    }
}
