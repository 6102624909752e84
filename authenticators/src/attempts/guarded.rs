//! An authenticator that asks whether there were too many failures first.

use std::sync::Arc;

use sansmtp::auth::Attempt;
use sansmtp::{AuthRequest, AuthResult};

use super::ValkeyAttemptLog;
use crate::{Answers, Authenticator, Knows};

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
        self.log.ask(&attempt).result().unwrap_or_else(|| self.inner.authenticate(request))
    }

    fn knows(&self, request: &AuthRequest) -> Knows {
        self.inner.knows(request)
    }

    fn answers(&self, mechanism: &str) -> Answers {
        self.inner.answers(mechanism)
    }
}
