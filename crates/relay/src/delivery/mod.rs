//! The delivery worker: takes messages from the spool to their next hop, or back to their sender.

mod attempt;
mod client;
mod content;
mod error;
mod reply;
mod start_error;
mod tls;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use self::attempt::Deliverer;
pub(crate) use self::content::read_header_section;
pub use self::start_error::StartError;
use self::tls::ClientTls;
use crate::envelope::QueueId;
use crate::reports;
use crate::routes::{MailExchangers, Route};
use crate::schedule::Schedule;
use crate::spool::{Spool, Timestamp};

/// The thread that delivers. Dropped without [`Worker::stop`], it stops at once; the spool remembers the rest.
#[derive(Debug)]
pub struct Worker {
    /// How long deliveries may still take; none while nobody asked to stop.
    stop: watch::Sender<Option<Duration>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts to deliver what is in the spool, and what arrives there.
    ///
    /// `ca` is trusted in addition to the system's certificates; `hostname` is what we call ourselves.
    ///
    /// # Errors
    /// Where the spool, the certificates or the resolver's configuration cannot be read, or no thread started.
    pub fn start(
        spool: Arc<Spool>,
        route: Route,
        schedule: Schedule,
        ca: Option<&Path>,
        hostname: &str,
    ) -> Result<Self, StartError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
        let exchangers = match &route {
            Route::Relays(_) => None,
            Route::Mx { resolver, .. } => {
                let _runtime = runtime.enter();
                Some(MailExchangers::new(*resolver, hostname)?)
            }
        };
        // Subscribed before the spool is read: what arrives in between is then known twice rather than never.
        let (sender, arrivals) = unbounded_channel();
        spool.subscribe(move |id| {
            // A worker that has ended leaves the message for the next start.
            let _ = sender.send(id);
        });
        let waiting = spool.messages().map_err(StartError::Spool)?;
        recover_reports(&spool, &waiting, hostname);
        if !waiting.is_empty() {
            tracing::info!(messages = waiting.len(), "messages wait in the spool");
        }
        let deliverer =
            Deliverer { spool, route, exchangers, schedule, tls: ClientTls::new(ca)?, hostname: hostname.to_owned() };
        let (stop, stopped) = watch::channel(None);
        let queue = Queue {
            deliverer: Arc::new(deliverer),
            known: waiting.iter().map(|(id, _)| id.clone()).collect(),
            due: waiting.into_iter().map(|(id, at)| (at, id)).collect(),
            running: JoinSet::new(),
            names: HashMap::new(),
        };
        let thread = std::thread::Builder::new()
            .name("delivery".to_owned())
            .spawn(move || {
                runtime.block_on(queue.run(arrivals, stopped));
                // A host name that is still being looked up must not hold up the end.
                runtime.shutdown_background();
            })
            .map_err(StartError::Thread)?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Lets the deliveries that are under way finish, for `grace` at most, and starts no others. What is cut off
    /// is tried again at the next start.
    pub fn stop(mut self, grace: Duration) {
        self.stop.send_replace(Some(grace));
        self.join();
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the delivery worker has panicked; the spool keeps its messages for the next start");
        }
    }
}

/// Finishes what a crash has left undone about reports, however far ahead the next attempt for the message is.
fn recover_reports(spool: &Arc<Spool>, waiting: &[(QueueId, Timestamp)], hostname: &str) {
    for (id, _) in waiting {
        let recovered = spool.load(id).and_then(|mut state| reports::report_failures(spool, &mut state, hostname));
        if let Err(error) = recovered {
            // As with a full disk. The next attempt begins with it.
            tracing::error!(%id, %error, "cannot report a failure now");
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.send_replace(Some(Duration::ZERO));
        self.join();
    }
}

/// What the worker has to do, and when.
struct Queue {
    deliverer: Arc<Deliverer>,
    /// Every message that is not under way, by the time of its next attempt.
    due: BTreeSet<(Timestamp, QueueId)>,
    /// Every message that is due or under way.
    known: HashSet<QueueId>,
    running: JoinSet<Option<Timestamp>>,
    /// Which message each running task delivers, so that a panic in one does not lose it.
    names: HashMap<tokio::task::Id, QueueId>,
}

impl Queue {
    async fn run(mut self, mut arrivals: UnboundedReceiver<QueueId>, mut stop: watch::Receiver<Option<Duration>>) {
        let grace = loop {
            self.start_due();
            let pause = self.pause();
            tokio::select! {
                changed = stop.wait_for(Option::is_some) => {
                    break changed.map_or(Duration::ZERO, |grace| grace.unwrap_or_default());
                }
                Some(id) = arrivals.recv() => self.add(Timestamp::now(), id),
                Some(ended) = self.running.join_next_with_id() => self.finish(ended),
                () = tokio::time::sleep(pause) => {}
            }
        };
        if !self.running.is_empty() {
            tracing::info!(deliveries = self.running.len(), "waiting for deliveries to end");
        }
        let deadline = Instant::now() + grace.min(LONGEST_GRACE);
        while !self.running.is_empty() {
            match tokio::time::timeout_at(deadline, self.running.join_next_with_id()).await {
                Ok(Some(ended)) => self.finish(ended),
                Ok(None) => break,
                Err(_) => {
                    tracing::warn!(deliveries = self.running.len(), "cut off; they are tried again at the next start");
                    self.running.abort_all();
                    break;
                }
            }
        }
    }

    fn start_due(&mut self) {
        let now = Timestamp::now();
        while self.running.len() < MAX_RUNNING
            && self.due.first().is_some_and(|(at, _)| *at <= now)
            && let Some((_, id)) = self.due.pop_first()
        {
            let deliverer = Arc::clone(&self.deliverer);
            let message = id.clone();
            let task = self.running.spawn(async move { deliverer.attempt(&message).await });
            self.names.insert(task.id(), id);
        }
    }

    /// The time until the next attempt is due. Short at most: the wall clock, which it is told by, may be set.
    fn pause(&self) -> Duration {
        match self.due.first() {
            // Then the end of a delivery is what to wait for.
            Some(_) if self.running.len() >= MAX_RUNNING => LONGEST_PAUSE,
            Some((at, _)) => at.since(Timestamp::now()).min(LONGEST_PAUSE),
            None => LONGEST_PAUSE,
        }
    }

    fn add(&mut self, at: Timestamp, id: QueueId) {
        if self.known.insert(id.clone()) {
            self.due.insert((at, id));
        }
    }

    fn finish(&mut self, ended: Result<(tokio::task::Id, Option<Timestamp>), JoinError>) {
        let (task, next) = match ended {
            Ok((task, next)) => (task, next),
            Err(error) => {
                tracing::error!(%error, "a delivery has ended abnormally");
                let later = Timestamp::now().after(self.deliverer.schedule.longest);
                (error.id(), Some(later))
            }
        };
        match (self.names.remove(&task), next) {
            (Some(id), Some(next)) => _ = self.due.insert((next, id)),
            (Some(id), None) => _ = self.known.remove(&id),
            (None, _) => {}
        }
    }
}

/// Enough that a few slow hosts do not hold up the rest; few enough to be no burden to a relay.
const MAX_RUNNING: usize = 16;
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Longer than the longest timeout of a session.
const LONGEST_GRACE: Duration = Duration::from_secs(60 * 60);

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod tests;
