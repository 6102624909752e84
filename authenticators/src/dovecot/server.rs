//! The connection to Dovecot, made when it is needed and again when it was lost.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use std::{fmt, io};

use super::error::Error;
use super::link::Link;
use super::mechanism::Mechanism;
use super::settings::Settings;
use crate::limit::{Limit, Place};

pub(super) struct Server {
    settings: Settings,
    waiting: Limit,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    link: Option<Arc<Link>>,
    /// What the last connection said, be it open or not.
    mechanisms: Option<Arc<[Mechanism]>>,
    /// A thread tries to connect.
    connecting: bool,
    /// When the last one began to.
    tried: Option<Instant>,
    /// How often it could not, and why the last time.
    failures: u64,
    failure: Option<Error>,
}

impl Server {
    pub(super) fn new(settings: Settings) -> Arc<Self> {
        let waiting = Limit::new("Dovecot", settings.max_waiting);
        Arc::new(Self { settings, waiting, state: Mutex::default(), changed: Condvar::new() })
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Leave to wait for Dovecot, which whoever calls what blocks has to have.
    pub(super) fn enter(&self) -> Result<Place<'_>, Error> {
        self.waiting.enter().ok_or(Error::Full)
    }

    /// The connection, which may have to be made. Whoever waits meanwhile waits for the same attempt: when it fails,
    /// it has failed for all.
    pub(super) fn link(self: &Arc<Self>, deadline: Instant) -> Result<Arc<Link>, Error> {
        let mut state = self.lock();
        let failures_before = state.failures;
        loop {
            if let Some(link) = state.link.as_ref().filter(|link| link.is_open()) {
                return Ok(Arc::clone(link));
            }
            if state.failures != failures_before {
                return Err(state.failure.clone().unwrap_or(Error::Closed));
            }
            if !state.connecting {
                self.connect(&mut state)?;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::TimedOut);
            }
            (state, _) = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Has a thread try to connect, of which there is one at a time.
    fn connect(self: &Arc<Self>, state: &mut State) -> io::Result<()> {
        let server = Arc::downgrade(self);
        let settings = self.settings.clone();
        let thread = std::thread::Builder::new().name("dovecot reader".into());
        state.tried = Some(Instant::now());
        thread.spawn(move || keep(&server, &settings))?;
        state.connecting = true;
        Ok(())
    }

    /// What there was to choose from when Dovecot was last connected to. `None` until it was; then this has it tried, once in
    /// a while, without waiting for it.
    pub(super) fn known_mechanisms(self: &Arc<Self>) -> Option<Arc<[Mechanism]>> {
        let mut state = self.lock();
        let may_try = !state.connecting && state.tried.is_none_or(|tried| tried.elapsed() >= TRY_EVERY);
        if state.mechanisms.is_none() && may_try {
            // Without a thread now, there may be one later.
            let _ = self.connect(&mut state);
        }
        state.mechanisms.clone()
    }

    /// What came of the attempt to connect.
    fn connected(&self, outcome: Result<Arc<Link>, Error>) {
        let mut state = self.lock();
        state.connecting = false;
        match outcome {
            Ok(link) => {
                state.mechanisms = Some(link.mechanisms().into());
                state.link = Some(link);
            }
            Err(error) => {
                state.failures += 1;
                state.failure = Some(error);
            }
        }
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connects, and reads until the connection ends: the work of a thread. It does not keep the server alive.
fn keep(server: &Weak<Server>, settings: &Settings) {
    let (outcome, lines) = match Link::connect(&settings.address, settings.time_limit) {
        Ok((link, lines)) => (Ok(link), Some(lines)),
        Err(error) => (Err(error), None),
    };
    let link = outcome.as_ref().ok().cloned();
    match server.upgrade() {
        Some(server) => server.connected(outcome),
        // Nobody is left to ask.
        None => return link.iter().for_each(|link| link.end()),
    }
    if let (Some(link), Some(lines)) = (link, lines) {
        let _ended = Ended(&link);
        tracing::debug!(mechanisms = link.mechanisms().len(), "connected to Dovecot");
        let error = link.run(lines, settings.lifetime);
        tracing::debug!(%error, "the connection to Dovecot has ended");
    }
}

/// How often EHLO makes a Dovecot be tried that has never been there.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// A connection that nobody reads from any more, after a panic too.
struct Ended<'a>(&'a Link);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(link) = self.lock().link.take() {
            link.end();
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connected = self.lock().link.as_ref().is_some_and(|link| link.is_open());
        f.debug_struct("Server").field("settings", &self.settings).field("connected", &connected).finish()
    }
}
