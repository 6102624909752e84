//! Runs [`sansmtp`], the sans-IO SMTP server engine, on tokio.
//!
//! [`Server`] binds, accepts, and runs each connection in a task of its own. Handlers are made for each
//! connection: an [`AsyncHandler`](sansmtp::AsyncHandler) as it is, a blocking
//! [`Handler`](sansmtp::Handler) in [`Blocking`], which runs its methods on the blocking pool.
//!
//! A connection that waits holds no read buffer. Replies to a pipelined group leave in one write, with
//! `TCP_NODELAY` set. Events go to `tracing`, in a span for each connection; the README lists them with their levels.
//! Nothing that a client sends as a secret is ever logged.

mod runtime;
mod server;

pub use runtime::{Tokio, TokioListener, TokioStream};
#[cfg(feature = "rustls")]
pub use sansmtp_driver::Certificates;
#[cfg(unix)]
pub use sansmtp_driver::{Inherited, inherited_listeners};
pub use sansmtp_driver::{Listener, Shutdown};
pub use server::{Blocking, Server};
