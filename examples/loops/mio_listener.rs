//! Where the loop's connections come from.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;

use mio::net::TcpListener;
use mio::{Interest, Registry, Token};
use socket2::SockRef;

use super::mio_socket::Socket;

pub(crate) struct Listener {
    listener: TcpListener,
    registry: Rc<Registry>,
    /// That of the last connection. None is used again.
    last: Token,
}

impl Listener {
    /// Tells of connections by `token`; theirs are those behind `last`.
    pub(crate) fn new(
        listener: std::net::TcpListener,
        registry: &Registry,
        token: Token,
        last: Token,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        // Replies leave in one write for each group of commands: there is nothing to be gained by holding them back.
        SockRef::from(&listener).set_tcp_nodelay(true)?;
        let mut listener = TcpListener::from_std(listener);
        registry.register(&mut listener, token, Interest::READABLE)?;
        Ok(Self { listener, registry: Rc::new(registry.try_clone()?), last })
    }

    /// The next connection, or `None` if none is waiting. An error is that of a connection, or descriptors have run
    /// out.
    pub(crate) fn accept(&mut self) -> io::Result<Option<(Token, Socket, SocketAddr)>> {
        let (stream, peer) = match self.listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        if !INHERITS {
            // Where it fails, the peer has gone already.
            let _ = stream.set_nodelay(true);
        }
        self.last.0 += 1;
        Ok(Some((self.last, Socket::new(stream, &self.registry, self.last)?, peer)))
    }
}

/// Whether a connection has its listener's options from the start.
const INHERITS: bool = cfg!(any(target_os = "android", target_os = "linux"));
