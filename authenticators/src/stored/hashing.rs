//! How many passwords may be hashed at once.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sansmtp::Peer;

use super::hash_memory::HashMemory;
use super::waiting::{Asker, Queue};

/// How many threads may hash passwords at once, how many may wait to, and who of them goes first.
///
/// A hash is made to cost tens of milliseconds and megabytes (Argon2id as it is made here: 19 MiB), so without a
/// limit a crowd of logins would be a way to exhaust the machine. The thread that calls the authenticator does the
/// hashing itself; where too many wait, a login is answered `454 4.7.0` at once, and so is one that has waited for 10
/// seconds.
///
/// # A flood of guesses
///
/// Wrong passwords cost as much as right ones, so whoever sends enough of them could keep everybody out. Therefore:
///
/// - A name that has logged in with a password from the same network (an IPv4 address, or an IPv6 network of 64 bits)
///   goes first, and a quarter of the places is kept for such names. Each has one place. A wrong password for the name from
///   there ends that until the next right one.
/// - Next come networks from which no wrong password came since the last right one, which nobody else's guesses slow
///   down. Another quarter of the places is not for the others.
/// - One network has at most a quarter of the places for names that have not logged in from there, and a thirty-second
///   after a wrong password.
/// - Every fourth permit goes to whoever of the others has waited longest, so that nobody waits for ever.
///
/// A guesser elsewhere gains nothing by a name that logs in, and learns nothing: a name counts only together with the
/// network that it has logged in from. What is remembered are keyed hashes in tables of a fixed size, 160 KiB in all: the
/// last 16,384 pairs of a network and a name, and the last 4,096 networks with a wrong password. Peers without an address
/// (unix sockets) are a network that has no limit of its own.
///
/// # Memory
///
/// With each permit comes the memory that the hash fills. It is made once, wiped after each hash and used again, so what
/// is resident does not grow with the number of logins: up to 32 MiB stay for each permit, as much of them as the largest
/// hash so far has needed. A foreign hash that takes more (up to 1 GiB) has it for as long as it is computed.
///
/// Authenticators that share a machine can share one, behind an [`Arc`](std::sync::Arc).
pub struct Hashing {
    state: Mutex<State>,
    /// Unknown to anybody: see [`Queue`].
    key: RandomState,
    most_waiting: usize,
    longest_wait: Duration,
}

struct State {
    /// Permits that nobody has. There are none while somebody waits.
    free: usize,
    /// The memory of the free permits, if it was made already. The last one used is used next.
    spare: Vec<HashMemory>,
    waiting: Queue<SyncSender<HashMemory>>,
    /// Logins are being turned away, which has been logged.
    full: bool,
}

/// Leave to hash, until it is dropped, and the memory for it.
#[derive(Debug)]
pub(crate) struct Permit<'a> {
    hashing: &'a Hashing,
    asker: Asker,
    memory: HashMemory,
}

impl Hashing {
    /// As many at once as the machine has cores, and [`WAITING`](Self::WAITING) more that wait.
    #[must_use]
    pub fn new() -> Self {
        Self::with_limits(cores(), Self::WAITING)
    }

    /// `at_once` that hash, and `waiting` more that wait.
    ///
    /// Whoever waits occupies a thread. Where connections share a pool of threads (500 with smol, 512 with tokio),
    /// keep `at_once + waiting` well below its size, so that others than logins find a thread.
    #[must_use]
    pub fn with_limits(at_once: NonZeroUsize, waiting: usize) -> Self {
        let state = State { free: at_once.get(), spare: Vec::new(), waiting: Queue::new(waiting), full: false };
        Self { state: Mutex::new(state), key: RandomState::new(), most_waiting: waiting, longest_wait: LONGEST_WAIT }
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

    /// Waits for leave to compare the password of a login. `None`, at once, where there is no place to wait, and after
    /// [a while](Self::longest_wait); that is logged once, until nobody waits any more.
    pub(crate) fn permit(&self, peer: Peer, name: &str) -> Option<Permit<'_>> {
        self.permit_for(self.asker(peer, name))
    }

