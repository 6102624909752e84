//! The running `authenticated_relayer` with users in an LDAP directory, OpenLDAP's.

mod support;

#[path = "../../authenticators/tests/ldap/slapd.rs"]
mod slapd;

use std::process::Command;

use slapd::{PEOPLE, SERVICE, SERVICE_PASSWORD, Setup, Slapd};
use support::{Client, Program, add_user, assert_absent, example, maildir, run, user};
use tempfile::TempDir;

#[test]
fn users_of_a_directory_log_in_and_send() {
    let Some(mut slapd) = Slapd::start(&Setup::default()) else { return };
    let directory = TempDir::new().expect("there is room for a directory");
    let write = |name: &str, content: &str| {
        std::fs::write(directory.path().join(name), content).expect("the directory can be written to");
    };
    write("ldap.secret", &format!("{SERVICE_PASSWORD}\n"));
    let ca_file = slapd.ca_file().display().to_string();
    let template = format!("{}/uid={{user}},{PEOPLE}????x-ca-file={ca_file}", slapd.url());
    let search = format!(
        "{}/{PEOPLE}?uid??(%7C(uid={{user}})(mail={{user}}))?bindname={},x-bindpw-file=ldap.secret,x-ca-file={ca_file}",
        slapd.tls_url(),
        SERVICE.replace(',', "%2C"),
    );
    for (url, other_name) in [(&template, "TIM"), (&search, "user0@mail.example.org")] {
        // It need not be there at the start.
        slapd.stop();
        let server = relayer(&directory, &["--users", url, "--sender-pattern", "{user}@example.org"]);
        let log_in = |user: &str, password: &str| {
            let mut client = Client::greet(server.address(0)).expect("the server talks");
            assert_eq!(client.mechanisms().expect("the server talks"), ["PLAIN", "LOGIN"]);
            client.auth_plain(user, password).expect("the server talks")
        };
        assert!(log_in("tim", PASSWORD).starts_with("454 4.7.0 "));
        slapd.start_again();
        assert!(log_in("tim", PASSWORD).starts_with("235 "));
        assert!(log_in(other_name, PASSWORD).starts_with("235 "));
        for (user, password) in [("tim", "wrong password"), ("tom", PASSWORD), ("*", PASSWORD), (OTHER, PASSWORD)] {
            assert!(log_in(user, password).starts_with("535 5.7.8 "), "{user}");
        }
        let mut client = Client::log_in(server.address(0), "tim", PASSWORD).expect("the server talks");
        let before = maildir(&directory.path().join("mail")).len();
        let mut send = |from: &str| {
            let content = format!("From: {from}\r\n\r\nIt works.\r\n");
            client.send(from, "friend@example.org", content.as_bytes()).expect("the server talks")
        };
        assert!(send("tim@example.org").starts_with("250 "));
        assert!(send("user1@mail.example.org").starts_with("550 5.7.1 "));
        // The directory lets only the service account read it.
        assert_eq!(send("user0@mail.example.org").starts_with("250 "), url == &search);
        assert_eq!(maildir(&directory.path().join("mail")).len(), before + if url == &search { 2 } else { 1 });
        slapd.stop();
        assert!(log_in("tim", PASSWORD).starts_with("454 4.7.0 "));
        slapd.start_again();
        assert!(log_in("tim", PASSWORD).starts_with("235 "));
        let (stdout, stderr) = server.stop();
        assert!(stderr.contains("LDAP cannot tell"), "{stderr}");
        for secret in [PASSWORD, SERVICE_PASSWORD, "wrong password"] {
            assert_absent(secret, &(stdout.clone() + &stderr));
        }
    }

    // Behind a database, whose users keep their own passwords.
    add_user(directory.path(), "tim", DATABASE_PASSWORD);
    let server = relayer(&directory, &["--users", "mail.db", "--users", &search]);
    for (user, password, code) in [
        ("tim", DATABASE_PASSWORD, "235 "),
        ("tim", PASSWORD, "535 5.7.8 "),
        (OTHER, OTHERS_PASSWORD, "235 "),
        ("tom", PASSWORD, "535 5.7.8 "),
    ] {
        let mut client = Client::greet(server.address(0)).expect("the server talks");
        assert_eq!(client.mechanisms().expect("the server talks"), ["PLAIN", "LOGIN"]);
        let reply = client.auth_plain(user, password).expect("the server talks");
        assert!(reply.starts_with(code), "{user}: {reply}");
    }
    server.stop();
}

