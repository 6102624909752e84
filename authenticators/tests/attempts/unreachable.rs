//! A server that is not there, not there yet, or does not answer.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use sansmtp::auth::{Attempt, AttemptLimits, AttemptLog};
use sansmtp::{AuthRequest, AuthResult, Peer};
use sansmtp_authenticators::attempts::{Guarded, Standing, ValkeyConfig, WhenUnreachable};
use sansmtp_authenticators::{Answers, Authenticator, Knows};

use crate::client::Server;
use crate::support::valkey::{ESCAPED, Valkey};
use crate::support::wait::until;
use crate::support::{self, stalled};
use crate::{admits, log};

const HERE: &str = "192.0.2.1";

fn three(config: ValkeyConfig) -> ValkeyConfig {
    let limits = AttemptLimits { by_address: 3, window: Duration::from_secs(30_000), ..AttemptLimits::default() };
    config.limits(limits).time_limit(Duration::from_secs(5))
}

fn closed(config: ValkeyConfig) -> ValkeyConfig {
    three(config).when_unreachable(WhenUnreachable::Closed)
}

fn attempt() -> Attempt<'static> {
    Attempt::new(Peer::from(SocketAddr::from(([192, 0, 2, 1], 1))), "PLAIN".into(), "")
}

#[test]
fn open_counts_in_memory_until_it_is_back() {
    let Some(mut valkey) = Valkey::start() else { return };
    let logs = [log(&valkey.url(), three), log(&valkey.url(), three)];
    let [one, other] = logs.each_ref().map(Server::new);
    assert_eq!(one.plain(HERE, "tim", "wrong"), 535);
    // Nobody waits for that to arrive, and what arrives between saving and ending would be forgotten.
    until("the first failure", || (!valkey.times_to_live().is_empty()).then_some(()));
    valkey.stop();
    let started = Instant::now();
    for server in [&one, &other] {
        assert_eq!(server.plain(HERE, "tim", "tanstaaftanstaaf"), 235);
    }
    assert_eq!(one.plain(HERE, "tim", "wrong"), 535);
    assert_eq!(one.plain(HERE, "tim", "wrong"), 535);
    assert_eq!(one.plain(HERE, "tim", "tanstaaftanstaaf"), 454, "three in this process");
    assert_eq!(other.plain(HERE, "tim", "tanstaaftanstaaf"), 235, "none in this one");
    assert!(started.elapsed() < Duration::from_secs(5), "nobody waits for who is not there");
    valkey.start_again();
    // What was counted meanwhile arrives.
    until("the other one to know", || (other.plain(HERE, "tim", "tanstaaftanstaaf") == 454).then_some(()));
}

#[test]
fn closed_lets_nobody_in_until_it_is_back() {
    let Some(mut valkey) = Valkey::start() else { return };
    let log = log(&valkey.url(), closed);
    let server = Server::new(&log);
    assert_eq!(server.plain(HERE, "tim", "tanstaaftanstaaf"), 235);
    valkey.stop();
    let started = Instant::now();
    for _ in 0..100 {
        assert_eq!(server.plain(HERE, "tim", "tanstaaftanstaaf"), 454);
        assert_eq!(server.plain(HERE, "tim", "wrong"), 454);
    }
    assert!(started.elapsed() < Duration::from_secs(5));
    valkey.start_again();
    until("the server", || (server.plain(HERE, "tim", "tanstaaftanstaaf") == 235).then_some(()));
    assert_eq!(server.plain(HERE, "tim", "wrong"), 535);
}

/// It does not have to be there at the start.
#[test]
fn a_server_may_come_later() {
    let Some(mut valkey) = Valkey::start() else { return };
    valkey.stop();
    let log = log(&valkey.url(), closed);
    until("the loss", || (!log.is_reachable()).then_some(()));
    assert_eq!(log.ask(&attempt()), Standing::CannotTell);
    valkey.start_again();
    until("the server", || (log.ask(&attempt()) == Standing::Admitted).then_some(()));
}

/// A server that closes what is idle costs nobody a login.
#[test]
fn a_closed_connection_is_made_again() {
    let Some(valkey) = Valkey::start() else { return };
    let log = log(&valkey.url(), closed);
    for _ in 0..5 {
        assert_eq!(log.ask(&attempt()), Standing::Admitted);
        assert!(valkey.ask::<i64>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]) >= 1);
    }
}

/// Of a server that accepts and never answers, the first to ask waits, for the time limit, and then nobody.
#[test]
fn nobody_waits_for_a_server_that_never_answers() {
    let limit = Duration::from_millis(250);
    for (policy, standing) in
        [(WhenUnreachable::Open, Standing::Admitted), (WhenUnreachable::Closed, Standing::CannotTell)]
    {
        let url = format!("redis://:x@{}", stalled::tcp());
        let log = log(&url, |config| three(config).time_limit(limit).when_unreachable(policy));
        let started = Instant::now();
        assert_eq!(log.ask(&attempt()), standing);
        assert!(started.elapsed() < limit * 4, "{:?}", started.elapsed());
        let started = Instant::now();
        for _ in 0..1000 {
            assert_eq!(log.ask(&attempt()), standing);
        }
        assert!(started.elapsed() < limit, "{:?}", started.elapsed());
        // Nor does the engine, whatever there is to tell.
        let started = Instant::now();
        for _ in 0..10_000 {
            log.refused(&attempt());
        }
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
        assert!(!admits(&log, &attempt()));
    }
}

