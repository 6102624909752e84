//! Why an operator's command was not done.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::envelope::QueueId;

/// Why a command of [`Control`](super::Control) was not done. Nothing is changed then.
#[derive(Debug)]
#[non_exhaustive]
pub enum ControlError {
    /// The message is being sent at the moment, or a report on it is being written.
    Busy(QueueId),
    /// The worker could not do it; it says why.
    Failed(String),
    /// The directory is no spool.
    NoSpool(PathBuf),
    /// The message is on hold, and is to be released first.
    OnHold(QueueId),
    /// There is no such message: it is delivered, most likely.
    Unknown(QueueId),
    /// The spool cannot be read or written, or the worker not be asked.
    Spool(io::Error),
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy(id) => write!(f, "{id} is being sent; try again in a moment"),
            Self::Failed(reason) => f.write_str(reason),
            Self::NoSpool(directory) => write!(f, "there is no spool in {}", directory.display()),
            Self::OnHold(id) => write!(f, "{id} is on hold; release it"),
            Self::Unknown(id) => write!(f, "there is no message {id}; it may have been delivered"),
            Self::Spool(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                write!(f, "{error}; run this as the user of the server, or as root")
            }
            Self::Spool(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ControlError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Spool(error) => Some(error),
            Self::Busy(_) | Self::Failed(_) | Self::NoSpool(_) | Self::OnHold(_) | Self::Unknown(_) => None,
        }
    }
}

impl From<io::Error> for ControlError {
    fn from(error: io::Error) -> Self {
        Self::Spool(error)
    }
}
