//! Users in an SQLite database: the embedded default, for one machine.
//!
//! ```
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("mail.db");
//! use sansmtp_authenticators::sqlite::Sqlite;
//! use sansmtp_authenticators::stored::{Accounts, Keep, Stored};
//!
//! let users = Accounts::new(Sqlite::open_or_create(&path)?);
//! users.add("tim", b"tanstaaftanstaaf", Keep::Scram)?;
//! let authenticator = Stored::new(users.into_store())?;
//! # let _ = authenticator;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Several processes may have the same database open. A user has a row in the table `user`: the name, the hash of the
//! password (any [`PasswordHash`](crate::stored::PasswordHash); new ones are Argon2id), the keys of each SCRAM mechanism
//! and of CRAM-MD5, if they are kept, and whether logins are refused. Tokens are in `token`, as
//! hashes, and in `address` the addresses from which a user may send.

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row};
use sansmtp::Secret;
use sansmtp::auth::ScramHash;
use zeroize::Zeroizing;

use crate::stored::{
    Keys, Needed, NewPassword, SAMPLE, Store, StoreError, StoredUser, TokenHash, User, WritableStore, is_in_any_case,
};
use crate::{Answers, MAX_ADDRESSES};

mod schema;
#[cfg(test)]
mod tests;

/// Users in an SQLite database. May be shared by threads.
#[derive(Debug)]
pub struct Sqlite {
    reader: Mutex<Connection>,
    writer: Mutex<Connection>,
    /// For the keys that logins leave behind, which do not wait for other writers.
    keeper: Mutex<Connection>,
}

/// Why a database cannot be opened, or used.
#[derive(Debug)]
#[non_exhaustive]
pub enum SqliteError {
    /// There is no such file.
    Missing(PathBuf),
    /// The file is something else, or a database of something else.
    Foreign,
    /// A newer version of this crate made the database.
    Newer(i64),
    /// There is no entropy.
    Random(getrandom::Error),
    /// The file cannot be made.
    File(io::Error),
    /// SQLite says so.
    Sqlite(rusqlite::Error),
}

impl Sqlite {
    /// Opens a database that exists, and brings it to the newest version.
    ///
    /// # Errors
    /// [`SqliteError::Missing`] where there is no such file, [`SqliteError::Foreign`] where it is something else.
    pub fn open(path: &Path) -> Result<Self, SqliteError> {
        if !path.try_exists().map_err(SqliteError::File)? {
            return Err(SqliteError::Missing(path.to_owned()));
        }
        let mut writer = connect(path)?;
        schema::migrate(&mut writer)?;
        let [reader, keeper] = [connect(path)?, connect(path)?];
        keeper.busy_timeout(KEEPER_BUSY_TIMEOUT)?;
        Ok(Self { reader: Mutex::new(reader), writer: Mutex::new(writer), keeper: Mutex::new(keeper) })
    }

    /// Opens a database, making an empty one that only its owner may read where there is none.
    ///
    /// # Errors
    /// As [`open`](Self::open), and where the file cannot be made.
    pub fn open_or_create(path: &Path) -> Result<Self, SqliteError> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.open(path) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(SqliteError::File(error)),
        }
        Self::open(path)
    }

    /// How many rows were changed.
    fn change(&self, sql: &str, values: impl rusqlite::Params) -> Result<usize, StoreError> {
        change(&lock(&self.writer), sql, values)
    }
}

impl Store for Sqlite {
    fn find(&self, name: &str) -> Result<Option<StoredUser>, StoreError> {
        let connection = lock(&self.reader);
        let mut statement = connection.prepare_cached(FIND).map_err(error)?;
        statement.query_row([name], stored).optional().map_err(error)
    }

    /// SQLite itself knows no case but that of ASCII.
    fn names_in_any_case(&self, name: &str) -> Result<Vec<String>, StoreError> {
        let connection = lock(&self.reader);
        let mut statement = connection.prepare_cached("SELECT name FROM user").map_err(error)?;
        let mut rows = statement.query([]).map_err(error)?;
        let mut names = Vec::new();
        while let Some(row) = rows.next().map_err(error)? {
            let known = row.get_ref(0).and_then(|known| Ok(known.as_str()?)).map_err(error)?;
            if is_in_any_case(known, name) {
                names.push(known.to_owned());
            }
        }
        Ok(names)
    }

    fn find_by_token(&self, token: &TokenHash) -> Result<Option<User>, StoreError> {
        let connection = lock(&self.reader);
        let mut statement = connection.prepare_cached(FIND_BY_TOKEN).map_err(error)?;
        statement.query_row([token.as_bytes().as_slice()], user).optional().map_err(error)
    }

