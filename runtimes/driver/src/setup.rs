//! What a server is set up with, and its surface.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use sansmtp::{Config, Connection, Hooks, Peer};

use crate::buffers::Buffers;
use crate::conversation::Conversation;
use crate::engine::{Security, Tls};
use crate::signal::{Shutdown, Stages};

/// A server's configuration, listeners and end, whatever runs it.
#[derive(Debug)]
pub struct Setup {
    config: Arc<Config>,
    tls: Tls,
    listeners: Vec<(TcpListener, Security)>,
    buffers: Arc<Buffers>,
    stages: Arc<Stages>,
}

impl Setup {
    /// A server that listens nowhere yet.
    #[must_use]
    pub fn new(config: Arc<Config>) -> Self {
        Self { config, tls: Tls::default(), listeners: Vec::new(), buffers: Arc::default(), stages: Arc::default() }
    }

    /// Sets the TLS configuration.
    #[cfg(feature = "rustls")]
    pub fn set_tls(&mut self, config: Arc<rustls::ServerConfig>) {
        self.tls.config = Some(config);
    }

    /// Adds a listener.
    ///
    /// # Errors
    ///
    /// What the operating system says; nothing is added then.
    pub fn listen(&mut self, address: impl ToSocketAddrs, security: Security) -> io::Result<()> {
        self.listeners.push((TcpListener::bind(address)?, security));
        Ok(())
    }

    /// The addresses that are listened on, in the order in which they were added.
    #[must_use]
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|(listener, _)| listener.local_addr().ok()).collect()
    }

    /// What stops the server.
    #[must_use]
    pub fn shutdown_handle(&self) -> Shutdown {
        Shutdown::new(self.stages.clone())
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How the server ends.
    #[must_use]
    pub fn stages(&self) -> &Arc<Stages> {
        &self.stages
    }

    /// Gives out the listeners.
    ///
    /// # Errors
    ///
    /// A mistake that no connection could live with: STARTTLS offered, or a TLS listener, without a TLS
    /// configuration.
    pub fn start(&mut self) -> io::Result<Vec<(TcpListener, Security)>> {
        self.tls.check(&self.config, self.listeners.iter().map(|(_, security)| security))?;
        Ok(std::mem::take(&mut self.listeners))
    }

    /// Begins the conversation on a connection that has been accepted, with the handler that `make` makes,
    /// and the hooks that it wants to be asked. `None` if that panics, or TLS fails; the connection is to be
    /// dropped then.
    pub fn open<H>(
        &self,
        address: SocketAddr,
        security: Security,
        make: impl FnOnce(Peer) -> (Hooks, H),
    ) -> Option<(Box<Conversation>, H)> {
        let Ok((hooks, handler)) = catch_unwind(AssertUnwindSafe(|| make(address.into()))) else {
            tracing::error!(peer = %address, "the handler could not be made: it panicked");
            return None;
        };
        let mut connection = Connection::new(self.config.clone(), address);
        connection.set_hooks(hooks);
        match self.tls.engine(connection, security) {
            Ok(engine) => {
                Some((Box::new(Conversation::new(engine, self.stages.clone(), self.buffers.clone())), handler))
            }
            Err(error) => {
                tracing::error!(peer = %address, %error, "cannot begin TLS");
                None
            }
        }
    }
}

/// The methods by which a server is set up, for an `impl` block of a type that has the fields `setup`,
/// `make_handler` and `runtime`. The argument is the trait of its handlers.
///
/// They are a macro, because the type has to be the adapter's own for its `run`.
#[macro_export]
macro_rules! setup_methods {
    ($handler:path) => {
        /// A server whose connections are each given a handler by `make_handler`.
        pub fn new<H>(config: ::std::sync::Arc<$crate::sansmtp::Config>, make_handler: F) -> Self
        where
            F: Fn($crate::sansmtp::Peer) -> H,
            H: $handler + 'static,
        {
            Self { setup: $crate::Setup::new(config), make_handler, runtime: ::core::default::Default::default() }
        }

        /// Sets the TLS configuration, for STARTTLS and for [`listen_tls`](Self::listen_tls).
        #[cfg(feature = "rustls")]
        #[must_use]
        pub fn tls(mut self, config: ::std::sync::Arc<$crate::rustls::ServerConfig>) -> Self {
            self.setup.set_tls(config);
            self
        }

        /// Listens on an address. Connections begin in the clear, with STARTTLS if the configuration offers
        /// it.
        ///
        /// # Errors
        ///
        /// What the operating system says; nothing listens then.
        pub fn listen(mut self, address: impl ::std::net::ToSocketAddrs) -> ::std::io::Result<Self> {
            self.setup.listen(address, $crate::Security::Clear)?;
            Ok(self)
        }

        /// Listens on an address. Connections are under TLS from their start (RFC 8314, section 3).
        ///
        /// # Errors
        ///
        /// What the operating system says; nothing listens then.
        #[cfg(feature = "rustls")]
        pub fn listen_tls(mut self, address: impl ::std::net::ToSocketAddrs) -> ::std::io::Result<Self> {
            self.setup.listen(address, $crate::Security::Implicit)?;
            Ok(self)
        }

        /// The addresses that are listened on, in the order of the calls.
        #[must_use]
        pub fn local_addresses(&self) -> ::std::vec::Vec<::std::net::SocketAddr> {
            self.setup.local_addresses()
        }

        /// What stops the server.
        #[must_use]
        pub fn shutdown_handle(&self) -> $crate::Shutdown {
            self.setup.shutdown_handle()
        }
    };
}

/// How long an accept that failed is not tried again. Descriptors have run out, most likely: they come back
/// when connections end.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