/// While it is remembered that a password was right, the directory is not asked.
#[test]
fn a_login_is_remembered_until_sighup() {
    let Some(mut slapd) = Slapd::start(&Setup::default()) else { return };
    let directory = TempDir::new().expect("there is room for a directory");
    let url = format!("{}/uid={{user}},{PEOPLE}????x-ca-file={}", slapd.url(), slapd.ca_file().display());
    let server = relayer(&directory, &["--users", &url, "--cache-logins", "5m", "--ignore-case-of-logins"]);
    let log_in = |user: &str, password: &str| {
        let mut client = Client::greet(server.address(0)).expect("the server talks");
        client.auth_plain(user, password).expect("the server talks")[..3].to_owned()
    };
    assert_eq!(log_in("tim", "wrong password"), "535");
    assert_eq!(log_in("tim", PASSWORD), "235");
    assert_eq!(log_in("TIM", PASSWORD), "235");
    slapd.stop();
    assert_eq!(log_in("tim", PASSWORD), "235");
    assert_eq!(log_in("TIM", PASSWORD), "235");
    // What was wrong is asked about again, as is whoever has not logged in.
    assert_eq!(log_in("tim", "wrong password"), "454");
    assert_eq!(log_in(OTHER, OTHERS_PASSWORD), "454");
    assert_eq!(log_in("tim", PASSWORD), "235");
    #[cfg(unix)]
    {
        server.signal("HUP");
        server.stderr.wait(|log| log.contains("forgot who has logged in"));
        assert_eq!(log_in("tim", PASSWORD), "454");
    }
    let (stdout, stderr) = server.stop();
    assert_absent(PASSWORD, &(stdout + &stderr));
}

#[test]
fn what_is_wrong_with_a_directory_s_url_is_said() {
    let directory = TempDir::new().expect("there is room for a directory");
    for (url, message) in [
        ("ldap://me:hunter2@ldap.example.org/dc=org", "a password in the URL can be seen by everybody"),
        ("ldap://ldap.example.org/dc=org????bindname=dc=org,x-bindpw=hunter2", "x-bindpw-file"),
        (
            "ldap://ldap.example.org/dc=org???(uid=tim)",
            "cannot open ldap://ldap.example.org/dc=org: \"(uid=tim)\" is no",
        ),
        ("ldap:ldap.example.org", "ldap://HOST/DN"),
    ] {
        let mut command = Command::new(example("authenticated_relayer"));
        let (done, printed) = run(command.current_dir(directory.path()).args(["--users", url]));
        assert!(!done && printed.contains(message) && !printed.contains("hunter2"), "{printed}");
    }
    let (done, printed) = user(directory.path(), &["list", "--users", "ldap://ldap.example.org/dc=org"], "");
    assert!(!done && printed.contains("ldap://ldap.example.org/dc=org is not changed from here"), "{printed}");
}

fn relayer(directory: &TempDir, arguments: &[&str]) -> Program {
    let listen = ["--listen", "127.0.0.1:0", "--allow-plaintext-auth"];
    Program::start("authenticated_relayer", directory.path(), "trace", &[&listen, arguments].concat())
}

fn missing(what: &str) {
    support::skip(&format!("{what} is not installed"));
}

const USERS: [(&str, &str); 2] = [("tim", PASSWORD), (OTHER, OTHERS_PASSWORD)];
const PASSWORD: &str = "tanstaaftanstaaf";
const DATABASE_PASSWORD: &str = "of the database alone";
const OTHER: &str = "jürgen";
const OTHERS_PASSWORD: &str = "pässwörd€ of another";
