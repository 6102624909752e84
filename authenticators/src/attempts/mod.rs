//! Failures counted for a fleet of servers, in Valkey or Redis.
//!
//! [`MemoryAttemptLog`](sansmtp::auth::MemoryAttemptLog) counts what happens in one process. Where several serve the
//! same users, a [`ValkeyAttemptLog`] counts for all of them. Both of its halves are needed:
//!
//! - As the engine's [`AttemptLog`](sansmtp::auth::AttemptLog) it admits an attempt by what this process knows already,
//!   as the engine cannot wait, and learns what becomes of it, SCRAM's wrong proofs too. A thread tells the server.
//! - [`Guarded`] asks the server before it asks an authenticator, and waits for a limited time. The server reserves the
//!   attempt's failure in one step, if there is room. So of guesses that are made at the same time, in all servers of
//!   the fleet together, no more are judged than the limit says.
//!
//! Both speak of the same attempt: what the engine's half has reserved goes with
//! [`AuthRequest::attempt`](sansmtp::AuthRequest::attempt) to the other one. A refusal leaves the reservation as the
//! failure that it was made for. Every other end gives it back.
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
//!     fn auth(&mut self, _: &Session, turn: AuthTurn) -> Answer {
//!         if turn.number() == 0
//!             && let Some(refused) = self.log.ask(&turn.attempt()).result()
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
//! answers again, and [`WhenUnreachable`] says what becomes of them. No more wait than
//! [`ValkeyConfig::max_waiting`] says, one more is `454 4.7.0`.
//!
//! # What is counted where
//!
//! - Mechanisms that ask the authenticator (all that are built in), and exchanges of which the handler asks: at the
//!   server, before anything is judged.
//! - A mechanism of one's own that decides without asking: each process admits as many at the same time as the limit
//!   says, and the server learns of the failures. To limit those of a fleet, let it ask the authenticator.
//! - Exchanges that clients do not finish
//!   ([`unfinished_by_address`](sansmtp::auth::AttemptLimits::unfinished_by_address)): in each process. They tell a
//!   client nothing of passwords. The limit keeps it from making the process work, and each process does its own.
//!
//! # What is stored
//!
//! For each address and user with failures or attempts under way, a key of which the time to live is the count: each
//! adds the window divided by the limit, up to the window, and what is given back subtracts the same. So counts drain
//! as those in memory do, and there is none without an expiry. What a process reserved before it died drains, too. An
//! attempt that is under way drains at the server as a failure does; in its own process it does not. The key's value is
//! a random number that tells it from a later key of the same name: nothing is given back to a count that has expired,
//! or was lost, since. A key's name has a keyed hash (HMAC-SHA-256) of the address or name, as a password that was
//! typed into the wrong field is a name too. All servers of a fleet need the same key, limits and window.
//!
//! A server, or the primary of several: neither Cluster nor Sentinel. Of commands it needs `EVAL`, `GET`, `PTTL`, `SET`,
//! `DEL` and `PING`, on keys that begin with `sansmtp:attempts:`.

mod config;
mod guarded;
mod valkey;

pub use config::{ValkeyConfig, ValkeyError, WhenUnreachable};
pub use guarded::Guarded;
pub use valkey::{Standing, ValkeyAttemptLog};
