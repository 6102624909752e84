//! The AuthResult API: what an authenticator says.

use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;
use core::fmt;

use crate::canned::{self, Canned};
use crate::reply::Reply;

/// The outcome of an authentication: yes, no, cannot tell, or handled by a reply of one's own.
///
/// ```
/// use sansmtp::{AuthResult, Refusal};
///
/// let yes = AuthResult::accept().with_login("tim@example.org").with_auth_data(42_u64);
/// assert!(yes.success());
///
/// // The peer gets the same `535 5.7.8` as for a wrong password; the event says which it was.
/// let no = AuthResult::refuse_because(Refusal::Disabled);
/// assert!(!no.success());
///
/// let later = AuthResult::cannot_tell().with_message("454 4.7.0 The directory is down".parse()?)?;
/// assert_eq!(later.message().map(|reply| reply.code()), Some(454));
///
/// // A message cannot contradict its result.
/// assert!(AuthResult::refuse().with_message("235 2.7.0 Welcome".parse()?).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct AuthResult {
    pub(crate) outcome: Outcome,
    pub(crate) message: Option<Reply>,
    pub(crate) auth_data: Option<Arc<dyn Any + Send + Sync>>,
    pub(crate) login: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Accepted {
        authzid_granted: bool,
    },
    Refused(Refusal),
    CannotTell,
    /// The message is the whole answer.
    Handled,
}

/// Why credentials are refused: for the embedder's events and counters. Where the first three look
/// the same to the peer, nobody can find out which users exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// The credentials do not match: `535 5.7.8`.
    BadCredentials,
    /// There is no such user: `535 5.7.8`, as if the password were wrong.
    UnknownUser,
    /// The user may not log in: `535 5.7.8`, as if the password were wrong.
    Disabled,
    /// The user may use stronger mechanisms only: `534 5.7.9`.
    MechanismTooWeak,
    /// The user must log in with PLAIN once, so that the server learns what a stronger mechanism needs:
    /// `432 4.7.12`.
    PasswordTransitionNeeded,
    /// The user may log in under encryption only: `538 5.7.11`.
    EncryptionRequired,
}

impl AuthResult {
    /// The credentials are right: `235 2.7.0`.
    ///
    /// If the client asked to act as somebody else (an authzid that differs from the authcid), this is
    /// not enough, and the client is refused: see [`granting_authzid`](Self::granting_authzid).
    pub fn accept() -> Self {
        Self::new(Outcome::Accepted { authzid_granted: false })
    }

    /// The credentials are wrong: `535 5.7.8`.
    pub fn refuse() -> Self {
        Self::refuse_because(Refusal::BadCredentials)
    }

    /// The credentials are refused for a reason that [`Event::AuthFailed`](crate::Event::AuthFailed)
    /// reports.
    pub fn refuse_because(refusal: Refusal) -> Self {
        Self::new(Outcome::Refused(refusal))
    }

    /// The authenticator cannot say (its database is down): `454 4.7.0`. Does not count as a failure.
    pub fn cannot_tell() -> Self {
        Self::new(Outcome::CannotTell)
    }

    /// The decision has been carried out otherwise and ends with `reply`; the client is not
    /// authenticated. Nothing is counted, and nothing added.
    ///
    /// # Errors
    ///
    /// [`InvalidMessage`] for a reply below 400: it would tell the client something that is not so.
    pub fn handled_with(reply: Reply) -> Result<Self, InvalidMessage> {
        Self::new(Outcome::Handled).with_message(reply)
    }

    /// Replaces the engine's reply.
    ///
    /// # Errors
    ///
    /// [`InvalidMessage`] if the code contradicts the result: a success is 235, a refusal 4xx or 5xx,
    /// "cannot tell" 4xx, but never 421, which would announce an end of the connection.
    pub fn with_message(mut self, reply: Reply) -> Result<Self, InvalidMessage> {
        let code = reply.code();
        let fits = match self.outcome {
            Outcome::Accepted { .. } => code == 235,
            Outcome::Refused(_) | Outcome::Handled => code >= 400 && code != 421,
            Outcome::CannotTell => (400..500).contains(&code) && code != 421,
        };
        if !fits {
            return Err(InvalidMessage);
        }
        self.message = Some(reply);
        Ok(self)
    }

    /// Attaches data of any type, which the session keeps: [`Session::auth_data`](crate::Session::auth_data).
    pub fn with_auth_data<T: Any + Send + Sync>(mut self, data: T) -> Self {
        self.auth_data = Some(Arc::new(data));
        self
    }

    /// Names the login that the session keeps, where it is not the authcid as the client wrote it.
    pub fn with_login(mut self, login: impl Into<String>) -> Self {
        self.login = Some(login.into());
        self
    }

    /// Grants the authzid that the client asked for: this user may act as that one (RFC 4422, section
    /// 3.4.1). Changes nothing unless this is an acceptance.
    pub fn granting_authzid(mut self) -> Self {
        if let Outcome::Accepted { authzid_granted } = &mut self.outcome {
            *authzid_granted = true;
        }
        self
    }

    /// Whether the client is authenticated.
    #[must_use]
    pub fn success(&self) -> bool {
        matches!(self.outcome, Outcome::Accepted { .. })
    }

    /// Whether the decision and its reply came from [`handled_with`](Self::handled_with).
    #[must_use]
    pub fn handled(&self) -> bool {
        self.outcome == Outcome::Handled
    }

    /// The reply that replaces the engine's.
    #[must_use]
    pub fn message(&self) -> Option<&Reply> {
        self.message.as_ref()
    }

    /// The attached data, if it is a `T`.
    #[must_use]
    pub fn auth_data<T: 'static>(&self) -> Option<&T> {
        self.auth_data.as_deref()?.downcast_ref()
    }

    fn new(outcome: Outcome) -> Self {
        Self { outcome, message: None, auth_data: None, login: None }
    }
}

impl Refusal {
    pub(crate) fn reply(self) -> Canned {
        match self {
            Self::BadCredentials | Self::UnknownUser | Self::Disabled => canned::BAD_CREDENTIALS,
            Self::MechanismTooWeak => canned::MECHANISM_TOO_WEAK,
            Self::PasswordTransitionNeeded => canned::PASSWORD_TRANSITION,
            Self::EncryptionRequired => canned::ENCRYPTION_REQUIRED,
        }
    }
}

impl fmt::Debug for AuthResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthResult")
            .field("outcome", &self.outcome)
            .field("message", &self.message)
            // It may be a token.
            .field("has_auth_data", &self.auth_data.is_some())
            .field("login", &self.login)
            .finish()
    }
}

/// The message's code contradicts the result that it was to announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidMessage;

impl fmt::Display for InvalidMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the code of the message contradicts the result of the authentication")
    }
}

impl core::error::Error for InvalidMessage {}
