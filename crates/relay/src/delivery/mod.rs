//! The delivery worker: takes messages from the spool to their next hop, or back to their sender.
//!
//! | file | what it is about |
//! |---|---|
//! | `run.rs` | the worker's loop: does what the queue says |
//! | `session.rs` | a session with a destination: one message after the other |
//! | `attempt.rs` | one message in a session, and the record of what came of it |
//! | `outgoing.rs`, `convert/` | content in the form in which a next hop may have it |
//! | `messages.rs` | the states of the messages that are under way |
//! | `operator.rs` | what an operator asks for by the control socket |
//! | `removal.rs` | the removal of messages that are done with |
//! | `host_health.rs` | the servers that could not be reached |
//! | `log.rs` | what the log tells of an attempt |
//! | `client`, `reply.rs`, `content.rs`, `tls.rs`, `error.rs` | the client's side of SMTP |

mod attempt;
mod client;
mod content;
mod convert;
mod error;
mod host_health;
mod log;
mod messages;
mod operator;
mod outgoing;
mod removal;
mod reply;
mod run;
mod session;
mod start_error;
mod tls;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::{Notify, watch};

pub(crate) use self::content::read_header_section;
pub(crate) use self::convert::{MAX_LINE_OCTETS, is_convertible};
use self::host_health::HostHealth;
use self::messages::Messages;
use self::removal::Remover;
use self::run::Run;
pub use self::start_error::StartError;
use self::tls::Trust;
#[cfg(unix)]
use crate::control::ControlSocket;
use crate::envelope::QueueId;
use crate::queue::{Limits, Queue};
use crate::reports::Reporting;
use crate::routes::{Destination, Route, Router};
use crate::schedule::Schedule;
use crate::spool::{Answer, Spool};

/// How a [`Worker`] delivers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Delivery {
    /// Where messages are taken.
    pub route: Route,
    /// What this server calls itself: in EHLO and in reports.
    pub hostname: String,
    /// When a message is tried again. Also for how long a destination that cannot be reached is left alone, an hour at
    /// most.
    pub schedule: Schedule,
    /// A PEM file of certificates to trust in addition to the system's.
    pub ca: Option<PathBuf>,
    /// Sessions at once with one destination: with all relays together, or with the exchangers of a domain.
    pub sessions_per_destination: NonZeroUsize,
    /// The age at which the sender is told that a message is still being tried (RFC 3461, section 5.2.5); none for
    /// never. A sender can ask not to be told.
    pub delay_report_after: Option<Duration>,
    /// Who gets what can neither be delivered nor reported to a sender: reports that no next hop takes, and other mail from
    /// the null reverse-path that fails. None has it kept in the spool, in `undelivered-reports`, a thousand messages
    /// and 256 MiB at most; so is what the postmaster's server does not take. This is also the reverse-path of what is sent there,
    /// as some smart hosts take no null one.
    pub postmaster: Option<String>,
}

/// The thread that delivers. Dropped without [`Worker::stop`], it stops at once; the spool remembers the rest.
#[derive(Debug)]
pub struct Worker {
    /// How long deliveries may still take; none while nobody asked to stop.
    stop: watch::Sender<Option<Duration>>,
    thread: Option<JoinHandle<()>>,
    trust: Arc<Trust>,
}

/// Has a [`Worker`] read certificates anew, from whatever thread.
#[derive(Clone, Debug)]
pub struct TrustHandle(Arc<Trust>);

impl TrustHandle {
    /// Reads [`Delivery::ca`] and the system's certificates anew. Sessions that are open go on; those to come trust what
    /// was found. (Passwords and tokens in files are read for each session anyway.)
    ///
    /// # Errors
    /// Where the file cannot be used. Then what was trusted before stays.
    pub fn reload(&self) -> Result<(), StartError> {
        self.0.reload()
    }
}

/// What every session needs.
#[derive(Debug)]
pub(crate) struct Deliverer {
    spool: Arc<Spool>,
    router: Router,
    tls: Arc<Trust>,
    hostname: String,
    schedule: Schedule,
    reporting: Reporting,
    queue: Mutex<Queue<QueueId, Arc<str>, Destination>>,
    messages: Messages,
    hosts: HostHealth,
    /// Why destinations could not be reached.
    failures: Mutex<HashMap<Destination, Answer>>,
    /// Whether no further message is to be begun.
    is_stopping: AtomicBool,
    /// Tells the worker's loop that the queue may have something to do.
    wake: Notify,
    /// Where the queue's clock starts.
    started: Instant,
    /// Held while an operator's command changes a message: one after the other.
    operator: Mutex<()>,
}

impl Delivery {
    /// Delivery along a route with the usual schedule, three sessions at once with relays, and ten with the exchangers
    /// of a domain, a report on delay after four hours, and no postmaster.
    pub fn new(route: Route, hostname: impl Into<String>) -> Self {
        let sessions_per_destination = match route {
            // What Office 365 and others allow an account.
            Route::Relays(_) => const { NonZeroUsize::new(3).unwrap() },
            Route::Mx { .. } => const { NonZeroUsize::new(10).unwrap() },
        };
        Self {
            route,
            hostname: hostname.into(),
            schedule: Schedule::default(),
            ca: None,
            sessions_per_destination,
            delay_report_after: Some(DELAY_REPORT_AFTER),
            postmaster: None,
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            sessions: MAX_SESSIONS,
            sessions_per_destination: self.sessions_per_destination.get(),
            first_sessions: match self.route {
                // If the password is wrong, it is shown once.
                Route::Relays(_) => 1,
                Route::Mx { .. } => 2,
            },
            messages_per_session: MESSAGES_PER_SESSION,
            session_age: SESSION_AGE,
            session_idle: SESSION_IDLE,
            fresh: FRESH,
            schedule: self.schedule,
            longest_back_off: LONGEST_BACK_OFF,
        }
    }
}

