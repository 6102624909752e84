use sansmtp::auth::ScramHash;

use super::testing::{users, version_1};
use super::*;

fn check(users: &Users, name: &str, password: &str) -> Check {
    users.check_password(name, password.as_bytes(), Keep::Scram).unwrap()
}

fn scram(users: &Users, name: &str, hash: ScramHash) -> sansmtp::auth::ScramKeys {
    let Scram::Keys(keys) = users.scram_keys(name, hash).unwrap() else { panic!("{name} has no keys") };
    keys
}

#[test]
fn right_wrong_unknown_and_disabled() {
    let (_directory, users) = users();
    users.add("tim", b"tanstaaftanstaaf", Keep::Scram).unwrap();
    assert_eq!(check(&users, "tim", "tanstaaftanstaaf"), Check::Accepted);
    assert_eq!(check(&users, "tim", "tanstaaf"), Check::WrongPassword);
    assert_eq!(check(&users, "tim", ""), Check::WrongPassword);
    assert_eq!(check(&users, "Tim", "tanstaaftanstaaf"), Check::UnknownUser);
    users.set_disabled("tim", true).unwrap();
    assert_eq!(check(&users, "tim", "tanstaaftanstaaf"), Check::Disabled);
    assert_eq!(check(&users, "tim", "wrong"), Check::WrongPassword);
    users.set_disabled("tim", false).unwrap();
    users.set_password("tim", b"other", Keep::Scram).unwrap();
    assert_eq!(check(&users, "tim", "tanstaaftanstaaf"), Check::WrongPassword);
    assert_eq!(check(&users, "tim", "other"), Check::Accepted);
    users.delete("tim").unwrap();
    assert_eq!(check(&users, "tim", "other"), Check::UnknownUser);
}

#[test]
fn mistakes_have_their_own_errors() {
    let (_directory, users) = users();
    users.add("tim", b"x", Keep::Scram).unwrap();
    assert!(matches!(users.add("tim", b"y", Keep::Scram), Err(Error::Exists(_))));
    assert!(matches!(users.set_password("tam", b"y", Keep::Scram), Err(Error::Unknown(_))));
    assert!(matches!(users.delete("tam"), Err(Error::Unknown(_))));
    assert!(matches!(users.add("tam", b"", Keep::Scram), Err(Error::EmptyPassword)));
    assert!(matches!(users.add("tam", b"a\0b", Keep::Scram), Err(Error::NulInPassword)));
    assert!(matches!(users.add("tam", b"a\tb", Keep::Scram), Err(Error::ProhibitedPassword)));
    assert!(matches!(users.add("tam", b"\xFF", Keep::Scram), Err(Error::ProhibitedPassword)));
    assert!(matches!(users.add_token("tam"), Err(Error::Unknown(_))));
    assert!(matches!(users.drop_tokens("tam"), Err(Error::Unknown(_))));
    for name in ["", "a\0b", "a\nb", "a\u{7f}", &"x".repeat(256)] {
        assert!(matches!(users.add(name, b"x", Keep::Scram), Err(Error::Name)), "{name:?}");
        assert_eq!(check(&users, name, "x"), Check::UnknownUser, "{name:?}");
    }
    users.add(&"x".repeat(255), b"x", Keep::Scram).unwrap();
    let names: Vec<_> = users.list().unwrap().into_iter().map(|user| user.name).collect();
    assert_eq!(names, ["tim".to_owned(), "x".repeat(255)]);
}

#[test]
fn the_first_start_makes_one_user_and_the_second_none() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mail.db");
    let (users, first) = Users::first_start(&path, Keep::Scram).unwrap();
    let first = first.unwrap();
    assert!(first.password.len() >= 24);
    assert!(!format!("{first:?}").contains(first.password.as_str()));
    assert_eq!(check(&users, "user", &first.password), Check::Accepted);
    drop(users);
    let (users, second) = Users::first_start(&path, Keep::Scram).unwrap();
    assert!(second.is_none());
    assert_eq!(check(&users, "user", &first.password), Check::Accepted);
    let octets = std::fs::read(&path).unwrap();
    assert!(!octets.windows(first.password.len()).any(|window| window == first.password.as_bytes()));
}

#[test]
fn the_first_user_has_a_cram_md5_key_where_it_is_asked_for() {
    for (keep, expected) in [(Keep::Scram, false), (Keep::ScramAndCramMd5, true)] {
        let directory = tempfile::tempdir().unwrap();
        let (users, _) = Users::first_start(&directory.path().join("mail.db"), keep).unwrap();
        let sql = "SELECT cram_md5 IS NOT NULL FROM user WHERE name = 'user'";
        assert_eq!(users.lock().query_row(sql, [], |row| row.get::<_, bool>(0)).unwrap(), expected);
    }
}

#[cfg(unix)]
#[test]
fn only_the_owner_may_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let (directory, users) = users();
    users.add("tim", b"x", Keep::Scram).unwrap();
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
    }
}

