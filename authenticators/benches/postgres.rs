//! PLAIN logins through PostgreSQL, on a server of its own: how many a second, and how much of that is hashing.
//!
//! ```text
//! cargo bench -p sansmtp-authenticators --bench postgres
//! ```

#![allow(clippy::unwrap_used, reason = "a panic is how a benchmark fails")]
#![allow(unused_imports, unused_macros, reason = "of what tests share it takes what it needs")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sansmtp::auth::{ScramHash, ScramKeys};
use sansmtp_authenticators::stored::{Accounts, Hashing, Keep, Stored};
use support::login::Door;
use support::postgresql::PostgreSql;

fn main() {
    let Some(server) = PostgreSql::start() else { return };
    let users = Accounts::new(server.users());
    for user in ["argon2id", "cheap"] {
        users.add(user, PASSWORD.as_bytes(), Keep::Scram).unwrap();
    }
    // A hash that costs nothing leaves what everything else costs.
    let cheap = ScramKeys::derive(ScramHash::Sha256, PASSWORD.as_bytes(), b"salt", 1).unwrap().to_text();
    server.admin("mail", &format!("UPDATE sansmtp.user SET password = '{}' WHERE name = 'cheap'", cheap.as_str()));
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let hashing = Arc::new(Hashing::with_limits(cores, 1000));
    let door = Stored::new(server.users()).unwrap().hashing(hashing);
    println!("PLAIN logins through PostgreSQL{:>14}{:>14}{:>18}", "Argon2id/s", "no hash/s", "share of hashing");
    for threads in [1, cores.get(), cores.get() * 8] {
        let [hashed, cheap] = ["argon2id", "cheap"].map(|user| per_second(&door, user, threads));
        println!("{threads:>23} threads{hashed:>14.0}{cheap:>14.0}{:>17.1}%", (1.0 - hashed / cheap) * 100.0);
    }
}

/// By so many threads, for a while.
fn per_second(door: &dyn Door, user: &str, threads: usize) -> f64 {
    let count = AtomicUsize::new(0);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while started.elapsed() < WHILE {
                    assert_eq!(door.log_in(user, PASSWORD), 235);
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    count.into_inner() as f64 / started.elapsed().as_secs_f64()
}

const PASSWORD: &str = "tanstaaftanstaaf";
const WHILE: Duration = Duration::from_secs(3);
