//! The socket of one connection of the loop: what is to be written, and when there may be something to read.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use sansmtp::ReadBuffer;

pub(crate) struct Socket {
    stream: TcpStream,
    token: Token,
    registry: Rc<Registry>,
    /// It has been full: it tells when there is room again.
    tells_of_room: bool,
    /// What is to be written, and until when; nothing else is done before.
    pub(crate) out: Vec<u8>,
    pub(crate) write_by: Option<Instant>,
    /// When to close, though the peer may still be sending.
    close_by: Option<Instant>,
    /// There may be something to read, or the end.
    readable: bool,
    ended: bool,
}

/// What comes before the engine is asked what to do.
pub(crate) enum First {
    Nothing,
    /// Ask again, as something has been written or read.
    Again,
    /// Wait for the socket, until then at the latest.
    Wait(Instant),
    End,
}

impl Socket {
    pub(crate) fn new(mut stream: TcpStream, registry: &Rc<Registry>, token: Token) -> io::Result<Self> {
        registry.register(&mut stream, token, Interest::READABLE)?;
        let (registry, out, tells_of_room) = (Rc::clone(registry), Vec::new(), false);
        let (write_by, close_by, readable, ended) = (None, None, false, false);
        Ok(Self { stream, token, registry, tells_of_room, out, write_by, close_by, readable, ended })
    }

    /// Takes an event.
    pub(crate) fn notice(&mut self, end: bool) {
        (self.readable, self.ended) = (true, self.ended || end);
    }

    /// Writes what is to be written, or looks whether the peer has closed as well. An error is a peer that is gone, or
    /// does not read.
    pub(crate) fn first(&mut self, now: Instant) -> io::Result<First> {
        if let Some(until) = self.write_by {
            match self.stream.write(&self.out) {
                Ok(octets) => drop(self.out.drain(..octets)),
                Err(error) if error.kind() == ErrorKind::WouldBlock && now < until => {
                    if !std::mem::replace(&mut self.tells_of_room, true) {
                        let both = Interest::READABLE | Interest::WRITABLE;
                        self.registry.reregister(&mut self.stream, self.token, both)?;
                    }
                    return Ok(First::Wait(until));
                }
                Err(error) => return Err(error),
            }
            self.write_by = self.write_by.filter(|_| !self.out.is_empty());
            return Ok(First::Again);
        }
        let Some(until) = self.close_by else { return Ok(First::Nothing) };
        if now >= until {
            return Ok(First::End);
        }
        Ok(match self.stream.read(&mut [0; 1024]) {
            Ok(1..) => First::Again,
            Err(error) if error.kind() == ErrorKind::WouldBlock => First::Wait(until),
            Ok(0) | Err(_) => First::End,
        })
    }

    /// Reads what there is; how much, or `None` if there is nothing yet. A peer that is gone has ended, too.
    pub(crate) fn read(&mut self, buffer: &mut ReadBuffer) -> Option<usize> {
        if !self.readable {
            return None;
        }
        let room = buffer.room();
        let all = room.len();
        match self.stream.read(room) {
            Ok(octets) => {
                buffer.filled(octets);
                // Nothing is left where less has come than there was room for, unless it is the end.
                self.readable = octets == all || self.ended;
                Some(octets)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
                None
            }
            Err(_) => Some(0),
        }
    }

    /// Closes. If it lingers, it says that nothing more is written, and waits a moment for the peer: closing a socket
    /// with something unread in it would make the peer lose the last replies.
    pub(crate) fn close(&mut self, lingers: bool, now: Instant) -> io::Result<()> {
        self.close_by = Some(if lingers { now + Duration::from_secs(2) } else { now });
        if lingers { self.stream.shutdown(Shutdown::Write) } else { Ok(()) }
    }
}
