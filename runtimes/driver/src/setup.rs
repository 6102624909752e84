//! What a server is set up with.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
#[cfg(unix)]
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sansmtp::{Config, Connection, Events, Hooks, Network, Peer};

use crate::buffers::Buffers;
use crate::conversation::Conversation;
use crate::descriptors;
#[cfg(feature = "rustls")]
use crate::engine::Certificates;
use crate::engine::{Security, Tls};
use crate::limits::{Limits, Place, Refused};
use crate::listening::{self, ListenerLog, Service};
use crate::signal::{Shutdown, Stages};
use crate::sockets::Listener;
use crate::trace::Trace;

/// A server's configuration, listeners, limits and end, whatever runs it.
#[derive(Debug)]
pub struct Setup {
    /// For the listeners that follow.
    config: Arc<Config>,
    tls: Tls,
    listeners: Vec<(Listener, Service)>,
    limits: Arc<Limits>,
    /// If the embedder has said how many there may be.
    max_connections: Option<usize>,
    raises_open_file_limit: bool,
    buffers: Arc<Buffers>,
    stages: Arc<Stages>,
}

impl Setup {
    /// A server that listens nowhere yet.
    #[must_use]
    pub fn new(config: Arc<Config>) -> Self {
        Self {
            config,
            tls: Tls::default(),
            listeners: Vec::new(),
            limits: Arc::default(),
            max_connections: None,
            raises_open_file_limit: true,
            buffers: Arc::default(),
            stages: Arc::default(),
        }
    }

    /// Sets the configuration of the listeners that are added from now on.
    pub fn set_config(&mut self, config: Arc<Config>) {
        self.config = config;
    }

    /// The TLS configuration, to be set and replaced.
    #[cfg(feature = "rustls")]
    #[must_use]
    pub fn certificates(&self) -> &Certificates {
        &self.tls.certificates
    }

    /// Adds a listener for TCP.
    ///
    /// # Errors
    ///
    /// What the operating system says; nothing is added then.
    pub fn listen(&mut self, address: impl ToSocketAddrs, security: Security) -> io::Result<()> {
        self.add(listening::tcp(address)?, security);
        Ok(())
    }

    /// Adds a listener for TCP on a port of all addresses.
    ///
    /// # Errors
    ///
    /// What the operating system says; nothing is added then.
    pub fn listen_on_port(&mut self, port: u16, security: Security) -> io::Result<()> {
        self.add(listening::tcp_on_port(port)?, security);
        Ok(())
    }

    /// Adds a listener on a unix socket.
    ///
    /// # Errors
    ///
    /// What the operating system says; nothing is added then.
    #[cfg(unix)]
    pub fn listen_unix(&mut self, path: &Path, security: Security) -> io::Result<()> {
        let (listener, file) = listening::unix::listen(path)?;
        let log = ListenerLog::new(path.display().to_string());
        let service = Service { config: self.config.clone(), security, log, _socket_file: Some(file) };
        self.listeners.push((listener, service));
        Ok(())
    }

    /// Adds a listener that is there already.
    pub fn add(&mut self, listener: Listener, security: Security) {
        let address = listener.address().map_or_else(|| "a unix socket".to_owned(), |address| address.to_string());
        let service = Service {
            config: self.config.clone(),
            security,
            log: ListenerLog::new(address),
            #[cfg(unix)]
            _socket_file: None,
        };
        self.listeners.push((listener, service));
    }

    /// Sets how many connections there may be, over all listeners. At least one.
    pub fn set_max_connections(&mut self, connections: usize) {
        self.max_connections = Some(connections.max(1));
    }

    /// Sets how many connections there may be from one address, loopback included, over all listeners. At least one.
    pub fn set_max_connections_per_address(&mut self, connections: usize) {
        Arc::make_mut(&mut self.limits).max_per_address = Some(connections.max(1));
    }

    /// Adds networks whose addresses may have any number of connections.
    pub fn exempt_networks(&mut self, networks: impl IntoIterator<Item = Network>) {
        Arc::make_mut(&mut self.limits).exempt.extend(networks);
    }

