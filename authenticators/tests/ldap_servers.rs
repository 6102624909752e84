//! LDAP servers that are not there, not well, or not who they should be, and how many connections they get.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

#[path = "ldap/slapd.rs"]
mod slapd;
#[path = "ldap/valve.rs"]
mod valve;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sansmtp::Secret;
use sansmtp_authenticators::ldap::{Ldap, LdapBuilder};
use slapd::{PEOPLE, SERVICE, SERVICE_PASSWORD, Setup, Slapd};
use support::battery::{USERS, missing};
use support::login::{Door, at_once};
use support::stalled;
use valve::Valve;

const PASSWORD: &str = "tanstaaftanstaaf";

fn by_template() -> LdapBuilder {
    Ldap::bind(format!("uid={{user}},{PEOPLE}"))
}

fn by_search() -> LdapBuilder {
    Ldap::search(PEOPLE, "(uid={user})").service_account(SERVICE, Secret::from(SERVICE_PASSWORD.as_bytes()))
}

/// Both, each with the same more.
fn both(more: impl Fn(LdapBuilder) -> LdapBuilder) -> [Ldap; 2] {
    [by_template(), by_search()].map(|builder| more(builder).build().unwrap())
}

/// On how many connections there was an operation, in the clear.
fn connections(slapd: &Slapd) -> usize {
    slapd.log().lines().filter(|line| line.contains(" op=0 BIND ") && line.contains("method=128")).count()
}

#[test]
fn the_next_server_is_asked_where_one_is_down() {
    let (Some(mut first), Some(mut second)) = (Slapd::start(&Setup::default()), Slapd::start(&Setup::default())) else {
        return;
    };
    let users = both(|builder| builder.server(first.url()).server(second.url()).allow_cleartext(true));
    for users in &users {
        assert_eq!(users.log_in("tim", PASSWORD), 235);
    }
    assert_eq!(connections(&second), 0, "the second server was asked");
    first.stop();
    for users in &users {
        assert_eq!(users.log_in("tim", PASSWORD), 235);
        assert_eq!(users.log_in("tim", "wrong"), 535);
        assert_eq!(users.log_in("tom", PASSWORD), 535);
    }
    second.stop();
    for users in &users {
        assert_eq!(users.log_in("tim", PASSWORD), 454);
    }
    first.start_again();
    for users in &users {
        assert_eq!(users.log_in("tim", PASSWORD), 235);
    }
}

#[test]
fn the_next_server_is_asked_where_one_does_not_answer() {
    let Some(slapd) = Slapd::start(&Setup::default()) else { return };
    let limit = Duration::from_millis(300);
    for builder in [by_template(), by_search()] {
        let users = builder
            .ca_file(slapd.ca_file())
            .server(format!("ldaps://{}", stalled::tcp()))
            .server(format!("ldap://{}", stalled::tcp()))
            .server(slapd.url())
            .connect_timeout(limit)
            .build()
            .unwrap();
        assert_eq!(users.log_in("tim", PASSWORD), 235);
        assert_eq!(users.log_in("tim", "wrong"), 535);
    }
}

#[test]
fn a_server_that_stalls_half_way_is_not_waited_for() {
    let Some(slapd) = Slapd::start(&Setup::default()) else { return };
    // The bind of the service account, the search, the one that finds what this does not, the user's bind.
    for requests in 0..=4 {
        let valve = Valve::new(slapd.port(), requests);
        let users = by_search().server(valve.url()).allow_cleartext(true).operation_timeout(Duration::from_millis(300));
        let users = users.time_limit(Duration::from_secs(1)).build().unwrap();
        assert_eq!(users.log_in("tim", PASSWORD), if requests == 4 { 235 } else { 454 }, "after {requests} requests");
        valve.set(1000);
        assert_eq!(users.log_in("tim", PASSWORD), 235, "again, after {requests} requests");
    }
}

#[test]
fn what_is_no_answer_is_no_refusal() {
    for answer in [
        b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice(),
        b"\x30\x00",
        b"\x30\x03\x02\x01\x01",
        // A bind's results: without a code, with too short a one, with none of the rest, to another request.
        b"\x30\x05\x02\x01\x01\x61\x00",
        b"\x30\x0c\x02\x01\x01\x61\x07\x04\x01\x00\x04\x00\x04\x00",
        b"\x30\x08\x02\x01\x01\x61\x03\x0a\x01\x00",
        b"\x30\x0c\x02\x01\x07\x61\x07\x0a\x01\x00\x04\x00\x04\x00",
        b"\x30\x84\xff\xff\xff\xff",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("ldap://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(answer);
                // Until the other end has enough.
                let _ = stream.read_to_end(&mut Vec::new());
            }
        });
        let limit = Duration::from_millis(500);
        for users in both(|builder| builder.server(&url).allow_cleartext(true).time_limit(limit)) {
            assert_eq!(users.log_in("tim", PASSWORD), 454, "{answer:x?}");
        }
    }
}

#[test]
fn connections_that_died_in_silence_are_replaced() {
    let Some(slapd) = Slapd::start(&Setup::default()) else { return };
    let valve = Valve::new(slapd.port(), 1000);
    let limit = Duration::from_millis(300);
    for users in
        both(|builder| builder.server(valve.url()).allow_cleartext(true).operation_timeout(limit).time_limit(limit * 5))
    {
        assert_eq!(users.log_in("tim", PASSWORD), 235);
        valve.set(0);
        assert_eq!(users.log_in("tim", PASSWORD), 454);
        valve.set(1000);
        assert_eq!(users.log_in("tim", PASSWORD), 235);
    }
}

