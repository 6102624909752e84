//! What a login by PLAIN costs through servers that compare the password themselves: Dovecot and an LDAP directory.
//!
//! ```text
//! cargo bench -p sansmtp-authenticators --bench servers
//! ```
//!
//! The servers are the tests' own, on this machine, and compare with passwords as they are (Dovecot) or with {SSHA}
//! (slapd): a hash that takes its time is theirs to add, and no share of what is measured. Without a server, its
//! authenticator is left out.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a panic is how a benchmark fails")]
#![allow(dead_code, unused_imports, unused_macros, reason = "of what tests share it takes what it needs")]

#[path = "../tests/dovecot/server.rs"]
mod dovecot;
#[path = "../tests/ldap/slapd.rs"]
mod slapd;
#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sansmtp_authenticators::Authenticator;
use sansmtp_authenticators::dovecot::Dovecot;
use sansmtp_authenticators::ldap::Ldap;
use slapd::{PEOPLE, SERVICE, SERVICE_PASSWORD, Setup, Slapd};
use support::battery::{USERS, missing};
use support::login::Door;

fn main() {
    // `cargo test` runs benches to see that they do.
    let length = Duration::from_secs(if std::env::args().any(|argument| argument == "--bench") { 5 } else { 0 });
    println!("{:<24}{:>14}{:>14}", "logins/s by threads", THREADS[0], THREADS[1]);
    let print = |name: &str, authenticator: &dyn Authenticator| {
        let [one, many] = THREADS.map(|threads| per_second(threads, length, authenticator));
        println!("{name:<24}{one:>14.0}{many:>14.0}");
    };
    if let Some(server) = dovecot::Server::start() {
        print("dovecot", &Dovecot::connect(server.socket()).unwrap());
    }
    if let Some(server) = Slapd::start(&Setup::default()) {
        let bind = Ldap::bind(format!("uid={{user}},{PEOPLE}")).server(server.unix_url());
        print("ldap, bind", &bind.build().unwrap());
        let search = Ldap::search(PEOPLE, "(uid={user})").server(server.unix_url());
        let search = search.service_account(SERVICE, sansmtp::Secret::from(SERVICE_PASSWORD.as_bytes()));
        print("ldap, search and bind", &search.build().unwrap());
    }
}

/// How often the first user of the tests can log in in a second, by so many threads; at least once by each.
fn per_second(threads: usize, length: Duration, authenticator: &dyn Authenticator) -> f64 {
    let (user, password) = USERS[0];
    let start = Instant::now();
    let log_in = || {
        let mut done = 0_u32;
        loop {
            assert_eq!(authenticator.log_in(user, password), 235);
            done += 1;
            if start.elapsed() >= length {
                return f64::from(done);
            }
        }
    };
    let done: f64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(log_in)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no login fails")).sum()
    });
    done / start.elapsed().as_secs_f64()
}

/// As the tests of Dovecot have it.
fn base64(octets: &[u8]) -> String {
    BASE64_STANDARD.encode(octets)
}

const THREADS: [usize; 2] = [1, 16];
