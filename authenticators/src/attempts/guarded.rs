//! An authenticator that asks whether there were too many failures first.

use std::sync::Arc;

use sansmtp::auth::{Attempt, AttemptLog};
use sansmtp::{AuthRequest, AuthResult};

use super::{Standing, ValkeyAttemptLog};
use crate::{Addresses, Answers, Authenticator, Knows};

/// Asks a [`ValkeyAttemptLog`] before it asks an authenticator. Who has failed too often gets `454 4.7.0`.
///
/// What became of the attempt, the engine tells the log, for which [`Auth::attempts`](sansmtp::Auth::attempts) needs
/// it, too. Without that, what the authenticator refuses is counted all the same, and wrong proofs of SCRAM, which the
/// engine finds, are not.
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
        let mut attempt = request.attempt();
        let authenticate =
            |attempt: &Attempt<'_>| self.log.ask(attempt).result().unwrap_or_else(|| self.inner.authenticate(request));
        if self.log.knows(&attempt) {
            return authenticate(&attempt);
        }
        attempt.reservation = self.log.admit(&attempt);
        if attempt.reservation.is_none() {
            return Standing::TooManyFailures.result().unwrap_or_else(AuthResult::cannot_tell);
        }
        let released = Released { log: &self.log, attempt };
        let result = authenticate(&attempt);
        if result.refusal().is_some() {
            released.log.refused(&attempt);
        }
        result
    }

    fn knows(&self, request: &AuthRequest) -> Knows {
        self.inner.knows(request)
    }

    fn answers(&self, mechanism: &str) -> Answers {
        self.inner.answers(mechanism)
    }

    fn addresses(&self, login: &str) -> Addresses {
        self.inner.addresses(login)
    }
}

/// An attempt that the engine does not know. Dropped, it is given back, unless it was refused.
struct Released<'a> {
    log: &'a ValkeyAttemptLog,
    attempt: Attempt<'a>,
}

impl Drop for Released<'_> {
    fn drop(&mut self) {
        if let Some(reservation) = self.attempt.reservation {
            self.log.release(reservation);
        }
    }
}
