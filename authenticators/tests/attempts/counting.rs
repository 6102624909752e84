//! What is counted, and for how long.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sansmtp::Peer;
use sansmtp::auth::{Attempt, AttemptLimits, AttemptLog, MemoryAttemptLog};
use sansmtp_authenticators::attempts::{Standing, ValkeyAttemptLog, WhenUnreachable};

use crate::client::Server;
use crate::support::valkey::Valkey;
use crate::support::wait::until;
use crate::{admits, log};

const HERE: &str = "192.0.2.1";
const THERE: &str = "192.0.2.2";

/// Three failures in a time that no test takes.
fn three() -> AttemptLimits {
    AttemptLimits { by_address: 3, window: Duration::from_secs(30_000), ..AttemptLimits::default() }
}

fn limited(server: &Valkey, limits: AttemptLimits) -> Arc<ValkeyAttemptLog> {
    let slow = Duration::from_secs(10);
    log(&server.url(), |config| config.limits(limits).time_limit(slow).when_unreachable(WhenUnreachable::Closed))
}

/// Waits until this many failures have arrived, of one address or user.
fn counted(server: &Valkey, failures: i64, limits: &AttemptLimits) {
    let step = i64::try_from(limits.window.as_millis()).unwrap() / i64::from(limits.by_address.max(limits.by_user));
    until("the count", || {
        let most = server.times_to_live().into_iter().map(|(_, ttl)| ttl).max().unwrap_or(0);
        // Less than half of a failure has drained in the meantime.
        (most > (failures - 1) * step + step / 2).then_some(())
    });
}

#[test]
fn two_servers_count_together() {
    let Some(server) = Valkey::start() else { return };
    let (one, other) = (Server::new(&limited(&server, three())), Server::new(&limited(&server, three())));
    assert_eq!(one.plain(HERE, "tim", "wrong"), 535);
    assert_eq!(other.plain(HERE, "nobody", "wrong"), 535);
    counted(&server, 2, &three());
    assert_eq!(one.plain(HERE, "tim", "tanstaaftanstaaf"), 235);
    assert_eq!(one.plain(HERE, "tim", "wrong"), 535);
    counted(&server, 3, &three());
    for server in [&one, &other] {
        assert_eq!(server.plain(HERE, "tim", "tanstaaftanstaaf"), 454);
        assert_eq!(server.plain(THERE, "tim", "tanstaaftanstaaf"), 235);
    }
}

/// What the server has said once, the engine knows for a moment without asking.
#[test]
fn who_is_barred_is_remembered() {
    let Some(server) = Valkey::start() else { return };
    let (one, other) = (limited(&server, three()), limited(&server, three()));
    let attempt = Attempt::new(Peer::from(std::net::SocketAddr::from(([192, 0, 2, 1], 1))), "PLAIN".into(), "");
    for _ in 0..3 {
        one.refused(&attempt);
    }
    counted(&server, 3, &three());
    assert!(!admits(&one, &attempt) && admits(&other, &attempt));
    assert_eq!(other.ask(&attempt), Standing::TooManyFailures);
    // For a moment that is known here. Then the server has to be asked again.
    assert!(!admits(&other, &attempt) || other.ask(&attempt) == Standing::TooManyFailures);
}

#[test]
fn a_proof_that_the_engine_finds_wrong_is_counted() {
    let Some(server) = Valkey::start() else { return };
    let (one, other) = (Server::new(&limited(&server, three())), Server::new(&limited(&server, three())));
    for _ in 0..3 {
        assert_eq!(one.scram_without_password(HERE, "tim"), 535);
    }
    counted(&server, 3, &three());
    assert_eq!(other.scram_without_password(HERE, "tim"), 454);
    assert_eq!(other.scram_without_password(THERE, "tim"), 535);
}

#[test]
fn users_are_counted_wherever_they_come_from() {
    let Some(server) = Valkey::start() else { return };
    let limits = AttemptLimits { by_address: 0, by_user: 2, ..three() };
    let (one, other) = (Server::new(&limited(&server, limits)), Server::new(&limited(&server, limits)));
    assert_eq!(one.plain(HERE, "tim", "wrong"), 535);
    assert_eq!(other.plain("2001:db8::1", "tim", "wrong"), 535);
    counted(&server, 2, &limits);
    assert_eq!(one.plain("2001:db8:1::1", "tim", "tanstaaftanstaaf"), 454);
    assert_eq!(one.plain(HERE, "alice@example.org", "correct horse battery staple"), 235);
}

