//! The client's side of SMTP: one session with one next hop, one message after the other in it.
//!
//! This is small enough to be written out rather than taken from a client library: what a relay needs from one is
//! a reply for each recipient, RFC 5321's timeout for each step, content to the octet, nothing kept of what came
//! in the clear before TLS, and passwords that are wiped; none of the libraries has all of these.

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::content::Stuffing;
use super::error::{Error, Step};
use super::reply::Reply;
use super::tls::ClientTls;
use crate::routes::{Credentials, NextHop, Security};

/// What to send, apart from the content.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mail<'a> {
    pub(crate) reverse_path: &'a str,
    pub(crate) recipients: &'a [&'a str],
    /// Whether the content has octets above 127.
    pub(crate) eight_bit: bool,
    /// Whether the envelope or the header section needs SMTPUTF8.
    pub(crate) needs_smtputf8: bool,
    pub(crate) octets: u64,
}

/// What came of a message.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// For each recipient, the reply that refused it; none where the rest of the session decides.
    pub(crate) refused: Vec<Option<Reply>>,
    /// What became of the recipients that were not refused.
    pub(crate) others: Result<Reply, Error>,
    /// Whether another message may be sent.
    pub(crate) is_open: bool,
}

/// A session that has come past EHLO, TLS and AUTH.
pub(crate) struct Client {
    stream: BufReader<Box<dyn Transport>>,
    extensions: Extensions,
    encrypted: bool,
    /// How many transactions have been begun.
    transactions: usize,
    /// When the server's time is over, however quick each single answer is.
    deadline: Instant,
}

/// What the next hop offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Extensions {
    eight_bit_mime: bool,
    smtputf8: bool,
    starttls: bool,
    pipelining: bool,
    /// The most recipients of a transaction, and the most transactions of a session, if it says (RFC 9422).
    recipients: Option<usize>,
    transactions: Option<usize>,
    /// The largest message, if it says (RFC 1870).
    size: Option<u64>,
    auth_plain: bool,
    auth_login: bool,
}

trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

impl Client {
    /// Connects, and does what `hop` asks for before mail may be sent, until `deadline`. `starttls` is false where an
    /// opportunistic handshake has failed a moment ago.
    ///
    /// # Errors
    /// [`Error::Handshake`] where TLS failed; then a hop that allows plain text may be asked again without.
    pub(crate) async fn open(
        address: SocketAddr,
        hop: &NextHop,
        tls: &ClientTls,
        hello_name: &str,
        starttls: bool,
        deadline: Instant,
    ) -> Result<Self, Error> {
        let stream = Step::Connect.within(deadline, TcpStream::connect(address)).await?;
        // Each command waits for its reply, so there is nothing to collect into larger segments.
        stream.set_nodelay(true).map_err(|error| Error::Network(Step::Connect, error))?;
        let stream: Box<dyn Transport> = Box::new(stream);
        let mut session = Self {
            stream: BufReader::new(stream),
            extensions: Extensions::default(),
            encrypted: false,
            transactions: 0,
            deadline,
        };
        if hop.security == Security::Implicit {
            session = session.handshake(hop, tls).await?;
        }
        session.reply(Step::Greeting).await?.expect(Step::Greeting)?;
        session.hello(hello_name).await?;
        if !session.encrypted && starttls && session.extensions.starttls {
            session.command(Step::StartTls, "STARTTLS").await?.expect(Step::StartTls)?;
            if !session.stream.buffer().is_empty() {
                // What follows in the clear could only be meant to pass for what comes through TLS.
                return Err(Error::TextAfterStartTls);
            }
            session = session.handshake(hop, tls).await?;
            session.hello(hello_name).await?;
        }
        if !session.encrypted && !hop.allows_plaintext() {
            return Err(Error::NoTls);
        }
        if let Some(credentials) = &hop.credentials {
            session.log_in(credentials).await?;
        }
        Ok(session)
    }

    /// Whether the session goes through TLS.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// How many recipients one transaction may have.
    pub(crate) fn max_recipients(&self) -> usize {
        self.extensions.recipients.unwrap_or(MAX_RECIPIENTS).min(MAX_RECIPIENTS)
    }

