//! The authenticator's question.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;
use core::fmt;

use super::{AuthResult, Credentials, MechanismName};
use crate::question::{Answer, AnswerKind, Ticket};
use crate::session::{Peer, TlsInfo};

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

    /// A custom mechanism's own data, if it is a `T`.
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
