//! The authenticator's question.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;

use super::mechanism::{BearerToken, ClientCertificate, CramMd5Response, ScramLookup, Trace};
use super::{Attempt, AuthResult, Credentials, MechanismName, Password, Reservation, ScramHash};
use crate::question::{Answer, AnswerKind, Ticket};
use crate::session::{Peer, TlsInfo};

/// What a mechanism wants to know of the authenticator.
///
/// ```
/// use sansmtp::auth::{AuthQuestion, AuthRequest, AuthResult, Refusal, ScramKeys};
///
/// /// What is stored of tim's password; keys of a random one are in `nobody`, so that other names take as long.
/// fn authenticate(request: &AuthRequest, stored: &ScramKeys, nobody: &ScramKeys) -> AuthResult {
///     let known = request.credentials().authcid() == "tim";
///     let keys = if known { stored } else { nobody };
///     let right = match request.question() {
///         AuthQuestion::Password(password) => keys.verify(password),
///         AuthQuestion::ScramKeys(hash) if known && keys.hash() == hash => return AuthResult::scram_keys(keys.clone()),
///         // Nothing is in store for the mechanism, which must not tell that there is such a user.
///         AuthQuestion::ScramKeys(_) if known => return AuthResult::refuse_because(Refusal::NoKeys),
///         _ => false,
///     };
///     match known {
///         true if right => AuthResult::accept(),
///         true => AuthResult::refuse(),
///         false => AuthResult::refuse_because(Refusal::UnknownUser),
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum AuthQuestion<'r> {
    /// Is this the authcid's password? PLAIN and LOGIN. It comes as it was sent and prepared: see [`Password`].
    Password(Password<'r>),
    /// Which keys does the authcid have? SCRAM, in the middle of the exchange:
    /// [`AuthResult::scram_keys`]. An unknown user is
    /// [`Refusal::UnknownUser`](super::Refusal::UnknownUser), and does not learn it.
    ScramKeys(ScramHash),
    /// Was this made with the authcid's password? CRAM-MD5.
    CramMd5(&'r CramMd5Response),
    /// Whose is this token, and is it good? OAUTHBEARER (say so by
    /// [`with_login`](AuthResult::with_login)). Is it the authcid's, and good? XOAUTH2.
    BearerToken(&'r BearerToken),
    /// Whom does the client's verified certificate name? EXTERNAL; the chain, its own certificate first,
    /// in DER. Say so by [`with_login`](AuthResult::with_login).
    ClientCertificate(&'r [Vec<u8>]),
    /// May somebody in who proves nothing? ANONYMOUS.
    Anonymous(&'r Trace),
    /// A mechanism of the embedder's own asks: [`AuthRequest::data`].
    Other,
}

/// Asks whether credentials are right. Owned, so that a thread pool can take it: checking a password
/// takes tens of milliseconds when it is done well.
///
/// Everything secret in it is zeroized when it is answered or dropped. A request that is dropped
/// without an answer counts as a failure of the authenticator: `454 4.7.0`.
pub struct AuthRequest {
    pub(crate) ticket: Ticket,
    pub(crate) mechanism: MechanismName,
    pub(crate) credentials: Credentials,
    pub(crate) data: Option<Box<dyn Any + Send + Sync>>,
    pub(crate) peer: Peer,
    pub(crate) tls: Option<Arc<TlsInfo>>,
    pub(crate) reservation: Option<Reservation>,
}

impl AuthRequest {
    /// The mechanism that the client chose.
    #[must_use]
    pub fn mechanism(&self) -> MechanismName {
        self.mechanism
    }

    /// What the mechanism gathered: for PLAIN and LOGIN, identities and password.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// What the mechanism wants to know.
    #[must_use]
    pub fn question(&self) -> AuthQuestion<'_> {
        if let Some(lookup) = self.data::<ScramLookup>() {
            AuthQuestion::ScramKeys(lookup.hash)
        } else if let Some(response) = self.data::<CramMd5Response>() {
            AuthQuestion::CramMd5(response)
        } else if let Some(token) = self.data::<BearerToken>() {
            AuthQuestion::BearerToken(token)
        } else if self.data::<ClientCertificate>().is_some() {
            AuthQuestion::ClientCertificate(self.tls().map_or(&[], |tls| &tls.peer_certificates))
        } else if let Some(trace) = self.data::<Trace>() {
            AuthQuestion::Anonymous(trace)
        } else {
            match self.credentials.password() {
                Some(password) if self.data.is_none() => AuthQuestion::Password(password),
                Some(_) | None => AuthQuestion::Other,
            }
        }
    }

    /// A mechanism's own data, if it is a `T`.
    #[must_use]
    pub fn data<T: 'static>(&self) -> Option<&T> {
        self.data.as_deref()?.downcast_ref()
    }

    /// Where the connection comes from.
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// The connection's TLS.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsInfo> {
        self.tls.as_deref()
    }

    /// The attempt as the [`AttemptLog`](super::AttemptLog) knows it, with what it has reserved: for
    /// authenticators that limit attempts as well.
    #[must_use]
    pub fn attempt(&self) -> Attempt<'_> {
        let attempt = Attempt::new(self.peer, self.mechanism, self.credentials.authcid());
        Attempt { reservation: self.reservation, ..attempt }
    }

    /// Turns the authenticator's result into the answer to this request.
    ///
    /// Given to [`Connection::answer`](crate::Connection::answer), success becomes `235 2.7.0`, a
    /// refusal `535 5.7.8` and a failure of the authenticator itself `454 4.7.0` (RFC 4954, section 6),
    /// unless `result` brings its own reply. After success, a further AUTH is refused with 503.
    pub fn answer(self, result: AuthResult) -> Answer {
        let Self { ticket, mut credentials, .. } = self;
        // The identities go back to become the session's; the password has done its work.
        credentials.forget_password();
        Answer { ticket, kind: AnswerKind::Authenticator(result, credentials) }
    }
}

impl fmt::Debug for AuthRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthRequest")
            .field("mechanism", &self.mechanism)
            .field("credentials", &self.credentials)
            .field("peer", &self.peer)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

static_assertions::assert_impl_all!(AuthRequest: Send, Sync);
