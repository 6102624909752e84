//! The server.

use std::io;

use sansmtp::{AsyncHandler, Peer};
use sansmtp_driver::{Setup, setup_methods, tasks};

use crate::runtime::Tokio;

/// An SMTP server on tokio: listeners, a task for each connection, a handler for each connection.
///
/// ```no_run
/// use sansmtp::{Config, Handler};
/// use sansmtp_tokio::{Blocking, Server};
///
/// struct Refuse;
///
/// impl Handler for Refuse {
///     type Message = ();
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config = Config::builder("mx.example.org").build()?;
/// let server = Server::new(config, |_peer| Blocking::new(Refuse)).listen("127.0.0.1:0")?;
/// println!("listening on {:?}", server.local_addresses());
/// tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(server.run())?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Server<F> {
    setup: Setup,
    make_handler: F,
    runtime: Tokio,
}

/// Makes an [`AsyncHandler`] of a [`Handler`](sansmtp::Handler): its methods run on tokio's blocking pool.
pub type Blocking<H> = tasks::Blocking<H, Tokio>;

impl<F> Server<F> {
    setup_methods!(AsyncHandler);

    /// Accepts connections until it is told to shut down, and then until they have ended. Dropping the
    /// future cuts them off.
    ///
    /// Connections are tasks of the tokio runtime that this is run on; it needs its drivers for I/O and
    /// time. Best it is a task as well (`tokio::spawn`): the thread of a `block_on` is none of the runtime's workers,
    /// and has to be woken for each connection.
    ///
    /// # Errors
    ///
    /// A mistake that no connection could live with: STARTTLS offered, or a TLS listener, without a TLS
    /// configuration.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, or if it lacks one of the drivers.
    pub async fn run<H>(self) -> io::Result<()>
    where
        F: Fn(Peer) -> H,
        H: AsyncHandler + 'static,
    {
        tasks::serve(self.setup, self.make_handler, self.runtime).await
    }
}
