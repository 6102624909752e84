//! What an asynchronous runtime has to have.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Instant;

use sansmtp::Peer;

use crate::sockets;

/// An asynchronous runtime: sockets, time, tasks, and a pool of threads for what blocks.
///
/// Nothing of it keeps a buffer, so neither does a connection that waits.
pub trait Runtime: Send + Sync + 'static {
    /// A listener of this runtime.
    type Listener: Send + Sync;

    /// A connection of this runtime.
    type Stream: Send + Sync + 'static;

    /// What goes off at a point in time.
    type Alarm: Future + Send;

    /// Takes a listener in.
    ///
    /// # Errors
    ///
    /// What the operating system, or the runtime, says.
    fn listener(listener: sockets::Listener) -> io::Result<Self::Listener>;

    /// Waits for the next connection. Over a unix socket, the peer is [local](Peer::local).
    fn accept(listener: &Self::Listener) -> impl Future<Output = io::Result<(Self::Stream, Peer)>> + Send;

    /// The address of the connection's own end, if it has one of a network.
    fn local_address(stream: &Self::Stream) -> Option<SocketAddr>;

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

    /// Reads what has come, or has the task woken when something has. One task reads.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn poll_read(stream: &mut Self::Stream, context: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Writes what the socket's buffer has room for, or has the task woken when it has some. One task writes.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn poll_write(stream: &mut Self::Stream, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>>;

    /// Closes the write half.
    fn close_write(stream: &mut Self::Stream) -> impl Future<Output = io::Result<()>> + Send;

    /// What goes off at `instant`.
    fn alarm(instant: Instant) -> Self::Alarm;

    /// Runs `work`, which does not panic, where it may block. Dropping the future before it has begun keeps
    /// it from being run.
    fn unblock<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> impl Future<Output = T> + Send;

    /// Runs `task` beside all others.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static);
}
