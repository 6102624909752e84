//! Whoever has no password finds out nothing about who there is: an unknown user, a wrong password, a disabled account and
//! one without keys for the mechanism get the same octets, and take as many look-ups and as much memory.
//!
//! How long it takes `cargo bench -p sansmtp-authenticators --bench who_exists` prints.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::sync::{Arc, Mutex};

use allocation_counter::measure;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sansmtp::{Auth, Config, Refusal};
use sansmtp_authenticators::Authenticator;
use sansmtp_authenticators::memory::Memory;
use sansmtp_authenticators::passwd::Passwd;
use sansmtp_authenticators::sqlite::Sqlite;
use sansmtp_authenticators::stored::{Store, StoreError, Stored, StoredUser};
use support::accounts::{ACCOUNTS, MECHANISMS, Stranger, add_to, config, config_of, exchange, lines};
use support::postgresql::PostgreSql;
use support::stores::stored;

fn in_memory() -> Stored<Memory> {
    stored(add_to(Memory::new().unwrap()))
}

fn in_sqlite(directory: &tempfile::TempDir) -> Stored<Sqlite> {
    stored(add_to(Sqlite::open_or_create(&directory.path().join("mail.db")).unwrap()))
}

fn in_a_file(directory: &tempfile::TempDir) -> Stored<Passwd> {
    let path = directory.path().join("users");
    std::fs::write(&path, lines()).unwrap();
    stored(Passwd::open(path).unwrap())
}

/// What is said in an exchange, and why it was refused; the salt, which is everybody's own, on its own.
fn asked(users: &dyn Authenticator, mechanism: &str, user: &str) -> (Vec<String>, Vec<String>, Option<Refusal>) {
    asked_of(users, &config(), mechanism, user)
}

fn asked_of(
    users: &dyn Authenticator,
    config: &Arc<Config>,
    mechanism: &str,
    user: &str,
) -> (Vec<String>, Vec<String>, Option<Refusal>) {
    let mut stranger = Stranger::new(config);
    let (mut said, mut salts) = (Vec::new(), Vec::new());
    for line in exchange(mechanism, user) {
        stranger.say(&line, users);
        let challenge =
            stranger.said.strip_prefix("334 ").and_then(|text| BASE64_STANDARD.decode(text.trim_end()).ok());
        let challenge = challenge.and_then(|octets| String::from_utf8(octets).ok()).unwrap_or_default();
        match challenge.split_once(",s=").and_then(|(nonce, rest)| Some((nonce, rest.split_once(",i=")?))) {
            Some((nonce, (salt, iterations))) => {
                said.push(format!("{nonce} {} {iterations}", salt.len()));
                salts.push(salt.to_owned());
            }
            None => said.push(stranger.said.clone()),
        }
    }
    (said, salts, stranger.refusal)
}

/// Compares all that is said.
fn says_the_same(users: &dyn Authenticator) {
    for mechanism in MECHANISMS {
        let ghost = asked(users, mechanism, "ghost");
        assert!(ghost.0.last().unwrap().starts_with("535 5.7.8 "), "{mechanism}: {ghost:?}");
        for (user, ..) in ACCOUNTS {
            let (said, salts, refusal) = asked(users, mechanism, user);
            assert_eq!(said, ghost.0, "{mechanism}, {user}");
            assert!(refusal.is_some(), "{mechanism}, {user}");
            // Whoever asks again sees the same salt, and each user has another.
            assert_eq!(asked(users, mechanism, user).1, salts, "{mechanism}, {user}");
            assert!(user == "ghost" || salts.is_empty() || salts != ghost.1, "{mechanism}, {user}");
        }
    }
}

#[test]
fn replies_and_challenges_are_the_same() {
    let directory = tempfile::tempdir().unwrap();
    for users in [&in_memory() as &dyn Authenticator, &in_sqlite(&directory), &in_a_file(&directory)] {
        says_the_same(users);
    }
    if let Some(server) = PostgreSql::start() {
        says_the_same(&stored(add_to(server.users())));
    }
}