/// Of one that never finishes its answer, too.
#[test]
fn nobody_waits_for_a_server_that_answers_octet_by_octet() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://:x@{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            while stream.write_all(b"+").is_ok() {
                thread::sleep(Duration::from_millis(50));
            }
        }
    });
    let limit = Duration::from_millis(250);
    let log = log(&url, |config| closed(config).time_limit(limit));
    let started = Instant::now();
    for _ in 0..1000 {
        assert_eq!(log.ask(&attempt()), Standing::CannotTell);
    }
    assert!(started.elapsed() < limit * 4, "{:?}", started.elapsed());
}

/// It stops answering in the middle, and begins again.
#[test]
fn a_server_that_stands_still_for_a_while() {
    let Some(valkey) = Valkey::start() else { return };
    let limit = Duration::from_millis(500);
    let log = log(&valkey.url(), |config| closed(config).time_limit(limit));
    until("the server", || (log.ask(&attempt()) == Standing::Admitted).then_some(()));
    valkey.signal("STOP");
    let started = Instant::now();
    for _ in 0..1000 {
        assert_eq!(log.ask(&attempt()), Standing::CannotTell);
    }
    assert!(started.elapsed() < limit * 4, "{:?}", started.elapsed());
    valkey.signal("CONT");
    until("the server", || (log.ask(&attempt()) == Standing::Admitted).then_some(()));
}

/// What waits to be told is bounded, and so are the warnings.
#[test]
fn failures_that_nobody_takes_are_dropped() {
    support::logs::collect();
    let address = stalled::tcp();
    let log = log(&format!("redis://:x@{address}"), |config| three(config).time_limit(Duration::from_secs(600)));
    for _ in 0..10_000 {
        log.refused(&attempt());
    }
    let warnings = ["WARN", "too many failed logins", &address.to_string()];
    assert_eq!(support::logs::count(&warnings), 1);
}

/// The thread ends with the log, and with it the connection, when everything is told.
#[test]
fn the_last_failures_are_told_before_the_end() {
    let Some(valkey) = Valkey::start() else { return };
    let clients = || valkey.ask::<String>(&["CLIENT", "LIST"]).lines().count();
    let alone = clients();
    let log = log(&valkey.url(), |config| {
        three(config).limits(AttemptLimits { window: Duration::from_secs(30_000), ..AttemptLimits::default() })
    });
    assert_eq!(log.ask(&attempt()), Standing::Admitted);
    assert_eq!(clients(), alone + 1);
    for _ in 0..50 {
        log.refused(&attempt());
    }
    drop(log);
    until("the end", || (clients() == alone).then_some(()));
    let [(_, time_to_live)] = &valkey.times_to_live()[..] else { panic!("one key") };
    assert!(*time_to_live > 49 * 600_000, "{time_to_live}");
}

/// Whoever may not do what is needed has as good as no server.
#[test]
fn a_server_that_refuses_is_no_server() {
    let Some(valkey) = Valkey::start() else { return };
    valkey.ask::<String>(&["ACL", "SETUSER", "mail", "on", ">tanstaaf", "~sansmtp:attempts:*", "+ping", "+set"]);
    for (login, standing) in
        [("mail:tanstaaf", Standing::CannotTell), (":wrong", Standing::CannotTell), ("", Standing::CannotTell)]
    {
        let log = log(&format!("redis://{login}@127.0.0.1:{}", valkey.port), closed);
        assert_eq!(log.ask(&attempt()), standing, "{login}");
    }
    valkey.ask::<String>(&["ACL", "SETUSER", "mail", "+eval", "+pttl", "+get", "+del"]);
    let log = log(&format!("redis://mail:tanstaaf@127.0.0.1:{}", valkey.port), closed);
    assert_eq!(log.ask(&attempt()), Standing::Admitted);
    for _ in 0..3 {
        log.refused(&attempt());
    }
    drop(log);
    until("the failures", || valkey.times_to_live().first().is_some_and(|(_, ttl)| *ttl > 29_000_000).then_some(()));
}

#[test]
fn a_unix_socket_will_do() {
    let Some(valkey) = Valkey::start_with(&["--unixsocket", "{}/socket"]) else { return };
    let url = format!("valkey+unix://:{ESCAPED}@{}?database=3", valkey.directory.path().join("socket").display());
    let log = log(&url, closed);
    assert_eq!(log.ask(&attempt()), Standing::Admitted);
    log.refused(&attempt());
    drop(log);
    until("the failure", || valkey.ask::<String>(&["INFO", "keyspace"]).contains("db3:keys=1").then_some(()));
}

#[test]
fn what_is_guarded_answers_the_same_mechanisms() {
    struct Tokens;

    impl Authenticator for Tokens {
        fn authenticate(&self, _: &AuthRequest) -> AuthResult {
            AuthResult::cannot_tell()
        }

        fn knows(&self, _: &AuthRequest) -> Knows {
            Knows::No
        }

        fn answers(&self, mechanism: &str) -> Answers {
            if mechanism == "XOAUTH2" { Answers::ForAll } else { Answers::ForNone }
        }
    }

    let guarded = Guarded::new(Tokens, log("redis://127.0.0.1:1", three));
    assert_eq!(["XOAUTH2", "PLAIN"].map(|name| guarded.answers(name)), [Answers::ForAll, Answers::ForNone]);
}
