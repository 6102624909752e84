//! The client's side: a connection to the server that a proxy stands for.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

#[path = "../../crates/relay/src/delivery/content.rs"]
#[cfg_attr(not(test), expect(dead_code, reason = "the relayer looks at headers, too"))]
mod content;
#[path = "../../crates/relay/src/delivery/reply.rs"]
#[expect(dead_code, reason = "the relayer decides by the replies whether to try again")]
mod reply;

use content::Stuffing;
pub(crate) use reply::Reply;

/// A connection past EHLO.
pub(crate) struct NextHop {
    stream: BufReader<TcpStream>,
    /// Whether a transaction has been begun and not ended.
    pub(crate) in_transaction: bool,
    pub(crate) takes_8bit: bool,
    pub(crate) takes_size: bool,
    stuffing: Stuffing,
    out: Vec<u8>,
}

/// Why there is no answer to a command.
pub(crate) enum Failure {
    Network(io::Error),
    /// It does not want to talk.
    Refused(Reply),
}

impl NextHop {
    pub(crate) fn connect(address: &str) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let stream = BufReader::new(stream);
        let (stuffing, out) = (Stuffing::new(), Vec::new());
        let mut hop = Self { stream, in_transaction: false, takes_8bit: false, takes_size: false, stuffing, out };
        let greeting = hop.reply()?;
        if !greeting.is_positive() {
            return Err(Failure::Refused(greeting));
        }
        let ehlo = hop.command("EHLO localhost")?;
        if ehlo.is_positive() {
            let offers = |keyword: &str| {
                let words = ehlo.lines.iter().skip(1).filter_map(|line| line.split(' ').next());
                words.into_iter().any(|word| word.eq_ignore_ascii_case(keyword))
            };
            (hop.takes_8bit, hop.takes_size) = (offers("8BITMIME"), offers("SIZE"));
        } else {
            let helo = hop.command("HELO localhost")?;
            if !helo.is_positive() {
                return Err(Failure::Refused(helo));
            }
        }
        Ok(hop)
    }

    /// Sends a line, and reads the reply.
    pub(crate) fn command(&mut self, line: &str) -> io::Result<Reply> {
        self.stream.get_mut().write_all(format!("{line}\r\n").as_bytes())?;
        self.reply()
    }

    /// Sends a piece of content.
    pub(crate) fn content(&mut self, piece: &[u8]) -> io::Result<()> {
        self.out.clear();
        self.stuffing.push(piece, &mut self.out).map_err(|_| ErrorKind::InvalidData)?;
        self.stream.get_mut().write_all(&self.out)
    }

    /// Sends the end of the content, and reads the reply.
    pub(crate) fn end_of_content(&mut self) -> io::Result<Reply> {
        self.out.clear();
        let stuffing = std::mem::replace(&mut self.stuffing, Stuffing::new());
        stuffing.finish(&mut self.out).map_err(|_| ErrorKind::InvalidData)?;
        self.stream.get_mut().write_all(&self.out)?;
        self.reply()
    }

    fn reply(&mut self) -> io::Result<Reply> {
        let mut reply = None;
        loop {
            let mut line = Vec::new();
            if self.stream.by_ref().take(MAX_LINE_OCTETS).read_until(b'\n', &mut line)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            if Reply::push(&mut reply, &line).map_err(|_| ErrorKind::InvalidData)? {
                return reply.ok_or(ErrorKind::InvalidData.into());
            }
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Network(error)
    }
}

/// Less than what the engine waits for an answer: a client whose next hop says nothing is told so.
const PATIENCE: Duration = Duration::from_secs(240);
const MAX_LINE_OCTETS: u64 = 4096;
