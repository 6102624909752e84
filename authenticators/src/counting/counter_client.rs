//! The client of the server that counts, on a thread.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use redis::{Client, Connection, ErrorKind, RedisError, RedisResult};

use super::barred::Barred;
use super::counted::Counts;
use super::script::{self, Stamps, Taken, Times};
use crate::limit::Limit;

/// Takes questions, counts and what is given back to the server, on one connection and as many at once as there are.
/// Its thread ends when it is dropped, once it has delivered what it was given if it can.
pub(crate) struct CounterClient(Arc<Shared>);

/// What the server says.
pub(crate) enum Answer {
    /// There is room, of which this has been taken, if it was to be.
    Admitted(Option<ServerReservation>),
    /// There is none: what the server has told of each count.
    Barred(Times),
    Unreachable,
    /// As many wait for an answer as may.
    Full,
}

/// What was taken of counts at the server. Dropped, it is given back.
pub(crate) struct ServerReservation {
    shared: Arc<Shared>,
    counts: Counts,
    stamps: Stamps,
    /// 0 once it is kept.
    amount: u32,
    at: Instant,
}

pub(crate) struct Settings {
    /// What is counted, for messages: `failed logins`.
    pub(crate) what: &'static str,
    pub(crate) client: Client,
    /// For messages.
    pub(crate) address: String,
    pub(crate) time_limit: Duration,
    /// How many may wait for an answer.
    pub(crate) max_waiting: usize,
    /// After so long a count is not worth telling any more.
    pub(crate) window: Duration,
    /// How many of the barred are remembered.
    pub(crate) entries: usize,
}

struct Shared {
    settings: Settings,
    inbox: Mutex<Inbox>,
    arrived: Condvar,
    waiting: Limit,
    barred: Barred,
    /// The next one.
    stamp: AtomicI64,
}

struct Inbox {
    questions: Vec<Question>,
    updates: VecDeque<Update>,
    /// Whether it is worth waiting for the server.
    reachable: bool,
    stopped: bool,
    last_warning: Option<Instant>,
    /// Whether it was told that the server is lost.
    warned: bool,
}

struct Question {
    counts: Counts,
    /// Whether to take what there is room for.
    takes: bool,
    answer: SyncSender<Answer>,
}

/// What needs no answer.
struct Update {
    kind: UpdateKind,
    counts: Counts,
    amount: u32,
    at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UpdateKind {
    Count,
    Release(Stamps),
}

struct Batch {
    questions: Vec<Question>,
    updates: Vec<Update>,
}

impl CounterClient {
    pub(crate) fn start(settings: Settings) -> io::Result<Self> {
        let inbox = Inbox {
            questions: Vec::new(),
            updates: VecDeque::new(),
            reachable: true,
            stopped: false,
            last_warning: None,
            warned: false,
        };
        let barred = Barred::new(settings.entries);
        let waiting = Limit::new("Valkey", settings.max_waiting);
        let (inbox, stamp) = (Mutex::new(inbox), AtomicI64::new(script::first_stamp()));
        let shared = Arc::new(Shared { settings, inbox, arrived: Condvar::new(), waiting, barred, stamp });
        let this = Self(Arc::clone(&shared));
        thread::Builder::new().name("sansmtp-counting".to_owned()).spawn(move || shared.keep_running())?;
        Ok(this)
    }

    /// Asks the server whether there is room, and waits for a limited time; not at all where it did not answer the last
    /// time, or where too many wait already. What comes too late is given back.
    pub(crate) fn ask(&self, counts: Counts, takes: bool) -> Answer {
        // No question waits for a server that is lost, so none needs a place.
        if !self.is_reachable() {
            return Answer::Unreachable;
        }
        let Some(_place) = self.0.waiting.enter() else { return Answer::Full };
        let (answer, answered) = sync_channel(1);
        {
            let mut inbox = self.0.lock();
            if !inbox.reachable {
                return Answer::Unreachable;
            }
            inbox.questions.push(Question { counts, takes, answer });
        }
        self.0.arrived.notify_one();
        match answered.recv_timeout(self.0.settings.time_limit) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Disconnected) => Answer::Unreachable,
            Err(RecvTimeoutError::Timeout) => {
                self.0.lose("no answer in time", self.0.lock());
                // It is up to the thread to find out when it is worth waiting again.
                self.0.arrived.notify_one();
                Answer::Unreachable
            }
        }
    }

    /// Counts so many, for which no room was taken before, in the background. Does not wait.
    pub(crate) fn count(&self, counts: Counts, amount: u32) {
        self.0.send(UpdateKind::Count, counts, amount);
    }

    /// Whether the server has said a moment ago that there is no room.
    pub(crate) fn is_barred(&self, counts: &Counts) -> bool {
        counts.iter().flatten().any(|counted| self.0.barred.is_barred(counted.key))
    }

    pub(crate) fn is_reachable(&self) -> bool {
        self.0.lock().reachable
    }
}

impl Drop for CounterClient {
    fn drop(&mut self) {
        self.0.lock().stopped = true;
        self.0.arrived.notify_one();
    }
}

