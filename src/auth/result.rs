//! The AuthResult API: what an authenticator says.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;
use core::fmt;

use super::{Credentials, ScramKeys};
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
    /// What most results do not have, so that those cost nothing.
    pub(crate) attached: Option<Box<Attached>>,
}

#[derive(Clone, Default)]
pub(crate) struct Attached {
    pub(crate) auth_data: Option<Arc<dyn Any + Send + Sync>>,
    pub(crate) login: Option<String>,
    pub(crate) keys: Option<ScramKeys>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Accepted {
        authzid_granted: bool,
    },
    Refused(Refusal),
    /// The keys for which a SCRAM exchange asked; it goes on.
    Found {
        authzid_granted: bool,
    },
    CannotTell,
    /// The message is the whole answer.
    Handled,
}

/// Why credentials are refused: for the embedder's events and counters.
///
/// Where an unknown user, a wrong password, a disabled account and one without keys look the same to the peer, nobody can
/// find out which users exist. A refusal with a reply of its own (432, 534, 538) tells that there is such a user, unless
/// it is given for unknown names as well, or after the right password only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// The credentials do not match: `535 5.7.8`.
    BadCredentials,
    /// There is no such user: `535 5.7.8`, as if the password were wrong.
    UnknownUser,
    /// The user may not log in: `535 5.7.8`, as if the password were wrong.
    Disabled,
    /// There is nothing in store for the user that the mechanism needs: `535 5.7.8`, as if the password were wrong.
    /// SCRAM challenges as if there were keys.
    NoKeys,
    /// The user may use stronger mechanisms only: `534 5.7.9`.
    MechanismTooWeak,
    /// The user must log in with PLAIN once, so that the server learns what a stronger mechanism needs:
    /// `432 4.7.12`. Before the password was seen to be right, it tells that there is such a user: [`NoKeys`](Self::NoKeys)
    /// does not.
    PasswordTransitionNeeded,
    /// The user may log in under encryption only: `538 5.7.11`.
    EncryptionRequired,
    /// The credentials are right, but the client asked to act as somebody else, and that was not granted:
    /// `535 5.7.8`.
    AuthzidNotGranted,
    /// SCRAM: what the client bound itself to is not this TLS connection, or channel binding was taken out
    /// of what it saw. Somebody may be in between. `535 5.7.8`.
    ChannelBinding,
    /// SCRAM: the nonce in the client's proof is not the one of this exchange: `535 5.7.8`.
    NonceChanged,
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

    /// The keys of the user for whom a SCRAM exchange asked
    /// ([`AuthQuestion::ScramKeys`](super::AuthQuestion::ScramKeys)). Nobody is authenticated yet: the
    /// exchange goes on, and what else the result says holds once the client has proved that it has the
    /// password.
    ///
    /// As an answer to anything else it is [`cannot_tell`](Self::cannot_tell).
    pub fn scram_keys(keys: ScramKeys) -> Self {
        Self::new(Outcome::Found { authzid_granted: false }).with_scram_keys(keys)
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
            Outcome::Accepted { .. } | Outcome::Found { .. } => code == 235,
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
        self.attach().auth_data = Some(Arc::new(data));
        self
    }

    /// Names the login that the session keeps, where it is not the authcid as the client wrote it.
    pub fn with_login(mut self, login: impl Into<String>) -> Self {
        self.attach().login = Some(login.into());
        self
    }

    /// Adds a user's SCRAM keys to a refusal: the client is challenged with their salt, and refused
    /// whatever it proves, so that a disabled account looks as it did before.
    pub fn with_scram_keys(mut self, keys: ScramKeys) -> Self {
        self.attach().keys = Some(keys);
        self
    }

    /// Grants the authzid that the client asked for: this user may act as that one (RFC 4422, section
    /// 3.4.1). Changes nothing unless this is an acceptance, or SCRAM keys.
    pub fn granting_authzid(mut self) -> Self {
        if let Outcome::Accepted { authzid_granted } | Outcome::Found { authzid_granted } = &mut self.outcome {
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
        self.attached.as_deref()?.auth_data.as_deref()?.downcast_ref()
    }

    /// The login named by [`with_login`](Self::with_login).
    #[must_use]
    pub fn login(&self) -> Option<&str> {
        self.attached.as_deref()?.login.as_deref()
    }

    /// The keys of [`scram_keys`](Self::scram_keys) or [`with_scram_keys`](Self::with_scram_keys).
    #[must_use]
    pub fn keys(&self) -> Option<&ScramKeys> {
        self.attached.as_deref()?.keys.as_ref()
    }

    /// Why the client is refused, if it is.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        match self.outcome {
            Outcome::Refused(refusal) => Some(refusal),
            Outcome::Accepted { .. } | Outcome::Found { .. } | Outcome::CannotTell | Outcome::Handled => None,
        }
    }

    /// The keys were found, and the proof fits them.
    pub(crate) fn found_right(mut self) -> Self {
        if let Outcome::Found { authzid_granted } = self.outcome {
            self.outcome = Outcome::Accepted { authzid_granted };
        }
        if let Some(attached) = &mut self.attached {
            attached.keys = None;
        }
        self
    }

    /// The outcome and the message alone.
    pub(crate) fn without_attached(mut self) -> Self {
        self.attached = None;
        self
    }

    /// Whether the client asked to act as somebody whom this result does not let it act as.
    pub(crate) fn denies_authzid(&self, credentials: &Credentials) -> bool {
        let granted = match self.outcome {
            Outcome::Accepted { authzid_granted } | Outcome::Found { authzid_granted } => authzid_granted,
            Outcome::Refused(_) | Outcome::CannotTell | Outcome::Handled => return false,
        };
        // Who asks to act as themselves asks for nothing.
        !granted && credentials.authzid().is_some_and(|authzid| self.login() != Some(authzid))
    }

    /// This result, unless it accepts a client whom neither it nor the mechanism has a name for.
    pub(crate) fn unless_nameless(self, credentials: &Credentials) -> Self {
        // A login of no characters names nobody either: a token without a subject, a certificate without a name.
        let nameless = self.success() && self.login().unwrap_or(credentials.authcid()).is_empty();
        if nameless { Self::cannot_tell() } else { self }
    }

    fn attach(&mut self) -> &mut Attached {
        self.attached.get_or_insert_default()
    }

    fn new(outcome: Outcome) -> Self {
        Self { outcome, message: None, attached: None }
    }
}

impl Refusal {
    /// Whether the client must not learn which of these it is.
    pub(crate) fn is_uniform(self) -> bool {
        self.reply() == canned::BAD_CREDENTIALS
    }

    pub(crate) fn reply(self) -> Canned {
        match self {
            Self::BadCredentials
            | Self::UnknownUser
            | Self::Disabled
            | Self::NoKeys
            | Self::AuthzidNotGranted
            | Self::ChannelBinding
            | Self::NonceChanged => canned::BAD_CREDENTIALS,
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
            .field("has_auth_data", &self.attached.as_ref().is_some_and(|attached| attached.auth_data.is_some()))
            .field("login", &self.login())
            .field("keys", &self.keys())
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