#[test]
fn ipv6_networks_of_64_bits_are_one() {
    let Some(server) = Valkey::start() else { return };
    let (one, other) = (Server::new(&limited(&server, three())), Server::new(&limited(&server, three())));
    for host in 1..=3 {
        assert_eq!(one.plain(&format!("2001:db8::{host}"), "tim", "wrong"), 535);
    }
    counted(&server, 3, &three());
    assert_eq!(other.plain("2001:db8::ffff:0:0:4", "tim", "tanstaaftanstaaf"), 454);
    assert_eq!(other.plain("2001:db8:0:1::1", "tim", "tanstaaftanstaaf"), 235);
}

/// The same failures, the same answers.
#[test]
fn it_counts_as_memory_does() {
    let Some(server) = Valkey::start() else { return };
    for limit in [1, 2, 5, 50] {
        let limits = AttemptLimits { by_address: limit, ..three() };
        let started = Instant::now();
        let memory = MemoryAttemptLog::new(limits, move || started.elapsed());
        let (teller, asker) = (limited(&server, limits), limited(&server, limits));
        let peer = Peer::from(std::net::SocketAddr::from(([192, 0, 2, u8::try_from(limit).unwrap()], 1)));
        let attempt = Attempt::new(peer, "PLAIN".into(), "");
        for failures in 1..=i64::from(limit) + 2 {
            memory.refused(&attempt);
            teller.refused(&attempt);
            counted(&server, failures.min(limit.into()), &limits);
            let admitted = asker.ask(&attempt) == Standing::Admitted;
            let here = memory.admit(&attempt).map(|reservation| memory.release(reservation));
            assert_eq!(admitted, here.is_some(), "{failures} of {limit}");
        }
        server.ask::<String>(&["FLUSHALL"]);
    }
}

#[test]
fn failures_at_the_same_time_all_count() {
    let Some(server) = Valkey::start() else { return };
    let limits = AttemptLimits { by_address: 1000, ..three() };
    let logs = [limited(&server, limits), limited(&server, limits)];
    let attempt = Attempt::new(Peer::from(std::net::SocketAddr::from(([192, 0, 2, 1], 1))), "PLAIN".into(), "");
    std::thread::scope(|scope| {
        for log in logs.iter().cycle().take(8) {
            scope.spawn(|| (0..50).for_each(|_| log.refused(&attempt)));
        }
    });
    counted(&server, 400, &limits);
    let [(_, time_to_live)] = &server.times_to_live()[..] else { panic!("one key") };
    assert!(*time_to_live <= 400 * 30_000, "{time_to_live}");
}

/// After a part of the window there is room again, and at its end nothing is left.
#[test]
fn counts_drain_and_expire() {
    let Some(server) = Valkey::start() else { return };
    let limits = AttemptLimits { by_address: 2, window: Duration::from_millis(1500), ..AttemptLimits::default() };
    let (one, other) = (limited(&server, limits), limited(&server, limits));
    let attempt = Attempt::new(Peer::from(std::net::SocketAddr::from(([192, 0, 2, 1], 1))), "PLAIN".into(), "");
    let started = Instant::now();
    for _ in 0..10 {
        one.refused(&attempt);
    }
    until("the bar", || (other.ask(&attempt) == Standing::TooManyFailures).then_some(()));
    assert!(server.times_to_live().iter().all(|(_, ttl)| (0..=1500).contains(ttl)));
    until("room", || (other.ask(&attempt) == Standing::Admitted).then_some(()));
    assert!(started.elapsed() >= Duration::from_millis(750), "{:?}", started.elapsed());
    until("the end of the window", || server.times_to_live().is_empty().then_some(()));
    assert!(started.elapsed() >= Duration::from_millis(1500), "{:?}", started.elapsed());
}

/// Whatever is done to a key, a failure leaves it with an expiry.
#[test]
fn no_count_is_without_an_expiry() {
    let Some(server) = Valkey::start() else { return };
    let log = limited(&server, three());
    let attempt = Attempt::new(Peer::from(std::net::SocketAddr::from(([192, 0, 2, 1], 1))), "PLAIN".into(), "");
    log.refused(&attempt);
    counted(&server, 1, &three());
    let (key, _) = server.times_to_live().swap_remove(0);
    assert_eq!(server.ask::<i64>(&["PERSIST", &key]), 1);
    log.refused(&attempt);
    until("an expiry", || (server.ask::<i64>(&["PTTL", &key]) > 0).then_some(()));
}
