//! What drives the connections: three servers with the same surface.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use clap::ValueEnum;
use sansmtp::{AsyncHandler, Handler, Peer};
use sansmtp_smol::{Inherited, Shutdown};

use crate::connection_limits::ConnectionLimits;

/// What drives the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Runtime {
    /// Tasks on smol.
    Smol,
    /// Threads, and nothing asynchronous.
    Threads,
    /// Tasks on tokio.
    Tokio,
}

/// A server on one of them, once the choice has been made.
pub(crate) trait Serve: Sized {
    fn limit(self, limits: &ConnectionLimits) -> Self;
    fn bind(self, address: SocketAddr, implicit_tls: bool) -> io::Result<Self>;
    /// Listens on what the service manager has handed over.
    #[allow(dead_code, reason = "not every program does")]
    fn inherit(self, inherited: Inherited, implicit_tls: bool) -> Self;
    /// On all addresses.
    fn bind_any(self, port: u16, implicit_tls: bool) -> io::Result<Self>;
    fn bind_unix(self, path: &Path, implicit_tls: bool) -> io::Result<Self>;
    fn addresses(&self) -> Vec<SocketAddr>;
    fn shutdown(&self) -> Shutdown;
    /// Serves until it is told to shut down.
    fn serve(self) -> io::Result<()>;
}

macro_rules! surface {
    () => {
        fn limit(mut self, limits: &ConnectionLimits) -> Self {
            if let Some(connections) = limits.max_connections {
                self = self.max_connections(connections.get());
            }
            if let Some(connections) = limits.per_address() {
                self = self.max_connections_per_address(connections);
            }
            self.exempt_from_address_limit(limits.exempt_network.iter().copied())
                .raise_open_file_limit(!limits.keep_open_file_limit)
        }

        fn bind(self, address: SocketAddr, implicit_tls: bool) -> io::Result<Self> {
            if implicit_tls { self.listen_tls(address) } else { self.listen(address) }
        }

        fn inherit(self, inherited: Inherited, implicit_tls: bool) -> Self {
            if implicit_tls { self.listener_tls(inherited.listener) } else { self.listener(inherited.listener) }
        }

        fn bind_any(self, port: u16, implicit_tls: bool) -> io::Result<Self> {
            if implicit_tls { self.listen_on_port_tls(port) } else { self.listen_on_port(port) }
        }

        #[cfg(unix)]
        fn bind_unix(self, path: &Path, implicit_tls: bool) -> io::Result<Self> {
            if implicit_tls { self.listen_unix_tls(path) } else { self.listen_unix(path) }
        }

        #[cfg(not(unix))]
        fn bind_unix(self, _: &Path, _: bool) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn addresses(&self) -> Vec<SocketAddr> {
            self.local_addresses()
        }

        fn shutdown(&self) -> Shutdown {
            self.shutdown_handle()
        }
    };
}

impl<F: Fn(Peer) -> H, H: AsyncHandler + 'static> Serve for sansmtp_smol::Server<F> {
    surface!();

    /// On every core. smol's global executor would have one thread, and this one, which only accepts, would compete with
    /// it for the events of all.
    fn serve(self) -> io::Result<()> {
        let executor = Arc::new(smol::Executor::new());
        for _ in 1..thread::available_parallelism().map_or(1, usize::from) {
            let executor = Arc::clone(&executor);
            thread::spawn(move || smol::block_on(executor.run(pending::<()>())));
        }
        smol::block_on(executor.run(self.executor(Arc::clone(&executor)).run()))
    }
}

impl<F: Fn(Peer) -> H + Send + Sync + 'static, H: AsyncHandler + 'static> Serve for sansmtp_tokio::Server<F> {
    surface!();

    /// As a task: this thread, which is none of tokio's workers, would have to be woken for each connection.
    fn serve(self) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(runtime.spawn(self.run())).map_err(io::Error::other)?
    }
}

impl<F: Fn(Peer) -> H + Send + 'static, H: Handler + 'static> Serve for sansmtp_threads::Server<F> {
    surface!();

    fn serve(self) -> io::Result<()> {
        self.run()
    }
}
