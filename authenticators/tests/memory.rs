//! The authenticator over users in memory.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sansmtp_authenticators::memory::Memory;
use sansmtp_authenticators::stored::{Accounts, Hashing, Stored};
use support::battery::{Backend, battery};
use support::login::Door;
use support::stores::{stored, with_users};

struct InMemory {
    users: Arc<Memory>,
}

impl Backend for InMemory {
    fn start() -> Option<Self> {
        Some(Self { users: with_users(Arc::new(Memory::new().unwrap())) })
    }

    fn door(&self) -> Arc<dyn Door> {
        Arc::new(stored(Arc::clone(&self.users)))
    }
}

battery!(InMemory);

#[test]
fn addresses_belong_to_users() {
    let users = Memory::new().unwrap();
    support::addresses::belong_to_users(&users);
    support::addresses::are_not_too_many(&users);
}

#[test]
fn more_than_may_wait_are_turned_away_and_come_in_later() {
    let Some(InMemory { users }) = InMemory::start() else { return };
    let hashing = Hashing::with_limits(NonZeroUsize::MIN, 0);
    let door: Arc<dyn Door> = Arc::new(Stored::new(users).unwrap().hashing(Arc::new(hashing)));
    let codes: Vec<u16> = std::thread::scope(|scope| {
        let logins: Vec<_> = (0..20).map(|_| scope.spawn(|| door.log_in("tim", "tanstaaftanstaaf"))).collect();
        logins.into_iter().map(|login| login.join().unwrap()).collect()
    });
    assert!(codes.iter().all(|code| [235, 454].contains(code)) && codes.contains(&235), "{codes:?}");
    assert!(codes.contains(&454), "{codes:?}");
    assert_eq!(door.log_in("tim", "tanstaaftanstaaf"), 235);
}

#[test]
fn nothing_secret_shows() {
    let Some(InMemory { users }) = InMemory::start() else { return };
    let tim = sansmtp_authenticators::stored::Store::find(&users, "tim").unwrap();
    let authenticator = Stored::new(users).unwrap();
    let shown = format!("{authenticator:?} {tim:?}");
    assert!(shown.contains("Memory") && shown.contains("tim"), "{shown}");
    assert!(["argon2", "SCRAM-", "tanstaaf", "$"].iter().all(|secret| !shown.contains(secret)), "{shown}");
}

/// The shortest of several for each, in turn, which is least disturbed by what else the machine does.
fn shortest<const N: usize>(door: &Arc<dyn Door>, logins: [(&str, &str); N]) -> [Duration; N] {
    let mut shortest = [Duration::MAX; N];
    for _ in 0..15 {
        for ((user, password), shortest) in logins.iter().zip(&mut shortest) {
            let start = Instant::now();
            assert_eq!(door.log_in(user, password), 535);
            *shortest = start.elapsed().min(*shortest);
        }
    }
    shortest
}

/// Of which a hash is by far the most: without one, a thousandth of the time would do.
#[test]
fn whoever_is_refused_waits_for_a_hash() {
    let Some(InMemory { users }) = InMemory::start() else { return };
    Accounts::new(&*users).set_disabled("o'brien", true).unwrap();
    let door: Arc<dyn Door> = Arc::new(Stored::new(users).unwrap());
    let disabled = "quote'and\\backslash\"*)(uid=*";
    let logins = [("tim", "wrong"), ("nobody", "wrong"), ("o'brien", "wrong"), ("o'brien", disabled)];
    let times @ [wrong, ..] = shortest(&door, logins);
    assert!(times.iter().all(|other| *other < wrong * 3 && wrong < *other * 3), "{times:?}");
}

/// Where hashes differ in what they cost, whoever is unknown waits for one of those.
#[test]
fn whoever_is_unknown_waits_for_what_the_others_hashes_cost() {
    let users = Accounts::new(Memory::new().unwrap());
    // bcrypt at cost 4, which takes a millisecond; the hash of a new password would take twenty.
    for name in ["tim", "tom"] {
        users.add_hash(name, "$2b$04$CCCCCCCCCCCCCCCCCCCCC.7uG0VCzI2bS7j6ymqJi9CdcdxiRTWNy").unwrap();
    }
    let door: Arc<dyn Door> = Arc::new(Stored::new(users.into_store()).unwrap());
    let [wrong, unknown] = shortest(&door, [("tim", "wrong"), ("nobody", "wrong")]);
    assert!(unknown < wrong * 3 && wrong < unknown * 3, "{unknown:?}, and {wrong:?} for a wrong password");
}
