//! What an operator wants to see of a connection.

use core::fmt;
use core::time::Duration;

use crate::action::AuthFailure;
use crate::auth::MechanismName;
use crate::config::Events;
use crate::envelope::{Envelope, Path};
use crate::proxy::ProxyRefusal;
use crate::reply::ReplyRef;
use crate::session::{Peer, Session, TlsInfo};

/// Something for logs and counters. [`Events`] chooses which of them a connection tells.
///
/// An event about a reply comes right before the reply. [`Opened`](Self::Opened) is the first event of a
/// connection, and [`Closed`](Self::Closed) the last.
///
/// Nothing in it is secret, but what a client gives as its name may be a password that was typed into the
/// wrong field. Where a line is no command, its text is left out for that reason. Paths hold no ASCII control
/// characters; under SMTPUTF8 they may hold any other character, which log lines should escape.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'c> {
    /// The connection begins. Behind a proxy that is trusted, its header has been read, or refused.
    #[non_exhaustive]
    Opened {
        /// Who is connected, and by which listener.
        session: &'c Session,
    },
    /// The connection ends: once for each that was opened, and behind all other events.
    #[non_exhaustive]
    Closed {
        /// What was known of the client.
        session: &'c Session,
        /// Why.
        reason: CloseReason,
        /// Octets of SMTP that the client has sent and the engine has taken in. What TLS adds is not counted.
        received: u64,
        /// Octets of replies.
        sent: u64,
        /// The time since the connection was accepted, on the axis of
        /// [`Connection::poll`](crate::Connection::poll).
        lasted: Duration,
    },
    /// A TLS handshake succeeded.
    #[non_exhaustive]
    TlsEstablished {
        /// What is known of the client: [`Session::tls`] is what was negotiated.
        session: &'c Session,
    },
    /// A TLS handshake failed, or TLS that was established broke. The connection closes.
    #[non_exhaustive]
    TlsFailed {
        /// What was known of the client.
        session: &'c Session,
        /// Why.
        reason: TlsFailure,
    },
    /// The connect hook refused the client.
    #[non_exhaustive]
    ClientRefused {
        /// What is known of the client.
        session: &'c Session,
        /// What it is told in place of the greeting.
        reply: ReplyRef<'c>,
    },
    /// A command was refused with 4xx or 5xx. RCPT is [`RecipientRefused`](Self::RecipientRefused), and AUTH
    /// mostly [`AuthFailed`](Self::AuthFailed).
    #[non_exhaustive]
    CommandRefused {
        /// What is known of the client.
        session: &'c Session,
        /// The transaction. Where MAIL is refused by its hook, it still has the reverse-path.
        envelope: &'c Envelope,
        /// The RFC's verb; `None` for a line that is no command, or not in this configuration. What the line
        /// said is not told: it may be a password out of step.
        command: Option<&'static str>,
        /// What the client is told.
        reply: ReplyRef<'c>,
    },
    /// MAIL was accepted.
    #[non_exhaustive]
    TransactionBegun {
        /// What is known of the client.
        session: &'c Session,
        /// The transaction, with its reverse-path.
        envelope: &'c Envelope,
    },
    /// A recipient was refused with 4xx or 5xx.
    #[non_exhaustive]
    RecipientRefused {
        /// What is known of the client.
        session: &'c Session,
        /// The transaction.
        envelope: &'c Envelope,
        /// The forward-path; `None` where the command has none that can be read, or may not be given now.
        forward_path: Option<Path<'c>>,
        /// What the client is told.
        reply: ReplyRef<'c>,
    },
    /// A message was accepted.
    #[non_exhaustive]
    MessageAccepted {
        /// What is known of the client.
        session: &'c Session,
        /// The transaction.
        envelope: &'c Envelope,
        /// LMTP only, where each recipient has an event: this one.
        forward_path: Option<Path<'c>>,
        /// The size of the content.
        octets: u64,
        /// What the client is told.
        reply: ReplyRef<'c>,
    },
    /// A message was refused at its end, or within it. One that ends without its end is told by
    /// [`Action::Aborted`](crate::Action::Aborted) alone.
    #[non_exhaustive]
    MessageRefused {
        /// What is known of the client.
        session: &'c Session,
        /// The transaction.
        envelope: &'c Envelope,
        /// LMTP only, where each recipient has an event: this one.
        forward_path: Option<Path<'c>>,
        /// How many octets of the content were looked at.
        octets: u64,
        /// What the client is told.
        reply: ReplyRef<'c>,
    },
    /// The client has used up one of [`Limits`](crate::Limits), or its attempts to log in.
    #[non_exhaustive]
    LimitReached {
        /// What is known of the client.
        session: &'c Session,
        /// Which.
        limit: ReachedLimit,
    },
    /// An AUTH succeeded.
    #[non_exhaustive]
    AuthSucceeded {
        /// Where the connection comes from.
        peer: Peer,
        /// The mechanism.
        mechanism: MechanismName,
        /// The name under which the client is logged in.
        login: &'c str,
        /// Whom it acts as, where that is another.
        authzid: Option<&'c str>,
        /// The connection's TLS.
        tls: Option<&'c TlsInfo>,
        /// What is known of the client.
        session: &'c Session,
    },
    /// An AUTH failed. Every path on which one does comes through here.
    #[non_exhaustive]
    AuthFailed {
        /// Where the connection comes from.
        peer: Peer,
        /// The mechanism, if the command named one that is offered or well known: another word may be
        /// a password out of place.
        mechanism: Option<MechanismName>,
        /// Who tried, where the mechanism got so far.
        authcid: Option<&'c str>,
        /// Why; the peer gets a uniform reply.
        reason: AuthFailure,
        /// How many credentials have been refused on this connection by now.
        failures: u32,
        /// The connection's TLS.
        tls: Option<&'c TlsInfo>,
        /// What is known of the client.
        session: &'c Session,
    },
    /// A proxy that is trusted did not begin with a header of the PROXY protocol; the connection closes
    /// before its greeting.
    #[non_exhaustive]
    ProxyRefused {
        /// The proxy.
        peer: Peer,
        /// What was wrong.
        reason: ProxyRefusal,
        /// What is known of the proxy.
        session: &'c Session,
    },
}

