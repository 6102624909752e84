//! Why a store could not do what it was asked.

use std::error::Error;
use std::fmt;

/// Why a store could not do what it was asked: it cannot be reached, or holds what cannot be read.
///
/// It is logged. Its text tells no password, and nothing that was made of one.
#[derive(Debug)]
pub struct StoreError {
    source: Box<dyn Error + Send + Sync>,
    logged: bool,
}

impl StoreError {
    /// Takes the reason, which must not hold what is secret.
    pub fn new(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { source: source.into(), logged: false }
    }

    /// One that has been logged, as it would be too often otherwise.
    #[cfg(feature = "postgres")]
    pub(crate) fn logged(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { source: source.into(), logged: true }
    }

    pub(super) fn is_logged(&self) -> bool {
        self.logged
    }

    /// The reason, if it is an `E`.
    #[must_use]
    pub fn reason<E: Error + 'static>(&self) -> Option<&E> {
        self.source.downcast_ref()
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.source()
    }
}
