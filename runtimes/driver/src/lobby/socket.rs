//! Sockets that are watched.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use mio::event::Source;
use mio::net::{TcpListener, TcpStream};
#[cfg(unix)]
use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use sansmtp::Peer;
use socket2::SockRef;

use super::News;
use crate::out::Out;
use crate::sockets::{Listener, Stream, each};

/// A listener that is watched.
#[derive(Debug)]
pub struct Entrance {
    listener: AnyListener,
    is_nodelay_inherited: bool,
}

#[derive(Debug)]
enum AnyListener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
}

/// A connection's socket that is watched. It never blocks.
#[derive(Debug)]
pub struct Socket {
    stream: AnyStream,
    /// Something may have come since there was nothing to read.
    may_read: bool,
    /// Nothing will be heard of what comes after this.
    is_last: bool,
}

#[derive(Debug)]
enum AnyStream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Entrance {
    /// Makes a listener one that does not block.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn new(listener: Listener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let is_nodelay_inherited = listener.is_nodelay_inherited();
        let listener = match listener {
            Listener::Tcp(listener) => AnyListener::Tcp(TcpListener::from_std(listener)),
            #[cfg(unix)]
            Listener::Unix(listener) => AnyListener::Unix(UnixListener::from_std(listener)),
        };
        Ok(Self { listener, is_nodelay_inherited })
    }

    /// Takes the next connection, with `TCP_NODELAY`. Over a unix socket, the peer is [local](Peer::local).
    ///
    /// # Errors
    ///
    /// `WouldBlock` if nobody comes; `ConnectionAborted` if who came has gone already; otherwise what the operating
    /// system says.
    pub fn accept(&self) -> io::Result<(Socket, Peer)> {
        let (stream, peer) = match &self.listener {
            AnyListener::Tcp(listener) => {
                let (stream, address) = listener.accept()?;
                if !self.is_nodelay_inherited {
                    stream.set_nodelay(true).map_err(|_| ErrorKind::ConnectionAborted)?;
                }
                (AnyStream::Tcp(stream), Peer::from(address))
            }
            #[cfg(unix)]
            AnyListener::Unix(listener) => (AnyStream::Unix(listener.accept()?.0), Peer::local()),
        };
        Ok((Socket { stream, may_read: false, is_last: false }, peer))
    }

    /// Has it watched.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        each!(AnyListener, &mut self.listener, socket => socket.register(registry, token, Interest::READABLE))
    }
}

impl Socket {
    /// Has it watched.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        each!(AnyStream, &mut self.stream, socket => socket.register(registry, token, interest))
    }

    /// The address of this end, if it has one of a network.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        match &self.stream {
            AnyStream::Tcp(stream) => stream.local_addr().ok(),
            #[cfg(unix)]
            AnyStream::Unix(_) => None,
        }
    }

    /// Takes into account what was seen.
    pub fn notice(&mut self, news: News) {
        self.may_read |= news.is_readable;
        self.is_last |= news.is_last;
    }

    /// Whether there may be something to read: otherwise there is no need to try.
    #[must_use]
    pub fn may_read(&self) -> bool {
        self.may_read
    }

    /// Reads what there is.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is nothing; otherwise what the operating system says.
    pub fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let read = each!(AnyStream, &mut self.stream, socket => socket.read(room)).map_err(not_a_wait);
        match &read {
            // What comes after this will be seen, except for the end if that was seen already.
            Ok(octets) if *octets < room.len() && self.is_told_all() => self.may_read = self.is_last,
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.may_read = false,
            Ok(_) | Err(_) => {}
        }
        read
    }

    /// Writes what there is. `false` if the peer has not taken all of it yet.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn write(&mut self, out: &mut Out) -> io::Result<bool> {
        out.write(|octets| each!(AnyStream, &mut self.stream, socket => socket.write(octets)).map_err(not_a_wait))
    }

    /// Whether all that comes is seen, even if what came before it has not been read to the point where nothing is
    /// left.
    fn is_told_all(&self) -> bool {
        match self.stream {
            // Only urgent data, of which SMTP has none, ends a read before the end of what has come.
            AnyStream::Tcp(_) => HAS_EDGES,
            #[cfg(unix)]
            AnyStream::Unix(_) => false,
        }
    }

    /// Ends this side of the connection.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn close_write(&self) -> io::Result<()> {
        each!(AnyStream, &self.stream, socket => socket.shutdown(Shutdown::Write))
    }

    /// Has the connection reset when the socket is dropped. A peer whose window is full would else not be told that it
    /// has ended.
    pub fn reset(&self) {
        // Where it fails, there is no TCP to wait for.
        let _ = each!(AnyStream, &self.stream, socket => SockRef::from(socket).set_linger(Some(Duration::ZERO)));
    }
}

/// A connection that has died of a timeout is not one on which something may come yet.
fn not_a_wait(error: io::Error) -> io::Error {
    if error.kind() == ErrorKind::TimedOut { ErrorKind::ConnectionAborted.into() } else { error }
}

/// Whether the system tells of each arrival, and not only of the first after nothing was left.
const HAS_EDGES: bool = cfg!(any(
    target_os = "android",
    target_os = "freebsd",
    target_os = "linux",
    target_os = "macos",
    target_os = "netbsd",
    target_os = "openbsd",
));

impl From<Socket> for Stream {
    fn from(socket: Socket) -> Self {
        match socket.stream {
            AnyStream::Tcp(stream) => Self::Tcp(stream.into()),
            #[cfg(unix)]
            AnyStream::Unix(stream) => Self::Unix(stream.into()),
        }
    }
}
