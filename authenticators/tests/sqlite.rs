//! The authenticator over users in an SQLite database.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use sansmtp_authenticators::sqlite::Sqlite;
use sansmtp_authenticators::stored::{Accounts, Keep};
use support::battery::{Backend, battery};
use support::login::{Door, at_once};
use support::stores::{stored, with_users};

struct InSqlite {
    directory: tempfile::TempDir,
    users: Arc<Sqlite>,
}

impl Backend for InSqlite {
    fn start() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let users = Sqlite::open_or_create(&directory.path().join("mail.db")).unwrap();
        Some(Self { directory, users: with_users(Arc::new(users)) })
    }

    fn door(&self) -> Arc<dyn Door> {
        Arc::new(stored(Arc::clone(&self.users)))
    }
}

battery!(InSqlite);

#[test]
fn addresses_belong_to_users() {
    let directory = tempfile::tempdir().unwrap();
    support::addresses::belong_to_users(&Sqlite::open_or_create(&directory.path().join("mail.db")).unwrap());
}

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
    let (codes, log) = support::logs::collect_here(|| {
        let door = backend.door();
        (door.log_in("tim", "tanstaaftanstaaf"), door.log_in("alice@example.org", "correct horse battery staple"))
    });
    assert_eq!(codes, (454, 235));
    assert_eq!(log.matches("cannot check a login").count(), 1, "{log}");
    assert!(!log.contains("sEcReT") && !log.contains("tanstaaf") && !log.contains("tim"), "{log}");
    database.execute_batch("DROP TABLE token; DROP TABLE user").unwrap();
    let (code, log) = support::logs::collect_here(|| backend.door().log_in("tim", "tanstaaftanstaaf"));
    assert_eq!(code, 454);
    assert!(log.contains("no such table") && !log.contains("tanstaaf"), "{log}");
}

/// One that is being copied, say: who logs in does not wait for it in turn.
#[test]
fn a_database_that_somebody_else_writes_to_holds_up_no_login() {
    let Some(backend) = InSqlite::start() else { return };
    let other = rusqlite::Connection::open(backend.directory.path().join("mail.db")).unwrap();
    // Logins now have keys to leave behind.
    other.execute("UPDATE user SET scram_sha_1 = NULL", []).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let door = backend.door();
    let started = Instant::now();
    assert_eq!(at_once(20, &door, "tim", "tanstaaftanstaaf", 235), 20);
    assert_eq!(door.log_in("tim", "wrong"), 535);
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    other.execute_batch("COMMIT").unwrap();
    let has_keys = || other.query_row("SELECT scram_sha_1 FROM user WHERE name = 'tim'", [], |row| row.get(0)).unwrap();
    assert_eq!(None::<String>, has_keys());
    assert_eq!(door.log_in("tim", "tanstaaftanstaaf"), 235);
    assert!(has_keys().is_some());
}
