//! One connection of the loop.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use memchr::memmem::Finder;
use mio::net::TcpStream;
use rustls::{ServerConfig, ServerConnection};

use crate::content::{Content, END};
use crate::metered::Metered;

/// A client, as far as it has to be known to answer it.
pub(crate) struct Client {
    stream: TcpStream,
    tls: Option<Box<ServerConnection>>,
    content: Option<Content>,
    /// A line whose end has not come: clients hardly ever cut one.
    partial: Vec<u8>,
}

/// What is needed for one client at a time.
pub(crate) struct Scratch {
    room: Vec<u8>,
    out: Vec<u8>,
    end: Finder<'static>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self { room: vec![0; 64 * 1024], out: Vec::new(), end: Finder::new(END) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Command,
    StartTls,
    Close,
}

impl Client {
    /// Greets a client that has just come; `None` if it has gone already.
    pub(crate) fn greet(mut stream: TcpStream) -> Option<Self> {
        stream.write_all(b"220 localhost ESMTP\r\n").ok()?;
        Some(Self { stream, tls: None, content: None, partial: Vec::new() })
    }

    /// Answers what has come; `false` at the end. A client that does not read its replies is at its end, too.
    ///
    /// `closes` says that the client has said all that it will.
    pub(crate) fn go_on(&mut self, scratch: &mut Scratch, tls: Option<&Arc<ServerConfig>>, closes: bool) -> bool {
        loop {
            let read = if self.tls.is_some() { self.read_tls(scratch) } else { self.read(scratch) };
            let (next, drained) = match read {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => return false,
                Ok(read) => read,
            };
            match next {
                Next::Command => {}
                Next::StartTls => match tls.map(|tls| ServerConnection::new(Arc::clone(tls))) {
                    Some(Ok(tls)) => self.tls = Some(Box::new(tls)),
                    Some(Err(_)) | None => return false,
                },
                Next::Close => return false,
            }
            if drained && !closes {
                return true;
            }
        }
    }

    /// Answers what one read gives; also whether that was all that there was.
    fn read(&mut self, scratch: &mut Scratch) -> io::Result<(Next, bool)> {
        let octets = self.stream.read(&mut scratch.room)?;
        if octets == 0 {
            return Ok((Next::Close, true));
        }
        scratch.out.clear();
        let input = scratch.room.get(..octets).unwrap_or_default();
        let next = self.answer(input, &mut scratch.out, &scratch.end);
        if !scratch.out.is_empty() {
            self.stream.write_all(&scratch.out)?;
        }
        Ok((next, octets < scratch.room.len()))
    }

    fn read_tls(&mut self, scratch: &mut Scratch) -> io::Result<(Next, bool)> {
        let mut stream = Metered::new(&mut self.stream);
        let Some(tls) = &mut self.tls else { return Ok((Next::Close, true)) };
        if tls.read_tls(&mut stream)? == 0 {
            return Ok((Next::Close, true));
        }
        let drained = stream.drained;
        let mut left = tls.process_new_packets().map_err(io::Error::other)?.plaintext_bytes_to_read();
        let mut next = Next::Command;
        scratch.out.clear();
        while left > 0 {
            let Some(tls) = &mut self.tls else { break };
            let octets = tls.reader().read(&mut scratch.room)?;
            left = left.saturating_sub(octets);
            next = self.answer(scratch.room.get(..octets).unwrap_or_default(), &mut scratch.out, &scratch.end);
        }
        if let Some(tls) = &mut self.tls {
            tls.writer().write_all(&scratch.out)?;
            if next == Next::Close {
                tls.send_close_notify();
            }
            while tls.wants_write() {
                tls.write_tls(&mut self.stream)?;
            }
        }
        Ok((next, drained))
    }

    fn answer(&mut self, mut octets: &[u8], out: &mut Vec<u8>, end: &Finder<'_>) -> Next {
        while !octets.is_empty() {
            if let Some(content) = &mut self.content {
                let Some(taken) = content.take(octets, end) else { break };
                self.content = None;
                out.extend_from_slice(b"250 2.0.0 OK\r\n");
                octets = octets.get(taken..).unwrap_or_default();
                continue;
            }
            let Some(line_end) = memchr::memchr(b'\n', octets) else {
                self.partial.extend_from_slice(octets);
                break;
            };
            let (line, rest) = octets.split_at_checked(line_end + 1).unwrap_or_default();
            octets = rest;
            let next = if self.partial.is_empty() {
                self.answer_line(line, out)
            } else {
                let mut whole = std::mem::take(&mut self.partial);
                whole.extend_from_slice(line);
                self.answer_line(&whole, out)
            };
            if next != Next::Command {
                return next;
            }
        }
        Next::Command
    }

    fn answer_line(&mut self, line: &[u8], out: &mut Vec<u8>) -> Next {
        let reply: &[u8] = match line.first().map(u8::to_ascii_uppercase) {
            Some(b'A') => b"235 2.7.0 Authentication succeeded\r\n",
            Some(b'D') => {
                self.content = Some(Content::begin());
                b"354 Go ahead\r\n"
            }
            Some(b'E') if self.tls.is_some() => EHLO_UNDER_TLS,
            Some(b'E') => EHLO,
            Some(b'Q') => {
                out.extend_from_slice(b"221 2.0.0 Bye\r\n");
                return Next::Close;
            }
            Some(b'S') => {
                out.extend_from_slice(b"220 2.0.0 Go ahead\r\n");
                return Next::StartTls;
            }
            _ => b"250 2.0.0 OK\r\n",
        };
        out.extend_from_slice(reply);
        Next::Command
    }
}

const EHLO: &[u8] = b"250-localhost\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n";
const EHLO_UNDER_TLS: &[u8] = b"250-localhost\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 AUTH PLAIN\r\n";