impl Worker {
    /// Starts to deliver what is in the spool, and what arrives there.
    ///
    /// # Errors
    /// Where the spool, the certificates or the resolver's configuration cannot be read, or no thread started.
    pub fn start(spool: Arc<Spool>, delivery: Delivery) -> Result<Self, StartError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .build()
            .map_err(StartError::Thread)?;
        let limits = delivery.limits();
        let router = {
            let _runtime = runtime.enter();
            Router::new(delivery.route, &delivery.hostname)?
        };
        // Subscribed before the spool is read: what arrives in between is then known twice rather than never.
        let (sender, arrivals) = unbounded_channel();
        spool.subscribe(move |id| {
            // A worker that has ended leaves the message for the next start.
            let _ = sender.send(id);
        });
        let waiting = spool.states().map_err(StartError::Spool)?;
        if !waiting.is_empty() {
            tracing::info!(messages = waiting.len(), "messages wait in the spool");
        }
        let trust = Arc::new(Trust::new(delivery.ca)?);
        let deliverer = Arc::new(Deliverer {
            spool,
            router,
            tls: Arc::clone(&trust),
            reporting: Reporting {
                hostname: delivery.hostname.clone(),
                delay_after: delivery.delay_report_after,
                give_up_after: delivery.schedule.give_up_after,
                postmaster: delivery.postmaster,
            },
            hostname: delivery.hostname,
            schedule: delivery.schedule,
            queue: Mutex::new(Queue::new(limits)),
            messages: Messages::default(),
            hosts: HostHealth::new(delivery.schedule, LONGEST_BACK_OFF),
            failures: Mutex::default(),
            is_stopping: AtomicBool::new(false),
            wake: Notify::new(),
            started: Instant::now(),
            operator: Mutex::default(),
        });
        deliverer.admit_all(waiting);
        let removals = Remover::start(Arc::clone(&deliverer.spool)).map_err(StartError::Thread)?;
        #[cfg(unix)]
        {
            let _runtime = runtime.enter();
            match ControlSocket::bind(deliverer.spool.directory()) {
                Ok(socket) => _ = runtime.spawn(socket.serve(Arc::clone(&deliverer))),
                // Mail goes out without it.
                Err(error) => {
                    tracing::warn!(%error, "no control socket in the spool: the queue cannot be changed while this runs")
                }
            }
        }
        let (stop, stopped) = watch::channel(None);
        let thread = std::thread::Builder::new()
            .name("delivery".to_owned())
            .spawn(move || {
                runtime.block_on(Run::new(deliverer, removals).run(arrivals, stopped));
                // A host name that is still being looked up must not hold up the end.
                runtime.shutdown_background();
            })
            .map_err(StartError::Thread)?;
        Ok(Self { stop, thread: Some(thread), trust })
    }

    /// What has the worker read certificates anew.
    pub fn trust(&self) -> TrustHandle {
        TrustHandle(Arc::clone(&self.trust))
    }

    /// Lets the messages that are being sent come to their ends, for `grace` at most, and starts no others. What is
    /// cut off is tried again at the next start.
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

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.send_replace(Some(Duration::ZERO));
        self.join();
    }
}

impl Deliverer {
    /// The time on the queue's clock.
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Why a destination could not be reached.
    fn failure(&self, destination: &Destination) -> Answer {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.get(destination).cloned().unwrap_or_else(|| Answer::own_words("4.4.1", "no attempt was possible"))
    }

    /// Remembers why a destination could not be reached, or that it was.
    fn note(&self, destination: &Destination, failure: Option<Answer>) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        match failure {
            Some(answer) if failures.len() < MAX_FAILURES => _ = failures.insert(destination.clone(), answer),
            Some(_) => {}
            None => _ = failures.remove(destination),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue<QueueId, Arc<str>, Destination>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const DELAY_REPORT_AFTER: Duration = Duration::from_secs(4 * 60 * 60);
/// As many files as a process may have open is usually 1,024, and the clients need some.
const MAX_SESSIONS: usize = 400;
const MESSAGES_PER_SESSION: u32 = 100;
const SESSION_AGE: Duration = Duration::from_secs(5 * 60);
/// Long enough for the next message of a burst; a server that counts sessions has it back soon.
const SESSION_IDLE: Duration = Duration::from_secs(2);
/// For so long a message counts as new.
const FRESH: Duration = Duration::from_secs(60);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(60 * 60);
/// Destinations of which it is remembered why they could not be reached.
const MAX_FAILURES: usize = 10_000;
/// Threads that wait for the disk.
const BLOCKING_THREADS: usize = 16;

#[cfg(test)]
mod content_tests;
#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod lmtp_tests;
#[cfg(test)]
mod login_tests;
#[cfg(test)]
mod report_tests;
#[cfg(test)]
mod tests;
