//! The engine with or without its TLS layer: the same surface.

use sansmtp::Connection;

#[cfg(feature = "rustls")]
pub(crate) use sansmtp::tls::Session as Engine;

/// The bare connection, with the layer's extra method.
#[cfg(not(feature = "rustls"))]
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
#[derive(Clone, Debug)]
pub(crate) enum Security {
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
    #[cfg(feature = "rustls")]
    pub(crate) fn engine(&self, connection: Connection, security: &Security) -> std::io::Result<Engine> {
        match (security, &self.config) {
            (Security::Clear, config) => Ok(Engine::new(connection, config.clone())),
            (Security::Implicit, Some(config)) => {
                Engine::implicit(connection, config.clone()).map_err(std::io::Error::other)
            }
            (Security::Implicit, None) => Err(std::io::Error::other("no TLS configuration")),
        }
    }

    #[cfg(not(feature = "rustls"))]
    pub(crate) fn engine(&self, connection: Connection, _: &Security) -> std::io::Result<Engine> {
        Ok(Engine(connection))
    }
}