#[test]
fn connections_that_the_server_closes_are_replaced() {
    let Some(slapd) = Slapd::start(&Setup { global: "idletimeout 1", ..Setup::default() }) else { return };
    for users in both(|builder| builder.server(slapd.url()).allow_cleartext(true)) {
        assert_eq!(users.log_in("tim", PASSWORD), 235);
        let closed = |log: &str| log.matches(" closed").count();
        slapd.wait_for_log(|log| log.contains("(idletimeout)") && closed(log) >= log.matches(" ACCEPT ").count());
        assert_eq!(users.log_in("tim", PASSWORD), 235);
    }
}

#[test]
fn a_certificate_of_another_name_is_refused() {
    let setup = Setup { host: "other.example.org", ..Setup::default() };
    let Some(slapd) = Slapd::start(&setup) else { return };
    for url in [slapd.url(), slapd.tls_url()] {
        for users in both(|builder| builder.server(&url).ca_file(slapd.ca_file())) {
            assert_eq!(users.log_in("tim", PASSWORD), 454, "{url}");
        }
    }
    slapd.wait_for_log(|log| log.contains(" ACCEPT "));
    assert!(!slapd.log().contains(" BIND "), "{}", slapd.log());
}

#[test]
fn a_certificate_of_another_authority_is_refused() {
    let (Some(slapd), Some(other)) = (Slapd::start(&Setup::default()), Slapd::start(&Setup::default())) else { return };
    for url in [slapd.url(), slapd.tls_url()] {
        for users in both(|builder| builder.server(&url).ca_file(other.ca_file())) {
            assert_eq!(users.log_in("tim", PASSWORD), 454, "{url}");
        }
        for users in both(|builder| builder.server(&url).ca_file(slapd.ca_file())) {
            assert_eq!(users.log_in("tim", PASSWORD), 235, "{url}");
        }
    }
    let users = by_template().server(slapd.tls_url().replace("localhost", "127.0.0.1")).ca_file(slapd.ca_file());
    assert_eq!(users.build().unwrap().log_in("tim", PASSWORD), 454, "the certificate is not of the address");
}

#[test]
fn nothing_goes_in_the_clear_unless_it_may() {
    let Some(slapd) = Slapd::start(&Setup { without_tls: true, ..Setup::default() }) else { return };
    // Any certificates will do: there will be no TLS.
    let Some(other) = Slapd::start(&Setup::default()) else { return };
    for users in both(|builder| builder.server(slapd.url()).ca_file(other.ca_file())) {
        assert_eq!(users.log_in("tim", PASSWORD), 454);
    }
    slapd.wait_for_log(|log| log.contains("EXT oid=1.3.6.1.4.1.1466.20037"));
    assert!(!slapd.log().contains(" BIND "), "{}", slapd.log());
    for users in both(|builder| builder.server(slapd.url()).allow_cleartext(true)) {
        assert_eq!(users.log_in("tim", PASSWORD), 235);
    }
}

#[test]
fn there_are_no_more_connections_than_may_be() {
    let Some(slapd) = Slapd::start(&Setup::default()) else { return };
    let users: Arc<dyn Door> = {
        let users = by_search().server(slapd.url()).allow_cleartext(true).max_binds(3).max_searches(2);
        Arc::new(users.time_limit(Duration::from_secs(60)).max_waiting(200).build().unwrap())
    };
    assert_eq!(at_once(200, &users, "tim", PASSWORD, 235), 200);
    // They are used again, so that there never were more.
    assert!((2..=5).contains(&connections(&slapd)), "{} connections", connections(&slapd));
    drop(users);
    slapd.wait_for_log(|log| log.matches(" closed").count() >= log.matches(" ACCEPT ").count());
}

#[test]
fn one_more_than_may_wait_is_answered_at_once() {
    let limit = Duration::from_secs(4);
    let users = by_template()
        .server(format!("ldap://{}", stalled::tcp()))
        .allow_cleartext(true)
        .operation_timeout(limit)
        .time_limit(limit)
        .max_binds(1)
        .max_waiting(3)
        .build()
        .unwrap();
    let start = Instant::now();
    let waited: Vec<_> = std::thread::scope(|scope| {
        let attempts: Vec<_> = (0..10)
            .map(|_| {
                scope.spawn(|| {
                    assert_eq!(users.log_in("tim", PASSWORD), 454);
                    start.elapsed()
                })
            })
            .collect();
        attempts.into_iter().map(|attempt| attempt.join().unwrap()).collect()
    });
    assert_eq!(waited.iter().filter(|waited| **waited < limit).count(), 7, "{waited:?}");
}

#[test]
fn it_can_be_used_and_dropped_anywhere() {
    let Some(slapd) = Slapd::start(&Setup::default()) else { return };
    let users = by_search().server(slapd.url()).ca_file(slapd.ca_file()).build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async move {
        assert_eq!(users.log_in("tim", PASSWORD), 235);
        drop(users);
    });
    slapd.wait_for_log(|log| log.matches(" closed").count() >= log.matches(" ACCEPT ").count());
}
