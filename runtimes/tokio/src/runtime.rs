//! tokio, as the driver sees it.

use std::future::{Future, pending};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use sansmtp::Peer;
use sansmtp_driver::tasks::Runtime;
use sansmtp_driver::{Listener, Stream};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net;
use tokio::task::{AbortHandle, spawn_blocking};
use tokio::time::{Sleep, sleep_until};

/// tokio: the runtime that the server is run on.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Tokio;

/// tokio's sockets, as [`Runtime::Listener`].
#[derive(Debug)]
#[non_exhaustive]
pub enum TokioListener {
    /// For TCP.
    Tcp(net::TcpListener),
    /// A unix socket.
    #[cfg(unix)]
    Unix(net::UnixListener),
}

/// tokio's sockets, as [`Runtime::Stream`].
#[derive(Debug)]
#[non_exhaustive]
pub enum TokioStream {
    /// Over TCP.
    Tcp(net::TcpStream),
    /// Over a unix socket.
    #[cfg(unix)]
    Unix(net::UnixStream),
}

/// Does the same with whichever socket it is.
macro_rules! each {
    ($stream:expr, $socket:ident => $what:expr) => {
        match $stream {
            TokioStream::Tcp($socket) => $what,
            #[cfg(unix)]
            TokioStream::Unix($socket) => $what,
        }
    };
}

impl Runtime for Tokio {
    type Listener = TokioListener;
    type Stream = TokioStream;
    type Alarm = Sleep;

    fn listener(listener: Listener) -> io::Result<Self::Listener> {
        listener.set_nonblocking(true)?;
        Ok(match listener {
            Listener::Tcp(listener) => TokioListener::Tcp(net::TcpListener::from_std(listener)?),
            #[cfg(unix)]
            Listener::Unix(listener) => TokioListener::Unix(net::UnixListener::from_std(listener)?),
        })
    }

    async fn accept(listener: &Self::Listener) -> io::Result<(Self::Stream, Peer)> {
        Ok(match listener {
            TokioListener::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                (TokioStream::Tcp(stream), address.into())
            }
            #[cfg(unix)]
            TokioListener::Unix(listener) => (TokioStream::Unix(listener.accept().await?.0), Peer::local()),
        })
    }

    fn local_address(stream: &Self::Stream) -> Option<SocketAddr> {
        match stream {
            TokioStream::Tcp(stream) => stream.local_addr().ok(),
            #[cfg(unix)]
            TokioStream::Unix(_) => None,
        }
    }

    fn set_nodelay(stream: &Self::Stream, nodelay: bool) -> io::Result<()> {
        match stream {
            TokioStream::Tcp(stream) => stream.set_nodelay(nodelay),
            #[cfg(unix)]
            TokioStream::Unix(_) => Ok(()),
        }
    }

    fn into_std(stream: Self::Stream) -> io::Result<Stream> {
        each!(stream, socket => socket.into_std().map(Stream::from))
    }

    fn poll_read(stream: &mut Self::Stream, context: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut room = ReadBuf::new(room);
        ready!(each!(stream, socket => Pin::new(socket).poll_read(context, &mut room)))?;
        Poll::Ready(Ok(room.filled().len()))
    }

    fn poll_write(stream: &mut Self::Stream, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        each!(stream, socket => Pin::new(socket).poll_write(context, octets))
    }

    async fn close_write(stream: &mut Self::Stream) -> io::Result<()> {
        each!(stream, socket => socket.shutdown().await)
    }

    fn alarm(instant: Instant) -> Sleep {
        sleep_until(instant.into())
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
