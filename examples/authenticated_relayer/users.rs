//! The users who may log in: an SQLite database of Argon2id hashes.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior, params};
use zeroize::Zeroizing;

use crate::durable;

/// The user database. May be shared by threads: hashing, which is made to be slow, happens outside the lock.
#[derive(Debug)]
pub(crate) struct Users {
    connection: Mutex<Connection>,
    /// The hash of a password that nobody has, checked where there is no user: the answer then takes as long.
    nobody: String,
    hashing: Permits,
}

/// What came of checking a password. The peer must not learn the reason of a refusal; the log may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    Accepted,
    Disabled,
    UnknownUser,
    WrongPassword,
}

/// A user, as far as anyone may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) disabled: bool,
}

/// The user made on the first start, with the only copy of the password.
pub(crate) struct FirstUser {
    pub(crate) name: String,
    pub(crate) password: Zeroizing<String>,
}

impl Users {
    /// Opens a database that exists.
    ///
    /// # Errors
    /// [`Error::Missing`] where there is no such file, [`Error::Foreign`] where it is something else.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        if !path.try_exists().map_err(Error::File)? {
            return Err(Error::Missing(path.to_owned()));
        }
        let mut connection = Connection::open_with_flags(
            path,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE,
        )?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        // WAL's own default may lose the last transactions in a power failure; a new password must not be lost.
        connection.pragma_update(None, "synchronous", "full")?;
        migrate(&mut connection)?;
        let nobody = hash(&random_password()?)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { connection: Mutex::new(connection), nobody, hashing: Permits::new(cores) })
    }

    /// Opens a database, making an empty one that only its owner may read where there is none.
    ///
    /// # Errors
    /// As [`Users::open`], and where the file cannot be made.
    pub(crate) fn open_or_create(path: &Path) -> Result<Self, Error> {
        match durable::create_new(path) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::File(error)),
        }
        Self::open(path)
    }

    /// Opens the database; on the first start, makes it with one user and a random password, to be shown once.
    ///
    /// # Errors
    /// As [`Users::open_or_create`].
    pub(crate) fn first_start(path: &Path) -> Result<(Self, Option<FirstUser>), Error> {
        // An empty file is a first start that was interrupted.
        let first = path.metadata().map_or(true, |metadata| metadata.len() == 0);
        let users = Self::open_or_create(path)?;
        if !first {
            return Ok((users, None));
        }
        let user = FirstUser { name: FIRST_USER.to_owned(), password: random_password()? };
        users.add(&user.name, user.password.as_bytes())?;
        Ok((users, Some(user)))
    }

    /// Checks a password. An unknown user, a wrong password and a disabled account take the same time.
    ///
    /// # Errors
    /// Where the database cannot be read: then nothing is known of the password.
    pub(crate) fn check(&self, name: &str, password: &[u8]) -> Result<Check, Error> {
        let found = if check_name(name).is_ok() {
            let connection = self.lock();
            let mut statement = connection.prepare_cached("SELECT password, disabled FROM user WHERE name = ?1")?;
            statement.query_row([name], |row| Ok((row.get::<_, String>(0)?, row.get::<_, bool>(1)?))).optional()?
        } else {
            None
        };
        let stored = found.as_ref().map_or(self.nobody.as_str(), |(stored, _)| stored.as_str());
        let parsed = PasswordHash::new(stored).map_err(|error| Error::Hash(error.to_string()))?;
        let verified = {
            let _permit = self.hashing.take();
            hasher().verify_password(password, &parsed)
        };
        let matches = match verified {
            Ok(()) => true,
            Err(argon2::password_hash::Error::PasswordInvalid) => false,
            Err(error) => return Err(Error::Hash(error.to_string())),
        };
        Ok(match (found, matches) {
            (None, _) => Check::UnknownUser,
            (Some(_), false) => Check::WrongPassword,
            (Some((_, true)), true) => Check::Disabled,
            (Some((_, false)), true) => Check::Accepted,
        })
    }

    /// Adds a user.
    ///
    /// # Errors
    /// [`Error::Exists`], and where the name or the password is none.
    pub(crate) fn add(&self, name: &str, password: &[u8]) -> Result<(), Error> {
        check_name(name)?;
        check_password(password)?;
        let hash = hash(password)?;
        let added = self
            .lock()
            .execute("INSERT INTO user (name, password) VALUES (?1, ?2) ON CONFLICT DO NOTHING", params![name, hash])?;
        if added == 0 { Err(Error::Exists(name.to_owned())) } else { Ok(()) }
    }

    /// Sets another password.
    ///
    /// # Errors
    /// [`Error::Unknown`], and where the password is none.
    pub(crate) fn set_password(&self, name: &str, password: &[u8]) -> Result<(), Error> {
        check_password(password)?;
        let hash = hash(password)?;
        self.change(name, "UPDATE user SET password = ?2 WHERE name = ?1", params![name, hash])
    }

    /// Disables a user, or enables one again.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub(crate) fn set_disabled(&self, name: &str, disabled: bool) -> Result<(), Error> {
        self.change(name, "UPDATE user SET disabled = ?2 WHERE name = ?1", params![name, disabled])
    }

    /// Deletes a user.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub(crate) fn delete(&self, name: &str) -> Result<(), Error> {
        self.change(name, "DELETE FROM user WHERE name = ?1", params![name])
    }

    /// Lists the users by name.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub(crate) fn list(&self) -> Result<Vec<User>, Error> {
        let connection = self.lock();
        let mut statement = connection.prepare("SELECT name, disabled FROM user ORDER BY name")?;
        let users = statement.query_map([], |row| Ok(User { name: row.get(0)?, disabled: row.get(1)? }))?;
        Ok(users.collect::<Result<_, _>>()?)
    }

    fn change(&self, name: &str, sql: &str, values: impl rusqlite::Params) -> Result<(), Error> {
        let changed = self.lock().execute(sql, values)?;
        if changed == 0 { Err(Error::Unknown(name.to_owned())) } else { Ok(()) }
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // SQLite undoes what a panicking thread left unfinished, so the connection is good after one.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for FirstUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirstUser").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why the user database could not do what it was asked.
#[derive(Debug)]
#[non_exhaustive]
pub(crate) enum Error {
    /// There is no such database.
    Missing(PathBuf),
    /// The file is a database of something else.
    Foreign,
    /// A newer version of this program made the database.
    Newer(i64),
    Exists(String),
    Unknown(String),
    Name,
    EmptyPassword,
    NulInPassword,
    /// A stored hash cannot be read, or a new one not be made.
    Hash(String),
    Random(getrandom::Error),
    File(io::Error),
    Sqlite(rusqlite::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(path) => write!(f, "there is no {}", path.display()),
            Self::Foreign => f.write_str("the file is not a database of users"),
            Self::Newer(version) => write!(f, "the database has version {version}, newer than this program"),
            Self::Exists(name) => write!(f, "the user {name:?} exists already"),
            Self::Unknown(name) => write!(f, "there is no user {name:?}"),
            Self::Name => write!(f, "a user's name has 1 to {MAX_NAME_OCTETS} octets and no control characters"),
            Self::EmptyPassword => f.write_str("the password is empty"),
            Self::NulInPassword => f.write_str("a password with NUL in it cannot be sent in a login"),
            Self::Hash(error) => write!(f, "cannot hash or compare the password: {error}"),
            Self::Random(error) => write!(f, "no random numbers: {error}"),
            Self::File(error) => write!(f, "{error}"),
            Self::Sqlite(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::NotADatabase) => Self::Foreign,
            Some(_) | None => Self::Sqlite(error),
        }
    }
}

