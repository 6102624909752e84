//! The connection to Dovecot, made when it is needed and again when it was lost.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use super::error::Error;
use super::link::Link;
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
    /// A thread tries to connect.
    connecting: bool,
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
                let server = Arc::downgrade(self);
                let settings = self.settings.clone();
                let thread = std::thread::Builder::new().name("dovecot reader".into());
                thread.spawn(move || keep(&server, &settings))?;
                state.connecting = true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::TimedOut);
            }
            (state, _) = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What came of the attempt to connect.
    fn connected(&self, outcome: Result<Arc<Link>, Error>) {
        let mut state = self.lock();
        state.connecting = false;
        match outcome {
            Ok(link) => state.link = Some(link),
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
