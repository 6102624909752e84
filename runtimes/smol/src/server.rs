//! Listeners, and the tasks of their connections.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use async_io::{Async, Timer};
use futures_lite::{FutureExt, future};
use sansmtp::{AsyncHandler, Config, Connection, Peer};
use smol::Executor;
use smol::channel::{Receiver, Sender, bounded};

use crate::buffers::Buffers;
use crate::connection::Driver;
use crate::engine::{Security, Tls};

/// An SMTP server on smol: listeners, a task for each connection, a handler for each connection.
///
/// ```no_run
/// use sansmtp::{Config, Handler};
/// use sansmtp_smol::{Blocking, Server};
///
/// struct Refuse;
///
/// impl Handler for Refuse {}
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config = Config::builder("mx.example.org").build()?;
/// let server = Server::new(config, |_peer| Blocking::new(Refuse)).listen("127.0.0.1:0")?;
/// println!("listening on {:?}", server.local_addresses());
/// smol::block_on(server.run())?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Server<F> {
    config: Arc<Config>,
    make_handler: F,
    tls: Tls,
    listeners: Vec<(Async<TcpListener>, Security)>,
    executor: Option<Arc<Executor<'static>>>,
    signals: Signals,
}

/// Tells a server to stop. Clones are for the same server.
#[derive(Clone, Debug)]
pub struct Shutdown {
    requests: Sender<Duration>,
}

#[derive(Debug)]
struct Signals {
    requests: Sender<Duration>,
    requested: Receiver<Duration>,
}

impl<F> Server<F> {
    /// A server whose connections are each given a handler by `make_handler`.
    pub fn new<H>(config: Arc<Config>, make_handler: F) -> Self
    where
        F: Fn(Peer) -> H,
        H: AsyncHandler + 'static,
    {
        let (requests, requested) = bounded(1);
        let signals = Signals { requests, requested };
        Self { config, make_handler, tls: Tls::default(), listeners: Vec::new(), executor: None, signals }
    }

    /// Sets the TLS configuration, for STARTTLS and for [`listen_tls`](Self::listen_tls).
    #[cfg(feature = "rustls")]
    #[must_use]
    pub fn tls(mut self, config: Arc<rustls::ServerConfig>) -> Self {
        self.tls.config = Some(config);
        self
    }

    /// Listens on an address. Connections begin in the clear, with STARTTLS if the configuration offers
    /// it.
    ///
    /// # Errors
    ///
    /// What the operating system says; nothing listens then.
    pub fn listen(self, address: impl ToSocketAddrs) -> io::Result<Self> {
        self.bind(address, Security::Clear)
    }

    /// Listens on an address. Connections are under TLS from their start (RFC 8314, section 3).
    ///
    /// # Errors
    ///
    /// What the operating system says; nothing listens then.
    #[cfg(feature = "rustls")]
    pub fn listen_tls(self, address: impl ToSocketAddrs) -> io::Result<Self> {
        self.bind(address, Security::Implicit)
    }

    /// Runs connections on `executor` instead of smol's global one.
    #[must_use]
    pub fn executor(mut self, executor: Arc<Executor<'static>>) -> Self {
        self.executor = Some(executor);
        self
    }

