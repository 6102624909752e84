//! The socket.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
#[cfg(unix)]
use std::path::PathBuf;
use std::time::Duration;

/// Where Dovecot listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    #[cfg(unix)]
    Unix(PathBuf),
    /// Host and port; looked up for each connection.
    Tcp(String),
}

#[derive(Debug)]
pub(super) enum Stream {
    #[cfg(unix)]
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    /// Connects. A write that takes longer than `limit` fails; a connection to a unix socket may take any time, where
    /// whoever listens there does not accept.
    pub(super) fn connect(address: &Address, limit: Duration) -> io::Result<Self> {
        match address {
            #[cfg(unix)]
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_write_timeout(Some(limit))?;
                Ok(Self::Unix(stream))
            }
            Address::Tcp(host) => {
                let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
                for address in host.to_socket_addrs()? {
                    match TcpStream::connect_timeout(&address, limit) {
                        Ok(stream) => {
                            stream.set_write_timeout(Some(limit))?;
                            // Lines are written whole.
                            stream.set_nodelay(true)?;
                            return Ok(Self::Tcp(stream));
                        }
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
        }
    }

    pub(super) fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        match self {
            #[cfg(unix)]
            Self::Unix(stream) => stream.set_read_timeout(limit),
            Self::Tcp(stream) => stream.set_read_timeout(limit),
        }
    }

    /// Ends both directions; whoever reads or writes at the moment is woken.
    pub(super) fn shut_down(&self) {
        // It may have ended by itself.
        let _ = match self {
            #[cfg(unix)]
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
        };
    }

    pub(super) fn read(&self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            #[cfg(unix)]
            Self::Unix(stream) => {
                let mut stream = stream;
                stream.read(room)
            }
            Self::Tcp(stream) => {
                let mut stream = stream;
                stream.read(room)
            }
        }
    }

    pub(super) fn write_all(&self, octets: &[u8]) -> io::Result<()> {
        match self {
            #[cfg(unix)]
            Self::Unix(stream) => {
                let mut stream = stream;
                stream.write_all(octets)
            }
            Self::Tcp(stream) => {
                let mut stream = stream;
                stream.write_all(octets)
            }
        }
    }
}
