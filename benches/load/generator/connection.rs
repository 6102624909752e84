//! One connection that plays a script.

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use crate::metered::Metered;
use crate::replies::Replies;
use crate::script::{Script, Step, Then};

/// A client's end of a connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
    /// The script's step whose replies are awaited; past the last one, the end of the connection is.
    step: usize,
    /// How much of the step has been sent.
    sent: usize,
    replies: Replies,
    /// The server has said under TLS that it says nothing more; some then wait for the client to close.
    closed: bool,
}

/// What has become of a connection for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// So many operations are complete, and it goes on.
    Operations(u64),
    /// An operation is complete, and the connection is at its end.
    Ended,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, tls: None, step: 0, sent: 0, replies: Replies::default(), closed: false }
    }

    /// Goes on with the script as far as the socket lets it. `room` is read into; `closes` says that the server has said
    /// all that it will.
    ///
    /// # Errors
    /// Whatever is not in the script, a connection that ends before its time included.
    pub(crate) fn go_on(
        &mut self,
        script: &Script,
        tls: &Arc<ClientConfig>,
        room: &mut [u8],
        closes: bool,
    ) -> Result<Progress, Box<dyn Error>> {
        let mut operations = 0;
        self.send(script)?;
        loop {
            let mut stream = Metered::new(&mut self.stream);
            let read = match &mut self.tls {
                Some(tls) => tls.read_tls(&mut stream),
                None => stream.read(room),
            };
            let drained = stream.drained;
            let octets = match read {
                Ok(0) => return self.end(script),
                Ok(octets) => octets,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Progress::Operations(operations)),
                Err(error) => return Err(self.at(script, &error.to_string()).into()),
            };
            operations += if self.tls.is_some() {
                self.decrypt(script, room)?
            } else {
                self.take(script, tls, room.get(..octets).unwrap_or_default())?
            };
            if self.closed {
                return self.end(script);
            }
            if drained && !closes {
                return Ok(Progress::Operations(operations));
            }
        }
    }

    fn end(&self, script: &Script) -> Result<Progress, Box<dyn Error>> {
        if self.step == script.steps.len() && script.then == Then::Reconnect {
            Ok(Progress::Ended)
        } else {
            Err(self.at(script, "the server has closed the connection").into())
        }
    }

    fn decrypt(&mut self, script: &Script, room: &mut [u8]) -> Result<u64, Box<dyn Error>> {
        let mut operations = 0;
        let Some(tls) = &mut self.tls else { return Ok(operations) };
        let state = tls.process_new_packets()?;
        let mut left = state.plaintext_bytes_to_read();
        self.closed = state.peer_has_closed();
        if tls.wants_write() {
            self.send(script)?;
        }
        while left > 0 {
            let Some(tls) = &mut self.tls else { return Ok(operations) };
            let octets = tls.reader().read(room)?;
            left = left.saturating_sub(octets);
            operations += self.take_decrypted(script, room.get(..octets).unwrap_or_default())?;
        }
        Ok(operations)
    }

    fn take(&mut self, script: &Script, tls: &Arc<ClientConfig>, octets: &[u8]) -> Result<u64, Box<dyn Error>> {
        let starts_tls = script.steps.get(self.step).is_some_and(|step| step.starts_tls);
        if starts_tls && self.tls.is_none() && self.replies_are_complete(script, octets)? {
            let name = ServerName::try_from("localhost")?;
            let mut tls = ClientConnection::new(Arc::clone(tls), name)?;
            tls.set_buffer_limit(None);
            self.tls = Some(Box::new(tls));
            return self.next(script);
        }
        if starts_tls { Ok(0) } else { self.take_decrypted(script, octets) }
    }

    fn take_decrypted(&mut self, script: &Script, octets: &[u8]) -> Result<u64, Box<dyn Error>> {
        if self.replies_are_complete(script, octets)? { self.next(script) } else { Ok(0) }
    }

    fn replies_are_complete(&mut self, script: &Script, octets: &[u8]) -> Result<bool, Box<dyn Error>> {
        let codes = script.steps.get(self.step).map(|step| &step.codes[..]).unwrap_or_default();
        self.replies.take(octets, codes).map_err(|error| self.at(script, &error.to_string()).into())
    }

    /// Begins the step after this one; how many operations that makes complete.
    fn next(&mut self, script: &Script) -> Result<u64, Box<dyn Error>> {
        self.step += 1;
        self.sent = 0;
        let mut complete = 0;
        if self.step == script.steps.len() {
            match script.then {
                Then::Repeat(step) => (self.step, complete) = (step, 1),
                Then::Stay => complete = 1,
                Then::Reconnect => {}
            }
        }
        self.send(script)?;
        Ok(complete)
    }

    /// Sends what is left of the step, as far as the socket takes it.
    fn send(&mut self, script: &Script) -> io::Result<()> {
        let mut octets = script.steps.get(self.step).and_then(|step| step.send.get(self.sent..)).unwrap_or_default();
        if let Some(tls) = &mut self.tls {
            tls.writer().write_all(octets)?;
            self.sent += octets.len();
            while tls.wants_write() {
                match tls.write_tls(&mut self.stream) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    written => written?,
                };
            }
            return Ok(());
        }
        while !octets.is_empty() {
            match self.stream.write(octets) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                written => {
                    let written = written?;
                    self.sent += written;
                    octets = octets.get(written..).unwrap_or_default();
                }
            }
        }
        Ok(())
    }

    /// Says where in the script something happened.
    pub(crate) fn at(&self, script: &Script, what: &str) -> String {
        let line =
            |step: &Step| String::from_utf8_lossy(step.send.get(..40).unwrap_or(&step.send)).trim_end().to_owned();
        let after =
            script.steps.get(self.step).map_or_else(|| "the last step".to_owned(), |step| format!("{:?}", line(step)));
        format!("after {after}: {what}")
    }
}