impl ServerReservation {
    /// Leaves it as what has been counted.
    pub(crate) fn keep(mut self) {
        self.amount = 0;
    }

    /// Takes another one in, if both were taken of the same counts in the same part of their windows; or else it is given
    /// back to the caller.
    pub(crate) fn merge(&mut self, mut other: Self) -> Option<Self> {
        let same =
            Arc::ptr_eq(&self.shared, &other.shared) && (self.counts, self.stamps) == (other.counts, other.stamps);
        match self.amount.checked_add(other.amount) {
            Some(amount) if same => {
                self.amount = amount;
                other.amount = 0;
                None
            }
            _ => Some(other),
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    pub(crate) fn amount(&self) -> u32 {
        self.amount
    }

    /// How long ago it was taken; of a merged one, the first.
    pub(crate) fn age(&self) -> Duration {
        self.at.elapsed()
    }
}

impl Drop for ServerReservation {
    fn drop(&mut self) {
        if self.amount > 0 {
            self.shared.send(UpdateKind::Release(self.stamps), self.counts, self.amount);
        }
    }
}

impl Shared {
    fn send(&self, kind: UpdateKind, counts: Counts, amount: u32) {
        let mut inbox = self.lock();
        if inbox.updates.len() >= MOST_UPDATES {
            if inbox.may_warn() {
                let what = self.settings.what;
                tracing::warn!(server = %self.settings.address, "too many {what} to count all for all servers");
            }
            return;
        }
        inbox.updates.push_back(Update { kind, counts, amount, at: Instant::now() });
        drop(inbox);
        self.arrived.notify_one();
    }

    /// A panic, by whoever collects what is logged for example, must not leave everybody without an answer for ever.
    fn keep_running(self: &Arc<Self>) {
        while catch_unwind(AssertUnwindSafe(|| self.run())).is_err() {
            let mut inbox = self.lock();
            inbox.reachable = false;
            inbox.questions.clear();
            let waited = self.arrived.wait_timeout_while(inbox, LONGEST_PAUSE, |inbox| !inbox.stopped);
            if waited.unwrap_or_else(PoisonError::into_inner).0.stopped {
                return;
            }
        }
    }

    fn run(self: &Arc<Self>) {
        let mut connection = None;
        // So that the first login does not have to wait for it.
        let mut result = self.connect().map(|new| connection = Some(new));
        loop {
            if let Err(error) = &result {
                connection = None;
                self.lose(&describe(error), self.lock());
            }
            if !self.lock().reachable {
                match self.reconnect(connection.take()) {
                    Some(new) => connection = Some(new),
                    None => return,
                }
            }
            let Some(batch) = self.next() else { return };
            result = self.deliver(&mut connection, batch);
        }
    }

    /// Waits until there is something to deliver. Nothing is, where the server was lost in the meantime. `None` at the
    /// end.
    fn next(&self) -> Option<Batch> {
        let idle = |inbox: &mut Inbox| {
            inbox.questions.is_empty() && inbox.updates.is_empty() && inbox.reachable && !inbox.stopped
        };
        let mut inbox = self.arrived.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        if inbox.stopped && inbox.questions.is_empty() && inbox.updates.is_empty() {
            return None;
        }
        let now = inbox.updates.len().min(MOST_UPDATES_AT_ONCE);
        let updates = inbox.updates.drain(..now).collect();
        Some(Batch { questions: std::mem::take(&mut inbox.questions), updates })
    }

    fn deliver(self: &Arc<Self>, connection: &mut Option<Connection>, mut batch: Batch) -> RedisResult<()> {
        batch.updates.retain(|update| update.at.elapsed() < self.settings.window);
        if batch.updates.is_empty() && batch.questions.is_empty() {
            return Ok(());
        }
        let result = match connection {
            Some(open) => match batch.exchange(open, &self.stamp) {
                // The server closes connections that have been idle, or has been started again.
                Err(error) if error.is_connection_dropped() => {
                    batch.drop_releases();
                    self.connect().and_then(|new| batch.exchange(connection.insert(new), &self.stamp))
                }
                result => result,
            },
            None => self.connect().and_then(|new| batch.exchange(connection.insert(new), &self.stamp)),
        };
        match result.and_then(|answers| self.learn(&mut batch, &answers)) {
            Ok(()) => {
                self.lock().reachable = true;
                Ok(())
            }
            Err(error) => {
                // What the server has refused it would refuse again.
                if error.is_io_error() {
                    batch.drop_releases();
                    let mut inbox = self.lock();
                    let room = MOST_UPDATES.saturating_sub(inbox.updates.len());
                    batch.updates.into_iter().rev().take(room).for_each(|update| inbox.updates.push_front(update));
                }
                Err(error)
            }
        }
    }

    /// Takes in what the server has said of a batch.
    fn learn(self: &Arc<Self>, batch: &mut Batch, answers: &[Vec<i64>]) -> RedisResult<()> {
        let mut answers = answers.iter();
        for update in &batch.updates {
            let times_to_live = answers.next().ok_or_else(unexpected)?;
            self.learn_times(&update.counts, times_to_live);
        }
        for Question { counts, takes, answer } in batch.questions.drain(..) {
            let told = answers.next().and_then(|told| Taken::parse(told, &counts)).ok_or_else(unexpected)?;
            let told = if told.has_room {
                let shared = Arc::clone(self);
                let reservation =
                    || ServerReservation { shared, counts, stamps: told.stamps, amount: 1, at: Instant::now() };
                Answer::Admitted(takes.then(reservation))
            } else {
                self.learn_times(&counts, &told.times);
                Answer::Barred(told.times)
            };
            // An attempt that has not waited for it has gone on without it. Then it is dropped here.
            let _ = answer.try_send(told);
        }
        Ok(())
    }

    fn learn_times(&self, counts: &Counts, times_to_live: &[i64]) {
        for (counted, &time_to_live) in counts.iter().flatten().zip(times_to_live) {
            self.barred.learn(counted.key, counted.barred_for(time_to_live));
        }
    }

    /// Tries until the server answers; `None` if it is not to be tried any more.
    fn reconnect(&self, mut kept: Option<Connection>) -> Option<Connection> {
        let mut pause = SHORTEST_PAUSE;
        loop {
            let connected = match kept.take() {
                Some(mut connection) => redis::cmd("PING").exec(&mut connection).map(|()| connection),
                None => self.connect(),
            };
            if let Ok(connection) = connected {
                let mut inbox = self.lock();
                inbox.reachable = true;
                if std::mem::take(&mut inbox.warned) {
                    let what = self.settings.what;
                    tracing::info!(server = %self.settings.address, "{what} are counted for all servers again");
                }
                return Some(connection);
            }
            let waited = self.arrived.wait_timeout_while(self.lock(), pause, |inbox| !inbox.stopped);
            if waited.is_ok_and(|(inbox, _)| inbox.stopped) {
                return None;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn connect(&self) -> RedisResult<Connection> {
        let limit = self.settings.time_limit;
        let mut connection = self.settings.client.get_connection_with_timeout(limit)?;
        connection.set_read_timeout(Some(limit))?;
        connection.set_write_timeout(Some(limit))?;
        // It may be there and still load its data, or want a password.
        redis::cmd("PING").exec(&mut connection)?;
        Ok(connection)
    }

    /// From now on nobody waits for the server.
    fn lose(&self, reason: &str, mut inbox: MutexGuard<'_, Inbox>) {
        if inbox.reachable && inbox.may_warn() {
            inbox.warned = true;
            let what = self.settings.what;
            tracing::warn!(server = %self.settings.address, reason, "{what} are not counted for all servers");
        }
        inbox.reachable = false;
        // Who waits sees the other end of the channel go.
        inbox.questions.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inbox {
    /// Whether the last warning is long enough ago.
    fn may_warn(&mut self) -> bool {
        let may = self.last_warning.is_none_or(|last| last.elapsed() >= BETWEEN_WARNINGS);
        if may {
            self.last_warning = Some(Instant::now());
        }
        may
    }
}

impl Batch {
    /// Updates go first, so that the answers know of them. Returns an answer to each of both.
    fn exchange(&self, connection: &mut Connection, stamp: &AtomicI64) -> RedisResult<Vec<Vec<i64>>> {
        let mut pipeline = redis::pipe();
        let next_stamp = || stamp.fetch_add(1, Ordering::Relaxed);
        for &Update { kind, ref counts, amount, .. } in &self.updates {
            match kind {
                UpdateKind::Count => script::count(&mut pipeline, counts, next_stamp(), amount),
                UpdateKind::Release(stamps) => script::release(&mut pipeline, counts, stamps, amount),
            }
        }
        for Question { counts, takes, .. } in &self.questions {
            if *takes {
                script::take(&mut pipeline, counts, next_stamp());
            } else {
                script::look(&mut pipeline, counts);
            }
        }
        pipeline.query(connection)
    }

    /// Forgets what was to be given back. The server may have done it before the connection broke, and must not do it
    /// twice: that would be another attempt's. What it has not done, drains.
    fn drop_releases(&mut self) {
        self.updates.retain(|update| update.kind == UpdateKind::Count);
    }
}

/// What the server has told may repeat what it was told, which is secret: nothing of it is shown but the kind.
fn describe(error: &RedisError) -> String {
    if error.is_io_error() {
        return error.to_string();
    }
    let code = error.code().filter(|code| code.bytes().all(|octet| octet.is_ascii_uppercase()));
    code.map_or_else(|| error.category().to_owned(), |code| format!("{} ({code})", error.category()))
}

fn unexpected() -> RedisError {
    (ErrorKind::UnexpectedReturnType, "an answer to something else").into()
}

/// What may wait for the server. An update takes 200 octets.
const MOST_UPDATES: usize = 4_096;
const MOST_UPDATES_AT_ONCE: usize = 256;

/// Between two attempts to reach the server, which are made whether there are logins or not.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

const BETWEEN_WARNINGS: Duration = Duration::from_secs(10);
