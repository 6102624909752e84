//! Failures counted across connections.

use alloc::boxed::Box;
use alloc::sync::Arc;

use crate::session::Peer;

use super::MechanismName;

#[cfg(feature = "std")]
mod memory;

#[cfg(feature = "std")]
pub use memory::{AttemptLimits, MemoryAttemptLog};

/// Limits guesses across connections.
///
/// An attempt to authenticate reserves its failure before its credentials are judged, and gives it back
/// unless they are refused. So the limit holds for attempts that are made at the same time, too.
///
/// The engine calls [`admit`](Self::admit)
///
/// - before it asks the authenticator or the AUTH handler hook;
/// - before a mechanism that decides by itself takes effect;
/// - before a challenge that follows a response, which could show what the mechanism thinks of it.
///
/// One exchange holds one reservation. A client that is not admitted gets `454 4.7.0`, and nothing is
/// judged. When the exchange ends by a refusal, the engine calls [`refused`](Self::refused), before the
/// client learns of it, and the reservation stays. Every other end calls [`release`](Self::release):
/// success, "cannot tell", a reply of the embedder's own, `*`, a malformed response, a question that is
/// dropped or not answered in time, a panic, a connection that is lost or dropped.
///
/// All methods are called in the middle of [`Connection::poll`](crate::Connection::poll), or where a
/// connection is dropped. None may wait or panic: what several machines share is kept up to date beside
/// the log, or asked by the authenticator.
///
/// [`MemoryAttemptLog`] keeps the counts of one process. One of your own needs two methods:
///
/// ```
/// use sansmtp::auth::{Attempt, AttemptLog, Auth, Reservation};
/// use std::collections::HashMap;
/// use std::net::IpAddr;
/// use std::sync::{Arc, Mutex};
///
/// /// Ten failures for each address, for as long as the process runs.
/// #[derive(Default)]
/// struct TenForEach {
///     failures: Mutex<HashMap<u128, u32>>,
/// }
///
/// impl AttemptLog for TenForEach {
///     fn admit(&self, attempt: &Attempt<'_>) -> Option<Reservation> {
///         // Those of a unix socket have no address, and no limit.
///         let key = match attempt.peer.address().map(|address| address.ip()) {
///             Some(IpAddr::V4(address)) => address.to_ipv6_mapped().to_bits(),
///             Some(IpAddr::V6(address)) => address.to_bits(),
///             None => return Some(Reservation::new(0)),
///         };
///         let mut failures = self.failures.lock().ok()?;
///         let count = failures.entry(key).or_default();
///         if *count == 10 {
///             return None;
///         }
///         *count += 1;
///         Some(Reservation::new(key))
///     }
///
///     fn release(&self, reservation: Reservation) {
///         if let Ok(mut failures) = self.failures.lock() {
///             failures.entry(reservation.number()).and_modify(|count| *count -= 1);
///         }
///     }
/// }
///
/// let auth = Auth::new().attempts(Arc::new(TenForEach::default()));
/// # let _ = auth;
/// ```
pub trait AttemptLog: Send + Sync {
    /// Reserves the failure that the attempt may become. `None` if there is no room for it: the attempt
    /// is not admitted.
    ///
    /// To look for room and to take it has to be one step, as attempts of other connections come at the
    /// same time.
    fn admit(&self, attempt: &Attempt<'_>) -> Option<Reservation>;

    /// Gives back what [`admit`](Self::admit) reserved: the attempt is over, and its credentials were not
    /// refused. Called once for each reservation at the most.
    fn release(&self, reservation: Reservation);

    /// The attempt's credentials were refused: what it [reserved](Attempt::reservation) stays reserved.
    /// Nothing, unless overridden.
    ///
    /// Without a reservation, the failure was not reserved before: it comes from outside the engine.
    fn refused(&self, attempt: &Attempt<'_>) {
        let _ = attempt;
    }

    /// The attempt succeeded; [`release`](Self::release) follows. Nothing, unless overridden: a success
    /// should not count against the client, nor wash an address clean from which the owner of one account
    /// guesses the passwords of others.
    fn succeeded(&self, attempt: &Attempt<'_>) {
        let _ = attempt;
    }

    /// Whether an exchange may begin. A client whose exchange may not gets `454 4.7.0`, and no challenge.
    /// It may, unless overridden.
    fn may_begin(&self, attempt: &Attempt<'_>) -> bool {
        let _ = attempt;
        true
    }

    /// The client was sent a challenge and did not finish the exchange: it cancelled (`*`), sent what is
    /// no response, or went away. Nothing, unless overridden. The attempt has neither an authcid nor a
    /// reservation.
    ///
    /// [`Auth::max_unfinished`](super::Auth::max_unfinished) limits such exchanges on one connection; this
    /// and [`may_begin`](Self::may_begin) can limit them across connections.
    fn unfinished(&self, attempt: &Attempt<'_>) {
        let _ = attempt;
    }
}

/// Who tries to authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt<'a> {
    /// Where the connection comes from.
    pub peer: Peer,
    /// The mechanism.
    pub mechanism: MechanismName,
    /// Who it says that it is, where the exchange has got so far; empty where it has not.
    pub authcid: &'a str,
    /// What the log has reserved for the attempt, once it has.
    pub reservation: Option<Reservation>,
}

