//! Runs [`sansmtp`], the sans-IO SMTP server engine, on smol.
//!
//! [`Server`] binds, accepts, and runs each connection in a task of its own. Handlers are made for each
//! connection: an [`AsyncHandler`](sansmtp::AsyncHandler) as it is, a blocking
//! [`Handler`](sansmtp::Handler) in [`Blocking`], which runs its methods on the blocking pool.
//!
//! A connection that waits holds no read buffer. Replies to a pipelined group leave in one write, with
//! `TCP_NODELAY` set. Events go to `tracing`: failed authentications at `warn`, successful ones at
//! `info`, lost connections at `debug`. Nothing that a client sends as a secret is ever logged.

mod blocking;
mod buffers;
mod connection;
mod engine;
mod server;

pub use blocking::Blocking;
pub use server::{Server, Shutdown};

/// The README's code, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
#[derive(Debug)]
pub struct Readme;
