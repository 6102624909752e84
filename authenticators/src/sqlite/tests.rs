use sansmtp::auth::ScramKeys;
use tempfile::TempDir;

use super::*;
use crate::stored::{AccountError, Accounts, Keep, NewPassword, PasswordHash, SCRAM_ITERATIONS};

/// An empty database.
fn users() -> (TempDir, Accounts<Sqlite>) {
    let directory = tempfile::tempdir().unwrap();
    let users = Sqlite::open_or_create(&directory.path().join("mail.db")).unwrap();
    (directory, Accounts::new(users))
}

/// A database as it was made before there were keys, with the users `tim`, `old` and, disabled, `gone`.
fn version_1(password: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mail.db");
    let database = Connection::open(&path).unwrap();
    database.execute_batch(VERSION_1).unwrap();
    for (name, disabled) in [("tim", false), ("old", false), ("gone", true)] {
        let password = NewPassword::new(password.as_bytes(), Keep::Nothing).unwrap();
        database.execute("INSERT INTO user VALUES (?1, ?2, ?3)", (name, password.hash(), disabled)).unwrap();
    }
    (directory, path)
}

/// As the first version wrote it.
const VERSION_1: &str = "
PRAGMA journal_mode = wal;
CREATE TABLE user (
    name     TEXT PRIMARY KEY NOT NULL,
    password TEXT NOT NULL,                 -- PHC string, Argon2id
    disabled INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1))
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 1;
";

fn hash(users: &Sqlite, name: &str) -> PasswordHash {
    users.find(name).unwrap().unwrap().password_text().unwrap().parse().unwrap()
}

/// The text in a column of the user's.
fn column(users: &Sqlite, name: &str, column: &str) -> Option<String> {
    let sql = format!("SELECT {column} FROM user WHERE name = ?1");
    lock(&users.reader).query_row(&sql, [name], |row| row.get(0)).unwrap()
}

fn scram(users: &Sqlite, name: &str, hash: &str) -> ScramKeys {
    column(users, name, hash).unwrap().parse().unwrap()
}

#[test]
fn only_the_owner_may_read_the_files() {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let (directory, users) = users();
        users.add("tim", b"x", Keep::Scram).unwrap();
        for entry in std::fs::read_dir(directory.path()).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
        }
    }
}

#[test]
fn another_file_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("notes.txt");
    std::fs::write(&text, "not a database, but long enough to have a header of its own".repeat(10)).unwrap();
    assert!(matches!(Sqlite::open(&text), Err(SqliteError::Foreign)));
    let other = directory.path().join("other.db");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    assert!(matches!(Sqlite::open(&other), Err(SqliteError::Foreign)));
    let newer = directory.path().join("newer.db");
    Connection::open(&newer).unwrap().execute_batch("PRAGMA user_version = 4").unwrap();
    assert!(matches!(Sqlite::open(&newer), Err(SqliteError::Newer(4))));
    assert!(matches!(Sqlite::open(&directory.path().join("none")), Err(SqliteError::Missing(_))));
}

#[test]
fn a_database_of_version_1_is_brought_up_to_date() {
    let (_directory, path) = version_1("tanstaaftanstaaf");
    let users = Accounts::new(Sqlite::open(&path).unwrap());
    let names: Vec<_> = users.list().unwrap().into_iter().map(|user| (user.name, user.disabled)).collect();
    assert_eq!(names, [("gone".to_owned(), true), ("old".to_owned(), false), ("tim".to_owned(), false)]);
    assert!(hash(users.store(), "tim").verify(b"tanstaaftanstaaf"));
    assert_eq!(column(users.store(), "tim", "scram_sha_256"), None);
    users.add_token("old").unwrap();
    drop(users);
    let users = Sqlite::open(&path).unwrap();
    assert!(hash(&users, "tim").verify(b"tanstaaftanstaaf"));
}

#[test]
fn who_opens_an_old_database_at_the_same_time_finds_the_same_key_for_salts() {
    let (_directory, path) = version_1("x");
    let keys: Vec<_> = std::thread::scope(|scope| {
        let open = || Sqlite::open(&path).unwrap().salt_key().unwrap();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let first = keys.first().unwrap();
    assert_eq!(first.expose_secret().len(), 32);
    assert!(keys.iter().all(|key| key.ct_eq(first.expose_secret())));
    assert_ne!(first.expose_secret(), users().1.store().salt_key().unwrap().expose_secret());
}

/// As several servers and commands of a new version do that find a database of the one before.
#[test]
fn a_database_of_version_2_is_brought_up_to_date_by_whoever_comes_first() {
    let (directory, users) = users();
    users.add("tim", b"x", Keep::Nothing).unwrap();
    let token = TokenHash::of(b"token");
    users.store().insert_token("tim", &token).unwrap();
    drop(users);
    let path = directory.path().join("mail.db");
    Connection::open(&path).unwrap().execute_batch("DROP TABLE address; PRAGMA user_version = 2").unwrap();
    std::thread::scope(|scope| {
        for number in 0..4 {
            let path = &path;
            scope.spawn(move || {
                let users = Accounts::new(Sqlite::open(path).unwrap());
                users.add_address("tim", &format!("{number}@example.org")).unwrap();
            });
        }
    });
    let users = Accounts::new(Sqlite::open(&path).unwrap());
    assert_eq!(users.addresses("tim").unwrap().len(), 4);
    assert!(users.store().find_by_token(&token).unwrap().is_some());
}

#[test]
fn every_key_has_a_salt_of_its_own() {
    let (_directory, users) = users();
    users.add("tim", b"x", Keep::Scram).unwrap();
    users.add("tom", b"x", Keep::Scram).unwrap();
    let mut salts = Vec::new();
    for name in ["tim", "tom"] {
        for hash in ["scram_sha_1", "scram_sha_256", "scram_sha_512"] {
            let keys = scram(users.store(), name, hash);
            assert!(keys.verify_octets(b"x") && keys.iterations() == SCRAM_ITERATIONS);
            salts.push(keys.salt().to_vec());
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
    let other = NewPassword::new(b"other", Keep::ScramAndCramMd5).unwrap();
    users.store().keep_keys("tim", "the hash of another password", other.keys()).unwrap();
    assert!(scram(users.store(), "tim", "scram_sha_256").verify_octets(b"old"));
    assert_eq!(column(users.store(), "tim", "cram_md5"), None);
}

#[test]
fn neither_passwords_nor_tokens_nor_replaced_keys_are_in_the_files() {
    let (directory, users) = users();
    users.add("tim", b"tanstaaftanstaaf", Keep::ScramAndCramMd5).unwrap();
    let token = users.add_token("tim").unwrap();
    let old = column(users.store(), "tim", "scram_sha_512").unwrap();
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

/// Another process may hold the database for a while, but not for ever.
#[test]
fn a_database_that_stays_locked_is_an_error() {
    let (directory, users) = users();
    lock(&users.store().writer).busy_timeout(Duration::from_millis(10)).unwrap();
    let other = Connection::open(directory.path().join("mail.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = users.add("tim", b"x", Keep::Nothing).unwrap_err();
    assert!(matches!(refused, AccountError::Store(_)) && refused.to_string().contains("locked"), "{refused}");
    other.execute_batch("COMMIT").unwrap();
    users.add("tim", b"x", Keep::Nothing).unwrap();
}
