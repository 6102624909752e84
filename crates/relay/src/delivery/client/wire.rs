//! Commands and replies as octets, each wait under its timeout.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::Client;
use crate::delivery::error::{Error, Step};
use crate::delivery::reply::Reply;

pub(super) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

impl Client {
    pub(super) async fn command(&mut self, step: Step, line: &str) -> Result<Reply, Error> {
        self.lines(step, std::iter::once(line)).await?;
        self.reply(step).await
    }

    /// Sends lines, and reads nothing.
    pub(super) async fn lines(&mut self, step: Step, lines: impl Iterator<Item = &str> + Clone) -> Result<(), Error> {
        if lines.clone().any(|line| line.contains(char::is_control)) {
            return Err(Error::ControlCharacter);
        }
        // Of the size that it needs: a copy left behind by growing would not be wiped.
        let mut octets = Zeroizing::new(Vec::with_capacity(lines.clone().map(|line| line.len() + 2).sum()));
        for line in lines {
            octets.extend_from_slice(line.as_bytes());
            octets.extend_from_slice(b"\r\n");
        }
        self.write(step, &octets).await
    }

    pub(super) async fn write(&mut self, step: Step, octets: &[u8]) -> Result<(), Error> {
        let deadline = self.deadline;
        step.within(deadline, async {
            self.stream.write_all(octets).await?;
            self.stream.flush().await
        })
        .await
    }

    pub(super) async fn reply(&mut self, step: Step) -> Result<Reply, Error> {
        let mut reply = None;
        let stream = &mut self.stream;
        step.within(self.deadline, async {
            let mut line = Vec::new();
            let mut empty_lines = 0;
            loop {
                line.clear();
                read_line(stream, &mut line).await?;
                // Some servers begin a reply with one, which says nothing.
                if reply.is_none() && matches!(&line[..], b"\r\n" | b"\n") && empty_lines < MAX_EMPTY_LINES {
                    empty_lines += 1;
                    continue;
                }
                match Reply::push(&mut reply, &line) {
                    Ok(false) => {}
                    Ok(true) => return Ok(()),
                    Err(_) => return Err(io::Error::new(io::ErrorKind::InvalidData, "this is not an SMTP reply")),
                }
            }
        })
        .await?;
        reply.ok_or(Error::Network(step, io::ErrorKind::UnexpectedEof.into()))
    }
}

async fn read_line(stream: &mut BufReader<Box<dyn Transport>>, line: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let buffered = stream.fill_buf().await?;
        if buffered.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed"));
        }
        let end = buffered.iter().position(|octet| *octet == b'\n');
        let used = end.map_or(buffered.len(), |end| end + 1);
        line.extend_from_slice(buffered.get(..used).unwrap_or_default());
        stream.consume(used);
        if end.is_some() {
            return Ok(());
        }
        if line.len() > MAX_REPLY_LINE_OCTETS {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the reply has no line end"));
        }
    }
}

impl Step {
    /// Runs one wait of this step under its timeout, and under the deadline of all.
    pub(super) async fn within<T>(
        self,
        deadline: Instant,
        wait: impl Future<Output = io::Result<T>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout_at(deadline.min(Instant::now() + self.timeout()), wait).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(Error::Network(self, error)),
            Err(_) => Err(Error::Timeout(self)),
        }
    }

    /// RFC 5321, section 4.5.3.2, and common sense where it is silent.
    fn timeout(self) -> Duration {
        let seconds = match self {
            Self::Quit => 5,
            Self::Connect => 30,
            Self::StartTls => 60,
            Self::Data => 120,
            Self::MailData => 180,
            Self::Greeting | Self::Ehlo | Self::Auth | Self::Mail | Self::Rcpt => 300,
            Self::EndOfMailData => 600,
        };
        Duration::from_secs(seconds)
    }
}

const MAX_EMPTY_LINES: usize = 3;
/// Some servers write more than the 512 octets of RFC 5321; none needs this many.
const MAX_REPLY_LINE_OCTETS: usize = 4096;
