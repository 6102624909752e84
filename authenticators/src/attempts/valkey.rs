//! The log that counts for a fleet.

use std::fmt;
use std::time::Instant;

use sansmtp::auth::{Attempt, AttemptLog, MemoryAttemptLog};
use sansmtp::{AuthResult, reply};

use super::counted::{Counter, Counts};
use super::courier::{Answer, Courier, Settings};
use super::{ValkeyConfig, ValkeyError, WhenUnreachable};

/// Counts failures in Valkey or Redis, for all servers that use it, and in memory meanwhile: see the
/// [module](super).
pub struct ValkeyAttemptLog {
    config: ValkeyConfig,
    counter: Counter,
    courier: Courier,
    /// What has happened in this process, which is known at once and whether the server can be reached or not.
    here: MemoryAttemptLog,
}

/// Whether an attempt may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "whoever asks must know what to do with each")]
pub enum Standing {
    /// It may.
    Admitted,
    /// There were too many failures.
    TooManyFailures,
    /// The server cannot be reached, and nobody is to get in without it ([`WhenUnreachable::Closed`]).
    CannotTell,
}

impl Standing {
    /// What to answer without asking anybody else; `None` where the attempt may go on. As the engine answers where it
    /// knows by itself.
    #[must_use]
    pub fn result(self) -> Option<AuthResult> {
        match self {
            Self::Admitted => None,
            Self::TooManyFailures => {
                let message = reply!("454 4.7.0 Too many failed attempts, try again later");
                Some(AuthResult::cannot_tell().with_message(message).unwrap_or_else(|_| AuthResult::cannot_tell()))
            }
            Self::CannotTell => Some(AuthResult::cannot_tell()),
        }
    }
}

impl ValkeyAttemptLog {
    /// Starts a thread that connects to the server; whether it can be reached shows later. The thread ends when the log
    /// is dropped.
    ///
    /// # Errors
    /// [`ValkeyError`] where the configuration cannot work.
    pub fn new(mut config: ValkeyConfig) -> Result<Self, ValkeyError> {
        let counter = Counter::new(config.take_key()?, &config.limits);
        let courier = Courier::start(Settings {
            client: config.client()?,
            address: config.address.clone(),
            time_limit: config.time_limit,
            window: config.limits.window,
            entries: config.limits.entries,
        });
        let started = Instant::now();
        let here = MemoryAttemptLog::new(config.limits, move || started.elapsed());
        Ok(Self { config, counter, courier: courier.map_err(ValkeyError::Thread)?, here })
    }

    /// Asks the server whether an attempt may go on. Blocks, for the [time limit](ValkeyConfig::time_limit) at the most.
    ///
    /// [`Guarded`](super::Guarded) does this for an authenticator; who answers the AUTH handler hook does it
    /// themselves, at the first turn of each exchange.
    #[must_use]
    pub fn ask(&self, attempt: &Attempt<'_>) -> Standing {
        let standing = self.standing(attempt);
        if standing == Standing::TooManyFailures {
            tracing::debug!(peer = %attempt.peer, mechanism = %attempt.mechanism, "too many failed logins");
        }
        standing
    }

    fn standing(&self, attempt: &Attempt<'_>) -> Standing {
        let counts = self.counter.of(attempt);
        if !self.admits_here(attempt, &counts) {
            return Standing::TooManyFailures;
        }
        if counts.iter().all(Option::is_none) {
            return Standing::Admitted;
        }
        match (self.courier.ask(counts), self.config.when_unreachable) {
            (Answer::Admitted, _) | (Answer::Unreachable, WhenUnreachable::Open) => Standing::Admitted,
            (Answer::Barred, _) => Standing::TooManyFailures,
            (Answer::Unreachable, WhenUnreachable::Closed) => Standing::CannotTell,
        }
    }

    /// Whether the server has answered the last time.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        self.courier.is_reachable()
    }

    fn admits_here(&self, attempt: &Attempt<'_>, counts: &Counts) -> bool {
        let barred = |key| self.courier.barred().is_barred(key);
        self.here.admits(attempt) && !counts.iter().flatten().any(|counted| barred(counted.key))
    }
}

/// What this process knows, without waiting.
impl AttemptLog for ValkeyAttemptLog {
    fn admits(&self, attempt: &Attempt<'_>) -> bool {
        self.admits_here(attempt, &self.counter.of(attempt))
    }

    fn failed(&self, attempt: &Attempt<'_>) {
        self.here.failed(attempt);
        let counts = self.counter.of(attempt);
        if counts.iter().any(Option::is_some) {
            self.courier.tell(counts);
        }
    }
}

impl fmt::Debug for ValkeyAttemptLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValkeyAttemptLog").field("config", &self.config).finish_non_exhaustive()
    }
}

static_assertions::assert_impl_all!(ValkeyAttemptLog: Send, Sync);
