//! The client's side of SMTP: one session with one next hop, one message after the other in it.
//!
//! This is small enough to be written out rather than taken from a client library: what a relay needs from one is
//! a reply for each recipient, RFC 5321's timeout for each step, content to the octet, nothing kept of what came
//! in the clear before TLS, and passwords that are wiped; none of the libraries has all of these.
//!
//! | file | what it is about |
//! |---|---|
//! | `wire.rs` | commands and replies as octets, each wait under its timeout |
//! | `extensions.rs` | what the next hop offers |
//! | `auth.rs` | the login |
//! | `transaction.rs` | MAIL, RCPT and the mail data |

mod auth;
mod extensions;
mod transaction;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use self::extensions::Extensions;
pub(crate) use self::transaction::{Mail, Outcome};
use self::wire::Transport;
use super::error::{Error, Step};
use super::reply::Reply;
use super::tls::ClientTls;
use crate::routes::{NextHop, Security};

/// A session that has come past EHLO, TLS and AUTH.
pub(crate) struct Client {
    stream: BufReader<Box<dyn Transport>>,
    extensions: Extensions,
    /// What it offered before that was doubted.
    doubted: Option<Extensions>,
    encrypted: bool,
    /// How many transactions have been begun.
    transactions: usize,
    /// When the server's time is over, however quick each single answer is.
    deadline: Instant,
}

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
            doubted: None,
            encrypted: false,
            transactions: 0,
            deadline,
        };
        if hop.security == Security::Implicit {
            session = session.handshake(hop, tls).await?;
        }
        session.reply(Step::Greeting).await?.expect(Step::Greeting)?;
        session.silence(Step::Ehlo).await?;
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

    /// A session over what a test has made.
    #[cfg(test)]
    fn over(stream: Box<dyn Transport>) -> Self {
        Self {
            stream: BufReader::new(stream),
            extensions: Extensions::default(),
            doubted: None,
            encrypted: false,
            transactions: 0,
            deadline: Instant::now() + OPENING,
        }
    }

    /// Whether the session goes through TLS.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    pub(crate) async fn quit(mut self) {
        self.deadline = Instant::now() + TRANSACTION;
        let _ = self.command(Step::Quit, "QUIT").await;
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
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("extensions", &self.extensions).finish_non_exhaustive()
    }
}

impl Reply {
    /// Takes a positive reply and makes an error of any other.
    fn expect(self, step: Step) -> Result<Self, Error> {
        if (200..300).contains(&self.code) { Ok(self) } else { Err(Error::Refused(step, self)) }
    }
}

/// The time for finding a host that is there and logging in. One that says a little every minute would otherwise have
/// the session for ever.
pub(crate) const OPENING: Duration = Duration::from_secs(15 * 60);
/// The time for a message.
const TRANSACTION: Duration = Duration::from_secs(60 * 60);
