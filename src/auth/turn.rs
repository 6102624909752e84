//! The AUTH handler hook: the embedder runs the exchange itself, step by step.

use alloc::vec::Vec;
use core::fmt;

use super::{Attempt, AuthResult, MechanismName, Reservation};
use crate::question::{Answer, AnswerKind, Ticket};
use crate::secret::{Secret, SecretRef};
use crate::session::Peer;

/// One step of an exchange that the embedder runs: what the client sent, and the choice of what it
/// gets.
///
/// The first turn is the AUTH command itself, with its words: [`mechanism`](Self::mechanism) and, if
/// there was one, the initial response. After each [`challenge`](Self::challenge) comes a turn with
/// the client's response. The engine keeps to RFC 4954 around it: base64, `*`, line lengths, timeouts.
///
/// A turn that is dropped without an answer ends the exchange with `454 4.7.0`.
///
/// A whole AUTH command of one's own, which knows a single mechanism and waits for something between its
/// steps:
///
/// ```
/// use sansmtp::{Action, Auth, AuthResult, Config, Connection, Peer};
/// use std::time::Duration;
///
/// let auth = Auth::new().handler_mechanism("X-ONE-TIME").handler_takes_all().require_tls(false);
/// let config = Config::builder("mx.example.org").auth(auth).build()?;
/// let mut connection = Connection::new(config, Peer::local());
/// // "tim" and "314159", in base64.
/// let mut input: &[u8] = b"EHLO c.example\r\nAUTH X-ONE-TIME dGlt\r\nMzE0MTU5\r\nAUTH PLAIN\r\n";
/// let (mut replies, mut name) = (Vec::new(), String::new());
/// loop {
///     match connection.poll(Duration::ZERO, &mut input) {
///         Action::Reply(reply) => replies.push(reply.to_string()),
///         Action::Challenge(challenge) => replies.push(challenge.to_string()),
///         Action::CallAuthHandler(turn) => {
///             let response = turn.response().map(|response| response.expose_secret().to_vec());
///             let answer = match (turn.number(), response) {
///                 (0, Some(authcid)) if turn.mechanism() == "X-ONE-TIME" => {
///                     name = String::from_utf8(authcid)?;
///                     turn.challenge(*b"code?")
///                 }
///                 (1, Some(code)) if code == b"314159" => turn.result(AuthResult::accept().with_login(name.as_str())),
///                 (1, Some(_)) => turn.result(AuthResult::refuse()),
///                 _ => turn.result(AuthResult::handled_with("504 5.5.4 X-ONE-TIME only".parse()?)?),
///             };
///             connection.answer(answer)?;
///         }
///         Action::NeedInput { .. } => break,
///         _ => {}
///     }
/// }
/// assert_eq!(replies[2..], ["334 Y29kZT8=", "235 2.7.0 Authentication successful", "503 5.5.1 Authenticated already"]);
/// assert_eq!(connection.session().login(), Some("tim"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct AuthTurn {
    pub(crate) ticket: Ticket,
    pub(crate) mechanism: MechanismName,
    pub(crate) number: u32,
    pub(crate) response: Option<Secret>,
    pub(crate) peer: Peer,
    pub(crate) reservation: Option<Reservation>,
}

pub(crate) enum TurnAnswer {
    Challenge(Vec<u8>),
    ChallengeVerbatim(Vec<u8>),
    Finish(AuthResult),
    Malformed,
}

impl fmt::Debug for TurnAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Challenge(_) | Self::ChallengeVerbatim(_) => "challenge",
            Self::Finish(_) => "result",
            Self::Malformed => "malformed",
        })
    }
}

impl AuthTurn {
    /// The mechanism that the client named, in upper case. With
    /// [`Auth::handler_takes_all`](super::Auth::handler_takes_all) it may be one that nobody offered.
    #[must_use]
    pub fn mechanism(&self) -> MechanismName {
        self.mechanism
    }

    /// 0 for the AUTH command, 1 for the response to the first challenge, and so on.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// What the client sent, decoded. `None` only for an AUTH command without an initial response; an
    /// empty one (`=`) is `Some` and empty (RFC 4954, section 4).
    #[must_use]
    pub fn response(&self) -> Option<SecretRef<'_>> {
        self.response.as_ref().map(Secret::as_ref)
    }

    /// The attempt as the [`AttemptLog`](super::AttemptLog) knows it, with what it has reserved: for
    /// handlers that limit attempts as well. Nothing says who the client is: the handler may know.
    #[must_use]
    pub fn attempt(&self) -> Attempt<'static> {
        Attempt { reservation: self.reservation, ..Attempt::new(self.peer, self.mechanism, "") }
    }

    /// Sends a challenge, which the engine encodes in base64.
    pub fn challenge(self, challenge: impl Into<Vec<u8>>) -> Answer {
        self.finish(TurnAnswer::Challenge(challenge.into()))
    }

    /// Sends a challenge as it is, behind `334 `, for mechanisms that leave the RFC's encoding. Any
    /// octet outside printable ASCII in it makes the exchange fail with `454 4.7.0`.
    pub fn challenge_verbatim(self, challenge: impl Into<Vec<u8>>) -> Answer {
        self.finish(TurnAnswer::ChallengeVerbatim(challenge.into()))
    }

    /// Ends the exchange. [`AuthResult::with_login`] says who has logged in.
    pub fn result(self, result: AuthResult) -> Answer {
        self.finish(TurnAnswer::Finish(result))
    }

    /// Ends the exchange because the response is not what the mechanism expects: `501 5.5.2`.
    pub fn malformed(self) -> Answer {
        self.finish(TurnAnswer::Malformed)
    }

    fn finish(self, answer: TurnAnswer) -> Answer {
        Answer { ticket: self.ticket, kind: AnswerKind::Turn(answer, self.response.unwrap_or_default()) }
    }
}

impl fmt::Debug for AuthTurn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthTurn")
            .field("mechanism", &self.mechanism)
            .field("number", &self.number)
            .field("response", &self.response)
            .finish_non_exhaustive()
    }
}
