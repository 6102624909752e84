//! The socket of one connection of the loop: what is to be written, and when there may be something to read.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use sansmtp::ReadBuffer;

pub(crate) struct Socket {
    stream: TcpStream,
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
    pub(crate) fn new(mut stream: TcpStream, registry: &Registry, token: Token) -> io::Result<Self> {
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        // Replies leave in one write for each group of commands: there is nothing to be gained by holding them back.
        stream.set_nodelay(true)?;
        Ok(Self { stream, out: Vec::new(), write_by: None, close_by: None, readable: false, ended: false })
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
                Err(error) if error.kind() == ErrorKind::WouldBlock && now < until => return Ok(First::Wait(until)),
                Err(error) => return Err(error),
            }
            self.write_by = self.write_by.filter(|_| !self.out.is_empty());
            return Ok(First::Again);
        }
        let Some(until) = self.close_by else { return Ok(First::Nothing) };
        Ok(match self.stream.read(&mut [0; 1024]) {
            Ok(1..) if now < until => First::Again,
            Err(error) if error.kind() == ErrorKind::WouldBlock && now < until => First::Wait(until),
            Ok(_) | Err(_) => First::End,
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

    /// Says that nothing more is written, and waits a moment for the peer: closing a socket with something unread in it
    /// would make the peer lose the last replies.
    pub(crate) fn close(&mut self, now: Instant) -> io::Result<()> {
        self.close_by = Some(now + Duration::from_secs(2));
        self.stream.shutdown(Shutdown::Write)
    }
}
