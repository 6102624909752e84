//! The users who may log in: an SQLite database of what each mechanism needs of their passwords, and of tokens.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row};
use sansmtp::Secret;
use zeroize::Zeroizing;

use crate::durable;
use crate::user_name;

mod check;
mod error;
mod password;
mod permits;
mod schema;
#[cfg(test)]
pub(crate) mod testing;
mod tokens;

pub(crate) use check::{Check, Scram};
pub(crate) use error::Error;
pub(crate) use password::{Keep, SCRAM_ITERATIONS};

use password::{Keys, Nobody, Password, hash, random_text};
use permits::Permits;

/// The user database. May be shared by threads: hashing, which is made to be slow, happens outside the lock.
#[derive(Debug)]
pub(crate) struct Users {
    connection: Mutex<Connection>,
    nobody: Nobody,
    hashing: Permits,
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
        // What a change of password drops is overwritten.
        connection.pragma_update(None, "secure_delete", true)?;
        connection.pragma_update(None, "foreign_keys", true)?;
        schema::migrate(&mut connection)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { connection: Mutex::new(connection), nobody: Nobody::new()?, hashing: Permits::new(cores) })
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
    pub(crate) fn first_start(path: &Path, keep: Keep) -> Result<(Self, Option<FirstUser>), Error> {
        // An empty file is a first start that was interrupted.
        let first = path.metadata().map_or(true, |metadata| metadata.len() == 0);
        let users = Self::open_or_create(path)?;
        if !first {
            return Ok((users, None));
        }
        let user = FirstUser { name: FIRST_USER.to_owned(), password: random_text()? };
        users.add(&user.name, user.password.as_bytes(), keep)?;
        Ok((users, Some(user)))
    }

    /// Adds a user.
    ///
    /// # Errors
    /// [`Error::Exists`], and where the name or the password is none.
    pub(crate) fn add(&self, name: &str, password: &[u8], keep: Keep) -> Result<(), Error> {
        let name = user_name::prepare(name).ok_or(Error::Name)?;
        let (hash, keys) = self.stored(password, keep)?;
        let added = self.lock().execute(
            "INSERT INTO user (name, password, scram_sha_1, scram_sha_256, scram_sha_512, cram_md5)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
            columns(&name, &hash, &keys),
        )?;
        if added == 0 { Err(Error::Exists(name)) } else { Ok(()) }
    }

    /// Sets another password, and replaces or drops the keys of the old one. Tokens stay good.
    ///
    /// # Errors
    /// [`Error::Unknown`], and where the password is none.
    pub(crate) fn set_password(&self, name: &str, password: &[u8], keep: Keep) -> Result<(), Error> {
        let name = self.known(name)?;
        let (hash, keys) = self.stored(password, keep)?;
        self.change(
            &name,
            "UPDATE user SET password = ?2, scram_sha_1 = ?3, scram_sha_256 = ?4, scram_sha_512 = ?5, cram_md5 = ?6
             WHERE name = ?1",
            columns(&name, &hash, &keys),
        )
    }

    /// Disables a user, or enables one again.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub(crate) fn set_disabled(&self, name: &str, disabled: bool) -> Result<(), Error> {
        let name = self.known(name)?;
        self.change(&name, "UPDATE user SET disabled = ?2 WHERE name = ?1", (&name, disabled))
    }

    /// Deletes a user, and the user's tokens.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub(crate) fn delete(&self, name: &str) -> Result<(), Error> {
        let name = self.known(name)?;
        self.change(&name, "DELETE FROM user WHERE name = ?1", [&name])
    }

    /// Lists the users by name.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub(crate) fn list(&self) -> Result<Vec<User>, Error> {
        let connection = self.lock();
        let mut statement = connection.prepare("SELECT name, disabled FROM user ORDER BY name")?;
        let users = statement.query_map([], User::from_row)?;
        Ok(users.collect::<Result<_, _>>()?)
    }

    /// Finds a user by name.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub(crate) fn find(&self, name: &str) -> Result<Option<User>, Error> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached("SELECT name, disabled FROM user WHERE name = ?1")?;
        Ok(statement.query_row([name], User::from_row).optional()?)
    }

    /// The name under which a user is known: as it was typed, or as logins bring it.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub(crate) fn known(&self, name: &str) -> Result<String, Error> {
        let prepared = user_name::prepare(name);
        for name in [Some(name), prepared.as_deref()].into_iter().flatten() {
            if let Some(user) = self.find(name)? {
                return Ok(user.name);
            }
        }
        Err(Error::Unknown(name.to_owned()))
    }

    /// The key from which unknown users' SCRAM salts are made.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub(crate) fn salt_key(&self) -> Result<Secret, Error> {
        let sql = "SELECT value FROM setting WHERE name = ?1";
        Ok(Secret::new(self.lock().query_row(sql, [schema::SALT_KEY], |row| row.get(0))?))
    }

    /// What is stored of a password.
    fn stored(&self, password: &[u8], keep: Keep) -> Result<(Zeroizing<String>, Keys), Error> {
        let password = Password::new(password)?;
        let _permit = self.hashing.take();
        Ok((hash(password.as_ref())?, Keys::derive(password.as_ref(), keep)?))
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

impl User {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { name: row.get(0)?, disabled: row.get(1)? })
    }
}

impl fmt::Debug for FirstUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirstUser").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A user's name and everything that is stored of the password, in the order of the columns.
fn columns<'a>(name: &'a str, hash: &'a str, keys: &'a Keys) -> impl rusqlite::Params + 'a {
    let cram_md5 = keys.cram_md5.as_ref().map(|key| key.as_str());
    (name, hash, keys.scram_sha_1.as_str(), keys.scram_sha_256.as_str(), keys.scram_sha_512.as_str(), cram_md5)
}

const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const FIRST_USER: &str = "user";
/// As many as a login can bring.
const MAX_NAME_OCTETS: usize = 255;

#[cfg(test)]
mod tests;
