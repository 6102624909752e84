//! The states of the messages that are under way.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::envelope::QueueId;
use crate::spool::{Spool, State, Status};

/// The messages that are under way, each with one state for all its jobs.
#[derive(Debug, Default)]
pub(super) struct Messages(Mutex<HashMap<QueueId, Arc<Message>>>);

/// A message that is under way.
///
/// Looking at the state and changing it never waits for the disk, so both may be done on the runtime's thread. What
/// writes works on a copy, one writer after the other.
#[derive(Debug)]
pub(super) struct Message {
    inner: Mutex<Inner>,
    /// Held while the state is written.
    writer: Mutex<()>,
}

#[derive(Debug)]
struct Inner {
    state: State,
    /// How often the state was changed.
    changes: u64,
    /// How many of these changes the disk has.
    written: u64,
    /// Whether the disk has forgotten the message, as nothing is left to do.
    is_forgotten: bool,
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
        let message = Arc::new(Message::new(spool.load(id)?, 0));
        messages.insert(id.clone(), Arc::clone(&message));
        Ok(message)
    }

    /// Keeps a state that the disk does not have yet.
    pub(super) fn adopt(&self, state: State) {
        let id = state.id.clone();
        self.lock().insert(id, Arc::new(Message::new(state, 1)));
    }

    /// Gives a message back. It is forgotten once nothing uses it any more and the disk has all that is known.
    pub(super) fn close(&self, id: &QueueId, message: Arc<Message>) {
        let mut messages = self.lock();
        drop(message);
        if messages.get(id).is_some_and(|message| Arc::strong_count(message) == 1 && !message.lock().is_unsaved()) {
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
    fn new(state: State, changes: u64) -> Self {
        let inner = Inner { state, changes, written: 0, is_forgotten: false };
        Self { inner: Mutex::new(inner), writer: Mutex::default() }
    }

    /// Looks at the state.
    pub(super) fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.lock().state)
    }

    /// Changes the state, and does not write it yet.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut inner = self.lock();
        inner.changes += 1;
        change(&mut inner.state)
    }

    /// Has the disk know what is known in memory; where nothing is left to do, the disk forgets the message. This waits
    /// for the disk, but for changes that another writer has written meanwhile.
    ///
    /// # Errors
    /// Where the file system refuses. What is in memory counts then, so that a recipient that has the message does not
    /// get it again.
    pub(super) fn save(&self, spool: &Spool) -> io::Result<()> {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let (state, changes) = {
            let inner = self.lock();
            if inner.is_forgotten || !inner.is_unsaved() {
                return Ok(());
            }
            (inner.state.clone(), inner.changes)
        };
        let is_over = state.is_finished() && !state.owes_report();
        if is_over {
            spool.forget(&state.id)?
        } else {
            spool.save(&state)?
        }
        let mut inner = self.lock();
        inner.written = changes;
        inner.is_forgotten = is_over;
        Ok(())
    }

    /// Has the state changed and written by `write`. This waits for the disk. What else changes meanwhile is kept, and not
    /// written.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] where the disk has forgotten the message. As `write`; what it has changed until then
    /// counts in memory.
    pub(super) fn write(&self, write: impl FnOnce(&mut State) -> io::Result<()>) -> io::Result<()> {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, changes) = {
            let inner = self.lock();
            if inner.is_forgotten {
                return Err(io::ErrorKind::NotFound.into());
            }
            (inner.state.clone(), inner.changes)
        };
        let mut after = before.clone();
        let written = write(&mut after);
        let mut inner = self.lock();
        merge(&mut inner.state, &before, after);
        match written {
            Ok(()) => inner.written = changes,
            Err(_) => inner.changes += 1,
        }
        written
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn is_unsaved(&self) -> bool {
        self.changes > self.written
    }
}

