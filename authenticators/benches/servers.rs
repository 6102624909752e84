//! What a login by PLAIN costs through servers that compare the password themselves: Dovecot and an LDAP directory.
//!
//! ```text
//! cargo bench -p sansmtp-authenticators --bench servers
//! ```
//!
//! The servers are the tests' own, on this machine. Each has one user whose password is cheap to compare, as it is
//! (Dovecot) or with {SSHA} (slapd), and one with Argon2, as the server's own tool makes it unless told otherwise. Where
//! Dovecot cannot do that, it has bcrypt. Without a server, its authenticator is left out.
//!
//! The share that is hashing is told by difference: how much sooner the login with the cheap password is done. Nothing
//! else differs between the two, and it is the server's own code that hashes, in its own process, which cannot be timed
//! from here. Next to it is how long this crate's code takes for the same hash: what [`PasswordHash::verify`] costs
//! where the users move to a store that hashes here.
//!
//! By many threads, Dovecot makes one hash at a time, whatever the cores: a single process of it compares passwords,
//! unless its `auth_cache_verify_password_with_worker` is set.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a panic is how a benchmark fails")]
#![allow(dead_code, unused_imports, unused_macros, reason = "of what tests share it takes what it needs")]

#[path = "../tests/dovecot/server.rs"]
mod dovecot;
#[path = "../tests/ldap/slapd.rs"]
mod slapd;
#[path = "../tests/support/mod.rs"]
mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sansmtp_authenticators::Authenticator;
use sansmtp_authenticators::dovecot::Dovecot;
use sansmtp_authenticators::ldap::Ldap;
use sansmtp_authenticators::stored::PasswordHash;
use slapd::{PEOPLE, SERVICE, SERVICE_PASSWORD, Setup, Slapd};
use support::battery::{USERS, missing};
use support::login::Door;

fn main() {
    // `cargo test` runs benches to see that they do.
    let runs = if std::env::args().any(|argument| argument == "--bench") {
        Runs { length: Duration::from_secs(5), threads: [1, 16] }
    } else {
        Runs { length: Duration::ZERO, threads: [1, 1] }
    };
    let many = format!("by {} threads", runs.threads[1]);
    print!("{:<24}{:<32}{:>10}{many:>16}", "", "", "logins/s");
    println!("{:>20}{:>12}{:>14}", "besides the hash", "hashing", "hash here");
    if let Some((server, hash)) = dovecot() {
        runs.print("dovecot", "{PLAIN}", &hash, &Dovecot::connect(server.socket()).unwrap());
    }
    if let Some((server, hash)) = slapd() {
        let bind = Ldap::bind(format!("uid={{user}},{PEOPLE}")).server(server.unix_url());
        runs.print("ldap, bind", "{SSHA}", &hash, &bind.build().unwrap());
        let search = Ldap::search(PEOPLE, "(uid={user})").server(server.unix_url());
        let search = search.service_account(SERVICE, sansmtp::Secret::from(SERVICE_PASSWORD.as_bytes()));
        runs.print("ldap, search and bind", "{SSHA}", &hash, &search.build().unwrap());
    }
}

/// A server that knows [`SLOW`], too, and the hash that it has of the password.
fn dovecot() -> Option<(dovecot::Server, String)> {
    // There are Dovecots that were built without libsodium.
    let made = |scheme| printed("doveadm", &["pw", "-s", scheme, "-p", PASSWORD]);
    let Some(hash) = ["ARGON2ID", "BLF-CRYPT"].into_iter().find_map(made) else {
        missing("doveadm");
        return None;
    };
    Some((dovecot::Server::start_with_users("", &format!("{SLOW}:{hash}\n"))?, hash))
}

/// The same.
fn slapd() -> Option<(Slapd, String)> {
    let module = ["-o", "module-path=/usr/lib/ldap", "-o", "module-load=argon2"];
    let arguments = [&module[..], &["-n", "-h", "{ARGON2}", "-s", PASSWORD]].concat();
    let Some(hash) = printed("/usr/sbin/slappasswd", &arguments) else {
        missing("slapd with its module argon2");
        return None;
    };
    let person = format!(
        "dn: uid={SLOW},{PEOPLE}\nobjectClass: inetOrgPerson\nuid: {SLOW}\ncn: {SLOW}\nsn: x\nuserPassword: {hash}\n\n"
    );
    let setup = Setup { global: "moduleload argon2\n", entries: &person, ..Setup::default() };
    Some((Slapd::start(&setup)?, hash))
}

/// What a program prints. `None` where it is not there, or cannot do that.
fn printed(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim_end().to_owned())
}

/// How long each figure is measured, and by how many threads.
struct Runs {
    length: Duration,
    threads: [usize; 2],
}

impl Runs {
    /// A line for the user whose password is compared by the cheap scheme, and one for the user with the hash.
    fn print(&self, name: &str, cheap: &str, hash: &str, authenticator: &dyn Authenticator) {
        let measured = |user: &str| {
            self.threads.map(|threads| {
                per_second(threads, self.length, || assert_eq!(authenticator.log_in(user, PASSWORD), 235))
            })
        };
        let [besides, besides_many] = measured(CHEAP);
        println!("{name:<24}{cheap:<32}{besides:>10.0}{besides_many:>16.0}");
        let [alone, many] = measured(SLOW);
        let (_, text) = hash.split_once('}').unwrap();
        let here: PasswordHash = text.parse().unwrap();
        let here = per_second(1, self.length, || assert!(here.verify(PASSWORD.as_bytes())));
        let (microseconds, share) = (1e6 / besides, 100.0 * (1.0 - alone / besides));
        // What is behind them is the salt, and longer.
        let parameters: Vec<_> = text.split('$').filter(|part| (1..20).contains(&part.len())).collect();
        print!("{name:<24}{:<32}{alone:>10.1}{many:>16.1}", parameters.join(" "));
        println!("{microseconds:>17.1} µs{share:>10.2} %{:>11.1} ms", 1e3 / here);
    }
}

/// How often it can be done in a second, by so many threads; at least once by each.
fn per_second(threads: usize, length: Duration, what: impl Fn() + Sync) -> f64 {
    let start = Instant::now();
    let repeat = || {
        let mut done = 0_u32;
        loop {
            what();
            done += 1;
            if start.elapsed() >= length {
                return f64::from(done);
            }
        }
    };
    let done: f64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(repeat)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no login fails")).sum()
    });
    done / start.elapsed().as_secs_f64()
}

/// As the tests of Dovecot have it.
fn base64(octets: &[u8]) -> String {
    BASE64_STANDARD.encode(octets)
}

/// Whose password is cheap to compare: the first user of the tests.
const CHEAP: &str = USERS[0].0;
/// Who has the same password, with a hash that takes its time.
const SLOW: &str = "slow";
const PASSWORD: &str = USERS[0].1;
