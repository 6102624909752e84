//! tokio, as the driver sees it.

use std::future::{Future, pending};
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use sansmtp_driver::tasks::Runtime;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, spawn_blocking};

/// tokio: the runtime that the server is run on.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Tokio;

impl Runtime for Tokio {
    type Listener = TcpListener;
    type Stream = TcpStream;

    fn listener(listener: std::net::TcpListener) -> io::Result<Self::Listener> {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    }

    async fn accept(listener: &Self::Listener) -> io::Result<(Self::Stream, SocketAddr)> {
        listener.accept().await
    }

    fn set_nodelay(stream: &Self::Stream, nodelay: bool) -> io::Result<()> {
        stream.set_nodelay(nodelay)
    }

    fn try_read(stream: &Self::Stream, room: &mut [u8]) -> io::Result<usize> {
        stream.try_read(room)
    }

    fn try_write(stream: &Self::Stream, octets: &[u8]) -> io::Result<usize> {
        stream.try_write(octets)
    }

    async fn readable(stream: &Self::Stream) -> io::Result<()> {
        stream.readable().await
    }

    async fn writable(stream: &Self::Stream) -> io::Result<()> {
        stream.writable().await
    }

    async fn close_write(stream: &mut Self::Stream) -> io::Result<()> {
        stream.shutdown().await
    }

    async fn sleep_until(instant: Instant) {
        tokio::time::sleep_until(instant.into()).await;
    }

    async fn unblock<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        let working = spawn_blocking(work);
        let _not_begun = Abort(working.abort_handle());
        match working.await {
            Ok(output) => output,
            // `work` does not panic: the runtime is shutting down, and this task ends with it.
            Err(_) => pending().await,
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(task);
    }
}

/// Takes work out of the pool's queue when nobody waits for it any more.
struct Abort(AbortHandle);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}
