//! The server.

use std::io;
use std::sync::Arc;

use sansmtp::{AsyncHandler, Peer};
use sansmtp_driver::{Setup, setup_methods, tasks};
use smol::Executor;

use crate::runtime::Smol;

/// An SMTP server on smol: listeners, a task for each connection, a handler for each connection.
///
/// ```no_run
/// use sansmtp::{Config, Handler};
/// use sansmtp_smol::{Blocking, Server};
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
/// smol::block_on(server.run())?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Server<F> {
    setup: Setup,
    make_handler: F,
    runtime: Smol,
}

/// Makes an [`AsyncHandler`] of a [`Handler`](sansmtp::Handler): its methods run on smol's blocking pool.
pub type Blocking<H> = tasks::Blocking<H, Smol>;

impl<F> Server<F> {
    setup_methods!(AsyncHandler);

    /// Runs connections on `executor` instead of smol's global one.
    #[must_use]
    pub fn executor(mut self, executor: Arc<Executor<'static>>) -> Self {
        self.runtime = Smol::on(executor);
        self
    }

    /// Accepts connections until it is told to shut down, and then until they have ended. Dropping the
    /// future cuts them off.
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
        tasks::serve(self.setup, self.make_handler, self.runtime).await
    }
}
