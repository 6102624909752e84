//! A database that is slow, gone, or not allowed.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use sansmtp_authenticators::postgres::{Postgres, PostgresConfig, PostgresError};
use sansmtp_authenticators::stored::{Accounts, Keep, Store, StoreError, WritableStore};

use crate::support::login::Door;
use crate::support::postgresql::{ESCAPED, PostgreSql};
use crate::support::stalled;
use crate::support::wait::until;
use crate::{door, later};

/// Somebody holds a lock on all users.
#[test]
fn a_database_that_stands_still_is_not_waited_for() {
    let Some(server) = PostgreSql::start() else { return };
    Accounts::new(server.users()).add("tim", b"tanstaaf", Keep::Scram).unwrap();
    let limit = Duration::from_millis(1000);
    let users = later(&format!("{}?connections=2", server.url()), limit);
    let door = door(users.clone());
    assert_eq!(door.log_in("tim", "tanstaaf"), 235);
    let lock = server.session("mail", "BEGIN; LOCK TABLE sansmtp.user IN ACCESS EXCLUSIVE MODE");
    let started = Instant::now();
    let codes: Vec<u16> = std::thread::scope(|scope| {
        let logins: Vec<_> = (0..20).map(|_| scope.spawn(|| door.log_in("tim", "tanstaaf"))).collect();
        logins.into_iter().map(|login| login.join().unwrap()).collect()
    });
    assert_eq!(codes, [454; 20]);
    assert!(started.elapsed() < limit * 3, "{:?}", started.elapsed());
    // What nobody waits for any more the server gives up, too.
    let asked = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sansmtp' AND state = 'active'";
    until("the end of it", || (server.admin("mail", asked) == "0").then_some(()));
    drop(lock);
    until("a login", || (door.log_in("tim", "tanstaaf") == 235).then_some(()));
}

/// All connections are in use for too long.
#[test]
fn no_connection_is_waited_for_longer_than_that() {
    let Some(server) = PostgreSql::start() else { return };
    let users = later(&format!("{}?connections=1", server.url()), Duration::from_millis(700));
    assert!(users.find("tim").unwrap().is_none());
    let _lock = server.session("mail", "BEGIN; LOCK TABLE sansmtp.user IN ACCESS EXCLUSIVE MODE");
    let started = Instant::now();
    let errors: Vec<StoreError> = std::thread::scope(|scope| {
        let questions: Vec<_> = (0..20).map(|_| scope.spawn(|| users.find("tim").unwrap_err())).collect();
        questions.into_iter().map(|question| question.join().unwrap()).collect()
    });
    assert!(started.elapsed() < Duration::from_millis(1400), "{:?}", started.elapsed());
    let is_busy = |error: &StoreError| matches!(error.reason(), Some(PostgresError::Busy));
    let (busy, others): (Vec<_>, Vec<_>) = errors.into_iter().partition(is_busy);
    assert!(others.iter().all(|error| matches!(error.reason(), Some(PostgresError::NoAnswer))), "{others:?}");
    assert!(busy.len() >= 18, "{others:?}");
}

#[test]
fn whoever_is_not_there_is_told() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (address, expected) in [(free, "refused"), (stalled::tcp(), "in time")] {
        let config = PostgresConfig::from_url(&format!("postgres://mail:x@{address}/mail")).unwrap();
        let users = Postgres::open_later(config.time_limit(Duration::from_millis(300))).unwrap();
        let started = Instant::now();
        let error = users.find("tim").unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    }
}

#[test]
fn a_database_that_is_away_at_the_start_is_found_later() {
    let Some(mut server) = PostgreSql::start() else { return };
    let open = |url: &str| Postgres::open_or_later(PostgresConfig::from_url(url).unwrap());
    let (url, kept) = (server.url(), server.users().salt_key().unwrap());
    server.stop();
    let users = open(&url).unwrap();
    assert!(users.known_salt_key().is_none() && users.find("tim").is_err());
    server.start_again();
    assert!(users.find("tim").unwrap().is_none());
    assert_eq!(users.known_salt_key().unwrap().expose_secret(), kept.expose_secret());
    // One that does not answer is not waited for.
    let stalled = PostgresConfig::from_url(&format!("postgres://mail:x@{}/mail", stalled::tcp())).unwrap();
    assert!(Postgres::open_or_later(stalled.time_limit(Duration::from_millis(300))).is_ok());
    // What it answers does not pass.
    for (wrong, code) in [(url.replace(ESCAPED, "x"), "28P01"), (format!("{url}x"), "3D000")] {
        let error = open(&wrong).unwrap_err();
        assert!(!error.is_temporary() && error.to_string().contains(code), "{error}");
    }
}

/// Every connection in the pool has been closed, by whoever runs the server.
#[test]
fn closed_connections_cost_nobody_a_login() {
    let Some(server) = PostgreSql::start() else { return };
    let users = server.users();
    for _ in 0..5 {
        std::thread::scope(|scope| {
            for _ in 0..10 {
                scope.spawn(|| assert!(users.find("tim").unwrap().is_none()));
            }
        });
        let closed = server.admin(
            "mail",
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'sansmtp'",
        );
        assert_ne!(closed, "0");
    }
}

/// The second of two hosts is asked where the first is not there.
#[test]
fn several_hosts_are_tried() {
    let Some(server) = PostgreSql::start() else { return };
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = server.url().replace("127.0.0.1", &format!("{free},127.0.0.1"));
    assert!(later(&url, Duration::from_secs(10)).find("tim").unwrap().is_none());
    // One that only reads is passed over.
    server.admin("postgres", "ALTER SYSTEM SET default_transaction_read_only = on");
    server.admin("postgres", "SELECT pg_reload_conf()");
    until("read-only", || (server.admin("mail", "SHOW default_transaction_read_only") == "on").then_some(()));
    assert!(later(&url, Duration::from_secs(10)).find("tim").is_err());
}

/// It is asked from threads of an asynchronous runtime, too, where another must not block.
#[test]
fn it_may_be_asked_from_anywhere() {
    let Some(server) = PostgreSql::start() else { return };
    let users = server.users();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        assert!(users.find("tim").unwrap().is_none());
        let other = server.users();
        assert!(other.find("tim").unwrap().is_none());
        drop((users, other));
    });
}
