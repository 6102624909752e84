//! What becomes of an authenticator whose thread has panicked: here by the fault of whoever collects what is logged.

#![cfg(unix)]
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

#[path = "dovecot/scripted.rs"]
#[allow(dead_code, reason = "this test takes what it needs")]
mod scripted;

use std::net::SocketAddr;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sansmtp::auth::Attempt;
use sansmtp::{Peer, Secret};
use sansmtp_authenticators::attempts::{Standing, ValkeyAttemptLog, ValkeyConfig, WhenUnreachable};
use sansmtp_authenticators::dovecot::Settings;
use scripted::{HELLO, Scripted};
use support::login::Door as _;
use support::valkey::Valkey;
use support::wait::until;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Panics at the first event of each of the threads that authenticators have.
struct Broken;

static PANICS: [(&str, AtomicUsize); 2] =
    [("sansmtp-counting", AtomicUsize::new(0)), ("dovecot reader", AtomicUsize::new(0))];

impl Subscriber for Broken {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        let thread = thread::current();
        for (name, panics) in &PANICS {
            assert!(thread.name() != Some(name) || panics.fetch_add(1, Ordering::SeqCst) > 0, "out of order");
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn panics(name: &str) -> usize {
    PANICS.iter().find(|(thread, _)| *thread == name).unwrap().1.load(Ordering::SeqCst)
}

fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(Broken).unwrap());
}

#[test]
fn failures_are_counted_for_all_again() {
    install();
    let Some(mut valkey) = Valkey::start() else { return };
    valkey.stop();
    let config = ValkeyConfig::from_url(&valkey.url()).unwrap().key(Secret::new(b"the key of the tests".to_vec()));
    let log = ValkeyAttemptLog::new(config.when_unreachable(WhenUnreachable::Closed)).unwrap();
    // It says that there is no server, or tries to.
    until("the panic", || (panics("sansmtp-counting") > 0).then_some(()));
    let peer = Peer::from(SocketAddr::from(([192, 0, 2, 1], 1)));
    assert_eq!(log.ask(&Attempt::new(peer, "PLAIN".into(), "")), Standing::CannotTell);
    valkey.start_again();
    until("the server", || log.is_reachable().then_some(()));
    assert_eq!(log.ask(&Attempt::new(peer, "PLAIN".into(), "")), Standing::Admitted);
}

#[test]
fn dovecot_is_asked_again() {
    install();
    let scripted = Scripted::start(HELLO, |words| match words {
        ["AUTH", id, ..] => format!("OK\t{id}\tuser=tim\n").into_bytes(),
        _ => Vec::new(),
    });
    let dovecot = Settings::unix(scripted.socket()).connect_later();
    let started = Instant::now();
    // Once connected, its thread says so, or tries to.
    until("the panic", || {
        dovecot.log_in("tim", "x");
        (panics("dovecot reader") > 0).then_some(())
    });
    until("a login", || (dovecot.log_in("tim", "x") == 235).then_some(()));
    assert!(started.elapsed() < Duration::from_secs(10), "nobody waits for whoever is gone: {:?}", started.elapsed());
}