/// Else whoever asks twice for the salt, in two cases, sees which names there are.
#[test]
fn the_case_of_a_name_makes_no_difference_where_it_is_ignored() {
    let directory = tempfile::tempdir().unwrap();
    let config = config_of(Auth::new().ignore_case(true));
    let stores = [
        &in_memory().ignore_case(true) as &dyn Authenticator,
        &in_sqlite(&directory).ignore_case(true),
        &in_a_file(&directory).ignore_case(true),
    ];
    for users in stores {
        for mechanism in MECHANISMS {
            for (user, ..) in ACCOUNTS {
                let as_stored = asked_of(users, &config, mechanism, user);
                for other in [user.to_uppercase(), user.replacen(&user[..1], &user[..1].to_uppercase(), 1)] {
                    assert_eq!(asked_of(users, &config, mechanism, &other), as_stored, "{mechanism}, {other}");
                }
            }
        }
    }
}

/// What a peer does not learn, an operator does.
#[test]
fn the_event_tells_the_reason() {
    let users = in_memory();
    for (user, wrong_password, wrong_proof) in ACCOUNTS {
        assert_eq!(asked(&users, "PLAIN", user).2, Some(wrong_password), "{user}");
        let of_scram = if user == "gated" { Refusal::Disabled } else { wrong_proof };
        assert_eq!(asked(&users, "SCRAM-SHA-256", user).2, Some(of_scram), "{user}");
        let of_cram_md5 = if user == "gated" { Refusal::BadCredentials } else { wrong_proof };
        assert_eq!(asked(&users, "CRAM-MD5", user).2, Some(of_cram_md5), "{user}");
    }
}

/// A store that notes down which look-ups find a user.
struct Watched {
    store: Memory,
    found: Arc<Mutex<Vec<bool>>>,
}

impl Store for Watched {
    fn find(&self, name: &str) -> Result<Option<StoredUser>, StoreError> {
        let found = self.store.find(name)?;
        self.found.lock().unwrap().push(found.is_some());
        Ok(found)
    }

    fn keeps_keys(&self) -> bool {
        true
    }

    fn sample(&self) -> Result<Vec<StoredUser>, StoreError> {
        self.store.sample()
    }
}

#[test]
fn one_look_up_finds_a_user_and_one_does_not() {
    let found = Arc::default();
    let users = stored(Watched { store: add_to(Memory::new().unwrap()), found: Arc::clone(&found) });
    for mechanism in MECHANISMS {
        for (user, ..) in ACCOUNTS {
            found.lock().unwrap().clear();
            asked(&users, mechanism, user);
            let mut found = found.lock().unwrap().clone();
            found.sort_unstable();
            assert_eq!(found, [false, true], "{mechanism}, {user}");
        }
    }
}

/// Allocation by allocation, at each step, the engine's and the authenticator's: what is read is the same, and what is
/// given back.
#[test]
fn allocations_are_the_same() {
    let (directory, config) = (tempfile::tempdir().unwrap(), config());
    let (memory, sqlite, file) = (in_memory(), in_sqlite(&directory), in_a_file(&directory));
    for (users, is_mixed) in [(&memory as &dyn Authenticator, false), (&sqlite, false), (&file, true)] {
        // In the file there are two kinds of hashes, and a name without a user is of either.
        for mechanism in MECHANISMS.into_iter().filter(|mechanism| !is_mixed || *mechanism != "PLAIN") {
            let counts = ACCOUNTS.map(|(user, ..)| {
                let mut stranger = Stranger::new(&config);
                let lines = exchange(mechanism, user);
                // The second time, so that what is kept for the next use is there.
                lines.iter().for_each(|line| stranger.say(line, users));
                let count = |line: &Vec<u8>| measure(|| stranger.say(line, users)).count_total;
                lines.iter().map(count).collect::<Vec<_>>()
            });
            assert!(counts.windows(2).all(|pair| pair[0] == pair[1]), "{mechanism}: {counts:?}");
        }
    }
}
