//! Runs [`sansmtp`], the sans-IO SMTP server engine, on threads: the standard library, and nothing
//! asynchronous.
//!
//! [`Server`] binds, accepts, and runs each connection in a thread of its own with a small stack; how many
//! there are at a time is bounded. Handlers are made for each connection, and their methods are called on
//! its thread, where they may block. A thread whose connection has ended waits some seconds for another one:
//! what a handler keeps in thread-local variables, it finds there again for a client that has nothing to do
//! with it.
//!
//! # How a blocked thread is not in the way
//!
//! Nothing interrupts a thread that is blocked, in a read or in a handler's method. So before it blocks, it
//! leaves its connection on its *seat*, where another thread can take it over: when the handler's time is
//! up, and when the server shuts down. The connection goes on there; the thread that comes back to an empty
//! seat is done with it. Nothing polls: an idle connection costs a thread's memory, and no time.
//!
//! A thread that is blocked for good is missed by nobody: those are used again that have come back, and where
//! there is none of them, one is started.
//!
//! A thread that waits for a command reads it by the call that waits: where another one takes over, it says that
//! the server shuts down, and no command counts any more. In the middle of a message or of an AUTH exchange, which
//! go on then, it waits first and reads when it is sure that the connection is still its own.
//!
//! A connection that waits holds no read buffer. `TCP_NODELAY` is set. Events go to `tracing`: failed
//! authentications at `warn`, successful ones at `info`, lost connections at `debug`. Nothing that a client
//! sends as a secret is ever logged.

mod connection;
mod listener;
mod server;

#[cfg(feature = "rustls")]
pub use sansmtp_driver::Certificates;
#[cfg(unix)]
pub use sansmtp_driver::{Inherited, inherited_listeners};
pub use sansmtp_driver::{Listener, Shutdown};
pub use server::Server;