#[test]
fn another_file_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("notes.txt");
    std::fs::write(&text, "not a database, but long enough to have a header of its own".repeat(10)).unwrap();
    assert!(matches!(Users::open(&text), Err(Error::Foreign)));
    let other = directory.path().join("other.db");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    assert!(matches!(Users::open(&other), Err(Error::Foreign)));
    let newer = directory.path().join("newer.db");
    Connection::open(&newer).unwrap().execute_batch("PRAGMA user_version = 3").unwrap();
    assert!(matches!(Users::open(&newer), Err(Error::Newer(3))));
    assert!(matches!(Users::open(&directory.path().join("none")), Err(Error::Missing(_))));
}

#[test]
fn threads_share_it() {
    let (_directory, users) = users();
    users.add("tim", b"right", Keep::Scram).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let users = &users;
            scope.spawn(move || {
                let (password, expected) =
                    if thread % 2 == 0 { ("right", Check::Accepted) } else { ("wrong", Check::WrongPassword) };
                assert_eq!(check(users, "tim", password), expected);
            });
        }
    });
}

#[test]
fn a_database_of_version_1_is_brought_up_to_date() {
    let (_directory, path) = version_1("tanstaaftanstaaf");
    let users = Users::open(&path).unwrap();
    let names: Vec<_> = users.list().unwrap().into_iter().map(|user| (user.name, user.disabled)).collect();
    assert_eq!(names, [("gone".to_owned(), true), ("old".to_owned(), false), ("tim".to_owned(), false)]);
    assert!(matches!(users.scram_keys("tim", ScramHash::Sha256).unwrap(), Scram::NoKeys));
    assert!(matches!(users.scram_keys("gone", ScramHash::Sha256).unwrap(), Scram::Disabled(None)));
    assert_eq!(check(&users, "tim", "tanstaaftanstaaf"), Check::Accepted);
    for hash in [ScramHash::Sha1, ScramHash::Sha256, ScramHash::Sha512] {
        let keys = scram(&users, "tim", hash);
        assert!(keys.verify(b"tanstaaftanstaaf") && keys.iterations() == SCRAM_ITERATIONS);
    }
    assert!(matches!(users.scram_keys("old", ScramHash::Sha256).unwrap(), Scram::NoKeys));
    users.add_token("old").unwrap();
    drop(users);
    let users = Users::open(&path).unwrap();
    assert!(scram(&users, "tim", ScramHash::Sha1).verify(b"tanstaaftanstaaf"));
}

#[test]
fn who_opens_an_old_database_at_the_same_time_finds_the_same_key_for_salts() {
    let (_directory, path) = version_1("x");
    let keys: Vec<_> = std::thread::scope(|scope| {
        let open = || Users::open(&path).unwrap().salt_key().unwrap();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let first = keys.first().unwrap();
    assert_eq!(first.expose_secret().len(), 32);
    assert!(keys.iter().all(|key| key.ct_eq(first.expose_secret())));
    assert_ne!(first.expose_secret(), users().1.salt_key().unwrap().expose_secret());
}

#[test]
fn every_key_has_a_salt_of_its_own() {
    let (_directory, users) = users();
    users.add("tim", b"x", Keep::Scram).unwrap();
    users.add("tom", b"x", Keep::Scram).unwrap();
    let mut salts = Vec::new();
    for name in ["tim", "tom"] {
        for hash in [ScramHash::Sha1, ScramHash::Sha256, ScramHash::Sha512] {
            salts.push(scram(&users, name, hash).salt().to_vec());
        }
    }
    salts.sort();
    salts.dedup();
    assert_eq!(salts.len(), 6);
}

/// A login that was begun before the password was changed leaves nothing behind.
#[test]
fn keys_of_an_old_password_are_not_kept() {
    let (_directory, users) = users();
    users.add("tim", b"old", Keep::Scram).unwrap();
    users
        .keep_keys("tim", "the hash of another password", &Keys::derive(b"other", Keep::ScramAndCramMd5).unwrap())
        .unwrap();
    assert!(scram(&users, "tim", ScramHash::Sha256).verify(b"old"));
}

#[test]
fn neither_passwords_nor_tokens_nor_replaced_keys_are_in_the_files() {
    let (directory, users) = users();
    users.add("tim", b"tanstaaftanstaaf", Keep::ScramAndCramMd5).unwrap();
    let token = users.add_token("tim").unwrap();
    let old = scram(&users, "tim", ScramHash::Sha512).to_text();
    users.set_password("tim", b"another password", Keep::Scram).unwrap();
    assert!(!format!("{users:?}").contains("argon2id"));
    // The last one to close the database writes everything into the one file.
    drop(users);
    let octets = std::fs::read(directory.path().join("mail.db")).unwrap();
    let has = |text: &str| octets.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(has("SCRAM-SHA-512$"));
    for text in ["tanstaaftanstaaf", "another password", &token, &old] {
        assert!(!has(text), "{text}");
    }
}
