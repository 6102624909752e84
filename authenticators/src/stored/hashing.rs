//! How many passwords may be hashed at once.

use std::num::NonZeroUsize;
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::hash_memory::HashMemory;

/// How many threads may hash passwords at once, and how many may wait to.
///
/// A hash is made to cost tens of milliseconds and megabytes (Argon2id as it is made here: 19 MiB), so without a
/// limit a crowd of logins would be a way to exhaust the machine. The thread that calls the authenticator does the
/// hashing itself; where too many wait, a login is answered `454 4.7.0` at once, and so is one that has waited for 10
/// seconds.
///
/// With each permit comes the memory that the hash fills. It is made once, wiped after each hash and used again, so what
/// is resident does not grow with the number of logins: up to 32 MiB stay for each permit, as much of them as the largest
/// hash so far has needed. A foreign hash that takes more (up to 1 GiB) has it for as long as it is computed.
///
/// Authenticators that share a machine can share one, behind an [`Arc`](std::sync::Arc).
#[derive(Debug)]
pub struct Hashing {
    state: Mutex<State>,
    handed_on: Condvar,
    most_waiting: usize,
    longest_wait: Duration,
}

#[derive(Debug)]
struct State {
    /// Permits that nobody has.
    free: usize,
    waiting: usize,
    /// Permits for threads that wait, and have not woken up yet. Newcomers cannot take them.
    handed_on: usize,
    /// Logins are being turned away, which has been logged.
    full: bool,
    /// The memory of the permits that nobody has, and of those that are handed on. The last one used is used next.
    spare: Vec<HashMemory>,
}

/// Leave to hash, until it is dropped, and the memory for it.
#[derive(Debug)]
pub(crate) struct Permit<'a> {
    hashing: &'a Hashing,
    memory: HashMemory,
}

impl Hashing {
    /// As many at once as the machine has cores, and [`WAITING`](Self::WAITING) more that wait.
    #[must_use]
    pub fn new() -> Self {
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self::with_limits(cores, Self::WAITING)
    }

    /// `at_once` that hash, and `waiting` more that wait.
    ///
    /// Whoever waits occupies a thread. Where connections share a pool of threads (500 with smol, 512 with tokio),
    /// keep `at_once + waiting` well below its size, so that others than logins find a thread.
    #[must_use]
    pub fn with_limits(at_once: NonZeroUsize, waiting: usize) -> Self {
        let state = State { free: at_once.get(), waiting: 0, handed_on: 0, full: false, spare: Vec::new() };
        Self { state: Mutex::new(state), handed_on: Condvar::new(), most_waiting: waiting, longest_wait: LONGEST_WAIT }
    }

    /// How long to wait for leave to hash: 10 seconds unless changed.
    #[must_use]
    pub fn longest_wait(mut self, limit: Duration) -> Self {
        self.longest_wait = limit;
        self
    }

    /// How many may wait unless told otherwise: half of what an adapter's pool of threads takes. At 20 ms for a hash,
    /// the last one waits for 2.5 s on two cores.
    pub const WAITING: usize = 256;

    /// Waits for leave to hash. `None`, at once, where too many wait already, and after [a while](Self::longest_wait);
    /// that is logged once, until all who waited have had their turn.
    pub(crate) fn permit(&self) -> Option<Permit<'_>> {
        let mut state = self.lock();
        // Nobody overtakes those who wait.
        if state.free > 0 {
            state.free -= 1;
            return Some(self.with_memory(&mut state));
        }
        if state.waiting >= self.most_waiting {
            return self.turn_away(state);
        }
        state.waiting += 1;
        let woken = self.handed_on.wait_timeout_while(state, self.longest_wait, |state| state.handed_on == 0);
        let (mut state, _) = woken.unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        if state.handed_on == 0 {
            return self.turn_away(state);
        }
        state.handed_on -= 1;
        if state.waiting == 0 {
            state.full = false;
        }
        Some(self.with_memory(&mut state))
    }

    /// Waits for leave to hash where there is no [`Hashing`] to ask, for as long as it takes.
    pub(super) fn shared_permit() -> Permit<'static> {
        static SHARED: LazyLock<Hashing> = LazyLock::new(|| {
            let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
            Hashing::with_limits(cores, usize::MAX).longest_wait(Duration::MAX)
        });
        loop {
            if let Some(permit) = SHARED.permit() {
                return permit;
            }
        }
    }

    fn with_memory(&self, state: &mut State) -> Permit<'_> {
        Permit { hashing: self, memory: state.spare.pop().unwrap_or_default() }
    }

    fn turn_away(&self, mut state: MutexGuard<'_, State>) -> Option<Permit<'_>> {
        let first = !std::mem::replace(&mut state.full, true);
        drop(state);
        if first {
            tracing::warn!(waiting = self.most_waiting, "too many logins wait for a hash; turning others away");
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is one step, so the numbers are right after a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Hashing {
    fn default() -> Self {
        Self::new()
    }
}

impl Permit<'_> {
    pub(crate) fn memory(&mut self) -> &mut HashMemory {
        &mut self.memory
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut state = self.hashing.lock();
        state.spare.push(std::mem::take(&mut self.memory));
        if state.waiting > state.handed_on {
            state.handed_on += 1;
            self.hashing.handed_on.notify_one();
        } else {
            state.free += 1;
        }
    }
}

/// Hashes may cost seconds each; the client has gone by then.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn no_more_hash_at_once_and_everybody_has_a_turn() {
        let hashing = Hashing::with_limits(NonZeroUsize::new(3).unwrap(), 100);
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..100 {
                scope.spawn(|| {
                    let _permit = hashing.permit().unwrap();
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::yield_now();
                    now.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        assert!((1..=3).contains(&most.into_inner()));
        let state = hashing.lock();
        assert_eq!((state.free, state.waiting, state.handed_on), (3, 0, 0));
    }

    #[test]
    fn whoever_comes_when_too_many_wait_is_turned_away_at_once() {
        let hashing = Hashing::with_limits(NonZeroUsize::MIN, 2);
        let permit = hashing.permit().unwrap();
        std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..2).map(|_| scope.spawn(|| hashing.permit().is_some())).collect();
            while hashing.lock().waiting < 2 {
                std::thread::yield_now();
            }
            assert!(hashing.permit().is_none());
            assert!(hashing.lock().full);
            drop(permit);
            assert!(waiting.into_iter().all(|waiting| waiting.join().unwrap()));
        });
        assert!(!hashing.lock().full);
        assert!(hashing.permit().is_some());
    }

    #[test]
    fn nobody_waits_for_ever() {
        let hashing = Hashing::with_limits(NonZeroUsize::MIN, 10).longest_wait(Duration::from_millis(10));
        let permit = hashing.permit().unwrap();
        assert!(hashing.permit().is_none());
        assert_eq!(hashing.lock().waiting, 0);
        drop(permit);
        assert!(hashing.permit().is_some());
    }

    #[test]
    fn nobody_may_wait_where_none_are_allowed_to() {
        let hashing = Hashing::with_limits(NonZeroUsize::MIN, 0);
        let permit = hashing.permit().unwrap();
        assert!(hashing.permit().is_none());
        drop(permit);
        assert!(hashing.permit().is_some());
    }
}