/// Adds to a state what a writer has made of an earlier one: what was reported, or put on hold. Attempts that have ended
/// meanwhile have changed the rest.
fn merge(state: &mut State, before: &State, after: State) {
    let State { recipients, reports, unannounced, held, .. } = after;
    for ((recipient, before), after) in state.recipients.iter_mut().zip(&before.recipients).zip(recipients) {
        let is_open = matches!(recipient.status, Status::Pending | Status::Relayed | Status::Failed);
        if is_open && before.status != after.status {
            recipient.status = after.status;
        }
        recipient.delay_reported |= after.delay_reported;
    }
    state.reports = reports;
    state.unannounced = unannounced;
    state.held = held;
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::Envelope;
    use crate::spool::Answer;
    use crate::testing::PATIENCE;

    fn message(spool: &Arc<Spool>) -> (Messages, QueueId, Arc<Message>) {
        let incoming =
            Spool::begin(spool, Envelope::new("tim@sender.example", ["a@b.example", "c@d.example"])).unwrap();
        let id = incoming.commit().unwrap();
        let messages = Messages::default();
        let message = messages.open(spool, &id).unwrap();
        (messages, id, message)
    }

    #[test]
    fn a_state_that_is_being_written_is_read_and_changed_and_both_changes_count() {
        let directory = tempfile::tempdir().unwrap();
        let spool = Arc::new(Spool::open(directory.path()).unwrap());
        let (messages, id, message) = message(&spool);
        let refused = || Answer::own_words("5.1.1", "no");
        message.change(|state| state.recipients[0].settle(true, refused()));
        let ((began, begun), (go, gate)) = (channel(), channel::<()>());
        let (done, saved) = channel();
        let (shared, disk) = (&message, &spool);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                shared
                    .write(|state| {
                        began.send(()).unwrap();
                        gate.recv().unwrap();
                        state.recipients[0].status = Status::Reported;
                        disk.save(state)
                    })
                    .unwrap();
            });
            begun.recv_timeout(PATIENCE).unwrap();
            // With the writer at the disk, this thread would hang here.
            assert_eq!(message.read(|state| state.recipients[0].status), Status::Failed);
            message.change(|state| {
                state.recipients[1].status = Status::Delivered;
                state.attempts = 7;
            });
            scope.spawn(move || done.send(shared.save(disk)).unwrap());
            go.send(()).unwrap();
            saved.recv_timeout(PATIENCE).unwrap().unwrap();
        });
        let statuses = message.read(|state| state.recipients.iter().map(|one| one.status).collect::<Vec<_>>());
        assert_eq!((statuses, message.read(|state| state.attempts)), (vec![Status::Reported, Status::Delivered], 7));
        // Which of the two came last does not matter.
        message.save(&spool).unwrap();
        assert!(!spool.contains(&id).unwrap(), "nothing is left to do");
        let error = message.write(|state| spool.save(state)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        message.change(|state| state.attempts += 1);
        message.save(&spool).unwrap();
        assert!(!spool.contains(&id).unwrap(), "what is forgotten does not come back");
        messages.close(&id, message);
    }

    #[test]
    fn what_the_disk_has_is_not_written_again() {
        let directory = tempfile::tempdir().unwrap();
        let spool = Arc::new(Spool::open(directory.path()).unwrap());
        let (messages, id, message) = message(&spool);
        let path = directory.path().join(format!("queue/{id}.json"));
        std::fs::write(&path, "").unwrap();
        message.save(&spool).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        message.change(|state| state.attempts = 1);
        std::fs::remove_dir(directory.path().join("incoming")).unwrap();
        assert!(message.save(&spool).is_err(), "there is no room");
        messages.close(&id, message);
        let message = messages.open(&spool, &id).unwrap();
        assert_eq!(message.read(|state| state.attempts), 1, "kept in memory");
        std::fs::create_dir(directory.path().join("incoming")).unwrap();
        message.save(&spool).unwrap();
        assert_eq!(spool.load(&id).unwrap().attempts, 1);
        messages.close(&id, message);
    }
}