    fn addresses(&self, name: &str) -> Result<Option<Vec<String>>, StoreError> {
        let connection = lock(&self.reader);
        let mut statement = connection.prepare_cached(ADDRESSES).map_err(error)?;
        let most = i64::try_from(MAX_ADDRESSES).unwrap_or(i64::MAX);
        let rows = statement.query_map((name, most), |row| row.get::<_, Option<String>>(0)).map_err(error)?;
        let rows = rows.collect::<Result<Vec<_>, _>>().map_err(error)?;
        Ok((!rows.is_empty()).then(|| rows.into_iter().flatten().collect()))
    }

    fn has_addresses(&self) -> Result<bool, StoreError> {
        let connection = lock(&self.reader);
        let mut statement = connection.prepare_cached(HAS_ADDRESSES).map_err(error)?;
        statement.query_row([], |row| row.get(0)).map_err(error)
    }

    fn keep_keys(&self, name: &str, hash: &str, keys: &Keys) -> Result<(), StoreError> {
        let [sha1, sha256, sha512, cram_md5] = columns(keys);
        change(&lock(&self.keeper), KEEP_KEYS, (name, hash, sha1, sha256, sha512, cram_md5)).map(drop)
    }

    fn keeps_keys(&self) -> bool {
        true
    }

    fn sample(&self) -> Result<Vec<StoredUser>, StoreError> {
        let connection = lock(&self.reader);
        let mut statement = connection.prepare_cached(SOME).map_err(error)?;
        let users = statement.query_map([i64::try_from(SAMPLE).unwrap_or(i64::MAX)], stored).map_err(error)?;
        users.collect::<Result<_, _>>().map_err(error)
    }

    fn answers(&self, mechanism: &str) -> Answers {
        match Needed::by(mechanism) {
            Needed::Password | Needed::Scram(_) | Needed::Certificate => Answers::ForAll,
            Needed::CramMd5 | Needed::Token => Answers::ForSome,
            Needed::Other => Answers::ForNone,
        }
    }
}

impl WritableStore for Sqlite {
    fn insert(&self, name: &str, password: &NewPassword) -> Result<bool, StoreError> {
        let [sha1, sha256, sha512, cram_md5] = columns(password.keys());
        Ok(self.change(INSERT, (name, password.hash(), sha1, sha256, sha512, cram_md5))? > 0)
    }

    fn replace(&self, name: &str, password: &NewPassword) -> Result<bool, StoreError> {
        let [sha1, sha256, sha512, cram_md5] = columns(password.keys());
        Ok(self.change(REPLACE, (name, password.hash(), sha1, sha256, sha512, cram_md5))? > 0)
    }

    fn set_disabled(&self, name: &str, disabled: bool) -> Result<bool, StoreError> {
        Ok(self.change("UPDATE user SET disabled = ?2 WHERE name = ?1", (name, disabled))? > 0)
    }

    fn delete(&self, name: &str) -> Result<bool, StoreError> {
        Ok(self.change("DELETE FROM user WHERE name = ?1", [name])? > 0)
    }

    fn list(&self) -> Result<Vec<User>, StoreError> {
        let connection = lock(&self.reader);
        let mut statement = connection.prepare("SELECT name, disabled FROM user ORDER BY name").map_err(error)?;
        let users = statement.query_map([], user).map_err(error)?;
        users.collect::<Result<_, _>>().map_err(error)
    }

    fn insert_token(&self, name: &str, token: &TokenHash) -> Result<bool, StoreError> {
        let sql = "INSERT INTO token (hash, user) SELECT ?2, name FROM user WHERE name = ?1";
        Ok(self.change(sql, (name, token.as_bytes().as_slice()))? > 0)
    }

    fn delete_tokens(&self, name: &str) -> Result<usize, StoreError> {
        self.change("DELETE FROM token WHERE user = ?1", [name])
    }

    fn insert_address(&self, name: &str, address: &str) -> Result<bool, StoreError> {
        // "DO UPDATE" counts as a change where "DO NOTHING" would not.
        let sql = "INSERT INTO address (user, address) SELECT name, ?2 FROM user WHERE name = ?1
                   ON CONFLICT DO UPDATE SET address = excluded.address";
        Ok(self.change(sql, (name, address))? > 0)
    }

    fn delete_address(&self, name: &str, address: &str) -> Result<bool, StoreError> {
        Ok(self.change("DELETE FROM address WHERE user = ?1 AND address = ?2", (name, address))? > 0)
    }

