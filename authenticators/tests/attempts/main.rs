//! Failures, and what users send, counted in a real Valkey or Redis.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "../support/mod.rs"]
mod support;

mod at_once;
mod client;
mod counting;
mod secrets;
mod sending;
mod unreachable;

use std::sync::Arc;
use std::time::Duration;

use sansmtp::Secret;
use sansmtp::auth::{Attempt, AttemptLimits, AttemptLog};
use sansmtp_authenticators::attempts::{Guarded, ValkeyAttemptLog, ValkeyConfig, WhenUnreachable};
use support::battery::{Backend, battery};
use support::login::Door;
use support::valkey::Valkey;
use support::wait::until;

use client::Users;

/// A fleet of one, whose users have a limit that nobody reaches.
struct Behind {
    server: Valkey,
    log: Arc<ValkeyAttemptLog>,
}

impl Backend for Behind {
    fn start() -> Option<Self> {
        let server = Valkey::start()?;
        let log = log(&server.url(), |config| closed(config).time_limit(Duration::from_secs(10)).max_waiting(1000));
        Some(Self { server, log })
    }

    fn door(&self) -> Arc<dyn Door> {
        Arc::new(Guarded::new(Users, Arc::clone(&self.log)))
    }

    fn stop(&mut self) -> bool {
        self.server.stop();
        true
    }

    fn start_again(&mut self) {
        self.server.start_again();
        until("the log", || self.log.is_reachable().then_some(()));
    }

    fn stalled(&self) -> Option<Arc<dyn Door>> {
        let url = format!("redis://:x@{}", support::stalled::tcp());
        let log = log(&url, |config| closed(config).time_limit(Duration::from_millis(100)));
        Some(Arc::new(Guarded::new(Users, log)))
    }
}

battery!(Behind);

fn closed(config: ValkeyConfig) -> ValkeyConfig {
    config
        .when_unreachable(WhenUnreachable::Closed)
        .limits(AttemptLimits { by_user: 1_000_000, ..AttemptLimits::default() })
}

/// Whether there is room for one more, as the engine asks.
fn admits(log: &ValkeyAttemptLog, attempt: &Attempt<'_>) -> bool {
    log.admit(attempt).map(|reservation| log.release(reservation)).is_some()
}

/// A log with the key of the tests.
fn log(url: &str, change: impl FnOnce(ValkeyConfig) -> ValkeyConfig) -> Arc<ValkeyAttemptLog> {
    let config = ValkeyConfig::from_url(url).unwrap().key(Secret::new(b"the key of the tests".to_vec()));
    Arc::new(ValkeyAttemptLog::new(change(config)).unwrap())
}
