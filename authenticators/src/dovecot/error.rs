//! Why Dovecot cannot be asked.

use std::fmt;
use std::io;

/// Why Dovecot cannot be asked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// It cannot be reached, or the connection broke. Where the kind is
    /// [`PermissionDenied`](io::ErrorKind::PermissionDenied), the `unix_listener` needs another `user`, `group` or
    /// `mode`.
    Io(io::ErrorKind),
    /// It closed the connection.
    Closed,
    /// It does not answer within the time limit.
    TimedOut,
    /// As many logins wait for it as [may](super::Settings::max_waiting).
    Full,
    /// It is something else, or broken.
    Protocol(&'static str),
}

impl Error {
    /// Whether it may be otherwise in a while, with nothing changed here or there: Dovecot is not there yet, or too busy.
    /// Not where it is something else, or may not be spoken to.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Io(kind) => !matches!(
                kind,
                io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput | io::ErrorKind::NotADirectory
            ),
            Self::Closed | Self::TimedOut | Self::Full => true,
            Self::Protocol(_) => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(kind) => write!(f, "Dovecot cannot be reached: {kind}"),
            Self::Closed => f.write_str("Dovecot closed the connection"),
            Self::TimedOut => f.write_str("Dovecot does not answer in time"),
            Self::Full => f.write_str("too many logins wait for Dovecot"),
            Self::Protocol(what) => write!(f, "this is not Dovecot, or it is broken: {what}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        let timed_out = [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut].contains(&error.kind());
        if timed_out { Self::TimedOut } else { Self::Io(error.kind()) }
    }
}
