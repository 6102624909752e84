//! A client that says what it is told to, in the clear or under TLS.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
#[cfg(unix)]
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::{PATIENCE, voids};

/// One session. An error means that the server has gone.
pub(crate) struct Client {
    stream: BufReader<Box<dyn Stream>>,
}

trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

impl Client {
    /// Connects and says EHLO.
    pub(crate) fn greet(address: SocketAddr) -> io::Result<Self> {
        Self::begin_session(Box::new(connect(address)?))
    }

    /// Connects to a listener that is under TLS from the first octet, whose certificate is for `localhost`, and says
    /// EHLO.
    pub(crate) fn greet_tls(address: SocketAddr, tls: Arc<ClientConfig>) -> io::Result<Self> {
        let name = ServerName::try_from("localhost").expect("it is a name");
        let tls = ClientConnection::new(tls, name).map_err(io::Error::other)?;
        Self::begin_session(Box::new(StreamOwned::new(tls, connect(address)?)))
    }

    /// Connects as a proxy does that speaks for a client: with a header in front of all else. Under TLS, it is in front of
    /// the handshake.
    pub(crate) fn greet_behind(address: SocketAddr, header: &str, tls: Option<Arc<ClientConfig>>) -> io::Result<Self> {
        let mut stream = connect(address)?;
        stream.write_all(header.as_bytes())?;
        let Some(tls) = tls else { return Self::begin_session(Box::new(stream)) };
        let name = ServerName::try_from("localhost").expect("it is a name");
        let tls = ClientConnection::new(tls, name).map_err(io::Error::other)?;
        Self::begin_session(Box::new(StreamOwned::new(tls, stream)))
    }

    /// Connects to a unix socket, under TLS or not, and says EHLO.
    #[cfg(unix)]
    pub(crate) fn greet_unix(path: &Path, tls: Option<Arc<ClientConfig>>) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let Some(tls) = tls else { return Self::begin_session(Box::new(stream)) };
        let name = ServerName::try_from("localhost").expect("it is a name");
        let tls = ClientConnection::new(tls, name).map_err(io::Error::other)?;
        Self::begin_session(Box::new(StreamOwned::new(tls, stream)))
    }

    /// Connects, and hears the server's greeting.
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::hear_greeting(Box::new(connect(address)?))
    }

    fn hear_greeting(stream: Box<dyn Stream>) -> io::Result<Self> {
        let mut client = Self { stream: BufReader::new(stream) };
        client.reply()?;
        Ok(client)
    }

    fn begin_session(stream: Box<dyn Stream>) -> io::Result<Self> {
        let mut client = Self::hear_greeting(stream)?;
        client.command("EHLO client.example")?;
        Ok(client)
    }

    /// Connects, says EHLO and logs in.
    pub(crate) fn log_in(address: SocketAddr, user: &str, password: &str) -> io::Result<Self> {
        let mut client = Self::greet(address)?;
        let reply = client.auth_plain(user, password)?;
        if reply.starts_with("235 ") { Ok(client) } else { Err(io::Error::other(reply)) }
    }

    /// Says EHLO again, and returns the mechanisms that it lists.
    pub(crate) fn mechanisms(&mut self) -> io::Result<Vec<String>> {
        let reply = self.command("EHLO client.example")?;
        let list = reply.lines().find_map(|line| line.get(4..)?.strip_prefix("AUTH ")).unwrap_or_default();
        Ok(list.split(' ').filter(|name| !name.is_empty()).map(str::to_owned).collect())
    }

    /// Sends an AUTH command with an initial response, and returns the reply.
    pub(crate) fn auth(&mut self, mechanism: &str, initial_response: &str) -> io::Result<String> {
        // RFC 4954, section 4: nothing is written as "=".
        let encoded = STANDARD.encode(initial_response);
        self.command(&format!("AUTH {mechanism} {}", if encoded.is_empty() { "=" } else { &encoded }))
    }

    /// Sends AUTH PLAIN with an initial response.
    pub(crate) fn auth_plain(&mut self, user: &str, password: &str) -> io::Result<String> {
        self.auth("PLAIN", &format!("\0{user}\0{password}"))
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

    /// Sends messages that are void, and sees each of them refused.
    ///
    /// # Panics
    /// Where one is not.
    pub(crate) fn send_voids(&mut self, reverse_path: &str, recipient: &str) -> io::Result<()> {
        for (content, code) in voids() {
            let reply = self.send(reverse_path, recipient, &content)?;
            assert!(reply.starts_with(code), "{reply}: {}", content.escape_ascii());
        }
        Ok(())
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
        self.stream.get_mut().write_all(octets)?;
        self.stream.get_mut().flush()
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

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
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
