//! A guest's seat, on which it is while no thread serves it.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use mio::{Registry, Token};

use super::bench::Brief;
use super::news::{News, Reason};
use super::{Guest, Lobby, lock};
use crate::limits::Place;

/// A seat, kept for its guest until nobody comes back to it.
pub(super) struct Seat<G> {
    key: usize,
    kept: Mutex<Kept<G>>,
    /// Free again when no thread is left in a turn of the guest's: a handler's method that does not return keeps one
    /// there.
    _place: Option<Place>,
}

struct Kept<G> {
    /// Whose turn it is: the number goes up with each thread that takes over.
    turn: u64,
    guest: Option<G>,
    wait: WaitFor,
    until: Option<Instant>,
    /// When there is an alarm: it may be earlier than the end of the wait, and is set anew then.
    alarm: Option<Instant>,
    /// What has happened while the guest did not wait for it.
    news: Option<News>,
}

/// What a guest waits for, but for its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "guests make it")]
pub enum WaitFor {
    /// Its socket.
    Socket,
    /// Nothing.
    Time,
    /// Nothing, not even time: it goes on when all others that are ready have had their turn.
    Turn,
    /// The thread that serves it, which [may block](Turn::may_block) and will [be back](Turn::come_back). If it is not in
    /// time, the guest goes on without it.
    Thread,
}

/// What becomes of a guest whose thread leaves it.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "guests go on by it")]
pub enum Left<G> {
    /// It waits, and will go on in another thread or in this one.
    Waits,
    /// What it wants to wait for has happened.
    GoesOn(G, News),
    /// All have been [cut off](Lobby::cut_off).
    Over(G),
}

/// The right to serve a guest, which one thread has at a time.
pub struct Turn<'l, G> {
    lobby: &'l Lobby<G>,
    seat: Arc<Seat<G>>,
    number: u64,
    brief: Cell<Option<Brief<'l>>>,
}

impl<G> Seat<G> {
    pub(super) fn new(key: usize, place: Option<Place>) -> Self {
        let kept = Kept { turn: 0, guest: None, wait: WaitFor::Socket, until: None, alarm: None, news: None };
        Self { key, kept: Mutex::new(kept), _place: place }
    }

    pub(super) fn key(&self) -> usize {
        self.key
    }

    /// Takes a new guest, and has it watched. It is given back if that fails, or all have just been cut off.
    pub(super) fn take(&self, mut guest: G, registry: &Registry) -> Result<(), (G, Option<io::Error>)>
    where
        G: Guest,
    {
        // Locked until it sits: what happens to it at once does not find the seat empty.
        let mut kept = self.kept();
        if kept.turn != 0 {
            return Err((guest, None));
        }
        if let Err(error) = guest.register(registry, Token(self.key)) {
            return Err((guest, Some(error)));
        }
        kept.guest = Some(guest);
        Ok(())
    }

    /// Ends the turn of whoever has it. Who is still there.
    pub(super) fn clear(&self) -> Option<G> {
        let mut kept = self.kept();
        kept.turn += 1;
        kept.guest.take()
    }

    fn kept(&self) -> MutexGuard<'_, Kept<G>> {
        lock(&self.kept)
    }
}

impl<'l, G: Guest> Turn<'l, G> {
    /// Takes the guest from its seat, if it is there and this is what it waits for.
    pub(super) fn begin(
        lobby: &'l Lobby<G>,
        seat: Arc<Seat<G>>,
        reason: Reason,
        brief: Brief<'l>,
    ) -> Option<(G, Self, News)> {
        let mut kept = seat.kept();
        let is_due = match reason {
            Reason::Event(news) => {
                kept.news = Some(kept.news.unwrap_or_default().and(news));
                kept.wait == WaitFor::Socket
            }
            Reason::Turn => kept.wait == WaitFor::Turn,
            Reason::Alarm(at) => {
                if kept.alarm != Some(at) {
                    return None;
                }
                kept.alarm = None;
                let is_due = kept.until.is_some_and(|until| until <= Instant::now());
                if !is_due && kept.guest.is_some() {
                    kept.be_alarmed(lobby, seat.key);
                }
                is_due
            }
        };
        if !is_due {
            return None;
        }
        let guest = kept.guest.take()?;
        kept.turn += 1;
        let number = kept.turn;
        let mut news = mem::take(&mut kept.news).unwrap_or_default();
        news.is_late = kept.wait == WaitFor::Thread;
        drop(kept);
        Some((guest, Self { lobby, seat, number, brief: Cell::new(Some(brief)) }, news))
    }

    /// Where other guests can be let in.
    #[must_use]
    pub fn lobby(&self) -> &'l Lobby<G> {
        self.lobby
    }

    /// Says that this thread may block from now on, or is busy for long: others do not count on it. `false` if no
    /// thread can be started in its stead, and all others would have to wait for it.
    pub fn may_block(&self) -> bool {
        let Some(brief) = self.brief.take() else { return true };
        match brief.end(|| self.lobby.hire()) {
            Ok(()) => true,
            Err(brief) => {
                self.brief.set(Some(brief));
                false
            }
        }
    }

    /// Leaves the guest on its seat, to wait until then at the latest.
    pub fn leave(&self, guest: G, wait: WaitFor, until: Option<Instant>) -> Left<G> {
        let mut kept = self.seat.kept();
        if kept.turn != self.number {
            return Left::Over(guest);
        }
        if wait == WaitFor::Socket
            && let Some(news) = kept.news.take()
        {
            return Left::GoesOn(guest, news);
        }
        kept.guest = Some(guest);
        kept.wait = wait;
        kept.until = until;
        kept.be_alarmed(self.lobby, self.seat.key);
        drop(kept);
        if wait == WaitFor::Turn {
            self.lobby.bench().put_off(self.seat.key);
        }
        Left::Waits
    }

    /// Takes the guest from its seat again. `None` if this thread's turn is over.
    #[must_use]
    pub fn come_back(&self) -> Option<G> {
        let mut kept = self.seat.kept();
        if kept.turn == self.number { kept.guest.take() } else { None }
    }
}

impl<G> Kept<G> {
    /// Sets the alarm, unless there is one that is early enough.
    fn be_alarmed(&mut self, lobby: &Lobby<G>, key: usize) {
        if let Some(until) = self.until
            && self.alarm.is_none_or(|alarm| until < alarm)
        {
            lobby.bench().set_alarm(key, until, self.alarm.replace(until));
        }
    }
}

impl<G> Drop for Turn<'_, G> {
    fn drop(&mut self) {
        let mut kept = self.seat.kept();
        if kept.turn != self.number || kept.guest.is_some() {
            return;
        }
        // What comes late finds nobody.
        kept.turn += 1;
        let alarm = kept.alarm.take();
        drop(kept);
        if let Some(alarm) = alarm {
            self.lobby.bench().clear_alarm(self.seat.key, alarm);
        }
        self.lobby.clear_away(&self.seat);
    }
}

impl<G> fmt::Debug for Turn<'_, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("seat", &self.seat.key).field("number", &self.number).finish()
    }
}