    /// Waits for leave to hash where there is no [`Hashing`] to ask, for as long as it takes.
    pub(super) fn shared_permit() -> Permit<'static> {
        static SHARED: LazyLock<Hashing> =
            LazyLock::new(|| Hashing::with_limits(cores(), usize::MAX).longest_wait(Duration::MAX));
        loop {
            if let Some(permit) = SHARED.permit_for(Asker::NOBODY) {
                return permit;
            }
        }
    }

    fn permit_for(&self, asker: Asker) -> Option<Permit<'_>> {
        let mut state = self.lock();
        // Nobody overtakes those who wait.
        if let Some(free) = state.free.checked_sub(1) {
            state.free = free;
            let memory = state.spare.pop().unwrap_or_default();
            return Some(Permit { hashing: self, asker, memory });
        }
        let (wake, woken) = sync_channel(1);
        let Some(ticket) = state.waiting.enter(asker, wake) else { return self.turn_away(state) };
        drop(state);
        if let Ok(memory) = woken.recv_timeout(self.longest_wait) {
            return Some(Permit { hashing: self, asker, memory });
        }
        let mut state = self.lock();
        if state.waiting.leave(ticket) {
            return self.turn_away(state);
        }
        drop(state);
        // It came at the last moment.
        woken.try_recv().ok().map(|memory| Permit { hashing: self, asker, memory })
    }

    fn asker(&self, peer: Peer, name: &str) -> Asker {
        let network = peer.address().map(|address| match address.ip().to_canonical() {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            // Whoever has one address of a network of 64 bits has all of them.
            IpAddr::V6(address) => address.to_bits() & !u128::from(u64::MAX),
        });
        Asker {
            network: network.map(|network| self.key.hash_one(network)),
            pair: Some(self.key.hash_one((network, name))),
        }
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

impl fmt::Debug for Hashing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Hashing")
            .field("free", &state.free)
            .field("waiting", &state.waiting.len())
            .finish_non_exhaustive()
    }
}

impl Permit<'_> {
    pub(crate) fn memory(&mut self) -> &mut HashMemory {
        &mut self.memory
    }

    /// Remembers whether the login that the permit was for is let in.
    pub(crate) fn tell(&self, let_in: bool) {
        let mut state = self.hashing.lock();
        if let_in {
            state.waiting.succeeded(self.asker);
        } else {
            state.waiting.failed(self.asker);
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut memory = std::mem::take(&mut self.memory);
        let mut state = self.hashing.lock();
        while let Some(wake) = state.waiting.next() {
            match wake.try_send(memory) {
                Ok(()) => return,
                // Its thread has panicked.
                Err(TrySendError::Disconnected(back) | TrySendError::Full(back)) => memory = back,
            }
        }
        state.full = false;
        state.free += 1;
        state.spare.push(memory);
    }
}

