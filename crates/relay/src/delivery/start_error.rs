//! Why delivery cannot begin.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why [`Worker::start`](crate::Worker::start) failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// A file of certificates to trust cannot be read, or has none in it; the second says why.
    Certificates(PathBuf, String),
    /// The DNS resolver cannot be set up, as from the system's configuration.
    Resolver(Box<dyn std::error::Error + Send + Sync>),
    /// The spool cannot be read.
    Spool(io::Error),
    /// No thread, or nothing that waits for sockets, could be had.
    Thread(io::Error),
    /// TLS cannot be set up.
    Tls(rustls::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificates(path, error) => write!(f, "cannot read {}: {error}", path.display()),
            Self::Resolver(error) => write!(f, "cannot set up the DNS resolver: {error}"),
            Self::Spool(error) => write!(f, "cannot read the spool: {error}"),
            Self::Thread(error) => write!(f, "cannot start the delivery worker: {error}"),
            Self::Tls(error) => write!(f, "cannot set up TLS: {error}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Certificates(..) => None,
            Self::Resolver(error) => Some(&**error),
            Self::Spool(error) | Self::Thread(error) => Some(error),
            Self::Tls(error) => Some(error),
        }
    }
}
