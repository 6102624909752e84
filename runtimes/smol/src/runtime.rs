//! smol, as the driver sees it.

use std::future::Future;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
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

impl Runtime for Smol {
    type Listener = Async<Listener>;
    type Stream = Async<Stream>;

    fn listener(listener: Listener) -> io::Result<Self::Listener> {
        Async::new(listener)
    }

    async fn accept(listener: &Self::Listener) -> io::Result<(Self::Stream, Peer)> {
        let (stream, peer) = listener.read_with(Listener::accept).await?;
        Ok((Async::new(stream)?, peer))
    }

    fn set_nodelay(stream: &Self::Stream, nodelay: bool) -> io::Result<()> {
        stream.get_ref().set_nodelay(nodelay)
    }

    fn into_std(stream: Self::Stream) -> io::Result<Stream> {
        stream.into_inner()
    }

    fn try_read(stream: &Self::Stream, room: &mut [u8]) -> io::Result<usize> {
        stream.get_ref().read(room)
    }

    fn try_write(stream: &Self::Stream, octets: &[u8]) -> io::Result<usize> {
        stream.get_ref().write(octets)
    }

    async fn readable(stream: &Self::Stream) -> io::Result<()> {
        stream.readable().await
    }

    async fn writable(stream: &Self::Stream) -> io::Result<()> {
        stream.writable().await
    }

    async fn close_write(stream: &mut Self::Stream) -> io::Result<()> {
        stream.get_ref().shutdown(Shutdown::Write)
    }

    async fn sleep_until(instant: Instant) {
        Timer::at(instant).await;
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
