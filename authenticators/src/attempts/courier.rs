//! The thread that talks to the server that counts.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use redis::{Client, Connection, RedisError, RedisResult};

use super::barred::Barred;
use super::counted::Counts;

/// Takes questions and failures to the server, on one connection and as many at once as there are. Its thread ends
/// when it is dropped, once it has delivered what it was given if it can.
pub(super) struct Courier(Arc<Shared>);

/// What the server says of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Admitted,
    Barred,
    Unreachable,
}

pub(super) struct Settings {
    pub(super) client: Client,
    /// For messages.
    pub(super) address: String,
    pub(super) time_limit: Duration,
    /// After so long a failure is not worth telling any more.
    pub(super) window: Duration,
    /// How many of the barred are remembered.
    pub(super) entries: usize,
}

struct Shared {
    settings: Settings,
    inbox: Mutex<Inbox>,
    arrived: Condvar,
    barred: Barred,
}

struct Inbox {
    questions: Vec<Question>,
    failures: VecDeque<Failure>,
    /// Whether it is worth waiting for the server.
    reachable: bool,
    stopped: bool,
    last_warning: Option<Instant>,
    /// Whether it was told that the server is lost.
    warned: bool,
}

struct Question {
    counts: Counts,
    answer: SyncSender<Answer>,
}

struct Failure {
    counts: Counts,
    at: Instant,
}

#[derive(Default)]
struct Batch {
    questions: Vec<Question>,
    failures: Vec<Failure>,
}

impl Courier {
    pub(super) fn start(settings: Settings) -> io::Result<Self> {
        let inbox = Inbox {
            questions: Vec::new(),
            failures: VecDeque::new(),
            reachable: true,
            stopped: false,
            last_warning: None,
            warned: false,
        };
        let barred = Barred::new(settings.entries);
        let shared = Arc::new(Shared { settings, inbox: Mutex::new(inbox), arrived: Condvar::new(), barred });
        let this = Self(Arc::clone(&shared));
        thread::Builder::new().name("sansmtp-attempts".to_owned()).spawn(move || shared.keep_running())?;
        Ok(this)
    }

    /// Asks the server, and waits for a limited time; not at all where it did not answer the last time.
    pub(super) fn ask(&self, counts: Counts) -> Answer {
        let (answer, answered) = sync_channel(1);
        {
            let mut inbox = self.0.lock();
            if !inbox.reachable || inbox.questions.len() >= MOST_QUESTIONS {
                return Answer::Unreachable;
            }
            inbox.questions.push(Question { counts, answer });
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

    /// Hands a failure over. Does not wait.
    pub(super) fn tell(&self, counts: Counts) {
        let mut inbox = self.0.lock();
        if inbox.failures.len() >= MOST_FAILURES {
            if inbox.may_warn() {
                tracing::warn!(server = %self.0.settings.address, "too many failed logins to count all for all servers");
            }
            return;
        }
        inbox.failures.push_back(Failure { counts, at: Instant::now() });
        drop(inbox);
        self.0.arrived.notify_one();
    }

    pub(super) fn barred(&self) -> &Barred {
        &self.0.barred
    }

    pub(super) fn is_reachable(&self) -> bool {
        self.0.lock().reachable
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        self.0.lock().stopped = true;
        self.0.arrived.notify_one();
    }
}

impl Shared {
    /// A panic, by whoever collects what is logged for example, must not leave everybody without an answer for ever.
    fn keep_running(&self) {
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

    fn run(&self) {
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
            inbox.questions.is_empty() && inbox.failures.is_empty() && inbox.reachable && !inbox.stopped
        };
        let mut inbox = self.arrived.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        if inbox.stopped && inbox.questions.is_empty() && inbox.failures.is_empty() {
            return None;
        }
        let now = inbox.failures.len().min(MOST_FAILURES_AT_ONCE);
        let failures = inbox.failures.drain(..now).collect();
        Some(Batch { questions: std::mem::take(&mut inbox.questions), failures })
    }

    fn deliver(&self, connection: &mut Option<Connection>, mut batch: Batch) -> RedisResult<()> {
        batch.failures.retain(|failure| failure.at.elapsed() < self.settings.window);
        if batch.failures.is_empty() && batch.questions.is_empty() {
            return Ok(());
        }
        let result = match connection {
            Some(open) => match batch.exchange(open) {
                // The server closes connections that have been idle, or has been started again.
                Err(error) if error.is_connection_dropped() => {
                    self.connect().and_then(|new| batch.exchange(connection.insert(new)))
                }
                result => result,
            },
            None => self.connect().and_then(|new| batch.exchange(connection.insert(new))),
        };
        match result {
            Ok(times_to_live) => {
                self.lock().reachable = true;
                self.learn(batch, times_to_live.into_iter());
                Ok(())
            }
            Err(error) => {
                // What the server has refused it would refuse again.
                if error.is_io_error() {
                    let mut inbox = self.lock();
                    let room = MOST_FAILURES.saturating_sub(inbox.failures.len());
                    batch.failures.into_iter().rev().take(room).for_each(|failure| inbox.failures.push_front(failure));
                }
                Err(error)
            }
        }
    }

    /// Takes in what the server has said of a batch.
    fn learn(&self, batch: Batch, mut times_to_live: impl Iterator<Item = i64>) {
        let mut barred = |counts: Counts| {
            counts.into_iter().flatten().fold(false, |barred, counted| {
                let barred_for = counted.barred_for(times_to_live.next().unwrap_or(0));
                self.barred.learn(counted.key, barred_for);
                barred || !barred_for.is_zero()
            })
        };
        for failure in batch.failures {
            barred(failure.counts);
        }
        for Question { counts, answer } in batch.questions {
            let told = if barred(counts) { Answer::Barred } else { Answer::Admitted };
            // Who has not waited for it has gone on without.
            let _ = answer.try_send(told);
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
                    tracing::info!(server = %self.settings.address, "failed logins are counted for all servers again");
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
            tracing::warn!(server = %self.settings.address, reason, "failed logins are not counted for all servers");
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
    /// Failures go first, so that the answers know of them. Returns the times to live of all that is counted, in
    /// milliseconds.
    fn exchange(&self, connection: &mut Connection) -> RedisResult<Vec<i64>> {
        let mut pipeline = redis::pipe();
        for counted in self.failures.iter().flat_map(|failure| failure.counts).flatten() {
            let (name, step, brim) = (counted.key.name(), counted.step_ms(), counted.brim_ms());
            pipeline.cmd("EVAL").arg(FAILED).arg(1).arg(name).arg(step).arg(brim);
        }
        for counted in self.questions.iter().flat_map(|question| question.counts).flatten() {
            pipeline.cmd("PTTL").arg(counted.key.name());
        }
        pipeline.query(connection)
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

/// Adds to a key's time to live, which is the count. Scripts are atomic.
const FAILED: &str = "\
local spent = math.max(redis.call('PTTL', KEYS[1]), 0) + tonumber(ARGV[1]) \
spent = math.min(spent, tonumber(ARGV[2])) \
redis.call('SET', KEYS[1], '', 'PX', spent) \
return spent";

/// What may wait for the server. A failure takes 100 octets.
const MOST_FAILURES: usize = 4_096;
const MOST_FAILURES_AT_ONCE: usize = 256;
const MOST_QUESTIONS: usize = 4_096;

/// Between two attempts to reach the server, which are made whether there are logins or not.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

const BETWEEN_WARNINGS: Duration = Duration::from_secs(10);
