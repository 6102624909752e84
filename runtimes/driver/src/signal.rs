//! What ends a server, to be waited for in threads and in tasks alike.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

/// Something that happens once, with a value. Whoever waits for it, in a thread or in a task, is woken.
pub struct Signal<T> {
    value: OnceLock<T>,
    waiting: Mutex<Waiting>,
    happened: Condvar,
}

/// The tasks that wait.
#[derive(Debug, Default)]
struct Waiting {
    wakers: BTreeMap<u64, Waker>,
    next: u64,
}

impl<T> Default for Signal<T> {
    fn default() -> Self {
        Self { value: OnceLock::new(), waiting: Mutex::default(), happened: Condvar::new() }
    }
}

impl<T: Clone> Signal<T> {
    /// Makes it happen. A second time changes nothing.
    pub fn set(&self, value: T) {
        if self.value.set(value).is_err() {
            return;
        }
        // Whoever looked before the value was there is in `waiting` by now, or sees it after this lock.
        let wakers = std::mem::take(&mut self.waiting().wakers);
        self.happened.notify_all();
        wakers.into_values().for_each(Waker::wake);
    }

    /// The value, if it has happened.
    pub fn get(&self) -> Option<T> {
        self.value.get().cloned()
    }

    /// Whether it has happened. Costs no lock.
    pub fn is_set(&self) -> bool {
        self.value.get().is_some()
    }

    /// Waits in a task.
    pub fn wait(&self) -> Wait<'_, T> {
        Wait { signal: self, key: None }
    }

    /// Waits in a thread, for so long at the most.
    pub fn wait_timeout(&self, timeout: Duration) -> Option<T> {
        let waiting = self.waiting();
        drop(self.happened.wait_timeout_while(waiting, timeout, |_| !self.is_set()));
        self.get()
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // No panic leaves it half changed.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: fmt::Debug> fmt::Debug for Signal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Signal").field(&self.value.get()).finish()
    }
}

/// The wait for a [`Signal`] in a task.
#[derive(Debug)]
pub struct Wait<'s, T: Clone> {
    signal: &'s Signal<T>,
    key: Option<u64>,
}

impl<T: Clone> Future for Wait<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let signal = self.signal;
        let mut waiting = signal.waiting();
        if let Some(value) = signal.get() {
            return Poll::Ready(value);
        }
        let key = *self.key.get_or_insert_with(|| {
            waiting.next += 1;
            waiting.next
        });
        waiting.wakers.entry(key).or_insert_with(|| context.waker().clone()).clone_from(context.waker());
        Poll::Pending
    }
}

impl<T: Clone> Drop for Wait<'_, T> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.signal.waiting().wakers.remove(&key);
        }
    }
}

/// How a server ends, stage by stage.
#[derive(Debug, Default)]
pub struct Stages {
    /// Somebody wants the server to end, and lets connections have so long for it.
    pub requested: Signal<Duration>,
    /// Nothing listens any more; connections end when their current command is answered.
    pub ending: Signal<()>,
    /// What is left of the connections ends at once. Not before [`ending`](Self::ending).
    pub cut_off: Signal<()>,
    /// No connection is left.
    pub ended: Signal<()>,
}

impl Stages {
    /// Waits, in a connection's task, for what comes next of `ending` and `cut_off`.
    pub(crate) fn wait_for_end(&self) -> End<'_> {
        End { stages: self, has_begun: false, wait: self.ending.wait() }
    }
}

/// A connection's wait for the end.
pub(crate) struct End<'s> {
    stages: &'s Stages,
    has_begun: bool,
    /// One at a time: connections are many.
    wait: Wait<'s, ()>,
}

impl End<'_> {
    /// Waits for the connection to be cut off. The task is woken when the end [begins](Self::has_begun), too.
    pub(crate) fn poll_cut_off(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.has_begun {
            ready!(Pin::new(&mut self.wait).poll(context));
            self.has_begun = true;
            self.wait = self.stages.cut_off.wait();
        }
        Pin::new(&mut self.wait).poll(context)
    }

    /// Whether the end was seen to begin.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun
    }
}

/// Kept by each connection, and by the server until it is ending: with the last one of them, all has
/// [ended](Stages::ended).
#[derive(Debug)]
pub struct Alive(Arc<Stages>);

impl Alive {
    /// The first one, to be cloned for each connection.
    #[must_use]
    pub fn new(stages: &Arc<Stages>) -> Arc<Self> {
        Arc::new(Self(stages.clone()))
    }

    /// The stages that the connection goes through.
    #[must_use]
    pub fn stages(&self) -> &Stages {
        &self.0
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.ended.set(());
    }
}

/// Tells a server to stop. Clones are for the same server.
#[derive(Clone, Debug)]
pub struct Shutdown {
    stages: Arc<Stages>,
}

impl Shutdown {
    pub(crate) fn new(stages: Arc<Stages>) -> Self {
        Self { stages }
    }

    /// Begins to shut down: no new connections; each client is told `421 4.3.2` once its current command
    /// is answered; what is left after `grace` is cut off. Further calls change nothing.
    pub fn begin(&self, grace: Duration) {
        self.stages.requested.set(grace);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;
    use std::thread;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn tasks_are_woken_once_and_the_first_value_stays() {
        let signal = Signal::default();
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let mut context = Context::from_waker(&waker);
        let (mut first, mut second, mut dropped) = (signal.wait(), signal.wait(), signal.wait());
        for wait in [&mut first, &mut second, &mut dropped] {
            assert!(Pin::new(&mut *wait).poll(&mut context).is_pending());
            assert!(Pin::new(wait).poll(&mut context).is_pending());
        }
        drop(dropped);
        signal.set(1);
        signal.set(2);
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
        assert_eq!(Pin::new(&mut first).poll(&mut context), Poll::Ready(1));
        assert_eq!(Pin::new(&mut second).poll(&mut context), Poll::Ready(1));
        assert!(signal.waiting().wakers.is_empty());
    }

    #[test]
    fn threads_are_woken() {
        let signal = Signal::default();
        assert_eq!(signal.wait_timeout(Duration::from_millis(1)), None);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| signal.wait_timeout(Duration::from_secs(60)));
            signal.set(7);
            assert_eq!(waiting.join().unwrap(), Some(7));
        });
    }

    #[test]
    fn the_last_one_ends_it() {
        let stages = Arc::new(Stages::default());
        let alive = Alive::new(&stages);
        let other = alive.clone();
        drop(alive);
        assert!(!stages.ended.is_set());
        drop(other);
        assert!(stages.ended.is_set());
    }
}