    fn salt_key(&self) -> Result<Secret, StoreError> {
        let sql = "SELECT value FROM setting WHERE name = ?1";
        lock(&self.reader).query_row(sql, [schema::SALT_KEY], |row| row.get(0)).map(Secret::new).map_err(error)
    }
}

impl fmt::Display for SqliteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(path) => write!(f, "there is no {}", path.display()),
            Self::Foreign => f.write_str("the file is not a database of users"),
            Self::Newer(version) => write!(f, "the database has version {version}, newer than this program"),
            Self::Random(error) => write!(f, "no random numbers: {error}"),
            Self::File(error) => error.fmt(f),
            Self::Sqlite(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SqliteError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Random(error) => Some(error),
            Self::File(error) => error.source(),
            Self::Sqlite(error) => error.source(),
            Self::Missing(_) | Self::Foreign | Self::Newer(_) => None,
        }
    }
}

impl From<rusqlite::Error> for SqliteError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::NotADatabase) => Self::Foreign,
            Some(_) | None => Self::Sqlite(error),
        }
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE,
    )?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    // WAL's own default may lose the last transactions in a power failure; a new password must not be lost.
    connection.pragma_update(None, "synchronous", "full")?;
    // What a change of password drops is overwritten.
    connection.pragma_update(None, "secure_delete", true)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    Ok(connection)
}

/// How many rows were changed.
fn change(connection: &Connection, sql: &str, values: impl rusqlite::Params) -> Result<usize, StoreError> {
    let mut statement = connection.prepare_cached(sql).map_err(error)?;
    statement.execute(values).map_err(error)
}

fn lock(connection: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    // SQLite undoes what a panicking thread left unfinished, so the connection is good after one.
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

/// SQLite's own texts tell of statements, columns and files, and of no value in them.
fn error(error: rusqlite::Error) -> StoreError {
    StoreError::new(SqliteError::from(error))
}

fn user(row: &Row<'_>) -> rusqlite::Result<User> {
    Ok(User::new(row.get::<_, String>(0)?, row.get(1)?))
}

fn stored(row: &Row<'_>) -> rusqlite::Result<StoredUser> {
    let text = |column| row.get::<_, Option<String>>(column).map(|text| text.map(Zeroizing::new));
    Ok(StoredUser::new(row.get::<_, String>(0)?, row.get(1)?)
        .with_password(text(2)?)
        .with_scram(ScramHash::Sha1, text(3)?)
        .with_scram(ScramHash::Sha256, text(4)?)
        .with_scram(ScramHash::Sha512, text(5)?)
        .with_cram_md5(text(6)?))
}

/// In the order of the columns.
fn columns(keys: &Keys) -> [Option<&str>; 4] {
    [keys.scram(ScramHash::Sha1), keys.scram(ScramHash::Sha256), keys.scram(ScramHash::Sha512), keys.cram_md5()]
}

const FIND: &str = "SELECT name, disabled, password, scram_sha_1, scram_sha_256, scram_sha_512, cram_md5
                    FROM user WHERE name = ?1";
const SOME: &str = "SELECT name, disabled, password, scram_sha_1, scram_sha_256, scram_sha_512, cram_md5
                    FROM user LIMIT ?1";
const FIND_BY_TOKEN: &str = "SELECT name, disabled FROM user JOIN token ON token.user = user.name WHERE hash = ?1";
/// A row without an address for a user without one.
const ADDRESSES: &str = "SELECT address FROM user LEFT JOIN address ON address.user = user.name WHERE name = ?1
                         ORDER BY address LIMIT ?2";
const HAS_ADDRESSES: &str = "SELECT EXISTS (SELECT 1 FROM address)
                             OR EXISTS (SELECT 1 FROM user WHERE instr(name, '@') > 0)";
const INSERT: &str = "INSERT INTO user (name, password, scram_sha_1, scram_sha_256, scram_sha_512, cram_md5)
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING";
const REPLACE: &str = "UPDATE user SET password = ?2, scram_sha_1 = ?3, scram_sha_256 = ?4, scram_sha_512 = ?5,
                                       cram_md5 = ?6
                       WHERE name = ?1";
const KEEP_KEYS: &str = "UPDATE user SET scram_sha_1 = coalesce(?3, scram_sha_1),
                                         scram_sha_256 = coalesce(?4, scram_sha_256),
                                         scram_sha_512 = coalesce(?5, scram_sha_512),
                                         cram_md5 = coalesce(?6, cram_md5)
                         WHERE name = ?1 AND password = ?2";
/// How long to wait for other processes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// As long as a transaction takes: those who log in at the same time wait for each other.
const KEEPER_BUSY_TIMEOUT: Duration = Duration::from_millis(20);
