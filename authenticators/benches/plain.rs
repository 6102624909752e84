//! What a login by PLAIN costs through each authenticator, next to the hash alone.
//!
//! ```text
//! cargo bench -p sansmtp-authenticators --bench plain
//! ```
//!
//! A login is a whole exchange of the engine with the authenticator behind it, on a new connection, by one of 1,000
//! users. Their passwords' hash is Argon2id with 19 MiB and two passes, which is what new ones are; for what a login
//! costs besides it, one that costs next to nothing. At the end a table tells the logins in a second, on one thread and
//! on as many as there are cores, and how much of the time is the hash.
//!
//! To add an authenticator, name it in [`all`]. Servers are the tests' own; without one, its authenticator is left out.

#![allow(clippy::unwrap_used, reason = "a panic is how a benchmark fails")]
#![allow(unused_imports, unused_macros, reason = "of what tests share it takes what it needs")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use sansmtp::auth::{ScramHash, ScramKeys};
use sansmtp::{Auth, Config};
use sansmtp_authenticators::Authenticator;
use sansmtp_authenticators::memory::Memory;
use sansmtp_authenticators::passwd::Passwd;
use sansmtp_authenticators::sqlite::Sqlite;
use sansmtp_authenticators::stored::{Accounts, Keep, NewPassword, PasswordHash, Store, Stored, WritableStore};
use support::login::{auth_as, offer};
use support::postgresql::PostgreSql;

fn main() {
    divan::main();
    // `cargo test` runs benches to see that they do.
    if std::env::args().any(|argument| argument == "--bench") {
        println!("\n{:<12}{:>12}{:>16}{:>20}{:>12}", "", "logins/s", "on all cores", "besides the hash", "hashing");
        for (candidate, besides) in all(&argon2id()).iter().zip(&all(&next_to_nothing())) {
            candidate.print(besides);
        }
    }
}

/// Everything that is measured, with [`USERS`] of the password [`PASSWORD`], all with the same hash of it: it would take
/// long to make one for each.
fn all(hash: &str) -> Vec<Candidate> {
    [Some(memory(hash)), Some(passwd(hash)), postgres(hash), Some(sqlite(hash))].into_iter().flatten().collect()
}

struct Candidate {
    name: &'static str,
    authenticator: Arc<dyn Authenticator>,
    /// What must live as long: files, servers.
    _behind: Box<dyn std::any::Any + Send + Sync>,
}

fn memory(hash: &str) -> Candidate {
    Candidate::stored("memory", filled(Memory::new().expect("entropy"), hash), ())
}

fn sqlite(hash: &str) -> Candidate {
    let directory = tempfile::tempdir().expect("room for a directory");
    let store = Sqlite::open_or_create(&directory.path().join("mail.db")).expect("a database");
    Candidate::stored("sqlite", filled(store, hash), directory)
}

fn postgres(hash: &str) -> Option<Candidate> {
    let server = PostgreSql::start()?;
    Some(Candidate::stored("postgres", filled(server.users(), hash), server))
}

fn passwd(hash: &str) -> Candidate {
    let directory = tempfile::tempdir().expect("room for a directory");
    let path = directory.path().join("users");
    let lines: String = (0..USERS).map(|user| format!("{}:{hash}\n", name(user))).collect();
    std::fs::write(&path, lines).expect("room for a file");
    Candidate::stored("passwd", Passwd::open(path).expect("good lines"), directory)
}

fn filled<S: WritableStore>(store: S, hash: &str) -> S {
    let users = Accounts::new(store);
    (0..USERS).for_each(|user| users.add_hash(&name(user), hash).expect("room for a user"));
    users.into_store()
}

fn argon2id() -> String {
    NewPassword::new(PASSWORD.as_bytes(), Keep::Nothing).expect("a password").hash().to_owned()
}

fn next_to_nothing() -> String {
    let keys = ScramKeys::derive(ScramHash::Sha256, PASSWORD.as_bytes(), b"sixteen octets..", 1);
    keys.expect("keys").to_text().to_string()
}

fn name(user: usize) -> String {
    format!("user{user}@example.org")
}

#[divan::bench(args = all(&argon2id()))]
fn right_password(bencher: Bencher<'_, '_>, candidate: &Candidate) {
    candidate.bench(bencher, PASSWORD, 235);
}

#[divan::bench(args = all(&argon2id()))]
fn wrong_password(bencher: Bencher<'_, '_>, candidate: &Candidate) {
    candidate.bench(bencher, "wrong", 535);
}

#[divan::bench(args = all(&next_to_nothing()))]
fn right_password_besides_the_hash(bencher: Bencher<'_, '_>, candidate: &Candidate) {
    candidate.bench(bencher, PASSWORD, 235);
}

#[divan::bench]
fn hash_alone(bencher: Bencher<'_, '_>) {
    let hash: PasswordHash = argon2id().parse().expect("a hash");
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| hash.verify(black_box(PASSWORD.as_bytes())));
}

impl Candidate {
    fn stored(name: &'static str, store: impl Store + 'static, behind: impl std::any::Any + Send + Sync) -> Self {
        // Each login would otherwise make keys for other mechanisms, once for each user.
        let authenticator = Stored::new(store).expect("entropy").keep(Keep::Nothing);
        Self { name, authenticator: Arc::new(authenticator), _behind: Box::new(behind) }
    }

    fn bench(&self, bencher: Bencher<'_, '_>, password: &str, code: u16) {
        let login = Login::new();
        let mut user = 0;
        bencher.counter(ItemsCount::new(1_u32)).bench_local(|| {
            user = (user + 1) % USERS;
            assert_eq!(login.run(&*self.authenticator, &name(user), password), code);
        });
    }

    fn print(&self, besides: &Self) {
        let login = Login::new();
        let run = |candidate: &Self, user: usize| {
            assert_eq!(login.run(&*candidate.authenticator, &name(user % USERS), PASSWORD), 235);
        };
        let alone = per_second(1, |user| run(self, user));
        let together = per_second(std::thread::available_parallelism().map_or(1, usize::from), |user| run(self, user));
        let besides = per_second(1, |user| run(besides, user));
        let (microseconds, share) = (1e6 / besides, 100.0 * (1.0 - alone / besides));
        println!("{:<12}{alone:>12.1}{together:>16.1}{microseconds:>17.1} µs{share:>10.2} %", self.name);
    }
}

/// How often it can be done in a second, by so many threads. Measured for [`LENGTH`].
fn per_second(threads: usize, what: impl Fn(usize) + Sync) -> f64 {
    let start = Instant::now();
    let done: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|thread| {
                let what = &what;
                scope.spawn(move || {
                    let mut done = 0;
                    while start.elapsed() < LENGTH {
                        what(thread + done * threads);
                        done += 1;
                    }
                    done
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no login fails")).sum()
    });
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let done = done as f64;
    done / start.elapsed().as_secs_f64()
}

/// How a client logs in.
struct Login {
    config: Arc<Config>,
}

impl Login {
    fn new() -> Self {
        Self { config: offer(Auth::new()) }
    }

    /// The code of the reply to AUTH PLAIN.
    fn run(&self, authenticator: &dyn Authenticator, user: &str, password: &str) -> u16 {
        let response = BASE64_STANDARD.encode(format!("\0{user}\0{password}"));
        auth_as(&self.config, authenticator, &format!("PLAIN {response}"))
    }
}

impl std::fmt::Display for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

const USERS: usize = 1000;
const PASSWORD: &str = "tanstaaftanstaaf";
/// Long enough for a few hundred hashes.
const LENGTH: Duration = Duration::from_secs(5);