    /// Sends a message, to no more recipients than [`Client::max_recipients`].
    pub(crate) async fn send(&mut self, mail: Mail<'_>, content: File) -> Outcome {
        self.deadline = Instant::now() + TRANSACTION;
        let mut refused = Vec::new();
        let others = self.transaction(mail, content, &mut refused).await;
        refused.resize(mail.recipients.len(), None);
        self.transactions += 1;
        let is_open = match &others {
            _ if self.extensions.transactions.is_some_and(|most| self.transactions >= most) => false,
            Ok(_) => true,
            Err(Error::Refused(_, reply)) if reply.is_closing() => false,
            // Nothing of a transaction is left at the server.
            Err(Error::Refused(Step::Mail | Step::EndOfMailData, _) | Error::NoSmtpUtf8 | Error::TooLarge(_)) => true,
            Err(Error::Refused(Step::Data, _) | Error::NoRecipients | Error::ControlCharacter) => self.reset().await,
            // Closing the connection, before the end of mail data, makes the next hop forget what it got.
            Err(_) => false,
        };
        Outcome { refused, others, is_open }
    }

    /// Says goodbye. What has been agreed stands, whether or not the next hop still listens.
    pub(crate) async fn quit(mut self) {
        self.deadline = Instant::now() + TRANSACTION;
        let _ = self.command(Step::Quit, "QUIT").await;
    }

    /// Makes the server forget a transaction. Says whether it did.
    async fn reset(&mut self) -> bool {
        self.command(Step::Mail, "RSET").await.is_ok_and(|reply| reply.is_positive())
    }

    async fn transaction(
        &mut self,
        mail: Mail<'_>,
        content: File,
        refused: &mut Vec<Option<Reply>>,
    ) -> Result<Reply, Error> {
        let Extensions { eight_bit_mime, smtputf8, size, .. } = self.extensions;
        if mail.needs_smtputf8 && !smtputf8 {
            return Err(Error::NoSmtpUtf8);
        }
        if let Some(limit) = size.filter(|limit| *limit > 0 && mail.octets > *limit) {
            return Err(Error::TooLarge(limit));
        }
        let mut command = format!("MAIL FROM:<{}>", mail.reverse_path);
        if size.is_some() {
            command.push_str(&format!(" SIZE={}", mail.octets));
        }
        // Where 8BITMIME is not offered the content goes as it is: every server of this century takes it, and the
        // alternative, to recode it, would break signatures.
        if (mail.eight_bit || mail.needs_smtputf8) && eight_bit_mime {
            command.push_str(" BODY=8BITMIME");
        }
        if mail.needs_smtputf8 {
            command.push_str(" SMTPUTF8");
        }
        let recipients: Vec<_> = mail.recipients.iter().map(|recipient| format!("RCPT TO:<{recipient}>")).collect();
        if self.extensions.pipelining {
            // RFC 2920, section 3.1: one round trip for all of them.
            let lines = std::iter::once(&command).chain(&recipients);
            self.lines(Step::Mail, lines.map(String::as_str)).await?;
            let reply = self.reply(Step::Mail).await?;
            if !reply.is_closing() {
                self.rcpt_replies(recipients.len(), refused).await?;
            }
            if !reply.is_positive() {
                // They say no more than that there is no transaction.
                refused.clear();
            }
            reply.expect(Step::Mail)?;
        } else {
            self.command(Step::Mail, &command).await?.expect(Step::Mail)?;
            for recipient in &recipients {
                self.lines(Step::Rcpt, std::iter::once(recipient.as_str())).await?;
                self.rcpt_replies(1, refused).await?;
            }
        }
        if refused.iter().all(Option::is_some) {
            return Err(Error::NoRecipients);
        }
        let reply = self.command(Step::Data, "DATA").await?;
        if reply.code != START_MAIL_INPUT {
            return Err(Error::Refused(Step::Data, reply));
        }
        self.content(content).await?;
        self.reply(Step::EndOfMailData).await?.expect(Step::EndOfMailData)
    }

