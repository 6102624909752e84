//! Why a message did not reach a next hop, and whether trying again may help.

use std::fmt;
use std::io;

use super::convert::Unconvertible;
use super::reply::Reply;
use crate::queue::Health;
use crate::sasl::{ExchangeError, SaslMechanism, SecretKind};

/// The part of a session at which something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Connect,
    Greeting,
    Ehlo,
    StartTls,
    Auth,
    Mail,
    Rcpt,
    Data,
    MailData,
    EndOfMailData,
    Quit,
}

/// What cannot be sent without SMTPUTF8 (RFC 6531, section 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NeedsUtf8 {
    /// The local-part of an address, or a domain that has no form in ASCII.
    Address,
    Header,
}

/// Why a message did not reach a next hop.
#[derive(Debug)]
#[non_exhaustive]
pub(crate) enum Error {
    Network(Step, io::Error),
    Timeout(Step),
    /// A negative reply to something else than RCPT, or one that closes the session.
    Refused(Step, Reply),
    /// The TLS handshake failed, as with a certificate that is not valid.
    Handshake(io::Error),
    /// Plain text is not good enough here, and STARTTLS is not offered.
    NoTls,
    TextAfterStartTls,
    /// SMTPUTF8 is not offered, and this needs it.
    NoSmtpUtf8(NeedsUtf8),
    /// The content has octets above 127, 8BITMIME is not offered, and the content must not be changed.
    Unconvertible(Unconvertible),
    /// No mechanism is offered that the secret can be used with.
    NoMechanism {
        kind: SecretKind,
        offered: String,
    },
    /// The exchange has failed on this side.
    Login(SaslMechanism, ExchangeError),
    /// There is no password or token.
    NoSecret,
    TooLarge(u64),
    NoRecipients,
    BareLineEnd,
    ControlCharacter,
    /// The server said something that was no answer to anything, so that what follows may not be answers either.
    Unasked(Step),
    /// The spooled content cannot be read.
    Content(io::Error),
}

impl Error {
    /// Whether trying again is pointless, at this host and at any other.
    pub(crate) fn is_permanent(&self) -> bool {
        match self {
            Self::Refused(step, reply) => match step {
                // A wrong password, or a server that does not want to talk, is for the operator to mend: a message
                // that waits meanwhile is better than one that is returned.
                Step::Connect | Step::Greeting | Step::Ehlo | Step::StartTls | Step::Auth | Step::Quit => false,
                Step::Mail | Step::Rcpt | Step::Data | Step::MailData | Step::EndOfMailData => reply.is_permanent(),
            },
            Self::NoSmtpUtf8(_)
            | Self::Unconvertible(_)
            | Self::TooLarge(_)
            | Self::BareLineEnd
            | Self::ControlCharacter => true,
            Self::Network(..)
            | Self::Timeout(_)
            | Self::Handshake(_)
            | Self::NoTls
            | Self::TextAfterStartTls
            | Self::NoMechanism { .. }
            | Self::Login(..)
            | Self::NoSecret
            | Self::NoRecipients
            | Self::Unasked(_)
            | Self::Content(_) => false,
        }
    }

    /// What this says about the destination.
    pub(crate) fn health(&self) -> Health {
        match self {
            // A password that is wrong, or TLS that does not do, will be so in every session.
            Self::Refused(Step::Auth, _)
            | Self::Handshake(_)
            | Self::NoTls
            | Self::TextAfterStartTls
            | Self::NoMechanism { .. }
            | Self::Login(..)
            | Self::NoSecret => Health::Down,
            Self::Refused(Step::Connect | Step::Greeting | Step::Ehlo | Step::StartTls, _)
            | Self::Network(Step::Connect | Step::Greeting | Step::Ehlo | Step::StartTls | Step::Auth, _)
            | Self::Timeout(_) => Health::Full,
            Self::Refused(_, reply) if reply.is_closing() || reply.is_about_policy() => Health::Full,
            // Something in the message may have done that.
            Self::Network(..) | Self::Unasked(_) => Health::Busy,
            Self::Content(_) => Health::Unknown,
            Self::Refused(..)
            | Self::NoSmtpUtf8(_)
            | Self::Unconvertible(_)
            | Self::TooLarge(_)
            | Self::NoRecipients
            | Self::BareLineEnd
            | Self::ControlCharacter => Health::Up,
        }
    }

    /// Whether the login is what has failed: at another address of the same server it would be no better, and repeated
    /// ones may lock the account.
    pub(crate) fn is_about_login(&self) -> bool {
        match self {
            Self::Refused(step, _) => *step == Step::Auth,
            Self::NoMechanism { .. } | Self::Login(..) | Self::NoSecret => true,
            Self::Network(..)
            | Self::Timeout(_)
            | Self::Handshake(_)
            | Self::NoTls
            | Self::TextAfterStartTls
            | Self::NoSmtpUtf8(_)
            | Self::Unconvertible(_)
            | Self::Unasked(_)
            | Self::TooLarge(_)
            | Self::NoRecipients
            | Self::BareLineEnd
            | Self::ControlCharacter
            | Self::Content(_) => false,
        }
    }

