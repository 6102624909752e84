//! Whether the time tells which users exist: how long a server takes to answer a client without a password, about a
//! user, an unknown name, a disabled user, and one without keys for the mechanism.
//!
//! ```text
//! cargo bench -p sansmtp-authenticators --bench who_exists [-- SAMPLES]
//! ```
//!
//! Each sample is a line of the exchange through the engine and the authenticator, without a socket. The accounts take
//! turns, so that whatever else the machine does falls on all of them. Of each account the slowest tenth is left out,
//! which is where interruptions are. The table has the mean of the known user in microseconds, and for each of the others
//! by how much it differs, and the z of that difference: beyond 4 or so either way it is no chance.
//!
//! PLAIN is a hash, which takes milliseconds and has fewer samples.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a panic is how a benchmark fails")]
#![allow(unused_imports, unused_macros, reason = "of what tests share it takes what it needs")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::Instant;

use sansmtp::Config;
use sansmtp_authenticators::Authenticator;
use sansmtp_authenticators::memory::Memory;
use sansmtp_authenticators::passwd::Passwd;
use sansmtp_authenticators::sqlite::Sqlite;
use support::accounts::{ACCOUNTS, MECHANISMS, Stranger, add_to, config, exchange, lines};
use support::postgresql::PostgreSql;
use support::stores::stored;

fn main() {
    let given = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    // `cargo test` runs benches to see that they do.
    let samples = given.unwrap_or(if std::env::args().any(|argument| argument == "--bench") { 20_000 } else { 20 });
    let config = config();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("users");
    std::fs::write(&path, lines()).unwrap();
    let memory = stored(add_to(Memory::new().unwrap()));
    let passwd = stored(Passwd::open(path).unwrap());
    let sqlite = stored(add_to(Sqlite::open_or_create(&directory.path().join("mail.db")).unwrap()));
    let server = PostgreSql::start();
    let postgres = server.as_ref().map(|server| stored(add_to(server.users())));
    let stores =
        [("memory", Some(&memory as &dyn Authenticator)), ("passwd", Some(&passwd)), ("sqlite", Some(&sqlite))];
    let postgres = postgres.as_ref().map(|users| users as &dyn Authenticator);
    print!("{:<10}{:<16}{:<6}{:>12}", "", "", "line", ACCOUNTS[0].0);
    ACCOUNTS.iter().skip(1).for_each(|(name, ..)| print!("{name:>16}{:>8}", "z"));
    println!();
    for (store, users) in stores.into_iter().chain([("postgres", postgres)]) {
        let Some(users) = users else { continue };
        for mechanism in MECHANISMS {
            let samples = if mechanism == "PLAIN" { samples / 100 } else { samples };
            compare(store, users, mechanism, &config, samples.max(10));
        }
    }
}

/// Prints a line for each line of the exchange.
fn compare(store: &str, users: &dyn Authenticator, mechanism: &str, config: &Arc<Config>, samples: usize) {
    let exchanges = ACCOUNTS.map(|(user, ..)| exchange(mechanism, user));
    let mut strangers = ACCOUNTS.map(|_| Stranger::new(config));
    let mut times: Vec<[Vec<f64>; 4]> = exchanges[0].iter().map(|_| Default::default()).collect();
    for run in 0..samples {
        for turn in 0..ACCOUNTS.len() {
            // Each comes behind each of the others in turn.
            let which = (turn * (1 + 2 * (run % 2)) + run / 2) % ACCOUNTS.len();
            for (line, times) in exchanges[which].iter().zip(&mut times) {
                let begun = Instant::now();
                strangers[which].say(line, users);
                times[which].push(begun.elapsed().as_secs_f64() * 1e6);
            }
        }
    }
    for (number, times) in times.into_iter().enumerate() {
        let [(mean, error), others @ ..] = times.map(trimmed);
        print!("{store:<10}{mechanism:<16}{:<6}{mean:>9.2} µs", number + 1);
        for (other, its_error) in others {
            let z = (other - mean) / error.hypot(its_error).max(f64::MIN_POSITIVE);
            print!("{:>+13.3} µs{z:>+8.1}", other - mean);
        }
        println!();
    }
}

/// The mean of all but the slowest tenth, and its standard error.
fn trimmed(mut times: Vec<f64>) -> (f64, f64) {
    times.sort_unstable_by(f64::total_cmp);
    times.truncate((times.len() * 9).div_ceil(10));
    let count = times.len() as f64;
    let mean = times.iter().sum::<f64>() / count;
    let variance = times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean, (variance / count).sqrt())
}
