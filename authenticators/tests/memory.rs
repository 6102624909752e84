//! The authenticator over users in memory.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::num::NonZeroUsize;
use std::sync::Arc;

use sansmtp_authenticators::memory::Memory;
use sansmtp_authenticators::stored::{Accounts, Hashing, Keep, Stored};
use support::battery::{Backend, USERS, battery};
use support::login::Door;

struct InMemory {
    users: Arc<Memory>,
}

impl Backend for InMemory {
    fn start() -> Option<Self> {
        let users = Accounts::new(Arc::new(Memory::new().unwrap()));
        for (name, password) in USERS {
            users.add(name, password.as_bytes(), Keep::Scram).unwrap();
        }
        Some(Self { users: users.into_store() })
    }

    fn door(&self) -> Arc<dyn Door> {
        // Room for everybody.
        let hashing = Hashing::with_limits(NonZeroUsize::new(2).unwrap(), 1000);
        Arc::new(Stored::new(Arc::clone(&self.users)).unwrap().hashing(Arc::new(hashing)))
    }

    fn stop(&mut self) -> bool {
        false
    }

    fn start_again(&mut self) {}

    fn stalled(&self) -> Option<Arc<dyn Door>> {
        None
    }
}

battery!(InMemory);

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
