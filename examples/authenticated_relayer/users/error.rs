//! Why the user database could not do what it was asked.

use std::fmt;
use std::io;
use std::path::PathBuf;

use sansmtp::auth::InvalidScramKeys;
use sansmtp::auth::mechanism::InvalidCramMd5Key;

use super::MAX_NAME_OCTETS;

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
    /// SASLprep prohibits the password, so no login can bring it.
    ProhibitedPassword,
    /// A stored hash cannot be read, or a new one not be made.
    Hash(String),
    /// Stored keys cannot be read, or new ones not be made.
    ScramKeys(InvalidScramKeys),
    CramMd5Key(InvalidCramMd5Key),
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
            Self::ProhibitedPassword => {
                f.write_str("the password has characters that no login can bring, such as control characters")
            }
            Self::Hash(error) => write!(f, "cannot hash or compare the password: {error}"),
            Self::ScramKeys(error) => write!(f, "cannot use the SCRAM keys: {error}"),
            Self::CramMd5Key(error) => write!(f, "cannot use the CRAM-MD5 key: {error}"),
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

impl From<InvalidScramKeys> for Error {
    fn from(error: InvalidScramKeys) -> Self {
        Self::ScramKeys(error)
    }
}

impl From<InvalidCramMd5Key> for Error {
    fn from(error: InvalidCramMd5Key) -> Self {
        Self::CramMd5Key(error)
    }
}

impl From<getrandom::Error> for Error {
    fn from(error: getrandom::Error) -> Self {
        Self::Random(error)
    }
}