impl<'c> Event<'c> {
    /// Which of [`Events`] it belongs to.
    #[must_use]
    pub fn kind(&self) -> Events {
        match self {
            Self::Opened { .. } => Events::OPENED,
            Self::Closed { .. } => Events::CLOSED,
            Self::TlsEstablished { .. } => Events::TLS_ESTABLISHED,
            Self::TlsFailed { .. } => Events::TLS_FAILED,
            Self::TransactionBegun { .. } => Events::TRANSACTION_BEGUN,
            Self::MessageAccepted { .. } => Events::MESSAGE_ACCEPTED,
            Self::ClientRefused { .. }
            | Self::CommandRefused { .. }
            | Self::RecipientRefused { .. }
            | Self::MessageRefused { .. } => Events::REFUSED,
            Self::LimitReached { .. } => Events::LIMIT_REACHED,
            Self::AuthSucceeded { .. } | Self::AuthFailed { .. } => Events::AUTH,
            Self::ProxyRefused { .. } => Events::PROXY_REFUSED,
        }
    }

    /// What is known of the client: its address, the connection's number and its listener among others.
    #[must_use]
    pub fn session(&self) -> &'c Session {
        match *self {
            Self::Opened { session }
            | Self::Closed { session, .. }
            | Self::TlsEstablished { session }
            | Self::TlsFailed { session, .. }
            | Self::ClientRefused { session, .. }
            | Self::CommandRefused { session, .. }
            | Self::TransactionBegun { session, .. }
            | Self::RecipientRefused { session, .. }
            | Self::MessageAccepted { session, .. }
            | Self::MessageRefused { session, .. }
            | Self::LimitReached { session, .. }
            | Self::AuthSucceeded { session, .. }
            | Self::AuthFailed { session, .. }
            | Self::ProxyRefused { session, .. } => session,
        }
    }
}

