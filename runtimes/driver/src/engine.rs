//! The engine with or without its TLS layer: the same surface.

use std::io;

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
    pub(crate) config: Option<std::sync::Arc<rustls::ServerConfig>>,
}

impl Tls {
    /// Finds what is offered and cannot be done.
    pub(crate) fn check<'l>(
        &self,
        config: &Config,
        mut listeners: impl Iterator<Item = &'l Security>,
    ) -> io::Result<()> {
        let implicit = listeners.any(|security| *security != Security::Clear);
        if self.is_configured() || !(implicit || config.offers_starttls()) {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::InvalidInput, "TLS is offered without a TLS configuration"))
    }

    #[cfg(feature = "rustls")]
    fn is_configured(&self) -> bool {
        self.config.is_some()
    }

    #[cfg(not(feature = "rustls"))]
    #[expect(clippy::unused_self, reason = "the same surface as with TLS")]
    fn is_configured(&self) -> bool {
        false
    }

    #[cfg(feature = "rustls")]
    pub(crate) fn engine(&self, connection: Connection, security: Security) -> io::Result<Engine> {
        match (security, &self.config) {
            (Security::Clear, config) => Ok(Engine::new(connection, config.clone())),
            (Security::Implicit, Some(config)) => {
                Engine::implicit(connection, config.clone()).map_err(io::Error::other)
            }
            (Security::Implicit, None) => Err(io::Error::other("no TLS configuration")),
        }
    }

    #[cfg(not(feature = "rustls"))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "the same surface as with TLS")]
    pub(crate) fn engine(&self, connection: Connection, _: Security) -> io::Result<Engine> {
        Ok(Engine(connection))
    }
}