impl<'a> Attempt<'a> {
    /// An attempt for which nothing is reserved: for tests of a log, and for failures outside the engine.
    #[must_use]
    pub fn new(peer: Peer, mechanism: MechanismName, authcid: &'a str) -> Self {
        Self { peer, mechanism, authcid, reservation: None }
    }
}

/// The failure that an [`AttemptLog`] has reserved for an attempt: a number by which the log finds it
/// again. What it means is the log's affair: a hash, an index, a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reservation {
    /// In two halves, which need no alignment of 16 octets.
    halves: [u64; 2],
}

impl Reservation {
    /// A reservation that the log knows by this number.
    #[must_use]
    pub const fn new(number: u128) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "the two halves of the number")]
        Self { halves: [(number >> 64) as u64, number as u64] }
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u128 {
        let [high, low] = self.halves;
        (high as u128) << 64 | low as u128
    }
}

/// An exchange as its log knows it. Dropped, it gives back what is reserved, and tells the log of a
/// challenge that got no end.
pub(crate) struct LoggedExchange {
    log: Arc<dyn AttemptLog>,
    peer: Peer,
    mechanism: MechanismName,
    reservation: Option<Reservation>,
    /// Whether the name was known when the attempt was admitted.
    has_name: bool,
    /// Whether the exchange would be an unfinished one if it ended now.
    unfinished: bool,
}

impl LoggedExchange {
    /// `None` if the log lets no exchange begin.
    pub(crate) fn begin(log: &Arc<dyn AttemptLog>, peer: Peer, mechanism: MechanismName) -> Option<Box<Self>> {
        log.may_begin(&Attempt::new(peer, mechanism, "")).then(|| {
            let log = Arc::clone(log);
            Box::new(Self { log, peer, mechanism, reservation: None, has_name: false, unfinished: false })
        })
    }

    /// Whether the log admits the attempt, which it has to once.
    pub(crate) fn admit(&mut self, authcid: &str) -> bool {
        if self.reservation.is_some() {
            if self.has_name || authcid.is_empty() {
                return true;
            }
            // Now that the name is known, the attempt counts for it as well.
            self.release();
        }
        self.has_name = !authcid.is_empty();
        self.reservation = self.log.admit(&Attempt::new(self.peer, self.mechanism, authcid));
        self.reservation.is_some()
    }

    pub(crate) fn reservation(&self) -> Option<Reservation> {
        self.reservation
    }

    /// The credentials were refused.
    pub(crate) fn refuse(&mut self, authcid: &str) {
        let reservation = self.reservation.take();
        self.log.refused(&Attempt { reservation, ..Attempt::new(self.peer, self.mechanism, authcid) });
    }

    /// The credentials are right.
    pub(crate) fn succeed(&mut self, authcid: &str) {
        let reservation = self.reservation;
        self.log.succeeded(&Attempt { reservation, ..Attempt::new(self.peer, self.mechanism, authcid) });
    }

    /// The client is sent a challenge.
    pub(crate) fn challenge(&mut self) {
        self.unfinished = true;
    }

    /// The exchange ends by something else than the client.
    pub(crate) fn finish(&mut self) {
        self.unfinished = false;
    }

    fn release(&mut self) {
        if let Some(reservation) = self.reservation.take() {
            self.log.release(reservation);
        }
    }
}

impl Drop for LoggedExchange {
    fn drop(&mut self) {
        self.release();
        if self.unfinished {
            self.log.unfinished(&Attempt::new(self.peer, self.mechanism, ""));
        }
    }
}
