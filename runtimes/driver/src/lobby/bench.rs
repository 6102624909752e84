//! The threads of a lobby: those that serve, one that watches, and those that wait to be called.
//!
//! Of threads that are *brief*, which do nothing that blocks, there are as many as processors, and no more: another one
//! would only take turns with them. While there are so many, they need nobody to watch: they will themselves, soon.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::{Mutex, MutexGuard};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Registry, Token, Waker};

use super::alarms::Alarms;
use super::lock;
use super::news::{News, Reason};

/// Where threads wait, and what for.
#[derive(Debug)]
pub(super) struct Bench {
    state: Mutex<State>,
    alarms: Alarms,
    /// Has whoever watches look up.
    waker: Waker,
    max_brief: usize,
    patience: Duration,
}

#[derive(Debug)]
struct State {
    /// Whose turn it is, and why. Before it is empty, nobody begins to watch.
    due: VecDeque<(usize, Reason)>,
    /// Whose turn it is again, when all that is due, and all that has happened by then, has had its own.
    put_off: Vec<usize>,
    /// Absent while somebody watches.
    watch: Option<Box<Watch>>,
    /// Who came last is called first: those of whom there are too many are not called, and go.
    waiting: Vec<Thread>,
    brief: usize,
    /// Somebody has been called, or hired, and has not come yet.
    is_called: bool,
    is_closed: bool,
}

#[derive(Debug)]
struct Watch {
    poll: Poll,
    events: Events,
}

/// That a thread is brief. When it is not any more, this is dropped by a thread that [comes back](Bench::next) then, or
/// [ended](Self::end).
#[derive(Debug)]
pub(super) struct Brief<'b>(&'b Bench);

impl Bench {
    /// A bench, and the registry for what is to be watched.
    pub(super) fn new(max_brief: usize, patience: Duration) -> io::Result<(Self, Registry)> {
        let poll = Poll::new()?;
        let (registry, waker) = (poll.registry().try_clone()?, Waker::new(poll.registry(), LOOK_UP)?);
        let watch = Some(Box::new(Watch { poll, events: Events::with_capacity(EVENTS) }));
        let (due, put_off, waiting) = (VecDeque::new(), Vec::new(), Vec::new());
        // The first one.
        let state = Mutex::new(State { due, put_off, watch, waiting, brief: 0, is_called: true, is_closed: false });
        Ok((Self { state, alarms: Alarms::default(), waker, max_brief, patience }, registry))
    }

    /// Says that a thread has come that was hired.
    pub(super) fn arrive(&self) {
        self.state().is_called = false;
    }

    /// Waits for something to do. `None` if there is nothing more for this thread.
    pub(super) fn next(&self, hire: impl FnOnce() -> io::Result<()>) -> Option<(usize, Reason, Brief<'_>)> {
        let mut state = self.state();
        loop {
            if state.is_closed {
                return None;
            }
            if state.brief < self.max_brief {
                if let Some((key, reason)) = state.due.pop_front() {
                    state.brief += 1;
                    self.call_somebody(state, hire);
                    return Some((key, reason, Brief(self)));
                }
                if let Some(watch) = state.watch.take() {
                    state = self.keep_watch(state, watch);
                    continue;
                }
                if !state.put_off.is_empty() {
                    // Whoever watches adds what happens meanwhile.
                    state.end_round();
                    continue;
                }
            }
            state = self.wait(state)?;
        }
    }

    /// Adds what is to be done now.
    pub(super) fn add(&self, due: Vec<(usize, Reason)>, hire: impl FnOnce() -> io::Result<()>) {
        let mut state = self.state();
        state.due.extend(due);
        if !self.call_somebody(state, hire) {
            // Whoever watches has something better to do.
            self.look_up();
        }
    }

    /// Has somebody go on behind all others. The thread that says so [comes back](Self::next) for it, unless another does.
    pub(super) fn put_off(&self, key: usize) {
        self.state().put_off.push(key);
    }

    /// Sends everybody home when they have done what they are doing.
    pub(super) fn close(&self) {
        let waiting = {
            let mut state = self.state();
            state.is_closed = true;
            mem::take(&mut state.waiting)
        };
        waiting.iter().for_each(Thread::unpark);
        self.look_up();
    }

    /// Sets a seat's alarm, instead of its last one.
    pub(super) fn set_alarm(&self, key: usize, at: Instant, instead_of: Option<Instant>) {
        if self.alarms.set(key, at, instead_of) {
            self.look_up();
        }
    }

    pub(super) fn clear_alarm(&self, key: usize, at: Instant) {
        self.alarms.clear(key, at);
    }

    /// When the first alarm goes off.
    pub(super) fn next_alarm(&self) -> Option<Instant> {
        self.alarms.next()
    }

