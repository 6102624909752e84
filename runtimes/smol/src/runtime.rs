//! smol, as the driver sees it.

use std::future::Future;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use async_io::{Async, Timer};
use sansmtp::Peer;
use sansmtp_driver::tasks::Runtime;
use sansmtp_driver::{Listener, Stream};
use smol::Executor;

/// smol: its global executor, or one of one's own.
#[derive(Clone, Debug, Default)]
pub struct Smol {
    executor: Option<Arc<Executor<'static>>>,
}

impl Smol {
    pub(crate) fn on(executor: Arc<Executor<'static>>) -> Self {
        Self { executor: Some(executor) }
    }
}

/// smol's socket, as [`Runtime::Stream`].
#[derive(Debug)]
pub struct SmolStream {
    socket: Async<Stream>,
    /// The last read got all that there was, or nothing is known to have come.
    drained: bool,
}

impl Runtime for Smol {
    type Listener = Async<Listener>;
    type Stream = SmolStream;
    type Alarm = Timer;

    fn listener(listener: Listener) -> io::Result<Self::Listener> {
        Async::new(listener)
    }

    async fn accept(listener: &Self::Listener) -> io::Result<(Self::Stream, Peer)> {
        let (stream, peer) = listener.read_with(Listener::accept).await?;
        // Who has just connected hardly ever has said something.
        Ok((SmolStream { socket: Async::new(stream)?, drained: true }, peer))
    }

    fn local_address(stream: &Self::Stream) -> Option<SocketAddr> {
        stream.socket.get_ref().local_address()
    }

    fn set_nodelay(stream: &Self::Stream, nodelay: bool) -> io::Result<()> {
        stream.socket.get_ref().set_nodelay(nodelay)
    }

    fn into_std(stream: Self::Stream) -> io::Result<Stream> {
        stream.socket.into_inner()
    }

    fn poll_read(stream: &mut Self::Stream, context: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            if !stream.drained {
                match stream.socket.get_ref().read(room) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    result => {
                        // As there was no more than that, another try would be in vain. Should more have come
                        // since, one is told of it at once.
                        stream.drained = result.as_ref().is_ok_and(|octets| *octets < room.len());
                        return Poll::Ready(result);
                    }
                }
            }
            ready!(stream.socket.poll_readable(context))?;
            stream.drained = false;
        }
    }

    fn poll_write(stream: &mut Self::Stream, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match stream.socket.get_ref().write(octets) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
            ready!(stream.socket.poll_writable(context))?;
        }
    }

    async fn close_write(stream: &mut Self::Stream) -> io::Result<()> {
        stream.socket.get_ref().shutdown(Shutdown::Write)
    }

    fn alarm(instant: Instant) -> Timer {
        Timer::at(instant)
    }

    async fn unblock<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        smol::unblock(work).await
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        match &self.executor {
            Some(executor) => executor.spawn(task).detach(),
            None => smol::spawn(task).detach(),
        }
    }
}
