//! What the tests of the example programs share: the programs as child processes, the tools that talk to them, a
//! relayer where every kind of login is possible, a client and a next hop that do exactly as they are told.
//!
//! Nothing here waits for a time: every wait is for a condition, and fails the test after [`PATIENCE`].

#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(unused_imports, reason = "each test binary uses its own part")]

mod authority;
mod client;
#[cfg(unix)]
pub(crate) mod dovecot;
mod messages;
mod next_hop;
#[cfg(unix)]
pub(crate) mod postfix;
mod program;
mod relayer;
mod secrets;
mod tunnel;

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

pub(crate) use authority::Authority;
pub(crate) use client::{Client, stuffed};
pub(crate) use messages::{Awkward, long_line, maildir, number_of, numbered, spooled, voids};
pub(crate) use next_hop::{Gate, Mail, NextHop};
pub(crate) use program::{Program, add_user, example, user};
pub(crate) use relayer::{ANY, FAILED, Kind, Login, MESSAGE, RIGHT, SUCCEEDED, Server, USER, WRONG};
pub(crate) use secrets::assert_absent;
pub(crate) use tunnel::Tunnel;

/// How long a test waits for what must come. Only a failing test waits that long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Finds a program that a test needs. Where it is missing the test should return: it has been said why.
///
/// # Panics
/// Where it is missing and `CI` is `true`: there, a test that does not run is a failure.
pub(crate) fn tool(name: &str) -> Option<PathBuf> {
    let found = std::env::var_os("PATH")
        .and_then(|path| std::env::split_paths(&path).map(|part| part.join(name)).find(|path| path.is_file()));
    if found.is_none() {
        skip(&format!("{name} is not installed"));
    }
    found
}

/// Says why a test does not run.
///
/// # Panics
/// Where `CI` is `true`.
pub(crate) fn skip(reason: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{reason}");
    eprintln!("skipped: {reason}");
}

/// Runs a command to its end, and returns whether it succeeded and everything that it printed.
pub(crate) fn run(command: &mut Command) -> (bool, String) {
    let Output { status, stdout, stderr } = command.output().expect("the command starts");
    let text = [stdout, stderr].concat();
    (status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// Waits for what nobody tells: a change in the file system.
pub(crate) fn eventually(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited in vain");
        std::thread::sleep(Duration::from_millis(5));
    }
}
