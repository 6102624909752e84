//! Sockets of the standard library, TCP and unix alike.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
#[cfg(unix)]
use std::os::fd::{AsFd, BorrowedFd};
#[cfg(unix)]
use std::os::unix::net::{UnixListener, UnixStream};
#[cfg(windows)]
use std::os::windows::io::{AsSocket, BorrowedSocket};
use std::time::Duration;

use sansmtp::Peer;
use socket2::SockRef;

/// A socket that listens.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "adapters have a socket of their own for each")]
pub enum Listener {
    /// For TCP, over IPv4, IPv6 or both.
    Tcp(TcpListener),
    /// A unix socket.
    #[cfg(unix)]
    Unix(UnixListener),
}

/// A socket of a connection.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "adapters have a socket of their own for each")]
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a unix socket.
    #[cfg(unix)]
    Unix(UnixStream),
}

/// Does the same with whichever socket it is.
macro_rules! each {
    ($kind:ident, $this:expr, $socket:ident => $what:expr) => {
        match $this {
            $kind::Tcp($socket) => $what,
            #[cfg(unix)]
            $kind::Unix($socket) => $what,
        }
    };
}
#[cfg(feature = "lobby")]
pub(crate) use each;

impl Listener {
    /// Takes the next connection. Over a unix socket, the peer is [local](Peer::local).
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Tcp(listener) => listener.accept().map(|(stream, address)| (Stream::Tcp(stream), address.into())),
            #[cfg(unix)]
            Self::Unix(listener) => listener.accept().map(|(stream, _)| (Stream::Unix(stream), Peer::local())),
        }
    }

    /// Whether [`accept`](Self::accept) waits for a connection.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        each!(Self, self, socket => socket.set_nonblocking(nonblocking))
    }

    /// Where it listens, if that is an address of a network.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            #[cfg(unix)]
            Self::Unix(_) => None,
        }
    }

    /// Whether its connections have `TCP_NODELAY` from their start, or no need of it: then they need not be told.
    #[must_use]
    pub fn is_nodelay_inherited(&self) -> bool {
        match self {
            Self::Tcp(listener) => INHERITS && SockRef::from(listener).tcp_nodelay().unwrap_or(false),
            #[cfg(unix)]
            Self::Unix(_) => true,
        }
    }
}

impl Stream {
    /// The address of this end, if it has one of a network.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.local_addr().ok(),
            #[cfg(unix)]
            Self::Unix(_) => None,
        }
    }

    /// Whether small segments are sent at once (`TCP_NODELAY`). Unix sockets always do so.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nodelay(nodelay),
            #[cfg(unix)]
            Self::Unix(_) => Ok(()),
        }
    }

    /// Whether reads and writes wait.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        each!(Self, self, socket => socket.set_nonblocking(nonblocking))
    }

    /// How long a read waits.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        each!(Self, self, socket => socket.set_read_timeout(timeout))
    }

    /// How long a write waits.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        each!(Self, self, socket => socket.set_write_timeout(timeout))
    }

    /// Closes one half, or both.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn shutdown(&self, half: Shutdown) -> io::Result<()> {
        each!(Self, self, socket => socket.shutdown(half))
    }

    /// Says a last line, without waiting for anything, and closes.
    ///
    /// Whether it arrives is up to the network and the peer.
    pub(crate) fn turn_away(&self, line: &[u8]) -> io::Result<()> {
        self.set_nonblocking(true)?;
        // The buffer of a new connection has room for it.
        let _ = (&mut &*self).write(line)?;
        self.shutdown(Shutdown::Write)?;
        // What is left unread would become a reset, and a reset overtakes the line.
        let _ = (&mut &*self).read(&mut [0; 1024])?;
        Ok(())
    }
}

impl Read for &Stream {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        each!(Stream, self, socket => (&mut &*socket).read(room))
    }
}

impl Write for &Stream {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        each!(Stream, self, socket => (&mut &*socket).write(octets))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether a connection gets its listener's options for sure.
const INHERITS: bool = cfg!(any(target_os = "android", target_os = "linux"));

macro_rules! sockets {
    ($($kind:ident: $tcp:ty, $unix:ty;)*) => {$(
        impl From<$tcp> for $kind {
            fn from(socket: $tcp) -> Self {
                Self::Tcp(socket)
            }
        }

        #[cfg(unix)]
        impl From<$unix> for $kind {
            fn from(socket: $unix) -> Self {
                Self::Unix(socket)
            }
        }

        #[cfg(unix)]
        impl AsFd for $kind {
            fn as_fd(&self) -> BorrowedFd<'_> {
                each!(Self, self, socket => socket.as_fd())
            }
        }

        #[cfg(windows)]
        impl AsSocket for $kind {
            fn as_socket(&self) -> BorrowedSocket<'_> {
                each!(Self, self, socket => socket.as_socket())
            }
        }
    )*};
}

sockets! {
    Listener: TcpListener, UnixListener;
    Stream: TcpStream, UnixStream;
}
