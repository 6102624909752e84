//! What can be wrong with a file of users.

use std::fmt;
use std::io;

use sansmtp::auth::MalformedCredentials;

use crate::stored::InvalidHash;

/// Why a file of users cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum PasswdError {
    /// It cannot be read.
    File(io::Error),
    /// It is a directory, a device, or another thing that is no regular file.
    NoFile,
    /// It has over 64 MiB.
    TooLarge,
    /// A line is wrong.
    Line {
        /// Its number, the first being 1.
        number: usize,
        /// What is wrong with it.
        wrong: WrongLine,
    },
}

/// What is wrong with a line of a file of users. Never tells what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WrongLine {
    /// It is not UTF-8.
    Utf8,
    /// There is no colon in it.
    NoColon,
    /// No login can bring the name, and why.
    Name(MalformedCredentials),
    /// The user has a line already.
    Duplicate {
        /// The number of that line.
        first: usize,
    },
    /// There is nothing behind the name.
    NoHash,
    /// What is behind the name is no hash.
    Hash(InvalidHash),
}

impl fmt::Display for PasswdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::NoFile => f.write_str("not a regular file"),
            Self::TooLarge => f.write_str("over 64 MiB"),
            Self::Line { number, wrong } => write!(f, "line {number}: {wrong}"),
        }
    }
}

impl fmt::Display for WrongLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Utf8 => f.write_str("not UTF-8"),
            Self::NoColon => f.write_str("no colon between a name and a hash"),
            Self::Name(malformed) => write!(f, "no login can bring the user's name: {malformed}"),
            Self::Duplicate { first } => write!(f, "the user of line {first} again"),
            Self::NoHash => f.write_str("no hash behind the name"),
            Self::Hash(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PasswdError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File(error) => std::error::Error::source(error),
            Self::Line { wrong, .. } => std::error::Error::source(wrong),
            Self::NoFile | Self::TooLarge => None,
        }
    }
}

impl std::error::Error for WrongLine {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Hash(error) => std::error::Error::source(error),
            Self::Name(malformed) => std::error::Error::source(malformed),
            Self::Utf8 | Self::NoColon | Self::Duplicate { .. } | Self::NoHash => None,
        }
    }
}
