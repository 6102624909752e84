//! The worker's loop: does what the queue says.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::Deliverer;
use super::log::Told;
use super::removal::Remover;
use crate::envelope::QueueId;
use crate::metrics;
use crate::queue::{Action, Health, Job, Outcome, SessionId};
use crate::reports;
use crate::routes::Destination;
use crate::spool::{State, Status, Timestamp};

/// What the worker's thread runs.
pub(super) struct Run {
    deliverer: Arc<Deliverer>,
    removals: Remover,
    sessions: JoinSet<SessionId>,
    /// Where sessions that are idle hear of the next message.
    mailboxes: HashMap<SessionId, UnboundedSender<(QueueId, Arc<str>)>>,
    /// Which session each task is, so that a panic in one does not lose its message.
    names: HashMap<tokio::task::Id, SessionId>,
    /// Places for the reports that are written at the same time. Others wait: the record of a delivery must not wait
    /// behind all reports on a domain that has ceased to be.
    reporters: Arc<Semaphore>,
}

impl Run {
    pub(super) fn new(deliverer: Arc<Deliverer>, removals: Remover) -> Self {
        Self {
            deliverer,
            removals,
            sessions: JoinSet::new(),
            mailboxes: HashMap::new(),
            names: HashMap::new(),
            reporters: Arc::new(Semaphore::new(REPORTERS)),
        }
    }

    pub(super) async fn run(
        mut self,
        mut arrivals: UnboundedReceiver<QueueId>,
        mut stop: watch::Receiver<Option<Duration>>,
    ) {
        let grace = loop {
            let pause = self.act();
            let deliverer = Arc::clone(&self.deliverer);
            tokio::select! {
                changed = stop.wait_for(Option::is_some) => {
                    break changed.map_or(Duration::ZERO, |grace| grace.unwrap_or_default());
                }
                Some(id) = arrivals.recv() => self.deliverer.arrive(id),
                Some(ended) = self.sessions.join_next_with_id() => self.ended(ended),
                () = deliverer.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        };
        self.deliverer.is_stopping.store(true, Ordering::Relaxed);
        // Sessions that are idle end.
        self.mailboxes.clear();
        let running = self.deliverer.queue().running();
        if running > 0 {
            tracing::info!(deliveries = running, "waiting for deliveries to end");
        }
        let deadline = Instant::now() + grace.min(LONGEST_GRACE);
        while !self.sessions.is_empty() {
            self.act();
            match tokio::time::timeout_at(deadline, self.sessions.join_next_with_id()).await {
                Ok(Some(ended)) => self.ended(ended),
                Ok(None) => break,
                Err(_) => {
                    let running = self.deliverer.queue().running();
                    if running > 0 {
                        tracing::warn!(deliveries = running, "cut off; they are tried again at the next start");
                    }
                    self.sessions.abort_all();
                    break;
                }
            }
        }
        while self.act().is_zero() {}
        self.removals.finish();
    }

    /// Does what the queue says, and returns for how long there is nothing else to do. After many actions it returns at
    /// once, as when all mail for a domain is given up at a start: the sessions have their turn meanwhile.
    fn act(&mut self) -> Duration {
        for _ in 0..ACTIONS {
            let (now, action) = {
                let now = self.deliverer.now();
                (now, self.deliverer.queue().poll(now))
            };
            match action {
                // The process ends with what is under way; the spool has the rest.
                Action::Open { .. } | Action::Send { .. } if self.deliverer.is_stopping.load(Ordering::Relaxed) => {}
                Action::Open { session, destination, job } => self.open(session, destination, job),
                Action::Send { session, job } => {
                    if let Some(mailbox) = self.mailboxes.get(&session) {
                        // A session that has ended abnormally is told of by its task.
                        let _ = mailbox.send(job);
                    }
                }
                Action::Close { session } => _ = self.mailboxes.remove(&session),
                Action::Expire { job, destination } => {
                    metrics::expired();
                    self.deliverer.expire(&job, &destination);
                }
                Action::Report { message } => self.report(message),
                Action::Finish { message } => {
                    metrics::finished();
                    self.deliverer.messages.remove(&message);
                    self.removals.remove(message);
                }
                Action::Wait { until } => {
                    metrics::show(self.deliverer.queue().counts());
                    return until.map_or(LONGEST_PAUSE, |until| until.saturating_sub(now).min(LONGEST_PAUSE));
                }
            }
        }
        Duration::ZERO
    }

    fn open(&mut self, session: SessionId, destination: Destination, job: (QueueId, Arc<str>)) {
        let (sender, mailbox) = unbounded_channel();
        self.mailboxes.insert(session, sender);
        let deliverer = Arc::clone(&self.deliverer);
        let task = self.sessions.spawn(async move {
            deliverer.session(session, destination, job, mailbox).await;
            session
        });
        self.names.insert(task.id(), session);
    }

    fn ended(&mut self, ended: Result<(tokio::task::Id, SessionId), JoinError>) {
        let task = match &ended {
            Ok((task, _)) => *task,
            Err(error) => error.id(),
        };
        let Some(session) = self.names.remove(&task) else { return };
        self.mailboxes.remove(&session);
        let (now, mut queue) = (self.deliverer.now(), self.deliverer.queue());
        if let Err(error) = ended {
            tracing::error!(%error, "a session has ended abnormally");
            queue.finished(now, session, Outcome::Later, false, Health::Unknown, false);
        }
        queue.closed(session);
    }

    fn report(&self, message: QueueId) {
        let (deliverer, places) = (Arc::clone(&self.deliverer), Arc::clone(&self.reporters));
        tokio::spawn(async move {
            let Ok(_place) = places.acquire_owned().await else { return };
            let (reporter, id) = (Arc::clone(&deliverer), message.clone());
            let written = tokio::task::spawn_blocking(move || reporter.report(&id)).await;
            match written.map_err(io::Error::other).flatten() {
                Ok(due) => {
                    let mut queue = deliverer.queue();
                    if let Some(due) = due {
                        // The two clocks may run apart.
                        let pause = due.since(Timestamp::now()).max(SHORTEST_PAUSE);
                        queue.report_delay(deliverer.now().saturating_add(pause), &message);
                    }
                    queue.reported(&message);
                }
                Err(error) => {
                    // As with a full disk.
                    tracing::error!(id = %message, %error, "cannot write a report now");
                    deliverer.queue().report_later(deliverer.now(), message);
                }
            }
            deliverer.wake.notify_one();
        });
    }
}

impl Deliverer {
    /// Takes in what was in the spool at the start.
    pub(super) fn admit_all(&self, mut states: Vec<State>) {
        // A crash may have come between a report and the record of it. What the report tells is true, and it leaves when
        // that is recorded.
        let reports: Vec<_> =
            states.iter().filter_map(|state| Some((state.id.clone(), state.report_on.clone()?))).collect();
        let places: HashMap<_, _> = states.iter().enumerate().map(|(place, state)| (state.id.clone(), place)).collect();
        let mut held = HashSet::new();
        for (report, report_on) in reports {
            let original = places.get(&report_on.id).and_then(|place| states.get_mut(*place));
            if let Some(original) = original
                && original.record_report(&report_on)
            {
                original.unannounced.push(report.clone());
                held.insert(report);
            }
        }
        for state in states.iter().filter(|state| !state.unannounced.is_empty()) {
            self.messages.adopt(state.clone());
        }
        for state in states.iter().filter(|state| !held.contains(&state.id)) {
            self.admit(state);
        }
    }

