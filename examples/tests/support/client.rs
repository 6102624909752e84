//! A client that says what it is told to, in the clear.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::PATIENCE;

/// One session. An error means that the server has gone.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects and says EHLO.
    pub(crate) fn greet(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut client = Self { stream: BufReader::new(stream) };
        client.reply()?;
        client.command("EHLO client.example")?;
        Ok(client)
    }

    /// Connects, says EHLO and logs in.
    pub(crate) fn log_in(address: SocketAddr, user: &str, password: &str) -> io::Result<Self> {
        let mut client = Self::greet(address)?;
        let reply = client.auth_plain(user, password)?;
        if reply.starts_with("235 ") { Ok(client) } else { Err(io::Error::other(reply)) }
    }

    /// Sends AUTH PLAIN with an initial response.
    pub(crate) fn auth_plain(&mut self, user: &str, password: &str) -> io::Result<String> {
        self.command(&format!("AUTH PLAIN {}", STANDARD.encode(format!("\0{user}\0{password}"))))
    }

    /// Sends a line, and returns the reply.
    pub(crate) fn command(&mut self, line: &str) -> io::Result<String> {
        self.write(format!("{line}\r\n").as_bytes())?;
        self.reply()
    }

    /// Sends a message, and returns the reply to its end, or the one that refused it before.
    pub(crate) fn send(&mut self, reverse_path: &str, recipient: &str, content: &[u8]) -> io::Result<String> {
        self.send_to(reverse_path, &[recipient], content)
    }

    /// Sends a message to several recipients.
    pub(crate) fn send_to(&mut self, reverse_path: &str, recipients: &[&str], content: &[u8]) -> io::Result<String> {
        let reply = self.begin(reverse_path, recipients)?;
        if !reply.starts_with("354 ") {
            return Ok(reply);
        }
        self.write(&stuffed(content))?;
        self.command(".")
    }

    /// Begins a message, and returns the reply to DATA, or the one that refused it before.
    pub(crate) fn begin(&mut self, reverse_path: &str, recipients: &[&str]) -> io::Result<String> {
        let recipients = recipients.iter().map(|recipient| format!("RCPT TO:<{recipient}>"));
        for line in std::iter::once(format!("MAIL FROM:<{reverse_path}>")).chain(recipients) {
            let reply = self.command(&line)?;
            if !reply.starts_with("250 ") {
                return Ok(reply);
            }
        }
        self.command("DATA")
    }

    /// Sends octets as they are.
    pub(crate) fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(octets)
    }

    /// Reads a whole reply; its lines end in LF.
    pub(crate) fn reply(&mut self) -> io::Result<String> {
        let mut reply = String::new();
        loop {
            let start = reply.len();
            if self.stream.read_line(&mut reply)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = reply.get(start..).unwrap_or_default();
            let last = line.as_bytes().get(3) == Some(&b' ');
            if last {
                return Ok(reply.replace("\r\n", "\n").trim_end().to_owned());
            }
        }
    }

    /// Whether the server closes the connection, and says nothing more.
    pub(crate) fn is_closed(&mut self) -> bool {
        matches!(self.stream.fill_buf(), Ok([]))
    }
}

/// Doubles the leading dots (RFC 5321, section 4.5.2).
pub(crate) fn stuffed(content: &[u8]) -> Vec<u8> {
    let mut stuffed = Vec::with_capacity(content.len());
    for line in content.split_inclusive(|octet| *octet == b'\n') {
        if line.starts_with(b".") {
            stuffed.push(b'.');
        }
        stuffed.extend_from_slice(line);
    }
    stuffed
}
