//! The states of the messages that are under way.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::envelope::QueueId;
use crate::spool::{Spool, State};

/// The messages that are under way, each with one state for all its jobs.
#[derive(Debug, Default)]
pub(super) struct Messages(Mutex<HashMap<QueueId, Arc<Message>>>);

/// A message that is under way.
#[derive(Debug)]
pub(super) struct Message {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: State,
    /// Whether the state on the disk is older, because it could not be written.
    is_unsaved: bool,
}

impl Messages {
    /// The message's state, read from the disk unless it is known.
    ///
    /// # Errors
    /// As [`Spool::load`].
    pub(super) fn open(&self, spool: &Spool, id: &QueueId) -> io::Result<Arc<Message>> {
        let mut messages = self.lock();
        if let Some(message) = messages.get(id) {
            return Ok(Arc::clone(message));
        }
        let inner = Inner { state: spool.load(id)?, is_unsaved: false };
        let message = Arc::new(Message { inner: Mutex::new(inner) });
        messages.insert(id.clone(), Arc::clone(&message));
        Ok(message)
    }

    /// Keeps a state that the disk does not have yet.
    pub(super) fn adopt(&self, state: State) {
        let id = state.id.clone();
        let message = Message { inner: Mutex::new(Inner { state, is_unsaved: true }) };
        self.lock().insert(id, Arc::new(message));
    }

    /// Gives a message back. It is forgotten once nothing uses it any more and the disk has all that is known.
    pub(super) fn close(&self, id: &QueueId, message: Arc<Message>) {
        let mut messages = self.lock();
        drop(message);
        if messages.get(id).is_some_and(|message| Arc::strong_count(message) == 1 && !message.lock().is_unsaved) {
            messages.remove(id);
        }
    }

    /// Forgets a message.
    pub(super) fn remove(&self, id: &QueueId) {
        self.lock().remove(id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<QueueId, Arc<Message>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Message {
    /// Looks at the state.
    pub(super) fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.lock().state)
    }

    /// Changes the state, and does not write it yet.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut inner = self.lock();
        inner.is_unsaved = true;
        change(&mut inner.state)
    }

    /// Has the state changed and written by `write`. This waits for the disk.
    ///
    /// # Errors
    /// As `write`. What is in memory counts then, so that a recipient that has the message does not get it again.
    pub(super) fn write(&self, write: impl FnOnce(&mut State) -> io::Result<()>) -> io::Result<()> {
        let mut inner = self.lock();
        let written = write(&mut inner.state);
        inner.is_unsaved = written.is_err();
        written
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