    fn look_up(&self) {
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "cannot wake a thread");
        }
    }

    /// Waits until something happens.
    fn keep_watch<'b>(&'b self, state: MutexGuard<'b, State>, mut watch: Box<Watch>) -> MutexGuard<'b, State> {
        let is_anybody_ready = !state.put_off.is_empty();
        drop(state);
        let timeout = if is_anybody_ready {
            Some(Duration::ZERO)
        } else {
            self.next_alarm().map(|at| at.saturating_duration_since(Instant::now()))
        };
        let Watch { poll, events } = &mut *watch;
        let failed = poll.poll(events, timeout).err().filter(|error| error.kind() != io::ErrorKind::Interrupted);
        let mut state = self.state();
        if failed.is_none() {
            let events = events.iter().filter(|event| event.token() != LOOK_UP);
            state.due.extend(events.map(|event| (event.token().0, Reason::Event(News::from(event)))));
        }
        let now = Instant::now();
        while let Some((at, key)) = self.alarms.take_due(now) {
            state.due.push_back((key, Reason::Alarm(at)));
        }
        state.end_round();
        state.watch = Some(watch);
        let Some(error) = failed else { return state };
        drop(state);
        tracing::error!(%error, "cannot watch");
        self.state()
    }

    /// Waits to be called. `None` if nobody calls for long.
    fn wait<'b>(&'b self, mut state: MutexGuard<'b, State>) -> Option<MutexGuard<'b, State>> {
        let me = thread::current();
        // One is always there, and for it there is no time.
        let until = (!state.waiting.is_empty()).then(|| Instant::now() + self.patience);
        state.waiting.push(me.clone());
        loop {
            drop(state);
            match until {
                Some(until) => thread::park_timeout(until.saturating_duration_since(Instant::now())),
                None => thread::park(),
            }
            state = self.state();
            if state.is_closed {
                return Some(state);
            }
            let Some(at) = state.waiting.iter().rposition(|thread| thread.id() == me.id()) else {
                state.is_called = false;
                return Some(state);
            };
            if until.is_some_and(|until| until <= Instant::now()) {
                state.waiting.remove(at);
                return None;
            }
        }
    }

    /// Has somebody come who waits, or else somebody new, if there is anything to do for another one. `false` if there
    /// is, and nobody comes.
    fn call_somebody(&self, mut state: MutexGuard<'_, State>, hire: impl FnOnce() -> io::Result<()>) -> bool {
        let is_anything_due = state.watch.is_some() || !state.due.is_empty() || !state.put_off.is_empty();
        let is_needed = state.brief < self.max_brief && is_anything_due;
        if !is_needed || state.is_called || state.is_closed {
            return true;
        }
        state.is_called = true;
        let called = state.waiting.pop();
        drop(state);
        if let Some(thread) = called {
            thread.unpark();
            return true;
        }
        let Err(error) = hire() else { return true };
        self.state().is_called = false;
        tracing::error!(%error, "cannot start a thread");
        false
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    /// Those that were put off are due, behind all others.
    fn end_round(&mut self) {
        self.due.extend(self.put_off.drain(..).map(|key| (key, Reason::Turn)));
    }
}

impl Brief<'_> {
    /// Says that the thread may block from now on, and has somebody else come in its stead. It is given back if nobody
    /// comes.
    pub(super) fn end(self, hire: impl FnOnce() -> io::Result<()>) -> Result<(), Self> {
        let mut state = self.0.state();
        state.brief -= 1;
        if self.0.call_somebody(state, hire) {
            mem::forget(self);
            return Ok(());
        }
        self.0.state().brief += 1;
        Err(self)
    }
}

impl Drop for Brief<'_> {
    fn drop(&mut self) {
        self.0.state().brief -= 1;
    }
}

/// How much can happen at a time, to be seen at once.
const EVENTS: usize = 256;

/// No seat has it.
const LOOK_UP: Token = Token(usize::MAX);

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse() -> io::Result<()> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    #[test]
    fn who_has_nobody_in_its_stead_is_counted_on() {
        let (bench, _registry) = Bench::new(1, Duration::ZERO).unwrap();
        bench.arrive();
        bench.add(vec![(7, Reason::Event(News::default()))], refuse);
        let (key, _, brief) = bench.next(refuse).unwrap();
        assert_eq!((key, bench.state().brief), (7, 1));
        let brief = brief.end(refuse).unwrap_err();
        assert_eq!(bench.state().brief, 1);
        // The next time somebody may come.
        let mut hired = 0;
        let hire = || {
            hired += 1;
            Ok(())
        };
        brief.end(hire).unwrap();
        assert_eq!((hired, bench.state().brief), (1, 0));
    }
}
