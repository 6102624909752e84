//! The authenticator over users in an SQLite database.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::num::NonZeroUsize;
use std::sync::Arc;

use sansmtp_authenticators::sqlite::Sqlite;
use sansmtp_authenticators::stored::{Accounts, Hashing, Keep, Stored};
use support::battery::{Backend, USERS, battery};
use support::login::Door;

struct InSqlite {
    directory: tempfile::TempDir,
    users: Arc<Sqlite>,
}

impl Backend for InSqlite {
    fn start() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let users = Sqlite::open_or_create(&directory.path().join("mail.db")).unwrap();
        let users = Accounts::new(Arc::new(users));
        for (name, password) in USERS {
            users.add(name, password.as_bytes(), Keep::Scram).unwrap();
        }
        Some(Self { directory, users: users.into_store() })
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

battery!(InSqlite);

#[test]
fn what_another_process_changes_holds_from_the_next_login_on() {
    let Some(backend) = InSqlite::start() else { return };
    let (door, path) = (backend.door(), backend.directory.path().join("mail.db"));
    let other = Accounts::new(Sqlite::open(&path).unwrap());
    other.add("new", b"password", Keep::Scram).unwrap();
    other.set_password("tim", b"changed", Keep::Scram).unwrap();
    other.set_disabled("o'brien", true).unwrap();
    assert_eq!(door.log_in("new", "password"), 235);
    assert_eq!(door.log_in("tim", "tanstaaftanstaaf"), 535);
    assert_eq!(door.log_in("tim", "changed"), 235);
    assert_eq!(door.log_in("o'brien", "quote'and\\backslash\"*)(uid=*"), 535);
}

/// A fault of the store is no refusal, and its log tells no secret.
#[test]
fn what_cannot_be_read_is_the_servers_fault() {
    let Some(backend) = InSqlite::start() else { return };
    let database = rusqlite::Connection::open(backend.directory.path().join("mail.db")).unwrap();
    database.execute("UPDATE user SET password = '{SHA1}sEcReT' WHERE name = 'tim'", []).unwrap();
    let (codes, log) = support::log::collect(|| {
        let door = backend.door();
        (door.log_in("tim", "tanstaaftanstaaf"), door.log_in("alice@example.org", "correct horse battery staple"))
    });
    assert_eq!(codes, (454, 235));
    assert_eq!(log.matches("cannot check a login").count(), 1, "{log}");
    assert!(!log.contains("sEcReT") && !log.contains("tanstaaf") && !log.contains("tim"), "{log}");
    database.execute_batch("DROP TABLE token; DROP TABLE user").unwrap();
    let (code, log) = support::log::collect(|| backend.door().log_in("tim", "tanstaaftanstaaf"));
    assert_eq!(code, 454);
    assert!(log.contains("no such table") && !log.contains("tanstaaf"), "{log}");
}
