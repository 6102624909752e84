//! The removal of messages that are done with.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::envelope::QueueId;
use crate::spool::Spool;

/// Two threads that remove from the spool what is done with. One forgets each message at once, so that a process that
/// ends then does not send it again; the other waits for the disk, once for as many messages as there are, and removes
/// their content.
pub(super) struct Remover {
    done: Sender<QueueId>,
    threads: [JoinHandle<()>; 2],
}

impl Remover {
    /// # Errors
    /// Where there is no thread to be had.
    pub(super) fn start(spool: Arc<Spool>) -> io::Result<Self> {
        let (done, messages) = channel();
        let (sender, forgotten) = channel();
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let remover = Arc::clone(&spool);
        let threads = [
            thread("forgetting").spawn(move || forget_all(&spool, &messages, &sender))?,
            thread("removal").spawn(move || remove_all(&remover, &forgotten))?,
        ];
        Ok(Self { done, threads })
    }

    pub(super) fn remove(&self, message: QueueId) {
        let _ = self.done.send(message);
    }

    /// Waits until all is removed.
    pub(super) fn finish(self) {
        let Self { done, threads } = self;
        drop(done);
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("the removal of messages has panicked; what is left is sent again at the next start");
            }
        }
    }
}

fn forget_all(spool: &Spool, messages: &Receiver<QueueId>, forgotten: &Sender<QueueId>) {
    gather(messages, |messages| {
        messages.retain(|id| match spool.forget(id) {
            Ok(()) => {
                let _ = forgotten.send(id.clone());
                false
            }
            Err(error) => {
                tracing::error!(%id, %error, "cannot remove a message that is done with; trying again");
                true
            }
        });
    });
}

fn remove_all(spool: &Spool, forgotten: &Receiver<QueueId>) {
    gather(forgotten, |messages| match spool.remove(messages) {
        Ok(()) => messages.drain(..).for_each(|id| tracing::info!(%id, "done")),
        Err(error) => tracing::error!(messages = messages.len(), %error, "cannot remove content; trying again"),
    });
}

/// Has `act` take what it can of all messages that have come, and tries again with the rest, until no more can come.
fn gather(messages: &Receiver<QueueId>, act: impl Fn(&mut Vec<QueueId>)) {
    let mut left = Vec::new();
    loop {
        let is_over = match messages.recv_timeout(LONGEST_PAUSE) {
            Ok(message) => {
                left.push(message);
                false
            }
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => true,
        };
        left.extend(messages.try_iter());
        if !left.is_empty() {
            act(&mut left);
        }
        if is_over {
            return;
        }
    }
}

const LONGEST_PAUSE: Duration = Duration::from_secs(60);
