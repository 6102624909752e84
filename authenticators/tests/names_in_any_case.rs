//! Names that are compared without regard to case, in every store.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sansmtp::{Auth, AuthRequest, AuthResult};
use sansmtp_authenticators::memory::Memory;
use sansmtp_authenticators::passwd::Passwd;
use sansmtp_authenticators::sending::{SendingLimits, SendingLog, Transaction};
use sansmtp_authenticators::sqlite::Sqlite;
use sansmtp_authenticators::stored::{Accounts, Keep, NewPassword, Store, WritableStore};
use sansmtp_authenticators::{Authenticator, Cache, CacheLimits, Knows};
use support::login::{auth_as, oauthbearer, offer, xoauth2};
use support::logs::collect_here;
use support::postgresql::PostgreSql;
use support::stores::stored;

/// Each with its name as password.
const NAMES: [&str; 7] = ["tim", "Ann@Example.ORG", "J\u{d6}RG", "bob", "BOB", "Eve", "EVE"];

fn filled<S: WritableStore>(store: S) -> S {
    let users = Accounts::new(store);
    NAMES.into_iter().for_each(|name| users.add(name, name.as_bytes(), Keep::Nothing).unwrap());
    users.into_store()
}

fn log_in(users: &dyn Authenticator, name: &str, password: &str) -> u16 {
    auth_as(&offer(Auth::new().ignore_case(true)), users, &plain(name, password))
}

fn plain(name: &str, password: &str) -> String {
    format!("PLAIN {}", BASE64_STANDARD.encode(format!("\0{name}\0{password}")))
}

fn takes_names_in_any_case<S: Store>(store: S, beyond_ascii: bool) {
    let users = stored(store).ignore_case(true);
    for (name, password, code) in [
        ("tim", "tim", 235),
        ("TIM", "tim", 235),
        ("tim", "TIM", 535),
        ("ann@example.org", "Ann@Example.ORG", 235),
        ("Ann@Example.ORG", "Ann@Example.ORG", 235),
        ("ANN@EXAMPLE.ORG", "Ann@Example.ORG", 235),
        ("ann@example.or", "Ann@Example.ORG", 535),
        // Of two, the one in lower case.
        ("bob", "bob", 235),
        ("BOB", "bob", 235),
        ("BOB", "BOB", 535),
    ] {
        assert_eq!(log_in(&users, name, password), code, "{name} {password}");
    }
    for name in ["j\u{f6}rg", "J\u{d6}rg"] {
        assert_eq!(log_in(&users, name, "J\u{d6}RG") == 235, beyond_ascii, "{name}");
    }
    // Without one, nobody: it is told.
    for name in ["eve", "Eve", "EVE"] {
        let (codes, log) = collect_here(|| [log_in(&users, name, "Eve"), log_in(&users, name, "EVE")]);
        assert_eq!(codes, [535, 535], "{name}");
        assert_eq!(log.matches("several users have this name in other cases").count(), 2, "{log}");
    }
}

#[test]
fn in_every_store() {
    let directory = tempfile::tempdir().unwrap();
    takes_names_in_any_case(filled(Memory::new().unwrap()), true);
    takes_names_in_any_case(filled(Sqlite::open_or_create(&directory.path().join("mail.db")).unwrap()), true);
    let hash = |name: &str| NewPassword::new(name.as_bytes(), Keep::Nothing).unwrap().hash().to_owned();
    let lines: String = NAMES.iter().map(|name| format!("{name}:{}\n", hash(name))).collect();
    let path = directory.path().join("users");
    std::fs::write(&path, lines).unwrap();
    takes_names_in_any_case(Passwd::open(path).unwrap(), true);
    if let Some(server) = PostgreSql::start() {
        let users = filled(server.users());
        let beyond_ascii = users.names_in_any_case("j\u{f6}rg").unwrap() == ["J\u{d6}RG"];
        takes_names_in_any_case(users, beyond_ascii);
    }
}

/// What a login is called does not depend on how it was written, remembered or not, nor does what it may send.
#[test]
fn logins_are_the_same_in_a_cache_and_for_limits() {
    /// Keeps what it was told, of those who got in.
    struct Noted<A>(A, Mutex<Vec<String>>);
    impl<A: Authenticator> Authenticator for Noted<A> {
        fn authenticate(&self, request: &AuthRequest) -> AuthResult {
            let result = self.0.authenticate(request);
            let login = result.login().unwrap_or(request.credentials().authcid());
            self.1.lock().unwrap().push(login.to_owned());
            result
        }

        fn knows(&self, request: &AuthRequest) -> Knows {
            self.0.knows(request)
        }
    }

    let users = stored(filled(Memory::new().unwrap())).ignore_case(true);
    let users = Noted(Cache::new(users, CacheLimits::default()).unwrap(), Mutex::default());
    let names = ["Ann@Example.ORG", "ann@example.org", "ANN@EXAMPLE.ORG"];
    for name in names.into_iter().chain(names) {
        assert_eq!(log_in(&users, name, "Ann@Example.ORG"), 235, "{name}");
    }
    let logins = users.1.into_inner().unwrap();
    assert_eq!(logins, ["ann@example.org"; 6]);
    let limits = SendingLimits { messages_per_day: 3, ..SendingLimits::default() };
    let log = Arc::new(SendingLog::in_memory(limits, || Duration::ZERO));
    let sent = logins.iter().map(String::as_str).chain(names);
    let sent = sent.filter(|login| SendingLog::begin(&log, login).map(Transaction::sent).is_ok());
    assert_eq!(sent.count(), 3);
}

#[test]
fn the_case_counts_where_nothing_is_said() {
    let users = stored(filled(Memory::new().unwrap()));
    for (name, password, code) in [("Eve", "Eve", 235), ("EVE", "EVE", 235), ("TIM", "tim", 535)] {
        assert_eq!(auth_as(&offer(Auth::new()), &users, &plain(name, password)), code, "{name}");
    }
}

#[test]
fn tokens_are_of_the_user_in_any_case() {
    let accounts = Accounts::new(filled(Memory::new().unwrap()));
    let token = accounts.add_token("Ann@Example.ORG").unwrap();
    let users = stored(accounts.into_store()).ignore_case(true);
    let config = offer(Auth::new().ignore_case(true));
    for words in [
        xoauth2("ANN@example.org", &token),
        xoauth2("Ann@Example.ORG", &token),
        oauthbearer("", &token),
        oauthbearer("Ann@Example.ORG", &token),
        oauthbearer("ann@example.org", &token),
    ] {
        assert_eq!(auth_as(&config, &users, &words), 235, "{words}");
    }
    assert_eq!(auth_as(&config, &users, &xoauth2("tim", &token)), 535);
}

/// Keys that a login leaves behind go to the user as stored.
#[test]
fn keys_are_kept_for_the_name_that_is_stored() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mail.db");
    let users = stored(filled(Sqlite::open_or_create(&path).unwrap())).ignore_case(true);
    assert_eq!(log_in(&users, "ann@example.org", "Ann@Example.ORG"), 235);
    let database = rusqlite::Connection::open(&path).unwrap();
    let sql = "SELECT name FROM user WHERE scram_sha_256 IS NOT NULL";
    let name: String = database.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(name, "Ann@Example.ORG");
}
