//! A server's surface.

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

        /// Sets the configuration of the listeners that follow; those before keep theirs. So one server takes
        /// mail for its own domains on port 25 and submissions on ports 465 and 587, each by rules of its own,
        /// under the same limits on connections and with one shutdown.
        #[must_use]
        pub fn config(mut self, config: ::std::sync::Arc<$crate::sansmtp::Config>) -> Self {
            self.setup.set_config(config);
            self
        }

        /// Sets the TLS configuration of all listeners, for STARTTLS and for [`listen_tls`](Self::listen_tls).
        #[cfg(feature = "rustls")]
        #[must_use]
        pub fn tls(self, config: ::std::sync::Arc<$crate::rustls::ServerConfig>) -> Self {
            self.setup.certificates().replace(config);
            self
        }

        /// What replaces the TLS configuration while the server runs, as when a certificate is renewed: see
        /// [`Certificates`]($crate::Certificates), also for how to do so on SIGHUP.
        #[cfg(feature = "rustls")]
        #[must_use]
        pub fn tls_handle(&self) -> $crate::Certificates {
            self.setup.certificates().clone()
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

        /// Listens on a port of all addresses, of IPv6 and IPv4 by one socket where there are both. Connections begin in the
        /// clear, with STARTTLS if the configuration offers it.
        ///
        /// # Errors
        ///
        /// What the operating system says; nothing listens then.
        pub fn listen_on_port(mut self, port: u16) -> ::std::io::Result<Self> {
            self.setup.listen_on_port(port, $crate::Security::Clear)?;
            Ok(self)
        }

        /// Listens on a port of all addresses. Connections are under TLS from their start.
        ///
        /// # Errors
        ///
        /// What the operating system says; nothing listens then.
        #[cfg(feature = "rustls")]
        pub fn listen_on_port_tls(mut self, port: u16) -> ::std::io::Result<Self> {
            self.setup.listen_on_port(port, $crate::Security::Implicit)?;
            Ok(self)
        }

        /// Listens on a unix socket. Connections begin in the clear, with STARTTLS if the configuration offers
        /// it; peers are [`Peer::local`](::sansmtp::Peer::local), whoever they are.
        ///
        /// The socket's file is made here and removed when the server stops listening. One that a server has
        /// left behind, and nobody listens on, is replaced.
        ///
        /// Who may write to the file may connect. Its mode is what the process's umask leaves of 0777: set
        /// it by [`std::fs::set_permissions`] before the server is run, or put the file into a directory
        /// that only those get into who may.
        ///
        /// # Errors
        ///
        /// [`AddrInUse`](::std::io::ErrorKind::AddrInUse) if somebody listens there, or if the file is not a
        /// socket's, and otherwise what the operating system says; nothing listens then. A path of more
        /// than about a hundred octets is too long for any system.
        #[cfg(unix)]
        pub fn listen_unix(mut self, path: impl ::core::convert::AsRef<::std::path::Path>) -> ::std::io::Result<Self> {
            self.setup.listen_unix(path.as_ref(), $crate::Security::Clear)?;
            Ok(self)
        }

        /// As [`listen_unix`](Self::listen_unix), but connections are under TLS from their start.
        ///
        /// # Errors
        ///
        /// As [`listen_unix`](Self::listen_unix).
        #[cfg(all(unix, feature = "rustls"))]
        pub fn listen_unix_tls(
            mut self,
            path: impl ::core::convert::AsRef<::std::path::Path>,
        ) -> ::std::io::Result<Self> {
            self.setup.listen_unix(path.as_ref(), $crate::Security::Implicit)?;
            Ok(self)
        }

        /// Listens on a socket that somebody has opened: a listener of the standard library, for TCP or a unix
        /// socket, or one of [`inherited_listeners`]($crate::inherited_listeners). Connections begin in the
        /// clear, with STARTTLS if the configuration offers it.
        ///
        /// The socket is closed at the end, here; whoever has handed it over may keep it open. It is set not to
        /// block, for all who have it.
        #[must_use]
        pub fn listener(mut self, listener: impl ::core::convert::Into<$crate::Listener>) -> Self {
            self.setup.add(listener.into(), $crate::Security::Clear);
            self
        }

        /// Listens on a socket that somebody has opened. Connections are under TLS from their start.
        #[cfg(feature = "rustls")]
        #[must_use]
        pub fn listener_tls(mut self, listener: impl ::core::convert::Into<$crate::Listener>) -> Self {
            self.setup.add(listener.into(), $crate::Security::Implicit);
            self
        }

        /// Serves so many connections at a time, over all listeners. Unless it is called, that is half of the files
        /// that the process may have open, so that there is a file for each connection's handler, and 10,000 at
        /// most; where the system has no such limit, 10,000. A tenth more is for addresses with fewer than 50
        /// connections, so that an address that may have any number does not lock all others out. At least one.
        ///
        /// More than half is what is asked for, with a warning in the log; more than seven eighths is not to be had,
        /// and the log says so. See [`raise_open_file_limit`](Self::raise_open_file_limit).
        ///
        /// A client too many is told `421 4.7.0` and no handler is made for it; under TLS from the start,
        /// its connection is closed without a word. When a connection ends, there is a place for
        /// another; on threads, when no thread is left in a method of its handler, too.
        #[must_use]
        pub fn max_connections(mut self, connections: usize) -> Self {
            self.setup.set_max_connections(connections);
            self
        }

        /// Serves so many connections at a time from one address, over all listeners: 50 unless changed, at least
        /// one; `usize::MAX` for any number. A client too many fares as with
        /// [`max_connections`](Self::max_connections).
        ///
        /// A network of IPv6, a /64, counts as one address. A client whose address a
        /// trusted PROXY header tells is counted by that one, not by the proxy's. Not counted are unix sockets,
        /// proxies that speak for nobody, whoever may use [XCLIENT](::sansmtp::xclient),
        /// [networks that are exempt](Self::exempt_from_address_limit), and, unless this is called, loopback.
        #[must_use]
        pub fn max_connections_per_address(mut self, connections: usize) -> Self {
            self.setup.set_max_connections_per_address(connections);
            self
        }

        /// Lets these networks have any number of connections from one address, besides those of earlier calls: a
        /// company behind one address, or a load balancer that tells of no client.
        #[must_use]
        pub fn exempt_from_address_limit(
            mut self,
            networks: impl ::core::iter::IntoIterator<Item = $crate::sansmtp::Network>,
        ) -> Self {
            self.setup.exempt_networks(networks);
            self
        }

        /// Whether the server raises the process's soft limit on open files (`RLIMIT_NOFILE`) when it is run: yes,
        /// unless changed. It is raised to 65,536, or twice [`max_connections`](Self::max_connections) if that is
        /// more, but never beyond the hard limit, and never lowered. Processes that are started from then on inherit
        /// it.
        #[must_use]
        pub fn raise_open_file_limit(mut self, raises: bool) -> Self {
            self.setup.set_raise_open_file_limit(raises);
            self
        }

        /// The network addresses that are listened on, in the order of the calls. Unix sockets have none.
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
