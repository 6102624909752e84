//! The thread on which everything that waits for a server runs.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use super::directory::Directory;

/// A thread with a runtime of its own, which `ldap3` needs and nobody else sees. Ends when it is dropped.
///
/// It reads from idle connections, too, so that those that a server has closed are known before they are used; and
/// whoever asks need not wait for longer than they want, whatever `ldap3` or a look-up of a host's name does.
#[derive(Debug)]
pub(super) struct Worker {
    directory: Arc<Directory>,
    runtime: Handle,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    Late,
    /// What was to find it out has panicked.
    Panicked,
}

impl Worker {
    pub(super) fn start(directory: Directory) -> io::Result<Self> {
        let runtime =
            Builder::new_current_thread().enable_all().max_blocking_threads(MAX_LOOK_UPS).thread_name(NAME).build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        let thread = std::thread::Builder::new().name(NAME.to_owned()).spawn(move || {
            // Either way it is the end.
            let _ = runtime.block_on(ended);
            // Without a wait for look-ups of names, which nothing can stop.
            runtime.shutdown_background();
        })?;
        Ok(Self { directory: Arc::new(directory), runtime: handle, end: Some(end), thread: Some(thread) })
    }

    /// Asks, and waits for so long.
    pub(super) fn ask<T, F>(&self, limit: Duration, question: impl FnOnce(Arc<Directory>) -> F) -> Result<T, NoAnswer>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let (sender, receiver) = sync_channel(1);
        let question = question(self.directory.clone());
        self.runtime.spawn(async move {
            // Nobody waits for it if it is late.
            let _ = sender.send(question.await);
        });
        receiver.recv_timeout(limit).map_err(|error| match error {
            RecvTimeoutError::Timeout => NoAnswer::Late,
            RecvTimeoutError::Disconnected => NoAnswer::Panicked,
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // A panic of its was told by the panic hook.
            let _ = thread.join();
        }
    }
}

const NAME: &str = "ldap";

/// How many look-ups of hosts' names may be under way. One that hangs takes a place until it ends.
const MAX_LOOK_UPS: usize = 16;
