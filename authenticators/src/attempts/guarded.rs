//! An authenticator that asks whether there were too many failures first.

use std::sync::Arc;

use sansmtp::auth::Attempt;
use sansmtp::{AuthRequest, AuthResult};

use super::ValkeyAttemptLog;
use super::valkey::Standing;
use crate::{Authenticator, Knows};

/// Asks a [`ValkeyAttemptLog`] before it asks an authenticator. Who has failed too often gets `454 4.7.0`.
///
/// It counts nothing: the engine tells the log of failures, for which [`Auth::attempts`](sansmtp::Auth::attempts) needs
/// it, too.
#[derive(Debug)]
pub struct Guarded<A> {
    inner: A,
    log: Arc<ValkeyAttemptLog>,
}

impl<A> Guarded<A> {
    /// Guards an authenticator.
    pub fn new(inner: A, log: Arc<ValkeyAttemptLog>) -> Self {
        Self { inner, log }
    }
}

impl<A: Authenticator> Authenticator for Guarded<A> {
    fn authenticate(&self, request: &AuthRequest) -> AuthResult {
        let attempt = Attempt::new(request.peer(), request.mechanism(), request.credentials().authcid());
        match self.log.ask(&attempt) {
            Standing::Admitted => self.inner.authenticate(request),
            Standing::TooManyFailures => {
                tracing::debug!(peer = %request.peer(), mechanism = %request.mechanism(), "too many failed logins");
                too_many_failures()
            }
            Standing::CannotTell => AuthResult::cannot_tell(),
        }
    }

    fn knows(&self, request: &AuthRequest) -> Knows {
        self.inner.knows(request)
    }
}

/// As the engine answers where it knows by itself.
fn too_many_failures() -> AuthResult {
    let message = "454 4.7.0 Too many failed attempts, try again later".parse().ok();
    let with_message = message.and_then(|message| AuthResult::cannot_tell().with_message(message).ok());
    with_message.unwrap_or_else(AuthResult::cannot_tell)
}
