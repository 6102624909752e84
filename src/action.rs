//! What a connection wants done.

use core::fmt;
use core::time::Duration;

use crate::auth::{AuthRequest, AuthTurn, Refusal};
use crate::connection::Asked;
use crate::envelope::Envelope;
use crate::event::Event;
use crate::mail_data::Piece;
use crate::question::{Answer, AnswerKind, Ticket, Verdict};
use crate::reply::ReplyRef;
use crate::secret::SecretRef;
use crate::session::{Greeting, Session};

/// What a connection wants done next. Only [`NeedInput`](Self::NeedInput), [`AwaitAnswer`](Self::AwaitAnswer),
/// [`Pause`](Self::Pause) and [`Flush`](Self::Flush) take time; deadlines are on the time axis of
/// [`Connection::poll`](crate::Connection::poll).
///
/// A driver handles every variant, so none is hidden behind a catch-all.
#[derive(Debug)]
pub enum Action<'c> {
    /// Append these octets to what is to be written.
    Reply(ReplyRef<'c>),
    /// Append these octets to what is to be written: a 334 with a SASL challenge.
    Challenge(Challenge<'c>),
    /// Append these octets to what is to be written. Comes from a TLS layer in place of the two above.
    Transmit(&'c [u8]),
    /// Write out what has been appended, until `deadline`. Comes before every wait, before
    /// [`StartTls`](Self::StartTls) and [`Close`](Self::Close), behind the reply to a command that ends a
    /// group, and as soon as 4,096 octets or more have been appended. The replies of a group are one segment
    /// up to that size (RFC 2920, section 3.2). A driver that waits for something of its own between two
    /// polls writes out first as well.
    ///
    /// A driver that does not poll again before all is written holds at most 4,096 octets and one reply for
    /// a peer that sends commands and reads nothing.
    Flush {
        /// When to give up on the peer.
        deadline: Duration,
    },
    /// Ask the authenticator, and give its answer to [`Connection::answer`](crate::Connection::answer).
    CallAuthenticator(AuthRequest),
    /// Ask the AUTH handler hook, likewise.
    CallAuthHandler(AuthTurn),
    /// Ask a hook, likewise.
    CallHook(HookCall<'c>),
    /// Message content, dot-unstuffed, borrowed from the input. Given to [`Incoming::append`](crate::Incoming::append), it
    /// is gathered with what belongs to the same message, and with nothing else.
    Content(Piece<'c>),
    /// The message that was coming is void: no end of it will come.
    Aborted(Aborted),
    /// Something for logs and counters: what [`Events`](crate::Events) chooses.
    Event(Event<'c>),
    /// Do the TLS handshake, then call [`Connection::tls_established`](crate::Connection::tls_established)
    /// or [`tls_failed`](crate::Connection::tls_failed). A TLS layer does this itself.
    StartTls,
    /// The input is used up: read more until `deadline`, then poll, with or without input.
    NeedInput {
        /// When to poll at the latest.
        deadline: Duration,
    },
    /// A question is open: poll when it is answered, or at `deadline`. Do not read meanwhile.
    AwaitAnswer {
        /// When the engine answers in the embedder's place.
        deadline: Duration,
    },
    /// Poll at `until`, not before, and do not read meanwhile.
    Pause {
        /// When to poll.
        until: Duration,
    },
    /// Close the connection. Nothing comes after it.
    ///
    /// Unless [the peer is done](crate::Connection::is_peer_done) and nothing that it has said is unread, close the write
    /// half first, and read on for a few seconds until it closes as well: what is unread when a socket is closed
    /// becomes a reset, which may take the last replies from the peer.
    Close,
}

/// A SASL challenge on its way to the peer. Its content is not shown.
#[derive(Clone, Copy)]
pub struct Challenge<'a> {
    encoded: &'a [u8],
}

impl<'a> Challenge<'a> {
    pub(crate) fn new(encoded: &'a [u8]) -> Self {
        Self { encoded }
    }

    /// The 334 reply as it goes over the wire.
    #[must_use]
    pub fn as_bytes(self) -> &'a [u8] {
        self.encoded
    }
}

impl fmt::Display for Challenge<'_> {
    /// Writes the line without its CRLF. Challenges are the server's own words, but some mechanisms put
    /// into them what only the client should see: keep them out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(core::str::from_utf8(self.encoded).unwrap_or_default().trim_end_matches("\r\n"))
    }
}

impl fmt::Debug for Challenge<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Challenge([redacted])")
    }
}

