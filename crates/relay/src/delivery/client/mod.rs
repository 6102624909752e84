//! The client's side of SMTP and LMTP: one session with one next hop, one message after the other in it.
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
use std::sync::Arc;
use std::time::Duration;

use rustls::ProtocolVersion;
use rustls::pki_types::ServerName;
use tokio::io::BufReader;
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use self::extensions::Extensions;
pub(crate) use self::transaction::{Mail, Outcome};
use self::wire::Transport;
use super::error::{Error, Step};
use super::reply::Reply;
use super::tls::ClientTls;
use crate::credentials::{Credentials, Secret};
use crate::routes::{Address, NextHop, Protocol, Security};
use crate::sasl::Binding;

/// A session that has come past EHLO, TLS and AUTH.
pub(crate) struct Client {
    stream: BufReader<Box<dyn Transport>>,
    protocol: Protocol,
    extensions: Extensions,
    /// What it offered before that was doubted.
    doubted: Option<Extensions>,
    tls: Option<TlsState>,
    /// How many transactions have been begun.
    transactions: usize,
    /// Whether the server waits for something that is not to be sent, or has left.
    is_over: bool,
    /// When the server's time is over, however quick each single answer is.
    deadline: Instant,
}

/// What is known of the TLS session.
pub(crate) struct TlsState {
    /// As in `TLSv1.3`.
    pub(crate) version: &'static str,
    /// Whether the certificate was checked, and is valid for the host.
    pub(crate) is_verified: bool,
    /// What SCRAM can be bound to (RFC 9266).
    binding: Option<Binding>,
}

/// What there is to log in with in this session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionLogin<'a> {
    pub(crate) credentials: &'a Credentials,
    pub(crate) secret: &'a Secret,
}

impl Client {
    /// Connects, and does what `hop` asks for before mail may be sent, until `deadline`. `starttls` is false where an
    /// opportunistic handshake has failed a moment ago.
    /// There is a `login` if `hop` has credentials.
    ///
    /// # Errors
    /// [`Error::Handshake`] where TLS failed; then a hop that allows plain text may be asked again without.
    pub(crate) async fn open(
        address: &Address,
        hop: &NextHop,
        tls: &ClientTls,
        hello_name: &str,
        starttls: bool,
        login: Option<SessionLogin<'_>>,
        deadline: Instant,
    ) -> Result<Self, Error> {
        let stream: Box<dyn Transport> = match address {
            Address::Tcp(address) => {
                let stream = Step::Connect.within(deadline, TcpStream::connect(address)).await?;
                // Each command waits for its reply, so there is nothing to collect into larger segments.
                stream.set_nodelay(true).map_err(|error| Error::Network(Step::Connect, error))?;
                Box::new(stream)
            }
            #[cfg(unix)]
            Address::Unix(path) => Box::new(Step::Connect.within(deadline, UnixStream::connect(path)).await?),
            #[cfg(not(unix))]
            Address::Unix(_) => return Err(Error::Network(Step::Connect, io::ErrorKind::Unsupported.into())),
        };
        let mut session = Self {
            stream: BufReader::new(stream),
            protocol: hop.protocol,
            extensions: Extensions::default(),
            doubted: None,
            tls: None,
            transactions: 0,
            is_over: false,
            deadline,
        };
        if hop.security == Security::Implicit {
            session = session.handshake(hop, tls).await?;
        }
        session.reply(Step::Greeting).await?.expect(Step::Greeting)?;
        session.silence(Step::Ehlo).await?;
        session.hello(hello_name).await?;
        if session.tls.is_none() && hop.socket.is_none() && starttls && session.extensions.starttls {
            session.command(Step::StartTls, "STARTTLS").await?.expect(Step::StartTls)?;
            if !session.stream.buffer().is_empty() {
                // What follows in the clear could only be meant to pass for what comes through TLS.
                return Err(Error::TextAfterStartTls);
            }
            session = session.handshake(hop, tls).await?;
            session.hello(hello_name).await?;
        }
        if session.tls.is_none() && !hop.allows_plaintext() {
            return Err(Error::NoTls);
        }
        if let Some(login) = login {
            session.log_in(hop, login).await?;
        }
        Ok(session)
    }

    /// A session over what a test has made.
    #[cfg(test)]
    fn over(stream: Box<dyn Transport>) -> Self {
        Self {
            stream: BufReader::new(stream),
            protocol: Protocol::Smtp,
            extensions: Extensions::default(),
            doubted: None,
            tls: None,
            transactions: 0,
            is_over: false,
            deadline: Instant::now() + OPENING,
        }
    }

    /// The TLS that the session goes through, if it does.
    pub(crate) fn tls(&self) -> Option<&TlsState> {
        self.tls.as_ref()
    }

    /// Sends QUIT. What was accepted is delivered, whether or not the next hop replies.
    pub(crate) async fn quit(mut self) {
        self.deadline = Instant::now() + TRANSACTION;
        let _ = self.command(Step::Quit, "QUIT").await;
    }

    async fn hello(&mut self, name: &str) -> Result<(), Error> {
        let greeting = match self.protocol {
            Protocol::Lmtp => "LHLO",
            Protocol::Smtp => "EHLO",
        };
        let reply = self.command(Step::Ehlo, &format!("{greeting} {name}")).await?;
        if reply.is_permanent() && self.protocol == Protocol::Smtp {
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
        let stream = match Step::StartTls.within(self.deadline, connecting).await {
            Ok(stream) => stream,
            Err(Error::Network(_, error)) => return Err(Error::Handshake(error)),
            Err(error) => return Err(error),
        };
        let tls = Some(TlsState::of(stream.get_ref().1, hop.requires_valid_certificate()));
        let stream: Box<dyn Transport> = Box::new(stream);
        // RFC 3207, section 4.2: nothing learnt before TLS may survive it.
        let extensions = Extensions::default();
        Ok(Self { stream: BufReader::new(stream), extensions, tls, ..self })
    }
}

impl TlsState {
    fn of(connection: &rustls::ClientConnection, is_verified: bool) -> Self {
        let (version, has_exporter) = match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => ("TLSv1.3", true),
            // RFC 9266, section 4.2: only with an extension that cannot be seen here.
            Some(ProtocolVersion::TLSv1_2) => ("TLSv1.2", false),
            Some(_) | None => ("TLS", false),
        };
        let data = || connection.export_keying_material(vec![0; BINDING_OCTETS], BINDING_LABEL, Some(&[])).ok();
        let binding = if has_exporter { data().map(|data| Binding(Zeroizing::new(data))) } else { None };
        Self { version, is_verified, binding }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("extensions", &self.extensions).finish_non_exhaustive()
    }
}

impl Reply {
    /// Takes a positive reply and makes an error of any other. One that asks for more does not belong where it is not
    /// asked for: the reply that does may follow.
    fn expect(self, step: Step) -> Result<Self, Error> {
        match self {
            reply if reply.is_positive() => Ok(reply),
            reply if reply.is_negative() => Err(Error::Refused(step, reply)),
            _ => Err(Error::Unasked(step)),
        }
    }
}

/// The time for finding a host that is there and logging in. One that says a little every minute would otherwise have
/// the session for ever.
pub(crate) const OPENING: Duration = Duration::from_secs(15 * 60);
/// The time for a message.
const TRANSACTION: Duration = Duration::from_secs(60 * 60);
/// RFC 9266, section 2.
const BINDING_LABEL: &[u8] = b"EXPORTER-Channel-Binding";
const BINDING_OCTETS: usize = 32;
