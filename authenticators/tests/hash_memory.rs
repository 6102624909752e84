//! How much memory stays with a process that hashes passwords.
//!
//! Each case runs in a process of its own, which is this test again: [`child`] does what the variable says, in which
//! many threads hash by few permits, and looks at how much of it is resident.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::num::NonZeroUsize;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sansmtp_authenticators::memory::Memory;
use sansmtp_authenticators::passwd::Passwd;
use sansmtp_authenticators::sqlite::Sqlite;
use sansmtp_authenticators::stored::{Accounts, Hashing, Keep, NewPassword, PasswordHash, Store, Stored};
use support::login::Door as _;

/// One of each scheme that takes megabytes, in as many KiB. They go over it as seldom as they can: how often makes no
/// difference to what is resident.
const SCHEMES: [(&str, usize, &str); 6] = [
    (
        "argon2id",
        19 * 1024,
        "$argon2id$v=19$m=19456,t=1,p=1$c2l4dGVlbiBvY3RldHMuLg$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    ),
    (
        "argon2i",
        16 * 1024,
        "$argon2i$v=19$m=16384,t=1,p=2$c2l4dGVlbiBvY3RldHMuLg$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    ),
    (
        "argon2d",
        24 * 1024,
        "$argon2d$m=24576,t=1,p=1$c2l4dGVlbiBvY3RldHMuLg$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    ),
    ("scrypt", 16 * 1024, "$scrypt$ln=14,r=8,p=1$c2l4dGVlbiBvY3RldHMuLg$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
    ("yescrypt", 16 * 1024, "$y$j9T$F5jP.u27/js1cHTKJetu7/$zrHTCMiYBdFpq3r.LNDtBHdvFI86NUkBKdd/UE1o.p1"),
    // More than is kept of each permit.
    (
        "costly",
        48 * 1024,
        "$argon2id$v=19$m=49152,t=1,p=1$c2l4dGVlbiBvY3RldHMuLg$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    ),
];

const CASE: &str = "SANSMTP_HASH_MEMORY_CASE";
const THREADS: usize = 64;
/// Of each scheme.
const HASHES: usize = 300;
/// Where only what asks for them differs, and of the one that takes most.
const FEWER_HASHES: usize = 150;
const PERMITS: usize = 2;
/// For everything else in the process.
const REST_KIB: usize = 64 * 1024;

fn run(case: &str) {
    if !cfg!(target_os = "linux") {
        eprintln!("skipped: there is no /proc/self/status");
        return;
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(CASE, case)
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&child.stdout).into_owned() + &String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success() && shown.contains("KiB are resident"), "{case}: {shown}");
    eprintln!("{case}: {}", shown.lines().find(|line| line.contains("KiB are resident")).unwrap());
}

macro_rules! cases {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            run(stringify!($name));
        }
    )*};
}

cases!(argon2id argon2i argon2d scrypt yescrypt costly mixed several_permits sqlite passwd verify new_passwords);

/// Does nothing unless it is called by [`run`].
#[test]
fn child() {
    let Ok(case) = std::env::var(CASE) else { return };
    let largest = |name: &str| SCHEMES.iter().find(|(scheme, ..)| *scheme == name).map_or(0, |(_, kib, _)| *kib);
    let cores = std::thread::available_parallelism().unwrap().get();
    let (resident, bound) = match case.as_str() {
        "mixed" => {
            let users = Accounts::new(Memory::new().unwrap());
            for (name, _, hash) in SCHEMES.iter().filter(|(name, ..)| *name != "costly") {
                users.add_hash(name, hash).unwrap();
            }
            (wrong_logins(FEWER_HASHES, &[authenticator(users.into_store())]), PERMITS * largest("argon2d"))
        }
        "several_permits" => {
            let authenticators: Vec<_> = (0..3).map(|_| authenticator(store("argon2id"))).collect();
            (wrong_logins(FEWER_HASHES, &authenticators), authenticators.len() * PERMITS * largest("argon2id"))
        }
        "sqlite" => {
            let directory = tempfile::tempdir().unwrap();
            let users = Accounts::new(Sqlite::open_or_create(&directory.path().join("users.db")).unwrap());
            users.add("argon2id", b"right", Keep::Scram).unwrap();
            // One more for the user's own hash, which is made without an authenticator.
            (wrong_logins(FEWER_HASHES, &[authenticator(users.into_store())]), (PERMITS + 1) * largest("argon2id"))
        }
        "passwd" => {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("users");
            let lines: String = SCHEMES.iter().map(|(name, _, hash)| format!("{name}:{hash}\n")).take(3).collect();
            std::fs::write(&path, lines).unwrap();
            (wrong_logins(FEWER_HASHES, &[authenticator(Passwd::open(&path).unwrap())]), PERMITS * largest("argon2d"))
        }
        "verify" => {
            let hash: PasswordHash = SCHEMES[0].2.parse().unwrap();
            (from_many_threads(FEWER_HASHES, |_| assert!(!hash.verify(b"wrong"))), cores * largest("argon2id"))
        }
        "new_passwords" => {
            let make = |_| assert!(NewPassword::new(b"new", Keep::Nothing).unwrap().hash().starts_with('$'));
            (from_many_threads(FEWER_HASHES, make), cores * largest("argon2id"))
        }
        "costly" => (wrong_logins(FEWER_HASHES, &[authenticator(store("costly"))]), PERMITS * largest("costly")),
        scheme => (wrong_logins(HASHES, &[authenticator(store(scheme))]), PERMITS * largest(scheme)),
    };
    let bound = bound + REST_KIB;
    println!("{resident} KiB are resident, of {bound}");
    assert!(resident <= bound, "{resident} KiB are resident, more than {bound}");
}

fn store(scheme: &str) -> Memory {
    let users = Accounts::new(Memory::new().unwrap());
    let (name, _, hash) = SCHEMES.iter().find(|(name, ..)| *name == scheme).unwrap();
    users.add_hash(name, hash).unwrap();
    users.into_store()
}

fn authenticator<S: Store>(store: S) -> Stored<S> {
    let hashing = Hashing::with_limits(NonZeroUsize::new(PERMITS).unwrap(), usize::MAX).longest_wait(Duration::MAX);
    Stored::new(store).unwrap().hashing(Arc::new(hashing))
}

/// Wrong passwords of users in turn, of which every other one does not exist. How many KiB are resident in the end.
fn wrong_logins<S: Store>(hashes: usize, authenticators: &[Stored<S>]) -> usize {
    from_many_threads(hashes, |number| {
        let authenticator = &authenticators[number % authenticators.len()];
        let (known, ..) = SCHEMES[number / 2 % SCHEMES.len()];
        let user = if number % 2 == 0 { known } else { "nobody" };
        assert_eq!(authenticator.log_in(user, "wrong"), 535);
    })
}

/// Runs it so many times. In between, each thread keeps small blocks, as a server does of what else it has to do. How
/// many KiB are resident in the end.
fn from_many_threads(hashes: usize, hash: impl Fn(usize) + Sync) -> usize {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut kept = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= hashes {
                        break;
                    }
                    hash(number);
                    kept.push(vec![1_u8; 1000 + number]);
                }
            });
        }
    });
    resident_kib()
}

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    resident.split_whitespace().next().unwrap().parse().unwrap()
}
