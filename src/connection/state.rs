//! What a connection is doing, and what it has decided.

use alloc::boxed::Box;
use core::time::Duration;

use crate::action::Aborted;
use crate::auth::AuthResult;
use crate::auth::turn::TurnAnswer;
use crate::canned::Canned;
use crate::ehlo::Usual;
use crate::framing::content::Content;
use crate::help::HelpReply;
use crate::proxy::Reader;
use crate::question::Verdict;

use super::events::Told;
use super::hooks::Asked;
use super::lmtp::Report;

/// What is counted over the whole connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) commands: u32,
    pub(super) errors: u32,
    pub(super) transactions: u32,
    /// Commands in a row that were not recognized.
    pub(super) unrecognized: u32,
    /// Octets taken in.
    pub(super) received: u64,
    /// Octets of replies.
    pub(super) sent: u64,
    /// Octets of the last message's content.
    pub(super) message: u64,
    /// LMTP: the recipient whose reply is next.
    pub(super) recipient: usize,
    /// AUTH exchanges with a challenge that the client did not finish.
    pub(super) unfinished: u32,
    /// When the last message had come, or the connection was accepted, in seconds; later by what the embedder's answers
    /// have taken. Set with the first wait behind that.
    pub(super) idle_since: Option<u32>,
}

/// What the connection is waiting for.
#[derive(Debug)]
pub(super) enum Stage {
    /// The header of the PROXY protocol, from a peer that is trusted.
    Header(Box<Reader>),
    /// Nothing has been said yet.
    Opening,
    /// The next command.
    Ready,
    /// The client's next response in an AUTH exchange.
    Exchange,
    /// Message content.
    Content(Content),
    /// Message content by BDAT: the rest of a chunk.
    Chunk { left: u64, last: bool },
    /// The rest of a chunk that nobody wants, to be answered behind it.
    Discarding { left: u64, reply: Option<Outgoing>, close: bool },
    /// Nothing: the recipients' replies are being given out.
    Reporting(Box<Report>),
    /// An answer. `asked_until` is set once the question has been given out.
    Asking { about: Asked, asked_until: Option<Duration> },
    /// The end of the pause before a refusal.
    Pausing { until: Duration, reply: Outgoing, close: bool },
    /// The TLS handshake. `begun_until` is set once the driver has been told.
    Upgrading { begun_until: Option<Duration> },
    /// The last octets to be written.
    Closing,
}

/// An answer that the next poll acts on.
#[derive(Debug)]
pub(super) enum Pending {
    Verdict(Verdict),
    Result(AuthResult),
    Turn(TurnAnswer),
}

/// A reply that is to be given out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outgoing {
    Canned(Canned),
    Greeting,
    Farewell,
    Helo,
    /// One of EHLO's that were put together beforehand.
    Ehlo(Usual),
    Help(HelpReply),
    /// In `Connection::out`.
    Composed,
    /// In `Connection::out`.
    Challenge,
}

/// What `advance` decided.
#[derive(Debug)]
pub(crate) enum Next {
    Reply(Outgoing),
    Flush {
        deadline: Duration,
    },
    CallAuthenticator,
    CallAuthHandler {
        number: u32,
        has_response: bool,
    },
    CallHook(Asked),
    /// `offset` is how many octets of the message come before it.
    Piece {
        offset: u64,
        skipped: usize,
        length: usize,
    },
    Inserted {
        offset: u64,
        octets: &'static [u8],
    },
    Aborted(Aborted),
    Event(Told),
    StartTls,
    NeedInput {
        deadline: Duration,
    },
    AwaitAnswer {
        deadline: Duration,
    },
    Pause {
        until: Duration,
    },
    Close,
}
