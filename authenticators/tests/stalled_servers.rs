//! How many threads wait for a server that takes questions and never answers.
//!
//! Connections share a pool of threads. Only some of them may be taken by what hangs, and whoever comes then is answered
//! at once.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use sansmtp::auth::AttemptLimits;
use sansmtp::{AuthRequest, AuthResult, Secret};
use sansmtp_authenticators::attempts::{Guarded, ValkeyAttemptLog, ValkeyConfig, WhenUnreachable};
use sansmtp_authenticators::dovecot::Settings;
use sansmtp_authenticators::ldap::Ldap;
use sansmtp_authenticators::oauth2::{Introspection, IntrospectionClient, IntrospectionLimits, TokenRules};
use sansmtp_authenticators::postgres::{Postgres, PostgresConfig};
use sansmtp_authenticators::stored::Stored;
use sansmtp_authenticators::{Authenticator, Chain, Knows};
use support::login::{Door as _, auth, xoauth2};
use support::wait::until;
use support::{logs, stalled};

/// Longer than the test.
const FOR_EVER: Duration = Duration::from_secs(3600);
/// So many more come than may wait.
const TURNED_AWAY: usize = 100;
/// What servers have unless told otherwise.
const WAITING: usize = 96;

/// Has so many log in at the same time, of whom all but `waiting` are answered 454 while the others wait, which is logged
/// once. Their threads are left behind, as the server never answers.
fn turned_away(from: &str, waiting: usize, log_in: impl Fn() -> u16 + Send + Sync + 'static) {
    logs::collect();
    let (log_in, answered) = (Arc::new(log_in), Arc::new(AtomicUsize::new(0)));
    for _ in 0..waiting + TURNED_AWAY {
        let (log_in, answered) = (Arc::clone(&log_in), Arc::clone(&answered));
        thread::spawn(move || {
            assert_eq!(log_in(), 454);
            answered.fetch_add(1, Ordering::SeqCst);
        });
    }
    until("all but those that may wait", || (answered.load(Ordering::SeqCst) >= TURNED_AWAY).then_some(()));
    assert_eq!(answered.load(Ordering::SeqCst), TURNED_AWAY, "no more than that are answered");
    assert_eq!(logs::count(&["too many logins wait for", from]), 1);
    let warnings: Vec<_> = logs::lines().into_iter().filter(|line| line.starts_with(['W', 'E'])).collect();
    assert!(warnings.iter().all(|line| line.contains("too many logins wait for")), "{warnings:#?}");
}

#[test]
fn an_ldap_directory() {
    let users = Ldap::bind("uid={user},dc=example")
        .server(format!("ldap://{}", stalled::tcp()))
        .allow_cleartext(true)
        .connect_timeout(FOR_EVER)
        .operation_timeout(FOR_EVER)
        .time_limit(FOR_EVER);
    let users = users.build().unwrap();
    turned_away("LDAP", WAITING, move || users.log_in("tim", "x"));
}

#[test]
fn a_postgresql_database() {
    let url = format!("postgres://mail@{}/mail?sslmode=disable", stalled::tcp());
    let config = PostgresConfig::from_url(&url).unwrap().time_limit(FOR_EVER);
    let users = Stored::new(Postgres::open_later(config).unwrap()).unwrap();
    turned_away("the PostgreSQL database", WAITING, move || users.log_in("tim", "x"));
}

#[test]
fn dovecot() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("auth");
    stalled::unix(&socket);
    let users = Settings::unix(&socket).time_limit(FOR_EVER).connect_later();
    turned_away("Dovecot", 256, move || users.log_in("tim", "x"));
}

#[test]
fn an_authorization_server() {
    let url = format!("http://{}/introspect", stalled::tcp());
    let client = IntrospectionClient::basic("mx", Secret::from(&b"x"[..]));
    let limits = IntrospectionLimits { time: FOR_EVER, ..IntrospectionLimits::default() };
    let users = Introspection::new(&url, client, TokenRules::new()).unwrap().limits(limits);
    turned_away("token introspection", WAITING, move || auth(&users, &xoauth2("tim", "x")));
}

/// Where logins go on while it cannot be reached: nobody knows that yet.
#[test]
fn a_server_that_counts_failures() {
    struct Nobody;

    impl Authenticator for Nobody {
        fn authenticate(&self, _: &AuthRequest) -> AuthResult {
            AuthResult::refuse()
        }

        fn knows(&self, _: &AuthRequest) -> Knows {
            Knows::No
        }
    }

    let config = ValkeyConfig::from_url(&format!("valkey://{}", stalled::tcp())).unwrap().time_limit(FOR_EVER);
    let config = config.key(Secret::from(&b"the key of the tests"[..])).when_unreachable(WhenUnreachable::Open);
    let config = config.limits(AttemptLimits { by_user: 1_000_000, ..AttemptLimits::default() });
    let users = Guarded::new(Nobody, Arc::new(ValkeyAttemptLog::new(config).unwrap()));
    turned_away("Valkey", 256, move || users.log_in("tim", "x"));
}

/// Two that hang, of which neither has a limit of its own: the chain has one for both.
#[test]
fn several_behind_one_another() {
    struct Stuck;

    impl Authenticator for Stuck {
        fn authenticate(&self, _: &AuthRequest) -> AuthResult {
            loop {
                thread::park();
            }
        }

        fn knows(&self, request: &AuthRequest) -> Knows {
            if request.credentials().authcid() == "tim" { Knows::WhenAsked } else { Knows::No }
        }
    }

    let chain = Chain::new().then(Stuck).then(Stuck).max_waiting(50);
    let number = AtomicUsize::new(0);
    turned_away("several authenticators", 50, move || {
        let user = if number.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) { "tim" } else { "tom" };
        chain.log_in(user, "x")
    });
}
