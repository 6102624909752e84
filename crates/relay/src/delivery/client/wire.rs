//! Commands and replies as octets, each wait under its timeout.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
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

    /// Makes sure that the server has said nothing that it was not asked, which would pass for the reply to what is
    /// asked next.
    ///
    /// # Errors
    /// [`Error::Refused`] where it does not want to go on, as with 421, or with 552 amid the mail data;
    /// [`Error::Unasked`] otherwise. The session is of no more use then.
    pub(super) async fn silence(&mut self, step: Step) -> Result<(), Error> {
        let stream = &mut self.stream;
        // What has arrived, and no waiting for more.
        let has_spoken = poll_fn(|context| {
            // Empty lines say nothing, and come before a reply or behind it.
            for _ in 0..MAX_EMPTY_LINES {
                let Poll::Ready(Ok(buffered)) = Pin::new(&mut *stream).poll_fill_buf(context) else {
                    return Poll::Ready(false);
                };
                let blank = buffered.iter().take_while(|octet| matches!(octet, b'\r' | b'\n')).count();
                if blank < buffered.len() {
                    return Poll::Ready(true);
                }
                Pin::new(&mut *stream).consume(blank);
            }
            Poll::Ready(false)
        })
        .await;
        if !has_spoken {
            return Ok(());
        }
        let reply = self.reply(step).await?;
        let is_refusal = reply.is_closing() || (step == Step::MailData && reply.is_negative());
        Err(if is_refusal { Error::Refused(step, reply) } else { Error::Unasked(step) })
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

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;

    use super::*;

    /// A session, and the server's end of it.
    fn session() -> (Client, DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        (Client::over(Box::new(ours)), theirs)
    }

    /// The clock of these tests goes on when nothing else does.
    #[tokio::test(start_paused = true)]
    async fn a_server_that_begins_a_reply_and_goes_silent_has_its_time_only() {
        for begun in ["", "2", "220-", "220-mx\r\n", "\r\n", "220 no line end"] {
            let (mut client, mut server) = session();
            server.write_all(begun.as_bytes()).await.unwrap();
            let start = Instant::now();
            let error = client.reply(Step::Greeting).await.unwrap_err();
            assert!(matches!(error, Error::Timeout(Step::Greeting)), "{begun:?}: {error}");
            assert_eq!(start.elapsed().as_secs(), 300, "{begun:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_says_a_little_now_and_then_has_no_more_time_for_that() {
        let (mut client, mut server) = session();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(60)).await;
                server.write_all(b"220-still there\r\n").await.unwrap();
            }
        });
        let error = client.reply(Step::Greeting).await.unwrap_err();
        assert!(matches!(error, Error::Timeout(Step::Greeting)), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_reply_is_bounded_in_octets_and_in_lines() {
        let long = format!("220 {}", "x".repeat(100_000));
        for endless in ["220-more\r\n".repeat(10_000), long, "\r\n".repeat(10_000)] {
            let (mut client, mut server) = session();
            server.write_all(endless.as_bytes()).await.unwrap();
            let error = client.reply(Step::Greeting).await.unwrap_err();
            assert!(matches!(error, Error::Network(Step::Greeting, _)), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_what_is_expected_between_a_reply_and_a_command() {
        let (mut client, mut server) = session();
        client.silence(Step::Mail).await.unwrap();
        server.write_all(b"250 OK\r\n\r\n").await.unwrap();
        assert!(client.reply(Step::Mail).await.unwrap().is_positive());
        client.silence(Step::Mail).await.unwrap();
        server.write_all(b"421 4.4.2 idle\r\n").await.unwrap();
        assert!(
            matches!(client.silence(Step::Mail).await, Err(Error::Refused(Step::Mail, reply)) if reply.is_closing())
        );
        server.write_all(b"554 5.7.1 no\r\n").await.unwrap();
        assert!(matches!(client.silence(Step::Mail).await, Err(Error::Unasked(Step::Mail))), "about no message");
        server.write_all(b"554 5.6.0 no\r\n").await.unwrap();
        assert!(matches!(client.silence(Step::MailData).await, Err(Error::Refused(Step::MailData, _))));
        server.write_all(b"250 2.0.0 taken\r\n").await.unwrap();
        assert!(matches!(client.silence(Step::MailData).await, Err(Error::Unasked(Step::MailData))));
    }
}