/// How many threads may hash at once. Argon2id takes [`PARAMS`]' memory each time, so without a limit a crowd of
/// logins would be a way to exhaust it.
#[derive(Debug)]
struct Permits {
    free: Mutex<usize>,
    freed: Condvar,
}

impl Permits {
    fn new(free: usize) -> Self {
        Self { free: Mutex::new(free), freed: Condvar::new() }
    }

    fn take(&self) -> Permit<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self.freed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Permit(self)
    }
}

struct Permit<'a>(&'a Permits);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

/// Brings the database to [`SCHEMA_VERSION`], in a transaction: another process may be doing the same.
fn migrate(connection: &mut Connection) -> Result<(), Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version > SCHEMA_VERSION {
        return Err(Error::Newer(version));
    }
    if version == 0 {
        let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if tables > 0 {
            return Err(Error::Foreign);
        }
        transaction.execute_batch(SCHEMA)?;
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    }
    transaction.commit()?;
    Ok(())
}

fn check_name(name: &str) -> Result<(), Error> {
    if name.is_empty() || name.len() > MAX_NAME_OCTETS || name.contains(char::is_control) {
        return Err(Error::Name);
    }
    Ok(())
}

fn check_password(password: &[u8]) -> Result<(), Error> {
    if password.is_empty() {
        return Err(Error::EmptyPassword);
    }
    // NUL ends the password in PLAIN (RFC 4616, section 2).
    if password.contains(&0) { Err(Error::NulInPassword) } else { Ok(()) }
}

fn hash(password: impl AsRef<[u8]>) -> Result<String, Error> {
    let hash = hasher().hash_password(password.as_ref()).map_err(|error| Error::Hash(error.to_string()))?;
    Ok(hash.to_string())
}

fn hasher() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, PARAMS)
}

/// Makes a password of 144 bits that survives URLs and shells.
fn random_password() -> Result<Zeroizing<String>, Error> {
    let mut octets = Zeroizing::new([0; 18]);
    getrandom::fill(&mut *octets).map_err(Error::Random)?;
    // A leading "-" would be an option to some programs' eyes.
    let encoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(*octets);
    Ok(Zeroizing::new(encoded.replacen('-', "z", usize::from(encoded.starts_with('-')))))
}

/// The parameters of every new hash: the first choice of the crate and of OWASP, 19 MiB and two passes.
const PARAMS: Params = Params::DEFAULT;
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const FIRST_USER: &str = "user";
const MAX_NAME_OCTETS: usize = 255;
const SCHEMA_VERSION: i64 = 1;
/// Names are compared octet by octet, which is SQLite's own collation.
const SCHEMA: &str = "
CREATE TABLE user (
    name     TEXT PRIMARY KEY NOT NULL,
    password TEXT NOT NULL,                 -- PHC string, Argon2id
    disabled INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1))
) STRICT, WITHOUT ROWID;
";

#[cfg(test)]
#[path = "users_tests.rs"]
mod tests;
