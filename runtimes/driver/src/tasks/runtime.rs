//! What an asynchronous runtime has to have.

use std::future::Future;
use std::io;
use std::time::Instant;

use sansmtp::Peer;

use crate::sockets;

/// An asynchronous runtime: sockets, time, tasks, and a pool of threads for what blocks.
///
/// Reads and writes are tried, and readiness is waited for, so that a connection that waits holds no buffer.
pub trait Runtime: Send + Sync + 'static {
    /// A listener of this runtime.
    type Listener: Send + Sync;

    /// A connection of this runtime.
    type Stream: Send + Sync + 'static;

    /// Takes a listener in.
    ///
    /// # Errors
    ///
    /// What the operating system, or the runtime, says.
    fn listener(listener: sockets::Listener) -> io::Result<Self::Listener>;

    /// Waits for the next connection. Over a unix socket, the peer is [local](Peer::local).
    fn accept(listener: &Self::Listener) -> impl Future<Output = io::Result<(Self::Stream, Peer)>> + Send;

    /// Sends small segments at once, or waits for more to send (`TCP_NODELAY`). Unix sockets always do the
    /// former.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn set_nodelay(stream: &Self::Stream, nodelay: bool) -> io::Result<()>;

    /// Gives a connection back to the standard library.
    ///
    /// # Errors
    ///
    /// What the operating system, or the runtime, says.
    fn into_std(stream: Self::Stream) -> io::Result<sockets::Stream>;

    /// Reads what has come.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if nothing has, and what the operating system says.
    fn try_read(stream: &Self::Stream, room: &mut [u8]) -> io::Result<usize>;

    /// Writes what the socket's buffer has room for.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if it has none, and what the operating system says.
    fn try_write(stream: &Self::Stream, octets: &[u8]) -> io::Result<usize>;

    /// Waits until a read is worth trying.
    fn readable(stream: &Self::Stream) -> impl Future<Output = io::Result<()>> + Send;

    /// Waits until a write is worth trying.
    fn writable(stream: &Self::Stream) -> impl Future<Output = io::Result<()>> + Send;

    /// Closes the write half.
    fn close_write(stream: &mut Self::Stream) -> impl Future<Output = io::Result<()>> + Send;

    /// Waits until `instant`.
    fn sleep_until(instant: Instant) -> impl Future<Output = ()> + Send;

    /// Runs `work`, which does not panic, where it may block. Dropping the future before it has begun keeps
    /// it from being run.
    fn unblock<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> impl Future<Output = T> + Send;

    /// Runs `task` beside all others.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static);
}