/// A hook's question: what it is about, to look at, and the right to answer it.
#[derive(Debug)]
pub struct HookCall<'c> {
    pub(crate) session: &'c Session,
    pub(crate) envelope: &'c Envelope,
    pub(crate) about: Asked,
    pub(crate) held: SecretRef<'c>,
    pub(crate) question: HookQuestion,
}

impl<'c> HookCall<'c> {
    /// What the client did.
    #[must_use]
    pub fn hook(&self) -> Hook<'c> {
        self.about.hook(self.held)
    }

    /// What is known of the client.
    #[must_use]
    pub fn session(&self) -> &'c Session {
        self.session
    }

    /// The transaction, with the path that is being asked about.
    #[must_use]
    pub fn envelope(&self) -> &'c Envelope {
        self.envelope
    }

    /// Turns the verdict into the answer.
    pub fn answer(self, verdict: impl Into<Verdict>) -> Answer {
        self.question.answer(verdict)
    }

    /// Keeps the right to answer and lets go of what it is about, to answer later or elsewhere.
    pub fn into_question(self) -> HookQuestion {
        self.question
    }
}

/// The right to answer a hook's question. Dropped, it becomes `451 4.3.0`.
#[derive(Debug)]
#[must_use = "a question that is dropped is answered 451 4.3.0"]
pub struct HookQuestion {
    pub(crate) ticket: Ticket,
}

impl HookQuestion {
    /// Turns the verdict into the answer.
    pub fn answer(self, verdict: impl Into<Verdict>) -> Answer {
        Answer { ticket: self.ticket, kind: AnswerKind::Hook(verdict.into()) }
    }
}

/// What the client did that a hook decides on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hook<'c> {
    /// It connected. A refusal is sent in place of the greeting; after 4xx and 5xx other than 421 only
    /// QUIT is answered, as RFC 5321, section 3.1 describes.
    Connect,
    /// HELO, EHLO or LHLO, with the name, which can be nearly anything
    /// ([`ClientName`](crate::ClientName)). A refusal leaves everything as it was. The text of a positive reply
    /// is used for HELO only: EHLO's and LHLO's is the list of extensions.
    Hello(Greeting, &'c str),
    /// MAIL: the envelope has its reverse-path and parameters.
    Mail,
    /// RCPT: the envelope's last forward-path is the one in question.
    Rcpt,
    /// DATA, or the first BDAT, before any content.
    Data,
    /// The end of the content, which was this many octets. Accepting it takes responsibility for the
    /// message (RFC 5321, section 6.1): whatever keeps it must be safe by then.
    Message {
        /// The size of the content.
        octets: u64,
    },
    /// RSET.
    Reset,
    /// NOOP, with its argument.
    Noop(&'c str),
    /// VRFY, with its argument.
    Verify(&'c str),
    /// EXPN, with its argument.
    Expand(&'c str),
    /// HELP, with its argument.
    Help(&'c str),
    /// A line that is no command of the engine's, white space in a row made one space. It may be a password
    /// out of step.
    Unknown(SecretRef<'c>),
    /// QUIT.
    Quit,
}

impl Hook<'_> {
    /// The command that it is about, for log lines: the RFC's verb, or `connect`, `message` or `unknown`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Hello(Greeting::Helo, _) => "HELO",
            Self::Hello(Greeting::Ehlo, _) => "EHLO",
            Self::Hello(Greeting::Lhlo, _) => "LHLO",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
            Self::Message { .. } => "message",
            Self::Reset => "RSET",
            Self::Noop(_) => "NOOP",
            Self::Verify(_) => "VRFY",
            Self::Expand(_) => "EXPN",
            Self::Help(_) => "HELP",
            Self::Unknown(_) => "unknown",
            Self::Quit => "QUIT",
        }
    }
}

/// Content that ends without an end of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aborted {
    /// Why.
    pub reason: AbortReason,
    /// How many octets of content had been given.
    pub octets: u64,
}

/// Why content is void.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AbortReason {
    /// It holds a CR that no LF follows.
    BareCr,
    /// It holds a LF without CR.
    BareLf,
    /// It holds a NUL.
    Nul,
    /// It exceeds [`Limits::max_message_octets`](crate::Limits).
    TooBig,
    /// A line exceeds [`Limits::max_content_line_octets`](crate::Limits).
    LineTooLong,
    /// The connection ended.
    ConnectionLost,
    /// No more of it came in time.
    Timeout,
    /// The client gave up a message that it was sending in chunks.
    Reset,
}