fn cores() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Hashes may cost seconds each; the client has gone by then.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn no_more_hash_at_once_and_everybody_has_a_turn() {
        // A quarter of the places to wait is kept for names that log in here.
        let hashing = Hashing::with_limits(NonZeroUsize::new(3).unwrap(), 200).longest_wait(Duration::from_secs(3600));
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..100 {
                scope.spawn(|| {
                    let _permit = hashing.permit_for(Asker::NOBODY).unwrap();
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::yield_now();
                    now.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        assert!((1..=3).contains(&most.into_inner()));
        let state = hashing.lock();
        assert_eq!((state.free, state.waiting.len()), (3, 0));
        assert!(state.spare.len() <= 3);
    }

    #[test]
    fn whoever_comes_when_too_many_wait_is_turned_away_at_once() {
        let hashing = Hashing::with_limits(NonZeroUsize::MIN, 2);
        let permit = hashing.permit_for(Asker::NOBODY).unwrap();
        std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..2).map(|_| scope.spawn(|| hashing.permit_for(Asker::NOBODY).is_some())).collect();
            while hashing.lock().waiting.len() < 2 {
                std::thread::yield_now();
            }
            assert!(hashing.permit_for(Asker::NOBODY).is_none());
            assert!(hashing.lock().full);
            drop(permit);
            assert!(waiting.into_iter().all(|waiting| waiting.join().unwrap()));
        });
        assert!(!hashing.lock().full);
        assert!(hashing.permit_for(Asker::NOBODY).is_some());
    }

    #[test]
    fn nobody_waits_for_ever() {
        let hashing = Hashing::with_limits(NonZeroUsize::MIN, 10).longest_wait(Duration::from_millis(10));
        let permit = hashing.permit_for(Asker::NOBODY).unwrap();
        assert!(hashing.permit_for(Asker::NOBODY).is_none());
        assert_eq!(hashing.lock().waiting.len(), 0);
        drop(permit);
        assert!(hashing.permit_for(Asker::NOBODY).is_some());
    }

    #[test]
    fn nobody_may_wait_where_none_are_allowed_to() {
        let hashing = Hashing::with_limits(NonZeroUsize::MIN, 0);
        let permit = hashing.permit_for(Asker::NOBODY).unwrap();
        assert!(hashing.permit_for(Asker::NOBODY).is_none());
        drop(permit);
        assert!(hashing.permit_for(Asker::NOBODY).is_some());
    }

    /// The order in which those get a permit who wait for it, of whom each has a name and the last number of an address.
    #[test]
    fn who_logged_in_from_there_lately_is_served_before_a_crowd_of_strangers() {
        let hashing = Hashing::with_limits(NonZeroUsize::MIN, 16);
        let peer = |network: u8| Peer::from(std::net::SocketAddr::from(([192, 0, 2, network], 25)));
        hashing.permit(peer(1), "tim").unwrap().tell(true);
        hashing.permit(peer(2), "tim").unwrap().tell(false);
        let permit = hashing.permit(peer(9), "somebody").unwrap();
        let served = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            // One after the other.
            let crowd = [(3, "tom"), (2, "tim"), (4, "tim"), (1, "tom"), (1, "tim")];
            for (waiting, (network, name)) in crowd.into_iter().enumerate() {
                let (hashing, served) = (&hashing, &served);
                scope.spawn(move || {
                    let permit = hashing.permit(peer(network), name).unwrap();
                    served.lock().unwrap().push((network, name));
                    drop(permit);
                });
                while hashing.lock().waiting.len() <= waiting {
                    std::thread::yield_now();
                }
            }
            drop(permit);
        });
        assert_eq!(served.into_inner().unwrap(), [(1, "tim"), (3, "tom"), (4, "tim"), (2, "tim"), (1, "tom")]);
    }

    #[test]
    fn an_ipv6_network_is_one_and_an_ipv4_address_is_one_however_it_is_written() {
        let hashing = Hashing::new();
        let asker = |address: &str, name| {
            hashing.asker(Peer::from(std::net::SocketAddr::new(address.parse().unwrap(), 1)), name)
        };
        assert_eq!(asker("2001:db8::1", "tim"), asker("2001:db8::ffff:1", "tim"));
        assert_eq!(asker("192.0.2.1", "tim"), asker("::ffff:192.0.2.1", "tim"));
        assert_ne!(asker("192.0.2.1", "tim").pair, asker("192.0.2.1", "tom").pair);
        assert_ne!(asker("192.0.2.1", "tim"), asker("192.0.2.2", "tim"));
        assert_ne!(asker("2001:db8::1", "tim"), asker("2001:db8:0:1::1", "tim"));
        assert_eq!(hashing.asker(Peer::local(), "tim").network, None);
        assert!(!format!("{hashing:?}").contains("tim"));
    }
}
