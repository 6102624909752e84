//! One connection of the loop.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use memchr::memmem::Finder;
use mio::net::TcpStream;
use rustls::{ServerConfig, ServerConnection};

use crate::content::{Content, END};
use crate::late::{Late, Reply};
use crate::metered::Metered;

/// A client, as far as it has to be known to answer it.
pub(crate) struct Client {
    stream: TcpStream,
    /// Where the loop keeps it.
    place: usize,
    /// No other client has it, before or after.
    number: u64,
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
    /// How many clients there have been, and how many messages.
    clients: u64,
    messages: u64,
    /// Replies that are to come later.
    pub(crate) late: Late,
}

impl Scratch {
    pub(crate) fn new(round_trip: Duration) -> Self {
        let (room, end, late) = (vec![0; 64 * 1024], Finder::new(END), Late::new(round_trip));
        Self { room, out: Vec::new(), end, clients: 0, messages: 0, late }
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
    pub(crate) fn greet(mut stream: TcpStream, place: usize, scratch: &mut Scratch) -> Option<Self> {
        scratch.clients += 1;
        let number = scratch.clients;
        if scratch.late.is_on() {
            scratch.late.push(2, Reply { place, client: number, octets: GREETING.to_vec(), is_last: false });
        } else {
            stream.write_all(GREETING).ok()?;
        }
        Some(Self { stream, place, number, tls: None, content: None, partial: Vec::new() })
    }

    /// Its number.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Sends a reply whose time has come; `false` at the end.
    pub(crate) fn say(&mut self, reply: &Reply) -> bool {
        self.stream.write_all(&reply.octets).is_ok() && !reply.is_last
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
        let next = self.answer(input, &mut scratch.out, &scratch.end, &mut scratch.messages);
        let drained = octets < scratch.room.len();
        if scratch.out.is_empty() {
            return Ok((next, drained));
        }
        if scratch.late.is_on() {
            let (octets, is_last) = (std::mem::take(&mut scratch.out), next == Next::Close);
            scratch.late.push(1, Reply { place: self.place, client: self.number, octets, is_last });
            // The reply's time ends the connection.
            return Ok((Next::Command, drained));
        }
        self.stream.write_all(&scratch.out)?;
        Ok((next, drained))
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
            let input = scratch.room.get(..octets).unwrap_or_default();
            next = self.answer(input, &mut scratch.out, &scratch.end, &mut scratch.messages);
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

    fn answer(&mut self, mut octets: &[u8], out: &mut Vec<u8>, end: &Finder<'_>, messages: &mut u64) -> Next {
        while !octets.is_empty() {
            if let Some(content) = &mut self.content {
                let Some(taken) = content.take(octets, end) else { break };
                self.content = None;
                *messages += 1;
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
                self.answer_line(line, out, *messages)
            } else {
                let mut whole = std::mem::take(&mut self.partial);
                whole.extend_from_slice(line);
                self.answer_line(&whole, out, *messages)
            };
            if next != Next::Command {
                return next;
            }
        }
        Next::Command
    }

    fn answer_line(&mut self, line: &[u8], out: &mut Vec<u8>, messages: u64) -> Next {
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
            Some(b'V') => {
                out.extend_from_slice(format!("252 2.0.0 {messages}\r\n").as_bytes());
                return Next::Command;
            }
            _ => b"250 2.0.0 OK\r\n",
        };
        out.extend_from_slice(reply);
        Next::Command
    }
}

const GREETING: &[u8] = b"220 localhost ESMTP\r\n";
const EHLO: &[u8] = b"250-localhost\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n";
const EHLO_UNDER_TLS: &[u8] = b"250-localhost\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 AUTH PLAIN\r\n";
