//! Failures counted for a fleet of servers, in Valkey or Redis.
//!
//! [`MemoryAttemptLog`](sansmtp::auth::MemoryAttemptLog) counts what happens in one process. Where several serve the
//! same users, a [`ValkeyAttemptLog`] counts for all of them. Both of its halves are needed:
//!
//! - As the engine's [`AttemptLog`](sansmtp::auth::AttemptLog) it is told of every failure, SCRAM's wrong proofs too,
//!   and hands it on to a thread that tells the server. What it says to the engine, which cannot wait, is what this
//!   process knows already.
//! - [`Guarded`] asks the server before it asks an authenticator, and waits for a limited time.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use sansmtp::Auth;
//! use sansmtp_authenticators::attempts::{Guarded, ValkeyAttemptLog, ValkeyConfig};
//! # fn build(users: impl sansmtp_authenticators::Authenticator) -> Result<(), Box<dyn std::error::Error>> {
//!
//! let config = ValkeyConfig::from_url("valkeys://mail@counts.example.org/0?password-file=/etc/mail/valkey")?;
//! let log = Arc::new(ValkeyAttemptLog::new(config)?);
//! let users = Guarded::new(users, Arc::clone(&log));
//! let auth = Auth::new().attempts(log);
//! # let _ = (users, auth);
//! # Ok(())
//! # }
//! ```
//!
//! A handler that runs exchanges itself, or has Dovecot run them, asks at their first turn:
//!
//! ```
//! use std::sync::Arc;
//!
//! use sansmtp::auth::Attempt;
//! use sansmtp::{Answer, AuthTurn, Handler, Session};
//! use sansmtp_authenticators::attempts::ValkeyAttemptLog;
//! # fn answer(turn: AuthTurn) -> Answer { turn.malformed() }
//!
//! struct Submission {
//!     log: Arc<ValkeyAttemptLog>,
//! }
//!
//! impl Handler for Submission {
//!     type Message = ();
//!
//!     fn auth(&mut self, session: &Session, turn: AuthTurn) -> Answer {
//!         if turn.number() == 0
//!             && let Some(refused) = self.log.ask(&Attempt::new(session.peer(), turn.mechanism(), "")).result()
//!         {
//!             return turn.result(refused);
//!         }
//!         answer(turn)
//!     }
//! }
//! ```
//!
//! What a login waits for is one question to the server on a connection that is open, and never longer than
//! [`ValkeyConfig::time_limit`]. When that has passed once, or the server is gone, logins do not wait at all until it
//! answers again, and [`WhenUnreachable`] says what becomes of them.
//!
//! # What is stored
//!
//! For each address and user with failures, a key without a value, of which the time to live is the count: a failure
//! adds the window divided by the limit, up to the window. So counts drain as those in memory do, and there is none
//! without an expiry. A key's name has a keyed hash (HMAC-SHA-256) of the address or name, as a password that was
//! typed into the wrong field is a name too. All servers of a fleet need the same key, limits and window.
//!
//! A server, or the primary of several: neither Cluster nor Sentinel. Of commands it needs `EVAL`, `PTTL`, `SET` and
//! `PING`, on keys that begin with `sansmtp:attempts:`.

mod barred;
mod config;
mod counted;
mod courier;
mod guarded;
mod valkey;

pub use config::{ValkeyConfig, ValkeyError, WhenUnreachable};
pub use guarded::Guarded;
pub use valkey::{Standing, ValkeyAttemptLog};