impl fmt::Display for AbortReason {
    /// A stable word for log lines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BareCr => "bare-cr",
            Self::BareLf => "bare-lf",
            Self::Nul => "nul",
            Self::TooBig => "too-big",
            Self::LineTooLong => "line-too-long",
            Self::ConnectionLost => "connection-lost",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
        })
    }
}

/// Why an AUTH failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AuthFailure {
    /// The authenticator refused.
    Refused(Refusal),
    /// The user name or the password was empty, or nothing is left of it by SASLprep; the authenticator was not asked.
    EmptyCredentials,
    /// The [`AttemptLog`](crate::auth::AttemptLog) does not admit the attempt; the authenticator was not
    /// asked.
    TooManyAttempts,
    /// Too many exchanges were begun and not finished, on the connection
    /// ([`Auth::max_unfinished`](crate::Auth::max_unfinished)) or as the
    /// [`AttemptLog`](crate::auth::AttemptLog) counts them.
    TooManyUnfinished,
    /// The authenticator, or a hook, cannot tell.
    CannotTell,
    /// The question was dropped, or not answered in time.
    Unanswered,
    /// A hook ended the exchange with its own reply.
    Handled,
    /// The client cancelled with `*`.
    Cancelled,
    /// A response is not base64, or not what the mechanism expects.
    Malformed,
    /// A line had more than 12,288 octets.
    TooLong,
    /// An initial response with a mechanism in which the server speaks first.
    InitialResponseNotAllowed,
    /// The command's syntax is wrong.
    Syntax,
    /// No such mechanism is offered.
    UnknownMechanism,
    /// The connection is not under TLS, or not under one as new as the mechanism requires.
    TlsRequired,
    /// Before EHLO, during a transaction, or after a success.
    OutOfSequence,
    /// No AUTH is configured.
    NotOffered,
    /// The connection ended, or timed out, in the middle of an exchange.
    ConnectionLost,
}

impl AuthFailure {
    /// Whether it is the client that does not go on with an exchange.
    pub(crate) fn leaves_unfinished(self) -> bool {
        matches!(
            self,
            Self::Cancelled | Self::Malformed | Self::TooLong | Self::ConnectionLost | Self::TooManyUnfinished
        )
    }
}

impl fmt::Display for AuthFailure {
    /// A stable word for log lines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused(Refusal::BadCredentials) => "bad-credentials",
            Self::Refused(Refusal::UnknownUser) => "unknown-user",
            Self::Refused(Refusal::Disabled) => "disabled",
            Self::Refused(Refusal::NoKeys) => "no-keys",
            Self::Refused(Refusal::MechanismTooWeak) => "mechanism-too-weak",
            Self::Refused(Refusal::PasswordTransitionNeeded) => "password-transition-needed",
            Self::Refused(Refusal::EncryptionRequired) => "encryption-required",
            Self::Refused(Refusal::ChannelBinding) => "channel-binding",
            Self::Refused(Refusal::NonceChanged) => "nonce-changed",
            Self::EmptyCredentials => "empty-credentials",
            Self::Refused(Refusal::AuthzidNotGranted) => "authzid-not-granted",
            Self::TooManyAttempts => "too-many-attempts",
            Self::TooManyUnfinished => "too-many-unfinished",
            Self::CannotTell => "cannot-tell",
            Self::Unanswered => "unanswered",
            Self::Handled => "handled",
            Self::Cancelled => "cancelled",
            Self::Malformed => "malformed",
            Self::TooLong => "too-long",
            Self::InitialResponseNotAllowed => "initial-response-not-allowed",
            Self::Syntax => "syntax",
            Self::UnknownMechanism => "unknown-mechanism",
            Self::TlsRequired => "tls-required",
            Self::OutOfSequence => "out-of-sequence",
            Self::NotOffered => "not-offered",
            Self::ConnectionLost => "connection-lost",
        })
    }
}