    /// Takes in a message that has just arrived.
    fn arrive(self: &Arc<Self>, id: QueueId) {
        match self.spool.load(&id) {
            Ok(state) => self.admit(&state),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::error!(%id, %error, "cannot read a message that has arrived; trying again");
                let deliverer = Arc::clone(self);
                tokio::spawn(async move {
                    tokio::time::sleep(LONGEST_PAUSE).await;
                    deliverer.spool.announce(id);
                });
            }
        }
    }

    fn admit(&self, state: &State) {
        let (now, clock) = (self.now(), Timestamp::now());
        let mut parts: Vec<Arc<str>> = Vec::new();
        for recipient in state.recipients.iter().filter(|recipient| recipient.status == Status::Pending) {
            let part = self.router.part(&recipient.forward_path);
            if !parts.iter().any(|known| **known == *part) {
                parts.push(part.into());
            }
        }
        let give_up_after = self.schedule.give_up_after;
        let left = state.arrived.after(give_up_after).since(clock).min(give_up_after);
        let job = |part: Arc<str>| Job {
            message: state.id.clone(),
            destination: self.router.destination(&part),
            part,
            attempts: state.attempts,
            // Whatever was the matter before a start may have gone. What a destination may have at once, and one message
            // that finds out for all, keep this from being a rush.
            due: now,
            expires: now.saturating_add(left),
        };
        let jobs = parts.into_iter().map(job).collect();
        let mut queue = self.queue();
        queue.add(state.id.clone(), jobs, state.owes_report());
        if state.held {
            queue.hold(&state.id);
        }
        if let Some(due) = state.delay_report_due(self.reporting.delay_after) {
            queue.report_delay(now.saturating_add(due.since(clock)), &state.id);
        }
    }

    /// Reports on a message, and says when its delay is to be reported. This waits for the disk.
    fn report(&self, id: &QueueId) -> io::Result<Option<Timestamp>> {
        let written = self.messages.open(&self.spool, id).and_then(|message| {
            let written = message.write(|state| self.write_reports(state));
            let due = message.read(|state| state.delay_report_due(self.reporting.delay_after));
            self.messages.close(id, message);
            written.map(|()| due)
        });
        match written {
            // The last attempt has delivered it while a report on its delay became due.
            Err(_) if self.is_gone(id) => Ok(None),
            written => written,
        }
    }

    /// Writes what is to be reported on a message, and the message's state with it.
    fn write_reports(&self, state: &mut State) -> io::Result<()> {
        let unreachable = |path: &str| self.failure(&self.router.destination(&self.router.part(path).into()));
        reports::write(&self.spool, state, &self.reporting, &unreachable)
    }

    /// Gives up a part of a message whose destination could not be reached in time.
    fn expire(&self, (id, part): &(QueueId, Arc<str>), destination: &Destination) {
        match self.messages.open(&self.spool, id) {
            Ok(message) => {
                let unreachable = self.failure(destination);
                let told = Told::new(self.octets(id));
                message.change(|state| {
                    let places: Vec<usize> = self.places(state, part, Status::Pending).collect();
                    for place in places {
                        if let Some(recipient) = state.recipients.get_mut(place) {
                            recipient.give_up(unreachable.clone());
                        }
                        told.ended(state, place, None);
                    }
                });
                // It is written with the report.
                self.messages.close(id, message);
            }
            Err(error) => tracing::error!(%id, %error, "cannot give up a message now; at the next start"),
        }
    }
}

const ACTIONS: usize = 200;
/// Fewer than there are threads that wait for the disk.
const REPORTERS: usize = 6;
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Longer than the longest timeout of a session.
const LONGEST_GRACE: Duration = Duration::from_secs(60 * 60);