    /// Sets whether [`start`](Self::start) raises the process's soft limit on open files.
    pub fn set_raise_open_file_limit(&mut self, raises: bool) {
        self.raises_open_file_limit = raises;
    }

    /// The network addresses that are listened on, in the order in which they were added.
    #[must_use]
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|(listener, _)| listener.address()).collect()
    }

    /// What stops the server.
    #[must_use]
    pub fn shutdown_handle(&self) -> Shutdown {
        Shutdown::new(self.stages.clone())
    }

    /// How the server ends.
    #[must_use]
    pub fn stages(&self) -> &Arc<Stages> {
        &self.stages
    }

    /// Raises the limit on open files, and gives out the listeners. The [`Service`] of each is to be kept for as long as it listens.
    ///
    /// # Errors
    ///
    /// A mistake that no connection could live with: STARTTLS offered, or a TLS listener, without a TLS
    /// configuration. If nothing was added, STARTTLS in the server's configuration counts.
    pub fn start(&mut self) -> io::Result<Vec<(Listener, Service)>> {
        if self.listeners.is_empty() {
            self.tls.check(&self.config, Security::Clear)?;
        }
        for (_, service) in &self.listeners {
            self.tls.check(&service.config, service.security)?;
        }
        let limits = Arc::make_mut(&mut self.limits);
        limits.max_connections = descriptors::max_connections(self.max_connections, self.raises_open_file_limit);
        // Whoever has named a number means it.
        limits.spare = if self.max_connections.is_none() { limits.max_connections / 10 } else { 0 };
        Ok(std::mem::take(&mut self.listeners))
    }

    /// Finds a place for a connection that has been accepted, before anything else is done with it.
    ///
    /// # Errors
    ///
    /// There are too many; [`Refused::tell`] is what is left to do.
    pub fn admit(&self, service: &Service, peer: Peer) -> Result<Place, Refused> {
        let speaks_for_others = || service.config.expects_proxy_header(peer) || service.config.offers_xclient(peer);
        self.limits.admit(peer, || !speaks_for_others()).map_err(|refused| {
            service.log.too_many(peer);
            match service.security {
                Security::Clear => refused,
                #[cfg(feature = "rustls")]
                Security::Implicit => refused.silent(),
            }
        })
    }

    /// Begins the conversation on a connection that was [admitted](Self::admit), with the handler that `make`
    /// makes, the hooks that it wants to be asked, and the events that it wants to be told. `local_address` is that of
    /// the connection's own socket, if it has any. `None` if the handler cannot be made, or TLS fails; the connection is
    /// to be dropped then.
    pub fn open<H>(
        &self,
        service: &Service,
        peer: Peer,
        local_address: Option<SocketAddr>,
        make: impl FnOnce(Peer) -> (Hooks, Events, H),
    ) -> Option<(Box<Conversation>, H)> {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let mut connection = Connection::new(service.config.clone(), peer).with_id(id);
        if let Some(address) = local_address {
            // A socket for both protocols has IPv4 addresses as `::ffff:192.0.2.1`.
            connection = connection.with_local_address(SocketAddr::new(address.ip().to_canonical(), address.port()));
        }
        let trace = Trace::new(connection.session());
        let made = trace.span().in_scope(|| catch_unwind(AssertUnwindSafe(|| make(peer))));
        let Ok((hooks, events, handler)) = made else {
            trace.span().in_scope(|| tracing::error!("the handler could not be made: it panicked"));
            return None;
        };
        let trace = trace.wanting(events);
        connection.set_hooks(hooks);
        connection.set_events(trace.events());
        // Whoever a proxy speaks for is not known yet.
        let expects_header = service.config.expects_proxy_header(peer);
        let gate = expects_header.then(|| self.limits.gate(service));
        match self.tls.engine(connection, service.security) {
            Ok(engine) => {
                let conversation = Conversation::new(engine, self.stages.clone(), self.buffers.clone(), gate, trace);
                Some((Box::new(conversation), handler))
            }
            Err(error) => {
                trace.span().in_scope(|| tracing::error!(%error, "cannot begin TLS"));
                None
            }
        }
    }
}

/// Connections are numbered from 1, over all servers of the process.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);
