//! The log that counts for a fleet.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use sansmtp::auth::{Attempt, AttemptLog, MemoryAttemptLog, Reservation};
use sansmtp::{AuthResult, reply};

use super::{ValkeyConfig, ValkeyError, WhenUnreachable};
use crate::counting::counted::{Counter, Counts};
use crate::counting::counter_client::{Answer, CounterClient, ServerReservation, Settings};

/// Counts failures in Valkey or Redis, for all servers that use it, and in memory meanwhile: see the
/// [module](super).
pub struct ValkeyAttemptLog {
    config: ValkeyConfig,
    counter: Counter,
    /// Tells this log's reservations from those of others.
    id: u64,
    next: AtomicU64,
    /// The attempts that are not over, by their number. What they have taken goes to the client when they are dropped,
    /// so they stand before it.
    open: Mutex<HashMap<u64, Open>>,
    client: CounterClient,
    /// What has happened in this process, which is known at once and whether the server can be reached or not.
    here: MemoryAttemptLog,
}

/// An attempt that is not over.
struct Open {
    here: Reservation,
    counts: Counts,
    /// What it has taken at the server, once it was asked.
    at_server: Option<ServerReservation>,
}

/// Whether an attempt may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "whoever asks must know what to do with each")]
pub enum Standing {
    /// It may.
    Admitted,
    /// There were too many failures.
    TooManyFailures,
    /// The server cannot be reached, and no attempt may go on without it ([`WhenUnreachable::Closed`]), or as many
    /// questions wait for its answer as [may](ValkeyConfig::max_waiting).
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
        let client = CounterClient::start(Settings {
            what: "failed logins",
            client: config.client()?,
            address: config.address.clone(),
            time_limit: config.time_limit,
            max_waiting: config.max_waiting,
            window: config.limits.window,
            entries: config.limits.entries,
        });
        let started = Instant::now();
        let here = MemoryAttemptLog::new(config.limits, move || started.elapsed());
        Ok(Self {
            config,
            counter,
            id: RandomState::new().hash_one(0_u8),
            next: AtomicU64::new(0),
            open: Mutex::default(),
            client: client.map_err(ValkeyError::Thread)?,
            here,
        })
    }

    /// Asks the server whether an attempt may go on, and reserves the failure there that it may become. Blocks, for the
    /// [time limit](ValkeyConfig::time_limit) at the most.
    ///
    /// The attempt is that of [`AuthRequest::attempt`](sansmtp::AuthRequest::attempt) or
    /// [`AuthTurn::attempt`](sansmtp::AuthTurn::attempt), which the engine has made with this log: it then gives back
    /// what was reserved, unless the attempt is refused. Asked again for the same attempt, nothing more is reserved. For
    /// any other attempt the server only says whether there is room.
    ///
    /// [`Guarded`](super::Guarded) does this for an authenticator. A handler that answers the AUTH handler hook asks
    /// at the first turn of each exchange.
    #[must_use]
    pub fn ask(&self, attempt: &Attempt<'_>) -> Standing {
        let standing = match attempt.reservation.and_then(|reservation| self.number(reservation)) {
            Some(number) => self.take(number, self.counter.of(attempt)),
            None => self.look(attempt),
        };
        if standing == Standing::TooManyFailures {
            tracing::debug!(peer = %attempt.peer, mechanism = %attempt.mechanism, "too many failed logins");
        }
        standing
    }

    /// Whether the server has answered the last time.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        self.client.is_reachable()
    }

    fn take(&self, number: u64, counts: Counts) -> Standing {
        match self.open().get_mut(&number) {
            // Its question was not answered in time, or dropped: what is answered now is not heard.
            None => return Standing::CannotTell,
            Some(Open { at_server: Some(_), .. }) => return Standing::Admitted,
            // Who asks may know more than the engine: the name, in a mechanism of the handler's own.
            Some(open) => open.counts = counts,
        }
        if counts.iter().all(Option::is_none) {
            return Standing::Admitted;
        }
        match self.client.ask(counts, true) {
            Answer::Admitted(mut at_server) => {
                if let Some(open) = self.open().get_mut(&number) {
                    std::mem::swap(&mut open.at_server, &mut at_server);
                    return Standing::Admitted;
                }
                // It is over in the meantime; what it has taken is given back here.
                Standing::CannotTell
            }
            Answer::Barred(_) => Standing::TooManyFailures,
            Answer::Unreachable => self.unreachable(),
            // Whoever could make a crowd would not be counted otherwise.
            Answer::Full => Standing::CannotTell,
        }
    }

    fn look(&self, attempt: &Attempt<'_>) -> Standing {
        let counts = self.counter.of(attempt);
        let here = self.here.admit(attempt).map(|reservation| self.here.release(reservation));
        if here.is_none() || self.is_barred(&counts) {
            return Standing::TooManyFailures;
        }
        if counts.iter().all(Option::is_none) {
            return Standing::Admitted;
        }
        match self.client.ask(counts, false) {
            Answer::Admitted(_) => Standing::Admitted,
            Answer::Barred(_) => Standing::TooManyFailures,
            Answer::Unreachable => self.unreachable(),
            Answer::Full => Standing::CannotTell,
        }
    }

    fn unreachable(&self) -> Standing {
        match self.config.when_unreachable {
            WhenUnreachable::Open => Standing::Admitted,
            WhenUnreachable::Closed => Standing::CannotTell,
        }
    }

    fn is_barred(&self, counts: &Counts) -> bool {
        self.client.is_barred(counts)
    }

    /// The number of an attempt, if it is this log that has reserved something for it.
    fn number(&self, reservation: Reservation) -> Option<u64> {
        let number = reservation.number();
        let [id, number] = [number >> 64, number & u128::from(u64::MAX)].map(u64::try_from);
        number.ok().filter(|_| id == Ok(self.id))
    }

    /// Whether it is this log that has reserved something for the attempt.
    pub(super) fn knows(&self, attempt: &Attempt<'_>) -> bool {
        attempt.reservation.is_some_and(|reservation| self.number(reservation).is_some())
    }

    fn close(&self, reservation: Reservation) -> Option<Open> {
        self.open().remove(&self.number(reservation)?)
    }

    fn count(&self, counts: Counts) {
        if counts.iter().any(Option::is_some) {
            self.client.count(counts, 1);
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What this process knows, without waiting.
impl AttemptLog for ValkeyAttemptLog {
    fn admit(&self, attempt: &Attempt<'_>) -> Option<Reservation> {
        let counts = self.counter.of(attempt);
        if self.is_barred(&counts) {
            return None;
        }
        let here = self.here.admit(attempt)?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.open().insert(number, Open { here, counts, at_server: None });
        Some(Reservation::new(u128::from(self.id) << 64 | u128::from(number)))
    }

    fn release(&self, reservation: Reservation) {
        if let Some(open) = self.close(reservation) {
            self.here.release(open.here);
        }
    }

    fn refused(&self, attempt: &Attempt<'_>) {
        let mut here = *attempt;
        here.reservation = None;
        let open = attempt.reservation.and_then(|reservation| self.close(reservation));
        here.reservation = open.as_ref().map(|open| open.here);
        self.here.refused(&here);
        match open {
            Some(Open { at_server: Some(at_server), .. }) => at_server.keep(),
            // A mechanism has decided by itself, or the server did not answer.
            Some(open) => self.count(open.counts),
            None => self.count(self.counter.of(attempt)),
        }
    }

    fn may_begin(&self, attempt: &Attempt<'_>) -> bool {
        self.here.may_begin(attempt)
    }

    fn unfinished(&self, attempt: &Attempt<'_>) {
        self.here.unfinished(attempt);
    }
}

impl fmt::Debug for ValkeyAttemptLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValkeyAttemptLog").field("config", &self.config).finish_non_exhaustive()
    }
}

static_assertions::assert_impl_all!(ValkeyAttemptLog: Send, Sync);
