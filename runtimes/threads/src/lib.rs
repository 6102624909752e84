//! Runs [`sansmtp`], the sans-IO SMTP server engine, on threads, with nothing asynchronous.
//!
//! [`Server`] binds, accepts, and calls a handler's methods on its threads, where they may block. A handler is made for
//! each connection; one connection has one thread at a time, but not always the same one, and a thread serves one
//! connection after another: what a handler keeps in thread-local variables, it may not find there again, and others
//! may find it.
//!
//! # Who waits, and who does not
//!
//! A connection that waits, for its client or for a pause to be over, has no thread: one thread watches over all of
//! them, by the system's readiness queue (epoll, kqueue), which the standard library lacks and
//! [`mio`](https://docs.rs/mio) has. When something comes, that thread serves it, and before it calls a method of the
//! handler, it has another one watch. So there are about as many threads as processors, and one more for each method
//! that has not returned yet; those that are too many end after some seconds. The number of connections is
//! [bounded](Server::max_connections), and that of threads by it. Where the system gives none, a method is not called: its
//! question is answered by a temporary failure, and the connection ends.
//!
//! Nothing interrupts a thread that is blocked in a handler's method. When its time is up, its connection goes on in
//! another thread; the one that comes back too late is done with it. Nothing polls: an idle connection takes some memory
//! (`benches/load` measures it), and no time.
//!
//! Beside a handler's methods, nothing of yours should block: not what TLS asks for a certificate or a signature, nor a
//! mechanism. As many of these at a time as there are processors keep everybody waiting.
//!
//! A connection that waits for its client holds no read buffer. `TCP_NODELAY` is set. Events go to `tracing`, in a span
//! for each connection; the README lists them with their levels. Nothing that a client sends as a secret is ever logged.

mod connection;
mod guests;
mod server;

#[cfg(feature = "rustls")]
pub use sansmtp_driver::Certificates;
#[cfg(unix)]
pub use sansmtp_driver::{Inherited, inherited_listeners};
pub use sansmtp_driver::{Listener, Shutdown};
pub use server::Server;