    /// The addresses that are listened on, in the order of the calls.
    #[must_use]
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|(listener, _)| listener.get_ref().local_addr().ok()).collect()
    }

    /// What stops the server.
    #[must_use]
    pub fn shutdown_handle(&self) -> Shutdown {
        Shutdown { requests: self.signals.requests.clone() }
    }

    /// Accepts connections until it is told to shut down, and then until they have ended.
    ///
    /// # Errors
    ///
    /// A mistake that no connection could live with: STARTTLS offered, or a TLS listener, without a TLS
    /// configuration.
    pub async fn run<H>(self) -> io::Result<()>
    where
        F: Fn(Peer) -> H,
        H: AsyncHandler + 'static,
    {
        #[cfg(feature = "rustls")]
        {
            let implicit = self.listeners.iter().any(|(_, security)| matches!(security, Security::Implicit));
            if self.tls.config.is_none() && (implicit || self.config.offers_starttls()) {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "TLS is offered without a TLS configuration"));
            }
        }
        #[cfg(not(feature = "rustls"))]
        if self.config.offers_starttls() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "STARTTLS is offered without the rustls feature"));
        }
        let buffers = Arc::new(Buffers::default());
        // Nothing is ever sent over these: closing them is the signal.
        let (running, shutdown) = bounded::<()>(1);
        let (not_killed, killed) = bounded::<()>(1);
        let (alive, all_ended) = bounded::<()>(1);

        let accept = async {
            let accepting = self.listeners.iter().map(|(listener, security)| {
                let (buffers, shutdown, killed, alive) = (&buffers, &shutdown, &killed, &alive);
                let server = &self;
                Box::pin(async move {
                    loop {
                        let (stream, address) = accept(listener).await;
                        let make = || {
                            let handler = (server.make_handler)(address.into());
                            (handler.hooks(), handler)
                        };
                        let Ok((hooks, handler)) = catch_unwind(AssertUnwindSafe(make)) else {
                            tracing::error!(peer = %address, "the handler could not be made: it panicked");
                            continue;
                        };
                        let mut connection = Connection::new(server.config.clone(), address);
                        connection.set_hooks(hooks);
                        let Ok(engine) = server.tls.engine(connection, security) else { continue };
                        let driver = Driver::new(stream, buffers.clone(), shutdown.clone());
                        let (killed, alive) = (killed.clone(), alive.clone());
                        server.spawn(async move {
                            let run = async {
                                if let Err(error) = driver.run(engine, handler).await {
                                    tracing::debug!(peer = %address, %error, "connection lost");
                                }
                            };
                            let kill = async {
                                let _ = killed.recv().await;
                            };
                            run.or(kill).await;
                            drop(alive);
                        });
                    }
                })
            });
            join_all(accepting.collect()).await;
            Duration::ZERO
        };
        let requested = async { self.signals.requested.recv().await.unwrap_or_default() };
        let grace = requested.or(accept).await;

        drop(self.listeners);
        drop(running);
        drop(alive);
        let late = async {
            Timer::after(grace).await;
            drop(not_killed);
        };
        let ended = async {
            let _ = all_ended.recv().await;
        };
        ended.or(late).await;
        // Those that were cut off end at once.
        let _ = all_ended.recv().await;
        Ok(())
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        match &self.executor {
            Some(executor) => executor.spawn(task).detach(),
            None => smol::spawn(task).detach(),
        }
    }

    fn bind(mut self, address: impl ToSocketAddrs, security: Security) -> io::Result<Self> {
        self.listeners.push((Async::new(TcpListener::bind(address)?)?, security));
        Ok(self)
    }
}

impl Shutdown {
    /// Begins to shut down: no new connections; each client is told `421 4.3.2` once its current command
    /// is answered; what is left after `grace` is cut off. Further calls change nothing.
    pub fn begin(&self, grace: Duration) {
        // A full or closed channel: it has begun already.
        let _ = self.requests.try_send(grace);
    }
}

/// Accepts the next connection, whatever happens to others.
async fn accept(listener: &Async<TcpListener>) -> (Async<std::net::TcpStream>, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                // Where it fails, the peer has gone already.
                if stream.get_ref().set_nodelay(true).is_ok() {
                    return (stream, address);
                }
            }
            Err(error) => {
                // Out of descriptors, most likely: they come back when connections end.
                tracing::warn!(%error, "cannot accept");
                Timer::after(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn join_all(mut futures: Vec<std::pin::Pin<Box<impl Future<Output = ()>>>>) {
    future::poll_fn(|context| {
        futures.retain_mut(|future| future.poll(context).is_pending());
        if futures.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