/// [`Event::Closed`] with all that it is about, for a handler that another thread has.
#[derive(Clone, Debug)]
pub struct OwnedClosed {
    session: Session,
    reason: CloseReason,
    received: u64,
    sent: u64,
    lasted: Duration,
}

impl OwnedClosed {
    /// Copies the event, if it is [`Event::Closed`].
    #[must_use]
    pub fn of(event: &Event<'_>) -> Option<Self> {
        match *event {
            Event::Closed { session, reason, received, sent, lasted } => {
                Some(Self { session: session.clone(), reason, received, sent, lasted })
            }
            Event::Opened { .. }
            | Event::TlsEstablished { .. }
            | Event::TlsFailed { .. }
            | Event::ClientRefused { .. }
            | Event::CommandRefused { .. }
            | Event::TransactionBegun { .. }
            | Event::RecipientRefused { .. }
            | Event::MessageAccepted { .. }
            | Event::MessageRefused { .. }
            | Event::LimitReached { .. }
            | Event::AuthSucceeded { .. }
            | Event::AuthFailed { .. }
            | Event::ProxyRefused { .. } => None,
        }
    }

    /// The event.
    #[must_use]
    pub fn event(&self) -> Event<'_> {
        let Self { session, reason, received, sent, lasted } = self;
        Event::Closed { session, reason: *reason, received: *received, sent: *sent, lasted: *lasted }
    }
}

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The client said QUIT.
    Quit,
    /// The client ended its side without QUIT.
    PeerClosed,
    /// The client was silent, or slow, for too long.
    Timeout,
    /// The client reached a limit: [`Event::LimitReached`] says which.
    Limit,
    /// The embedder's own reply was 421, or it refused the client with one at its connecting.
    Refused,
    /// The server shuts down.
    Shutdown,
    /// TLS failed: [`Event::TlsFailed`] says why.
    TlsFailed,
    /// A trusted proxy did not say whom it speaks for: [`Event::ProxyRefused`] says why.
    ProxyRefused,
    /// What came was no SMTP: an HTTP request, TLS where there is none, or octets in the clear behind
    /// STARTTLS.
    ProtocolAbuse,
    /// The connection broke, or the client did not read what it was sent.
    Lost,
    /// The embedder's handler failed in a way that the session could not go on after.
    HandlerFailed,
    /// The embedder cut the connection off, as at the end of a shutdown's grace.
    CutOff,
}

impl fmt::Display for CloseReason {
    /// A stable word for log lines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quit => "quit",
            Self::PeerClosed => "peer-closed",
            Self::Timeout => "timeout",
            Self::Limit => "limit",
            Self::Refused => "refused",
            Self::Shutdown => "shutdown",
            Self::TlsFailed => "tls-failed",
            Self::ProxyRefused => "proxy-refused",
            Self::ProtocolAbuse => "protocol-abuse",
            Self::Lost => "lost",
            Self::HandlerFailed => "handler-failed",
            Self::CutOff => "cut-off",
        })
    }
}

/// A limit that a client has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReachedLimit {
    /// [`Auth::max_failures`](crate::Auth::max_failures): the connection closes.
    AuthFailures,
    /// [`Limits::max_commands`](crate::Limits::max_commands): the connection closes.
    Commands,
    /// [`Limits::max_errors`](crate::Limits::max_errors): the connection closes.
    Errors,
    /// [`Limits::max_recipients`](crate::Limits::max_recipients), of the transaction in progress.
    Recipients,
    /// [`Limits::max_transactions`](crate::Limits::max_transactions): the connection closes.
    Transactions,
    /// [`Auth::max_unfinished`](crate::Auth::max_unfinished): the connection closes.
    UnfinishedExchanges,
    /// [`Limits::max_unrecognized_commands`](crate::Limits::max_unrecognized_commands): the connection closes.
    UnrecognizedCommands,
}

impl fmt::Display for ReachedLimit {
    /// A stable word for log lines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AuthFailures => "auth-failures",
            Self::Commands => "commands",
            Self::Errors => "errors",
            Self::Recipients => "recipients",
            Self::Transactions => "transactions",
            Self::UnfinishedExchanges => "unfinished-exchanges",
            Self::UnrecognizedCommands => "unrecognized-commands",
        })
    }
}

