//! A client that says what a test wants it to, and breaks as a test wants it to.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use sansmtp_driver as driver;

use crate::PATIENCE;
use crate::certificate::TLS;

/// One end of a connection, in the clear or under TLS.
pub(crate) struct Client {
    pub(crate) stream: Stream,
    pub(crate) received: Vec<u8>,
}

pub(crate) enum Stream {
    Clear(Socket),
    Tls(Box<StreamOwned<ClientConnection, Socket>>),
}

/// A socket of the standard library, TCP or unix.
pub(crate) struct Socket(driver::Stream);

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self::connect(address).unwrap()
    }

    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::over(TcpStream::connect(address)?)
    }

    pub(crate) fn local(path: &Path) -> Self {
        Self::over(UnixStream::connect(path).unwrap()).unwrap()
    }

    pub(crate) fn over(stream: impl Into<driver::Stream>) -> io::Result<Self> {
        let stream = stream.into();
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream: Stream::Clear(Socket(stream)), received: Vec::new() })
    }

    /// Begins a TLS handshake with the next read or write.
    pub(crate) fn under_tls(self) -> Self {
        self.under_tls_trusting(&TLS.1)
    }

    pub(crate) fn under_tls_trusting(self, config: &Arc<ClientConfig>) -> Self {
        let Stream::Clear(stream) = self.stream else { panic!("under TLS already") };
        let name = ServerName::try_from("mx.example.org").unwrap();
        let tls = ClientConnection::new(Arc::clone(config), name).unwrap();
        Self { stream: Stream::Tls(Box::new(StreamOwned::new(tls, stream))), received: Vec::new() }
    }

    pub(crate) fn transport(&self) -> &driver::Stream {
        match &self.stream {
            Stream::Clear(socket) => &socket.0,
            Stream::Tls(tls) => &tls.sock.0,
        }
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        let driver::Stream::Tcp(stream) = self.transport() else { panic!("not over TCP") };
        stream
    }

    pub(crate) fn say(&mut self, text: impl AsRef<[u8]>) {
        self.try_say(text).unwrap();
    }

    pub(crate) fn try_say(&mut self, text: impl AsRef<[u8]>) -> io::Result<()> {
        match &mut self.stream {
            Stream::Clear(stream) => stream.write_all(text.as_ref()),
            Stream::Tls(tls) => {
                tls.write_all(text.as_ref())?;
                tls.flush()
            }
        }
    }

    /// Writes as much as the kernel takes. Under TLS, some is kept to be written with the next write.
    pub(crate) fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        match &mut self.stream {
            Stream::Clear(stream) => stream.write(text),
            Stream::Tls(tls) => tls.write(text),
        }
    }

    pub(crate) fn read(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 16 * 1024];
        let octets = match &mut self.stream {
            Stream::Clear(stream) => stream.read(&mut buffer)?,
            Stream::Tls(tls) => tls.read(&mut buffer)?,
        };
        self.received.extend(buffer.iter().take(octets));
        Ok(octets)
    }

    /// The next line, without its end; `None` when the server has closed.
    pub(crate) fn line(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(newline) = self.received.iter().position(|octet| *octet == b'\n') {
                let line: Vec<u8> = self.received.drain(..=newline).collect();
                let line = line.strip_suffix(b"\r\n").ok_or(ErrorKind::InvalidData)?;
                return Ok(Some(String::from_utf8_lossy(line).into_owned()));
            }
            if self.read()? == 0 {
                return if self.received.is_empty() { Ok(None) } else { Err(ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// The next reply, all lines of it.
    pub(crate) fn reply(&mut self) -> String {
        self.try_reply().unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(&self.received)))
    }

    pub(crate) fn try_reply(&mut self) -> io::Result<String> {
        let mut start = 0;
        loop {
            match self.received.get(start..).and_then(|rest| rest.iter().position(|octet| *octet == b'\n')) {
                Some(newline) => {
                    let is_last = self.received.get(start + 3) == Some(&b' ');
                    start += newline + 1;
                    if is_last {
                        return Ok(String::from_utf8(self.received.drain(..start).collect()).unwrap());
                    }
                }
                None => {
                    if self.read()? == 0 {
                        return Err(ErrorKind::UnexpectedEof.into());
                    }
                }
            }
        }
    }

    pub(crate) fn ask(&mut self, command: &str) -> String {
        self.say(format!("{command}\r\n"));
        self.reply()
    }

    /// All that comes until the server closes.
    pub(crate) fn rest(&mut self) -> String {
        while self.read().unwrap() > 0 {}
        String::from_utf8(std::mem::take(&mut self.received)).unwrap()
    }

    pub(crate) fn begin_message(&mut self) {
        assert!(self.ask("EHLO client.example").starts_with("250-"));
        self.begin_transaction();
    }

    pub(crate) fn begin_transaction(&mut self) {
        assert!(self.ask("MAIL FROM:<a@example.org>").starts_with("250 "));
        assert!(self.ask("RCPT TO:<b@example.org>").starts_with("250 "));
        assert!(self.ask("DATA").starts_with("354 "));
    }

    /// Says that nothing more will be said.
    pub(crate) fn end(&mut self) {
        self.try_end().unwrap();
    }

    pub(crate) fn try_end(&mut self) -> io::Result<()> {
        if let Stream::Tls(tls) = &mut self.stream {
            tls.conn.send_close_notify();
            tls.flush()?;
        }
        self.transport().shutdown(Shutdown::Write)
    }

    /// Resets the connection: that is what closing a socket is when there is something unread in it.
    pub(crate) fn reset(self) {
        assert_ne!(self.socket().peek(&mut [0]).unwrap(), 0, "closed already");
        drop(self);
    }
}

impl Read for Socket {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(room)
    }
}

impl Write for Socket {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        (&self.0).write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) fn plain(name: &str) -> &'static str {
    match name {
        "tim" => "AUTH PLAIN AHRpbQB4",
        "panic" => "AUTH PLAIN AHBhbmljAHg=",
        "block" => "AUTH PLAIN AGJsb2NrAHg=",
        "wrong" => "AUTH PLAIN AHdyb25nAHg=",
        _ => panic!("no such user: {name}"),
    }
}