    /// Reads the replies to so many RCPT commands.
    async fn rcpt_replies(&mut self, count: usize, refused: &mut Vec<Option<Reply>>) -> Result<(), Error> {
        for _ in 0..count {
            let reply = self.reply(Step::Rcpt).await?;
            if reply.is_closing() {
                return Err(Error::Refused(Step::Rcpt, reply));
            }
            refused.push((!reply.is_positive()).then_some(reply));
        }
        Ok(())
    }

    async fn content(&mut self, mut content: File) -> Result<(), Error> {
        let mut stuffing = Stuffing::new();
        let mut piece = vec![0; PIECE_OCTETS];
        let mut out = Vec::with_capacity(PIECE_OCTETS + PIECE_OCTETS / 8);
        loop {
            // The file was written a moment ago or is small enough to be read at once: a thread for it costs more.
            let read = match content.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::Content(error)),
            };
            out.clear();
            // Leaving here, before the end of mail data, makes the next hop forget what it got.
            stuffing.push(piece.get(..read).unwrap_or_default(), &mut out).map_err(|_| Error::BareLineEnd)?;
            self.write(Step::MailData, &out).await?;
        }
        out.clear();
        stuffing.finish(&mut out).map_err(|_| Error::BareLineEnd)?;
        self.write(Step::MailData, &out).await
    }

    async fn hello(&mut self, name: &str) -> Result<(), Error> {
        let reply = self.command(Step::Ehlo, &format!("EHLO {name}")).await?;
        if reply.is_permanent() {
            // RFC 5321, section 3.2: a server that knows no EHLO still knows HELO.
            self.extensions = Extensions::default();
            self.command(Step::Ehlo, &format!("HELO {name}")).await?.expect(Step::Ehlo)?;
        } else {
            self.extensions = Extensions::of(&reply.expect(Step::Ehlo)?);
        }
        Ok(())
    }

    async fn handshake(self, hop: &NextHop, tls: &ClientTls) -> Result<Self, Error> {
        let config = if hop.requires_valid_certificate() { &tls.verified } else { &tls.opportunistic };
        let name = ServerName::try_from(hop.host.clone())
            .map_err(|error| Error::Handshake(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let connecting = TlsConnector::from(Arc::clone(config)).connect(name, self.stream.into_inner());
        let stream: Box<dyn Transport> = match Step::StartTls.within(self.deadline, connecting).await {
            Ok(stream) => Box::new(stream),
            Err(Error::Network(_, error)) => return Err(Error::Handshake(error)),
            Err(error) => return Err(error),
        };
        // RFC 3207, section 4.2: nothing learnt before TLS may survive it.
        let extensions = Extensions::default();
        Ok(Self { stream: BufReader::new(stream), extensions, encrypted: true, ..self })
    }

    async fn log_in(&mut self, credentials: &Credentials) -> Result<(), Error> {
        let encode = |text: &[u8]| Zeroizing::new(STANDARD.encode(text));
        let authcid = &credentials.authcid;
        let password = credentials.password.expose();
        let reply = if self.extensions.auth_plain {
            let message = encode(&Zeroizing::new([b"\0", authcid.as_bytes(), b"\0", password.as_bytes()].concat()));
            let command = Zeroizing::new(format!("AUTH PLAIN {}", *message));
            if command.len() + 2 <= MAX_COMMAND_OCTETS {
                self.command(Step::Auth, &command).await?
            } else {
                self.challenge("AUTH PLAIN").await?;
                self.command(Step::Auth, &message).await?
            }
        } else if self.extensions.auth_login {
            self.challenge("AUTH LOGIN").await?;
            self.challenge(&encode(authcid.as_bytes())).await?;
            self.command(Step::Auth, &encode(password.as_bytes())).await?
        } else {
            return Err(Error::NoMechanism);
        };
        if reply.code == AUTHENTICATED { Ok(()) } else { Err(Error::Refused(Step::Auth, reply)) }
    }

    /// Sends a line of an AUTH exchange that a challenge must answer.
    async fn challenge(&mut self, line: &str) -> Result<(), Error> {
        let reply = self.command(Step::Auth, line).await?;
        if reply.code == CHALLENGE { Ok(()) } else { Err(Error::Refused(Step::Auth, reply)) }
    }

    async fn command(&mut self, step: Step, line: &str) -> Result<Reply, Error> {
        self.lines(step, std::iter::once(line)).await?;
        self.reply(step).await
    }

    /// Sends lines, and reads nothing.
    async fn lines(&mut self, step: Step, lines: impl Iterator<Item = &str> + Clone) -> Result<(), Error> {
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

    async fn write(&mut self, step: Step, octets: &[u8]) -> Result<(), Error> {
        let deadline = self.deadline;
        step.within(deadline, async {
            self.stream.write_all(octets).await?;
            self.stream.flush().await
        })
        .await
    }

    async fn reply(&mut self, step: Step) -> Result<Reply, Error> {
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

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("extensions", &self.extensions).finish_non_exhaustive()
    }
}

impl Extensions {
    /// Reads a reply to EHLO, whose first line is the greeting (RFC 5321, section 4.1.1.1).
    fn of(reply: &Reply) -> Self {
        let mut extensions = Self::default();
        for line in reply.lines.iter().skip(1) {
            // "AUTH=PLAIN" is how the oldest servers wrote it.
            let mut words = line.split([' ', '=']);
            let keyword = words.next().unwrap_or_default().to_ascii_uppercase();
            match keyword.as_str() {
                "8BITMIME" => extensions.eight_bit_mime = true,
                "SMTPUTF8" => extensions.smtputf8 = true,
                "STARTTLS" => extensions.starttls = true,
                "PIPELINING" => extensions.pipelining = true,
                "LIMITS" => {
                    while let (Some(name), Some(limit)) = (words.next(), words.next()) {
                        // Six digits at most, of which the first is not 0.
                        let limit = limit.parse().ok().filter(|limit| *limit > 0);
                        match name.to_ascii_uppercase().as_str() {
                            "RCPTMAX" => extensions.recipients = limit,
                            "MAILMAX" => extensions.transactions = limit,
                            _ => {}
                        }
                    }
                }
                "SIZE" => extensions.size = Some(words.next().and_then(|size| size.parse().ok()).unwrap_or(0)),
                "AUTH" => {
                    for mechanism in words {
                        extensions.auth_plain |= mechanism.eq_ignore_ascii_case("PLAIN");
                        extensions.auth_login |= mechanism.eq_ignore_ascii_case("LOGIN");
                    }
                }
                _ => {}
            }
        }
        extensions
    }
}

impl Reply {
    /// Takes a positive reply and makes an error of any other.
    fn expect(self, step: Step) -> Result<Self, Error> {
        if (200..300).contains(&self.code) { Ok(self) } else { Err(Error::Refused(step, self)) }
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
    async fn within<T>(self, deadline: Instant, wait: impl Future<Output = io::Result<T>>) -> Result<T, Error> {
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

/// The time for finding a host that is there and logging in. One that says a little every minute would otherwise have
/// the session for ever.
pub(crate) const OPENING: Duration = Duration::from_secs(15 * 60);
/// The time for a message.
const TRANSACTION: Duration = Duration::from_secs(60 * 60);
const MAX_EMPTY_LINES: usize = 3;
const AUTHENTICATED: u16 = 235;
const CHALLENGE: u16 = 334;
const START_MAIL_INPUT: u16 = 354;
/// RFC 5321, section 4.5.3.1.4; a longer initial response goes into a line of its own (RFC 4954, section 4).
const MAX_COMMAND_OCTETS: usize = 512;
/// Some servers write more than the 512 octets of RFC 5321; none needs this many.
const MAX_REPLY_LINE_OCTETS: usize = 4096;
/// RFC 5321, section 4.5.3.1.8: what every server must take.
const MAX_RECIPIENTS: usize = 100;
const PIECE_OCTETS: usize = 32 * 1024;