/// Why TLS failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsFailure {
    /// The client sent this alert (RFC 8446, section 6): it does not trust the certificate, most likely.
    Alert(u8),
    /// What the client sent is no TLS.
    NotTls,
    /// The client offers no version that the configuration has, as the TLS 1.0 of old devices; or TLS 1.2 without
    /// any signature scheme.
    NoCommonVersion,
    /// The client offers no cipher suite that the configuration has.
    NoCommonCipherSuite,
    /// The client offers no key exchange group that the configuration has.
    NoCommonGroup,
    /// The client offers no signature scheme that fits the certificate.
    NoCommonSignatureScheme,
    /// The client offers none of the application protocols that the configuration has (RFC 7301).
    NoCommonApplicationProtocol,
    /// The configuration wants something else of the client that it does not do.
    Incompatible,
    /// The configuration wants a certificate of the client, which has none.
    NoClientCertificate,
    /// The client's certificate was refused.
    BadClientCertificate,
    /// A record could not be decrypted.
    Undecipherable,
    /// The client broke the rules of TLS.
    Misbehaved,
    /// The server could not do its part: it has no usable certificate, or no randomness.
    Unavailable,
    /// The connection ended in the middle of the handshake.
    ConnectionLost,
    /// The handshake was not done in time.
    Timeout,
    /// Whoever did the handshake does not say.
    Other,
}

impl fmt::Display for TlsFailure {
    /// A stable word for log lines; for an alert `alert-` and its name in RFC 8446, or its number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::Alert(alert) => match alert_name(alert) {
                Some(name) => return write!(f, "alert-{name}"),
                None => return write!(f, "alert-{alert}"),
            },
            Self::NotTls => "not-tls",
            Self::NoCommonVersion => "no-common-version",
            Self::NoCommonCipherSuite => "no-common-cipher-suite",
            Self::NoCommonGroup => "no-common-group",
            Self::NoCommonSignatureScheme => "no-common-signature-scheme",
            Self::NoCommonApplicationProtocol => "no-common-application-protocol",
            Self::Incompatible => "incompatible",
            Self::NoClientCertificate => "no-client-certificate",
            Self::BadClientCertificate => "bad-client-certificate",
            Self::Undecipherable => "undecipherable",
            Self::Misbehaved => "misbehaved",
            Self::Unavailable => "unavailable",
            Self::ConnectionLost => "connection-lost",
            Self::Timeout => "timeout",
            Self::Other => "other",
        })
    }
}

/// RFC 8446, section 6, and what RFC 5246, section 7.2 has beside it.
fn alert_name(alert: u8) -> Option<&'static str> {
    Some(match alert {
        0 => "close-notify",
        10 => "unexpected-message",
        20 => "bad-record-mac",
        21 => "decryption-failed",
        22 => "record-overflow",
        30 => "decompression-failure",
        40 => "handshake-failure",
        41 => "no-certificate",
        42 => "bad-certificate",
        43 => "unsupported-certificate",
        44 => "certificate-revoked",
        45 => "certificate-expired",
        46 => "certificate-unknown",
        47 => "illegal-parameter",
        48 => "unknown-ca",
        49 => "access-denied",
        50 => "decode-error",
        51 => "decrypt-error",
        60 => "export-restriction",
        70 => "protocol-version",
        71 => "insufficient-security",
        80 => "internal-error",
        86 => "inappropriate-fallback",
        90 => "user-canceled",
        100 => "no-renegotiation",
        109 => "missing-extension",
        110 => "unsupported-extension",
        112 => "unrecognized-name",
        113 => "bad-certificate-status-response",
        115 => "unknown-psk-identity",
        116 => "certificate-required",
        120 => "no-application-protocol",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn alerts_have_the_names_of_the_rfc() {
        assert_eq!(TlsFailure::Alert(48).to_string(), "alert-unknown-ca");
        assert_eq!(TlsFailure::Alert(255).to_string(), "alert-255");
    }
}
