//! The servers that could not be reached.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::routes::Address;
use crate::schedule::Schedule;

/// Which addresses could not be reached a short while ago. All messages remember them: where a destination has other
/// servers, these come first.
#[derive(Debug)]
pub(super) struct HostHealth {
    schedule: Schedule,
    longest: Duration,
    failures: Mutex<HashMap<Address, Failures>>,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    in_a_row: u32,
    until: Instant,
}

impl HostHealth {
    pub(super) fn new(schedule: Schedule, longest: Duration) -> Self {
        Self { schedule, longest, failures: Mutex::default() }
    }

    /// An address could not be reached, or was not willing to talk.
    pub(super) fn failed(&self, address: &Address) {
        let (mut failures, now) = (self.lock(), Instant::now());
        if failures.len() >= MAX_KNOWN {
            failures.retain(|_, entry| now < entry.until);
        }
        let in_a_row = failures.get(address).map_or(1, |entry| entry.in_a_row.saturating_add(1));
        let pause = self.schedule.pause_after(in_a_row).min(self.longest);
        // One more that is not remembered costs no more than an attempt.
        if failures.len() < MAX_KNOWN || failures.contains_key(address) {
            failures.insert(address.clone(), Failures { in_a_row, until: now + pause });
        }
    }

    /// A session with an address is open.
    pub(super) fn reached(&self, address: &Address) {
        self.lock().remove(address);
    }

    /// Whether an address is better left to the end.
    pub(super) fn is_doubtful(&self, address: &Address) -> bool {
        self.lock().get(address).is_some_and(|entry| Instant::now() < entry.until)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Address, Failures>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const MAX_KNOWN: usize = 10_000;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn an_address_that_failed_is_doubtful_until_it_is_reached() {
        let schedule = Schedule { first: Duration::from_secs(3600), ..Schedule::default() };
        let health = HostHealth::new(schedule, Duration::from_secs(3600));
        let [one, other] = &[1, 2].map(|last| Address::from(SocketAddr::from(([127, 0, 0, last], 25))));
        health.failed(one);
        assert!(health.is_doubtful(one) && !health.is_doubtful(other));
        health.reached(one);
        assert!(!health.is_doubtful(one));
        for number in 0..u16::try_from(MAX_KNOWN).unwrap() + 10 {
            health.failed(&Address::from(SocketAddr::from(([127, 0, 0, 3], number))));
        }
        assert_eq!(health.lock().len(), MAX_KNOWN);
        let at_once = HostHealth::new(Schedule { first: Duration::ZERO, ..schedule }, Duration::ZERO);
        at_once.failed(one);
        assert!(!at_once.is_doubtful(one));
    }
}