    /// Whether the server had all of the message when the connection was lost, or when it said what is no answer to that,
    /// so that it may have taken it (RFC 1047).
    pub(crate) fn is_in_doubt(&self) -> bool {
        matches!(
            self,
            Self::Network(Step::EndOfMailData, _)
                | Self::Timeout(Step::EndOfMailData)
                | Self::Unasked(Step::EndOfMailData)
        )
    }

    /// Whether the session had ended before anything of the message was sent.
    pub(crate) fn is_stale_session(&self) -> bool {
        matches!(self, Self::Network(Step::Mail, _) | Self::Unasked(Step::Mail))
            || matches!(self, Self::Refused(Step::Mail, reply) if reply.is_closing())
    }

    /// Whether it may be the parameters of MAIL that the server does not know, although it offers the extensions that
    /// have them (RFC 5321, section 4.1.1.11).
    pub(crate) fn is_about_parameters(&self) -> bool {
        let Self::Refused(Step::Mail, reply) = self else { return false };
        let subject = reply.enhanced_status().and_then(|status| status.split('.').nth(1));
        matches!(reply.code, 500 | 501 | 504 | 555) && matches!(subject, None | Some("0" | "5" | "6"))
    }

    /// The enhanced status code that says it best (RFC 3463).
    pub(crate) fn status(&self) -> String {
        let fixed = match self {
            Self::Refused(_, reply) => return status_of(reply, self.is_permanent()),
            Self::Network(Step::Connect, _) | Self::Timeout(Step::Connect) => "4.4.1",
            Self::Network(..) | Self::Timeout(_) => "4.4.2",
            Self::Handshake(_) | Self::NoTls | Self::TextAfterStartTls => "4.7.5",
            Self::Unasked(_) => "4.5.0",
            Self::NoSmtpUtf8(NeedsUtf8::Address) => "5.6.7",
            Self::NoSmtpUtf8(NeedsUtf8::Header) => "5.6.9",
            Self::Unconvertible(Unconvertible::BareLineEnd) => "5.6.11",
            Self::Unconvertible(_) => "5.6.3",
            Self::NoMechanism { .. } | Self::Login(..) => "4.7.0",
            Self::NoSecret => "4.3.5",
            Self::TooLarge(_) => "5.3.4",
            Self::BareLineEnd => "5.6.11",
            Self::ControlCharacter => "5.1.3",
            Self::NoRecipients | Self::Content(_) => "4.3.0",
        };
        fixed.to_owned()
    }

    /// The reply, where there is one.
    pub(crate) fn reply(&self) -> Option<&Reply> {
        if let Self::Refused(_, reply) = self { Some(reply) } else { None }
    }
}

/// The enhanced status code of a negative reply: its own, or the class alone. A refusal that is tried again, or
/// that ends the trying, takes the class of that.
pub(crate) fn status_of(reply: &Reply, permanent: bool) -> String {
    let class = if permanent { '5' } else { '4' };
    match reply.enhanced_status().and_then(|status| status.split_once('.')) {
        Some((_, rest)) => format!("{class}.{rest}"),
        None => format!("{class}.0.0"),
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connecting",
            Self::Greeting => "the greeting",
            Self::Ehlo => "EHLO",
            Self::StartTls => "STARTTLS",
            Self::Auth => "AUTH",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
            Self::MailData => "the mail data",
            Self::EndOfMailData => "the end of mail data",
            Self::Quit => "QUIT",
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(step, error) => write!(f, "{step}: {error}"),
            Self::Timeout(step) => write!(f, "{step}: no answer in time"),
            Self::Refused(_, reply) => write!(f, "{reply}"),
            Self::Handshake(error) => write!(f, "TLS handshake: {error}"),
            Self::NoTls => f.write_str("STARTTLS is required, and not offered"),
            Self::TextAfterStartTls => f.write_str("the server sent text in the clear after STARTTLS"),
            Self::NoSmtpUtf8(NeedsUtf8::Address) => {
                f.write_str("an address needs SMTPUTF8, which the server does not offer")
            }
            Self::NoSmtpUtf8(NeedsUtf8::Header) => {
                f.write_str("the header of the message needs SMTPUTF8, which the server does not offer")
            }
            Self::Unconvertible(why) => write!(
                f,
                "the message has octets above 127, which the server does not take (it does not offer 8BITMIME), and it \
                 cannot be converted: {why}"
            ),
            Self::NoMechanism { kind, offered } => {
                let with = match kind {
                    SecretKind::Password => "a password",
                    SecretKind::Token => "a token",
                };
                let offered = if offered.is_empty() { "none" } else { offered };
                write!(f, "no mechanism is offered to log in with {with} by; there are: {offered}")
            }
            Self::Login(mechanism, error) => write!(f, "{mechanism}: {error}"),
            // Where it is looked for is told in the log, and is no business of who gets a report.
            Self::NoSecret => f.write_str("there is no password or token to log in with"),
            Self::TooLarge(limit) => write!(f, "the server takes at most {limit} octets"),
            Self::NoRecipients => f.write_str("every recipient was refused"),
            Self::BareLineEnd => f.write_str("the message has a CR or an LF without the other"),
            Self::ControlCharacter => f.write_str("a path has a control character"),
            Self::Unasked(step) => write!(f, "{step}: the server spoke before it was asked"),
            Self::Content(error) => write!(f, "cannot read the spooled message: {error}"),
        }
    }
}

impl std::error::Error for Error {}
