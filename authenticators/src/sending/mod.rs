//! How many messages a login may send, and to how many recipients, in an hour and in a day.
//!
//! Whoever learns a user's password sends through their login until somebody notices. A [`SendingLog`] bounds what that
//! comes to. It counts in this process, or, with the feature `valkey`, in Valkey or Redis for all servers of a fleet.
//!
//! A handler begins a [`Transaction`] at MAIL, which reserves the message, and adds each recipient at RCPT, which reserves
//! one. To look for room and to take it is one step, so that a crowd of connections does not get more than there is room
//! for. What was reserved counts once [`Transaction::sent`] is called. A transaction that is dropped without it (RSET,
//! another MAIL, a connection that is lost, a message that is refused) gives it back.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Instant;
//!
//! use sansmtp::{Aborted, Envelope, Handler, Path, Session, Verdict};
//! use sansmtp_authenticators::sending::{SendingLimits, SendingLog, Transaction};
//!
//! struct Submission {
//!     log: Arc<SendingLog>,
//!     transaction: Option<Transaction>,
//! }
//!
//! impl Handler for Submission {
//!     type Message = Vec<u8>;
//!
//!     fn mail(&mut self, session: &Session, _: &Envelope) -> Verdict {
//!         self.transaction = None;
//!         match SendingLog::begin(&self.log, session.login().unwrap_or_default()) {
//!             Ok(transaction) => self.transaction = Some(transaction),
//!             Err(refused) => return refused.reply().into(),
//!         }
//!         Verdict::Accept
//!     }
//!
//!     fn rcpt(&mut self, _: &Session, _: &Envelope, _: Path<'_>) -> Verdict {
//!         match self.transaction.as_mut().map(Transaction::add_recipient) {
//!             Some(Err(refused)) => refused.reply().into(),
//!             Some(Ok(())) => Verdict::Accept,
//!             None => Verdict::TryLater,
//!         }
//!     }
//!
//!     fn message(&mut self, _: &Session, _: &Envelope, message: Vec<u8>) -> Verdict {
//!         let transaction = self.transaction.take();
//!         // … where the message is stored, and could not be: the transaction is dropped.
//! #       drop(message);
//!         if let Some(transaction) = transaction {
//!             transaction.sent();
//!         }
//!         Verdict::Accept
//!     }
//!
//!     fn aborted(&mut self, _: Aborted) {
//!         self.transaction = None;
//!     }
//!
//!     fn reset(&mut self, _: &Session) -> Verdict {
//!         self.transaction = None;
//!         Verdict::Accept
//!     }
//! }
//!
//! let started = Instant::now();
//! let limits = SendingLimits { messages_per_hour: 100, ..SendingLimits::default() };
//! let log = Arc::new(SendingLog::in_memory(limits, move || started.elapsed()));
//! # let mut handler = Submission { log, transaction: None };
//! # handler.transaction = SendingLog::begin(&handler.log, "tim").ok();
//! # assert!(handler.transaction.is_some());
//! ```
//!
//! # What is counted
//!
//! - By login, in whatever letter case it is written: a directory that ignores case lets `Tim` in as `tim`, and the limit
//!   would be no limit otherwise. Where users' names differ in case only, these users share a count.
//! - In twelfths of the window: what was sent counts for an hour and up to five minutes more, or for a day and up to two
//!   hours more. So no hour and no day has more than the limit.
//! - What is reserved counts, for as long as its transaction is open.
//!
//! In memory, counts begin anew when the process does. They take some 300 octets for each login that has sent
//! something within a day, of [`SendingLimits::max_logins`] at the most.
//!
//! # In Valkey or Redis
//!
//! For each login and limit there is a hash, whose fields are the parts of the window, by the server's clock. Its name has
//! a keyed hash of the login, and it expires with the window, so that counts outlive restarts of all that use them. Of
//! commands it needs `EVAL`, `TIME`, `HGETALL`, `HGET`, `HINCRBY`, `HDEL`, `PEXPIRE` and `PING`, on keys that begin with
//! `sansmtp:sending:`; a Redis of version 5 or later has scripts that may ask for the time. All servers need the same key
//! and the same limits.
//!
//! Each command waits for one answer, and never longer than the
//! [time limit](crate::attempts::ValkeyConfig::time_limit). When that has passed once, or the server is gone, none waits
//! until it answers again. Meanwhile each process counts what is sent through it, and tells the server later; or nothing
//! is sent, `451 4.3.0`, with [`WhenUnreachable::Closed`](crate::attempts::WhenUnreachable::Closed). What a process
//! reserved before it died counts until its part of the window is over.

mod limits;
mod memory;
mod refusal;
#[cfg(test)]
mod tests;
mod transaction;
#[cfg(feature = "valkey")]
mod valkey;

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

pub use limits::{SendingLimits, Sent, Window};
pub use refusal::{Exceeded, SendingRefused};
pub use transaction::Transaction;

use self::memory::Usages;
#[cfg(feature = "valkey")]
use crate::attempts::{ValkeyConfig, ValkeyError};

/// Counts what logins send: see the [module](self).
pub struct SendingLog {
    limits: SendingLimits,
    /// For names, of which nothing needs to be remembered but whether they are the same.
    names: RandomState,
    here: Usages,
    /// For all servers of a fleet; what happens in this process is counted here as well.
    #[cfg(feature = "valkey")]
    shared: Option<valkey::Shared>,
}

impl SendingLog {
    /// Counts in this process. `clock` tells the time since some moment before, and must not run backwards.
    pub fn in_memory(limits: SendingLimits, clock: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self {
            limits,
            names: RandomState::new(),
            here: Usages::new(limits, clock),
            #[cfg(feature = "valkey")]
            shared: None,
        }
    }

    /// Counts in Valkey or Redis. Starts a thread that connects to the server; whether it can be reached shows later. The
    /// thread ends when the log and its transactions are dropped.
    ///
    /// Of the configuration, the limits for attempts are not looked at.
    ///
    /// # Errors
    /// [`ValkeyError`] where the configuration cannot work.
    #[cfg(feature = "valkey")]
    pub fn in_valkey(limits: SendingLimits, config: ValkeyConfig) -> Result<Self, ValkeyError> {
        let started = std::time::Instant::now();
        let shared = Some(valkey::Shared::start(limits, config)?);
        Ok(Self { shared, ..Self::in_memory(limits, move || started.elapsed()) })
    }

    /// Begins a mail transaction of a login, and reserves the message.
    ///
    /// With Valkey it blocks, for the time limit at the most.
    ///
    /// # Errors
    /// [`SendingRefused`] where there is no room, or the server cannot be asked and has to be.
    pub fn begin(this: &Arc<Self>, login: &str) -> Result<Transaction, SendingRefused> {
        Transaction::begin(this, login)
    }

    /// Whether the server has answered the last time. There is none that could not in memory.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        #[cfg(feature = "valkey")]
        if let Some(shared) = &self.shared {
            return shared.is_reachable();
        }
        true
    }

    fn key(&self, lower_case: &str) -> u64 {
        self.names.hash_one(lower_case)
    }
}

impl fmt::Debug for SendingLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendingLog").field("limits", &self.limits).finish_non_exhaustive()
    }
}
