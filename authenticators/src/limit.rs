//! How many threads may wait for a server at once.

use std::sync::{Mutex, PoisonError};

/// Bounds how many threads wait for one server, or in one chain, at the same time.
///
/// Whoever waits occupies a thread of a pool that connections share. A server that hangs would otherwise take them all,
/// and what has nothing to do with it, the mail of users who are logged in, would wait as well.
#[derive(Debug)]
pub(crate) struct Limit {
    /// What is waited for.
    what: &'static str,
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: usize,
    /// Logins are being turned away, which has been logged.
    full: bool,
}

/// Leave to wait, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place<'a>(&'a Limit);

impl Limit {
    pub(crate) fn new(what: &'static str, most: usize) -> Self {
        Self { what, most, state: Mutex::default() }
    }

    /// `None` where as many wait as may. That is logged once, until half of them are gone.
    pub(crate) fn enter(&self) -> Option<Place<'_>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.waiting < self.most {
            state.waiting += 1;
            return Some(Place(self));
        }
        let first = !std::mem::replace(&mut state.full, true);
        drop(state);
        if first {
            tracing::warn!(waiting = self.most, "too many logins wait for {}; turning others away", self.what);
        }
        None
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        if state.waiting <= self.0.most / 2 {
            state.full = false;
        }
    }
}

/// How many threads wait for one server unless told otherwise: a fifth of what an adapter's pool of threads takes (500
/// with smol, 512 with tokio).
#[cfg(any(feature = "introspection", feature = "ldap", feature = "postgres"))]
pub(crate) const OF_A_SERVER: usize = 96;

/// How many are in all of a chain unless told otherwise. It has room for those who wait for a hash, 256 with
/// `stored::Hashing`, and those who wait for a server.
pub(crate) const OF_A_CHAIN: usize = 352;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_wait_and_who_goes_leaves_a_place() {
        let limit = Limit::new("a test", 2);
        let (first, second) = (limit.enter().unwrap(), limit.enter().unwrap());
        assert!(limit.enter().is_none() && limit.enter().is_none());
        assert!(limit.state.lock().unwrap().full);
        drop(first);
        assert!(!limit.state.lock().unwrap().full);
        let third = limit.enter().unwrap();
        assert!(limit.enter().is_none());
        drop((second, third));
        assert_eq!(limit.state.lock().unwrap().waiting, 0);
        assert!(Limit::new("nobody", 0).enter().is_none());
    }
}
