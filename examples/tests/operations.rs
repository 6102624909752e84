//! What an operator does to `authenticated_relayer` while it runs.
#![cfg(unix)]

mod support;

use std::fs;
use std::path::Path;

use support::{Authority, Client, NextHop, Program, add_user, eventually, numbered, spooled};
use tempfile::TempDir;

#[test]
fn a_new_certificate_is_shown_from_sighup_on_and_nobody_is_cut_off() {
    for runtime in RUNTIMES {
        let (directory, old, new) = (directory(), Authority::new(), Authority::new());
        old.write(directory.path());
        let program = start(directory.path(), &[&["--runtime", runtime], TLS].concat());
        let mut before = Client::greet_tls(program.address(0), old.client()).expect("the old certificate is shown");

        new.write(directory.path());
        hang_up(&program, "read the certificate anew");
        let mut after = Client::greet_tls(program.address(0), new.client()).expect("the new certificate is shown");
        assert!(Client::greet_tls(program.address(0), old.client()).is_err(), "{runtime}");

        fs::write(directory.path().join("cert.pem"), "no certificate").expect("it can be written");
        hang_up(&program, "cannot use the new certificate; the one before stays error=cert.pem: ");
        // One whose key has not come yet.
        old.write(directory.path());
        fs::copy(directory.path().join("ca.pem"), directory.path().join("cert.pem")).expect("it can be written");
        hang_up(&program, "cannot use the certificate with its key");
        Client::greet_tls(program.address(0), new.client()).expect("the one before is shown");

        for client in [&mut before, &mut after] {
            assert!(client.command("NOOP").expect("the session goes on").starts_with("250 "), "{runtime}");
        }
        program.stop();
    }
}

#[test]
fn sighup_reads_files_of_users_and_tells_what_is_wrong() {
    let directory = directory();
    let file = directory.path().join("users");
    let hash = "$2y$05$0L9PeCB8KMXaEpmUukJNBOmyBHiti19ZCLBmkohIBDydWq6dKc2w6";
    fs::write(&file, format!("tim:{hash}\n")).expect("it can be written");
    let program =
        start(directory.path(), &["--listen", "127.0.0.1:0", "--allow-plaintext-auth", "--users", "passwd:users"]);
    fs::write(&file, format!("tim:{hash}\nann:{hash}\n")).expect("it can be written");
    hang_up(&program, "read the changed file");
    fs::write(&file, "tim\n").expect("it can be written");
    hang_up(&program, "cannot use the changed file; users stay as they were");
    program.stop();
}

/// As where the program that took the log has ended.
#[test]
fn a_log_that_nothing_takes_harms_nothing() {
    for runtime in RUNTIMES {
        let (directory, hop) = (directory(), NextHop::start());
        add_user(directory.path(), USER, PASSWORD);
        let url = hop.url();
        let arguments = ["--listen", "127.0.0.1:0", "--allow-plaintext-auth", "--runtime", runtime, "--relay", &url];
        let (reader, closed) = std::io::pipe().expect("there are pipes");
        drop(reader);
        let program =
            Program::start_with_stderr("authenticated_relayer", directory.path(), "trace", &arguments, closed.into());
        let mut client = Client::log_in(program.address(0), USER, PASSWORD).expect("a login is possible");
        for number in 1..=3 {
            let reply = client.send("tim@example.org", "friend@example.org", &numbered(number));
            assert!(reply.expect("the session goes on").starts_with("250 "), "{runtime}");
        }
        assert!(Client::log_in(program.address(0), USER, "wrong").is_err());
        hop.wait(|mails| mails.len() >= 3);
        eventually(|| spooled(&directory.path().join("spool")) == 0);
        program.signal("HUP");
        program.stop();
        assert_eq!(hop.mails().len(), 3, "{runtime}");
    }
}

#[test]
fn names_are_taken_in_any_case_where_that_is_asked_for() {
    let directory = directory();
    add_user(directory.path(), "Tim@Example.org", PASSWORD);
    let mut arguments = vec!["--listen", "127.0.0.1:0", "--allow-plaintext-auth"];
    for ignored in [false, true] {
        let program = start(directory.path(), &arguments);
        for (name, taken) in [("Tim@Example.org", true), ("tim@example.org", ignored), ("TIM@EXAMPLE.ORG", ignored)] {
            assert_eq!(Client::log_in(program.address(0), name, PASSWORD).is_ok(), taken, "{name}, {ignored}");
        }
        program.stop();
        arguments.push("--ignore-case-of-logins");
    }
}

fn directory() -> TempDir {
    TempDir::new().expect("there is room for a directory")
}

fn start(directory: &Path, arguments: &[&str]) -> Program {
    Program::start("authenticated_relayer", directory, "info", arguments)
}

/// Sends SIGHUP, and waits for what the log tells of it.
fn hang_up(program: &Program, told: &str) {
    let before = program.stderr.so_far().matches(told).count();
    program.signal("HUP");
    program.stderr.wait(|log| log.matches(told).count() > before);
}

const RUNTIMES: [&str; 3] = ["smol", "tokio", "threads"];
const TLS: &[&str] = &["--listen-tls", "127.0.0.1:0", "--tls-cert", "cert.pem", "--tls-key", "key.pem"];
const USER: &str = "tim";
const PASSWORD: &str = "tanstaaftanstaaf";
