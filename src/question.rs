//! Questions to the embedder, and their answers.
//!
//! A question is owned, so that it can go to another thread, and consumed by its answer. A question
//! or an answer that is dropped instead tells its connection so, which then fails closed at once.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::auth::turn::TurnAnswer;
use crate::auth::{AuthResult, Credentials};
use crate::reply::Reply;
use crate::secret::Secret;

/// What a hook decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The command goes ahead, with the engine's own reply.
    Accept,
    /// This reply is sent, and its class decides: 2xx (3xx for DATA) lets the command go ahead, 4xx and
    /// 5xx refuse it, 421 closes the connection as well (RFC 5321, section 3.8).
    ///
    /// A positive reply whose code is not among those that RFC 5321 lists for the command is replaced
    /// by the engine's own: the client would misread it. So is every positive reply to EHLO and LHLO, whose
    /// text is the list of extensions (section 4.1.1.1), and to the first BDAT, which is answered behind its octets.
    ///
    /// Text beyond ASCII goes to clients that have asked for it, and to others with `?` in its place: see
    /// [`Reply`].
    Reply(Reply),
    /// The hook cannot decide now: `451 4.3.0`, the same as no answer at all.
    TryLater,
    /// LMTP's end of a message only (RFC 2033, section 4.2): a verdict for each forward-path, in their
    /// order. One that is missing, and one that is none for a single recipient, is
    /// [`TryLater`](Self::TryLater); so is the whole where a single verdict is asked for.
    Recipients(Vec<Self>),
}

impl Verdict {
    /// Whether the command that it is about goes ahead, unless that is the end of a message for several recipients.
    pub(crate) fn lets_go_on(&self) -> bool {
        match self {
            Self::Accept => true,
            Self::Reply(reply) => reply.is_positive(),
            Self::TryLater | Self::Recipients(_) => false,
        }
    }
}

impl From<Reply> for Verdict {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

/// An answered question, for [`Connection::answer`](crate::Connection::answer).
///
/// Dropping it instead counts as not answering.
#[derive(Debug)]
#[must_use = "an answer takes effect when it is given to `Connection::answer`"]
pub struct Answer {
    pub(crate) ticket: Ticket,
    pub(crate) kind: AnswerKind,
}

pub(crate) enum AnswerKind {
    Hook(Verdict),
    Authenticator(AuthResult, Credentials),
    Turn(TurnAnswer, Secret),
}

impl fmt::Debug for AnswerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hook(verdict) => verdict.fmt(f),
            Self::Authenticator(result, _) => result.fmt(f),
            Self::Turn(answer, _) => answer.fmt(f),
        }
    }
}

/// The answer belongs to a question that this connection is not asking: another connection's, or one
/// whose time had run out. The connection is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAsked;

impl fmt::Display for NotAsked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is not asking this question")
    }
}

impl core::error::Error for NotAsked {}

/// Where a connection learns that its question was dropped.
#[derive(Debug, Default)]
pub(crate) struct Slot(Arc<Numbers>);

/// The numbers of questions; 0 is none.
#[derive(Debug, Default)]
struct Numbers {
    /// That of the question that was asked last. Only the connection looks at it.
    asked: AtomicU32,
    /// That of the question that was abandoned last.
    abandoned: AtomicU32,
}

impl Slot {
    pub(crate) fn ask(&mut self) -> Ticket {
        Ticket { numbers: Some(Arc::clone(&self.0)), number: self.next() }
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.0.abandoned.load(Ordering::Acquire) == self.asked()
    }

    /// No ticket that is out is good any more.
    pub(crate) fn expire(&mut self) {
        self.next();
    }

    /// Takes a ticket in; whether it is that of the question asked last.
    pub(crate) fn redeem(&self, ticket: &mut Ticket) -> bool {
        let ours = ticket.numbers.as_ref().is_some_and(|numbers| Arc::ptr_eq(numbers, &self.0))
            && ticket.number == self.asked();
        if ours {
            ticket.numbers = None;
        }
        ours
    }

    fn asked(&self) -> u32 {
        self.0.asked.load(Ordering::Relaxed)
    }

    fn next(&mut self) -> u32 {
        // After four billion questions on one connection, a number may be the one that was abandoned
        // last: skipping zero is all that is needed, as only the newest question is ever looked for.
        let next = self.asked().checked_add(1).unwrap_or(1);
        self.0.asked.store(next, Ordering::Relaxed);
        next
    }
}

/// The right to answer one question.
pub(crate) struct Ticket {
    numbers: Option<Arc<Numbers>>,
    number: u32,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(numbers) = &self.numbers {
            // A late drop of an older ticket must not hide that of a newer one.
            numbers.abandoned.fetch_max(self.number, Ordering::AcqRel);
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "question {}", self.number)
    }
}
