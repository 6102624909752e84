//! The engine with or without its TLS layer: the same surface.

use std::io;
#[cfg(feature = "rustls")]
use std::sync::{Arc, PoisonError, RwLock};

#[cfg(feature = "rustls")]
use rustls::ServerConfig;
use sansmtp::{Config, Connection};

#[cfg(feature = "rustls")]
pub(crate) use sansmtp::tls::Session as Engine;

/// The bare connection, with the layer's extra method.
#[cfg(not(feature = "rustls"))]
#[derive(Debug)]
pub(crate) struct Engine(Connection);

#[cfg(not(feature = "rustls"))]
impl Engine {
    pub(crate) fn connection(&self) -> &Connection {
        &self.0
    }
}

#[cfg(not(feature = "rustls"))]
impl sansmtp::Poll for Engine {
    fn poll<'c, 'i: 'c>(&'c mut self, now: std::time::Duration, input: &mut &'i [u8]) -> sansmtp::Action<'c> {
        self.0.poll(now, input)
    }
}

#[cfg(not(feature = "rustls"))]
impl std::ops::Deref for Engine {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

#[cfg(not(feature = "rustls"))]
impl std::ops::DerefMut for Engine {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.0
    }
}

/// How a listener's connections begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Security {
    /// In the clear; STARTTLS if the configuration offers it.
    Clear,
    /// Under TLS.
    #[cfg(feature = "rustls")]
    Implicit,
}

/// What TLS needs, if there is any.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tls {
    #[cfg(feature = "rustls")]
    pub(crate) certificates: Certificates,
}

/// The TLS configuration of a server, to be replaced while it runs. Clones are for the same server.
///
/// A connection keeps the configuration with which it was accepted; what was replaced is gone with the last
/// such connection. So certificates are renewed without anybody noticing. On SIGHUP, for instance: in a thread
/// of its own, with what `server.tls_handle()` gives, and `Signals::new([SIGHUP])?.forever()` of the crate
/// `signal-hook`:
///
/// ```
/// # use std::sync::Arc;
/// # use sansmtp_driver::{Certificates, rustls};
/// # fn load(_: &str) -> std::io::Result<Arc<rustls::ServerConfig>> { Err(std::io::ErrorKind::NotFound.into()) }
/// fn reload_on(signals: impl Iterator<Item = i32>, certificates: Certificates) {
///     for _ in signals {
///         match load("/etc/ssl/private/mx.example.org.pem") {
///             Ok(config) => certificates.replace(config),
///             // What was there stays.
///             Err(error) => eprintln!("cannot load the certificate: {error}"),
///         }
///     }
/// }
/// # reload_on([1].into_iter(), Certificates::default());
/// ```
#[cfg(feature = "rustls")]
#[derive(Clone, Debug, Default)]
pub struct Certificates {
    current: Arc<RwLock<Option<Arc<ServerConfig>>>>,
}

#[cfg(feature = "rustls")]
impl Certificates {
    /// Uses `config` for the connections that are accepted from now on.
    pub fn replace(&self, config: Arc<ServerConfig>) {
        let last = self.current.write().unwrap_or_else(PoisonError::into_inner).replace(config);
        // Its certificate resolver may have a `drop` of its own: not under the lock.
        drop(last);
    }

    /// The configuration for the next connection, if there is any.
    #[must_use]
    pub fn current(&self) -> Option<Arc<ServerConfig>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Tls {
    /// Whether a listener offers what cannot be done.
    pub(crate) fn check(&self, config: &Config, security: Security) -> io::Result<()> {
        if self.is_configured() || (security == Security::Clear && !config.offers_starttls()) {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::InvalidInput, "TLS is offered without a TLS configuration"))
    }

    #[cfg(feature = "rustls")]
    fn is_configured(&self) -> bool {
        self.certificates.current().is_some()
    }

    #[cfg(not(feature = "rustls"))]
    #[expect(clippy::unused_self, reason = "the same surface as with TLS")]
    fn is_configured(&self) -> bool {
        false
    }

    #[cfg(feature = "rustls")]
    pub(crate) fn engine(&self, connection: Connection, security: Security) -> io::Result<Engine> {
        match (security, self.certificates.current()) {
            (Security::Clear, config) => Ok(Engine::new(connection, config)),
            (Security::Implicit, Some(config)) => Engine::implicit(connection, config).map_err(io::Error::other),
            (Security::Implicit, None) => Err(io::Error::other("no TLS configuration")),
        }
    }

    #[cfg(not(feature = "rustls"))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "the same surface as with TLS")]
    pub(crate) fn engine(&self, connection: Connection, _: Security) -> io::Result<Engine> {
        Ok(Engine(connection))
    }
}
