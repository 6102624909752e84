//! Databases to test with.

use std::path::PathBuf;

use rusqlite::Connection;
use tempfile::TempDir;

use super::Users;
use super::password::hash;

/// An empty database.
pub(crate) fn users() -> (TempDir, Users) {
    let directory = tempfile::tempdir().unwrap();
    let users = Users::open_or_create(&directory.path().join("mail.db")).unwrap();
    (directory, users)
}

/// A database as it was made before there were keys, with the users `tim`, `old` and, disabled, `gone`.
pub(crate) fn version_1(password: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mail.db");
    let database = Connection::open(&path).unwrap();
    database.execute_batch(VERSION_1).unwrap();
    for (name, disabled) in [("tim", false), ("old", false), ("gone", true)] {
        let hash = hash(password.as_bytes()).unwrap();
        database.execute("INSERT INTO user VALUES (?1, ?2, ?3)", (name, hash.as_str(), disabled)).unwrap();
    }
    (directory, path)
}

impl Users {
    /// Writes a text in the place of everything that is stored of a user's password.
    pub(crate) fn spoil(&self, name: &str, text: &str) {
        let sql =
            "UPDATE user SET password = ?2, scram_sha_1 = ?2, scram_sha_256 = ?2, scram_sha_512 = ?2, cram_md5 = ?2
                   WHERE name = ?1";
        self.lock().execute(sql, (name, text)).unwrap();
    }
}

/// As the first version of the program wrote it.
const VERSION_1: &str = "
PRAGMA journal_mode = wal;
CREATE TABLE user (
    name     TEXT PRIMARY KEY NOT NULL,
    password TEXT NOT NULL,                 -- PHC string, Argon2id
    disabled INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1))
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 1;
";
