//! Where connections wait without a thread, and the threads that serve those whose wait is over.
//!
//! No thread waits for one connection. One at a time keeps watch over all of them, by the system's readiness queue
//! (epoll, kqueue); when something happens to one, it serves that one, and before it may block there, it has another
//! thread come in its stead. So there are about as many threads as processors, and one more for each connection that
//! keeps one blocked.

mod alarms;
mod bench;
mod news;
mod seat;
mod socket;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::mem;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

#[doc(no_inline)]
pub use mio::{Registry, Token};
use slab::Slab;

use self::bench::Bench;
pub use self::news::News;
use self::news::Reason;
use self::seat::Seat;
pub use self::seat::{Left, Turn, WaitFor};
pub use self::socket::{Entrance, Socket};
use crate::limits::Place;

/// A lobby, and its threads. Clones are of the same.
pub struct Lobby<G>(Arc<Inner<G>>);

/// Who waits in a [`Lobby`], and is served by one thread at a time.
pub trait Guest: Sized + Send + 'static {
    /// Has what it waits for watched, as `token`.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()>;

    /// Goes on, after its wait is over, or for the first time. Before it blocks, or if it takes long, the turn is to be
    /// [told](Turn::may_block).
    fn go_on(self, turn: &Turn<'_, Self>, news: News);

    /// Ends at once.
    fn cut_off(self);
}

struct Inner<G> {
    name: &'static str,
    stack_octets: usize,
    bench: Bench,
    registry: Registry,
    seats: Mutex<Seats<G>>,
}

struct Seats<G> {
    taken: Slab<Arc<Seat<G>>>,
    /// All have been cut off, and so are those that come.
    is_over: bool,
}

impl<G: Guest> Lobby<G> {
    /// A lobby with a thread that watches. Its threads have this name, and stacks of so many octets.
    ///
    /// # Errors
    ///
    /// What the operating system says if it has no readiness queue or no thread to give.
    pub fn open(name: &'static str, stack_octets: usize) -> io::Result<Self> {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        Self::with_bench(name, stack_octets, Bench::new(processors, PATIENCE)?)
    }

    fn with_bench(name: &'static str, stack_octets: usize, (bench, registry): (Bench, Registry)) -> io::Result<Self> {
        let seats = Mutex::new(Seats { taken: Slab::new(), is_over: false });
        let lobby = Self(Arc::new(Inner { name, stack_octets, bench, registry, seats }));
        lobby.hire()?;
        Ok(lobby)
    }

    /// Lets a guest in, to go on as soon as its socket is ready for anything. Its place is free again when no thread is
    /// left in a turn of its.
    ///
    /// # Errors
    ///
    /// That of [`Guest::register`]. The guest has been [cut off](Guest::cut_off) then.
    pub fn let_in(&self, place: Option<Place>, guest: G) -> io::Result<()> {
        let seat = {
            let mut seats = self.seats();
            (!seats.is_over).then(|| {
                let entry = seats.taken.vacant_entry();
                let seat = Arc::new(Seat::new(entry.key(), place));
                Arc::clone(entry.insert(seat))
            })
        };
        let Some(seat) = seat else {
            guest.cut_off();
            return Ok(());
        };
        seat.take(guest, &self.0.registry).or_else(|(guest, error)| {
            self.clear_away(&seat);
            guest.cut_off();
            error.map_or(Ok(()), Err)
        })
    }

    /// Has all go on that wait for their sockets, as if something had come.
    pub fn rouse(&self) {
        let all: Vec<_> = self.seats().taken.iter().map(|(key, _)| (key, Reason::Event(News::default()))).collect();
        self.0.bench.add(all, || self.hire());
    }

    /// Ends what every guest does, also of those that would still be let in. A thread that is blocked for one has nobody
    /// to come back to.
    pub fn cut_off(&self) {
        let taken = {
            let mut seats = self.seats();
            seats.is_over = true;
            mem::take(&mut seats.taken)
        };
        for (_, seat) in taken {
            if let Some(guest) = seat.clear() {
                guest.cut_off();
            }
        }
    }

    /// Lets threads end when they have served whom they are serving. Waits for none of them.
    pub fn close(&self) {
        self.0.bench.close();
    }

    /// What a thread does.
    fn work(&self) {
        self.0.bench.arrive();
        while let Some((key, reason, brief)) = self.0.bench.next(|| self.hire()) {
            // It may have gone, and its seat may be another one's by now, who looks once too often then.
            let Some(seat) = self.seats().taken.get(key).map(Arc::clone) else { continue };
            let Some((guest, turn, news)) = Turn::begin(self, seat, reason, brief) else { continue };
            // The turn is over then. This thread is still needed.
            if catch_unwind(AssertUnwindSafe(|| guest.go_on(&turn, news))).is_err() {
                tracing::error!("a thread panicked");
            }
        }
    }

    fn hire(&self) -> io::Result<()> {
        let lobby = self.clone();
        let builder = thread::Builder::new().name(self.0.name.to_owned()).stack_size(self.0.stack_octets);
        builder.spawn(move || lobby.work()).map(drop)
    }
}

impl<G> Lobby<G> {
    fn bench(&self) -> &Bench {
        &self.0.bench
    }

    /// Nobody comes back to the seat.
    fn clear_away(&self, seat: &Arc<Seat<G>>) {
        let mut seats = self.seats();
        if seats.taken.get(seat.key()).is_some_and(|other| Arc::ptr_eq(other, seat)) {
            seats.taken.remove(seat.key());
        }
    }

    fn seats(&self) -> MutexGuard<'_, Seats<G>> {
        lock(&self.0.seats)
    }
}

impl<G> Clone for Lobby<G> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<G> fmt::Debug for Lobby<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lobby").field("name", &self.0.name).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No panic leaves it half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long a thread waits that is one too many.
const PATIENCE: Duration = Duration::from_secs(5);
