//! Why a database cannot be used.

use std::error::Error;
use std::fmt;
use std::io;

use tokio_postgres::error::SqlState;

use crate::tls_client::InvalidRoots;

/// Why a database cannot be used.
///
/// Its text has the server's own messages in it, but none of their details, in which values may be.
#[derive(Debug)]
#[non_exhaustive]
pub enum PostgresError {
    /// The schema `sansmtp` is of something else.
    Foreign,
    /// A newer version of this crate made the tables.
    Newer(i32),
    /// The database cannot hold every name: this encoding is not UTF8.
    Encoding(String),
    /// No connection became free in time.
    Busy,
    /// As many logins wait for the database as [may](super::PostgresConfig::max_waiting).
    Full,
    /// The server did not answer in time.
    NoAnswer,
    /// The server, or the way there.
    Server(ServerError),
    /// No server's certificate could be verified.
    Roots(InvalidRoots),
    /// There is no entropy.
    Random(getrandom::Error),
    /// There is no thread to wait for the server.
    Thread(io::Error),
}

impl PostgresError {
    /// Whether it may be otherwise in a while, with nothing changed here: the server cannot be reached, or is starting,
    /// stopping, or too busy. Not where it answers that it has no such database, or takes no such password.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Busy | Self::Full | Self::NoAnswer => true,
            // Classes of SQLSTATE: 08 is the connection, 53 that something has run out, 57P that it is stopping,
            // has crashed or is starting.
            Self::Server(error) => error.code().map_or_else(
                || error.is_closed() || error.is_unreachable(),
                |code| ["08", "53", "57P"].iter().any(|class| code.starts_with(class)),
            ),
            Self::Foreign | Self::Newer(_) | Self::Encoding(_) | Self::Roots(_) | Self::Random(_) | Self::Thread(_) => {
                false
            }
        }
    }
}

/// What the server says, or what has happened on the way there.
pub struct ServerError(tokio_postgres::Error);

impl ServerError {
    /// The server's code for it (SQLSTATE), if it is the server that says so.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.0.code().map(SqlState::code)
    }

    /// Whether there was no connection, or it broke.
    fn is_unreachable(&self) -> bool {
        let mut cause: Option<&(dyn Error + 'static)> = Some(&self.0);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<io::Error>() {
                // What TLS does not like is an error of this kind.
                return error.kind() != io::ErrorKind::InvalidData;
            }
            cause = error.source();
        }
        false
    }

    /// Whether the connection was gone when it was wanted.
    pub(super) fn is_closed(&self) -> bool {
        // 57P01 to 57P03: the server ends, has crashed, is not there yet.
        self.0.is_closed() || self.code().is_some_and(|code| code.starts_with("57P0"))
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No detail, hint or context: a row that is refused is shown there.
        if let Some(error) = self.0.as_db_error() {
            return write!(f, "the database says: {} ({})", error.message(), error.code().code());
        }
        self.0.fmt(f)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerError({self})")
    }
}

impl Error for ServerError {}

impl fmt::Display for PostgresError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => f.write_str("the schema \"sansmtp\" of the database is not this one's"),
            Self::Newer(version) => write!(f, "the database has version {version}, newer than this program"),
            Self::Encoding(encoding) => write!(f, "the database's encoding is {encoding}, not UTF8"),
            Self::Busy => f.write_str("no connection to the database became free in time"),
            Self::Full => f.write_str("too many logins wait for the database"),
            Self::NoAnswer => f.write_str("the database did not answer in time"),
            Self::Server(error) => error.fmt(f),
            Self::Roots(error) => error.fmt(f),
            Self::Random(error) => write!(f, "no random numbers: {error}"),
            Self::Thread(error) => write!(f, "no thread to wait for the database: {error}"),
        }
    }
}

impl Error for PostgresError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Roots(error) => Some(error),
            Self::Random(error) => Some(error),
            Self::Thread(error) => Some(error),
            Self::Server(_)
            | Self::Foreign
            | Self::Newer(_)
            | Self::Encoding(_)
            | Self::Busy
            | Self::Full
            | Self::NoAnswer => None,
        }
    }
}

impl From<tokio_postgres::Error> for PostgresError {
    fn from(error: tokio_postgres::Error) -> Self {
        // The server's own limit is the same, and may come first.
        if error.code() == Some(&SqlState::QUERY_CANCELED) { Self::NoAnswer } else { Self::Server(ServerError(error)) }
    }
}
