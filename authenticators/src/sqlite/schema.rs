//! The database's tables, and how those of older versions become those of this one.

use rusqlite::{Connection, TransactionBehavior};
use zeroize::Zeroizing;

use super::SqliteError;

/// Brings the database to the newest version, in a transaction: another process may be doing the same.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), SqliteError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let newest = i64::try_from(VERSIONS.len()).unwrap_or(i64::MAX);
    if version > newest {
        return Err(SqliteError::Newer(version));
    }
    if version == 0 {
        let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if tables > 0 {
            return Err(SqliteError::Foreign);
        }
    }
    let missing = VERSIONS.get(usize::try_from(version).map_err(|_| SqliteError::Foreign)?..).unwrap_or_default();
    for statements in missing {
        transaction.execute_batch(statements)?;
    }
    if version < SALT_KEY_SINCE {
        let mut key = Zeroizing::new([0; SALT_KEY_OCTETS]);
        getrandom::fill(&mut *key).map_err(SqliteError::Random)?;
        transaction.execute("INSERT INTO setting (name, value) VALUES (?1, ?2)", (SALT_KEY, &*key))?;
    }
    transaction.pragma_update(None, "user_version", newest)?;
    transaction.commit()?;
    Ok(())
}

/// The setting from which unknown users' SCRAM salts are made: every process over this database makes the same.
pub(super) const SALT_KEY: &str = "salt_key";

const SALT_KEY_OCTETS: usize = 32;
const SALT_KEY_SINCE: i64 = 2;

/// What leads from each version to the next, from the empty database on.
const VERSIONS: [&str; 3] = [
    // Names are compared octet by octet, which is SQLite's own collation.
    "
CREATE TABLE user (
    name     TEXT PRIMARY KEY NOT NULL,
    password TEXT NOT NULL,                 -- PHC string, Argon2id
    disabled INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1))
) STRICT, WITHOUT ROWID;
",
    // Keys are of the same password as the hash beside them. Users of version 1 have none until they log in with
    // PLAIN or LOGIN. A token belongs to its user, not to a password.
    "
ALTER TABLE user ADD COLUMN scram_sha_1   TEXT;    -- as PostgreSQL writes them
ALTER TABLE user ADD COLUMN scram_sha_256 TEXT;
ALTER TABLE user ADD COLUMN scram_sha_512 TEXT;
ALTER TABLE user ADD COLUMN cram_md5      TEXT;    -- as Dovecot writes it; only where it was asked for
CREATE TABLE token (
    hash BLOB PRIMARY KEY NOT NULL,         -- SHA-256
    user TEXT NOT NULL REFERENCES user (name) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX token_user ON token (user);
CREATE TABLE setting (
    name  TEXT PRIMARY KEY NOT NULL,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
",
    // From which a user may send. Several users may have the same.
    "
CREATE TABLE address (
    user    TEXT NOT NULL REFERENCES user (name) ON DELETE CASCADE,
    address TEXT NOT NULL,                  -- or @ and a domain, for all of its addresses
    PRIMARY KEY (user, address)
) STRICT, WITHOUT ROWID;
",
];
