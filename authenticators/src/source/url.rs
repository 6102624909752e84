//! URLs of servers that users and counts are on.

use std::fmt;

#[cfg(feature = "valkey")]
use crate::attempts::ValkeyConfig;
use crate::postgres::PostgresConfig;
use zeroize::Zeroizing;

/// A URL that has been checked. There may be a password in it, so it is shown as a kind and an address.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerUrl {
    text: Zeroizing<String>,
    shown: String,
}

impl ServerUrl {
    /// A URL of a PostgreSQL database.
    ///
    /// # Errors
    /// Says what is wrong, without the password.
    pub(super) fn postgres(text: &str) -> Result<Self, String> {
        let config = PostgresConfig::from_url(text).map_err(|error| error.to_string())?;
        Ok(Self { text: text.to_owned().into(), shown: format!("postgres://{}", config.address()) })
    }

    /// A URL of a Valkey or Redis.
    ///
    /// # Errors
    /// Says what is wrong, without the password.
    #[cfg(feature = "valkey")]
    pub fn valkey(text: &str) -> Result<Self, String> {
        let config = ValkeyConfig::from_url(text).map_err(|error| error.to_string())?;
        Ok(Self { text: text.to_owned().into(), shown: format!("valkey://{}", config.address()) })
    }

    /// All of it.
    #[must_use]
    pub fn expose_secret(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerUrl({self})")
    }
}
