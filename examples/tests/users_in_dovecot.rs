//! The running `authenticated_relayer` over a Dovecot, whose mechanisms it passes through, and with a Dovecot behind a
//! database of its own.

mod support;

use std::fs;
use std::process::Command;

use support::dovecot::{Dovecot, PASSWORD, USER};
use support::{Client, Program, add_user, assert_absent, eventually, example, maildir, run, tool};
use tempfile::TempDir;

#[test]
fn what_dovecot_offers_is_passed_through() {
    let Some(dovecot) = Dovecot::start() else { return };
    let directory = TempDir::new().expect("there is room for a directory");
    let server = relayer(&directory, &["--users", &dovecot.users()]);
    let mut client = Client::greet(server.address(0)).expect("the server talks");
    // Not ANONYMOUS, and EXTERNAL for nobody without a certificate.
    let listed = client.mechanisms().expect("the server talks");
    assert_eq!(listed, ["PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5", "SCRAM-SHA-256"]);
    for (user, password, code) in
        [(USER, PASSWORD, "235 "), (USER, WRONG, "535 5.7.8 "), ("nobody", PASSWORD, "535 5.7.8 ")]
    {
        let mut client = Client::greet(server.address(0)).expect("the server talks");
        let reply = client.auth_plain(user, password).expect("the server talks");
        assert!(reply.starts_with(code), "{reply}");
    }
    // Nothing is known of anybody's addresses.
    let mut client = Client::log_in(server.address(0), USER, PASSWORD).expect("the server talks");
    let reply = client.command("MAIL FROM:<tim@example.org>").expect("the server talks");
    assert!(reply.starts_with("550 5.7.1 ") && reply.contains("has none yet"), "{reply}");
    drop(client);
    server
        .stderr
        .wait(|log| log.contains("users have one if their name is one, or by --sender-pattern users=dovecot:"));
    stop_without_secrets(server);

    let server = relayer(&directory, &["--users", &dovecot.users(), "--mechanisms", "LOGIN,PLAIN"]);
    let mut client = Client::greet(server.address(0)).expect("the server talks");
    assert_eq!(client.mechanisms().expect("the server talks"), ["LOGIN", "PLAIN"]);
    let reply = client.command("AUTH CRAM-MD5").expect("the server talks");
    assert!(reply.starts_with("504 5.5.4 "), "{reply}");
    drop(client);
    stop_without_secrets(server);
}

#[test]
fn it_may_start_later() {
    let Some(mut dovecot) = Dovecot::prepare() else { return };
    let directory = TempDir::new().expect("there is room for a directory");
    add_user(directory.path(), "ada", "password of hers");
    let alone = relayer(&directory, &["--users", &dovecot.users()]);
    let chosen = relayer(&directory, &["--users", &dovecot.users(), "--mechanisms", "SCRAM-SHA-256,LOGIN"]);
    let last = relayer(&directory, &["--users", "mail.db", "--users", &dovecot.users()]);
    let mechanisms = |server: &Program| {
        let mut client = Client::greet(server.address(0)).expect("the server talks");
        client.mechanisms().expect("the server talks")
    };
    let code = |server: &Program, user: &str| {
        let mut client = Client::greet(server.address(0)).expect("the server talks");
        client.auth_plain(user, PASSWORD).expect("the server talks").chars().take(3).collect::<String>()
    };
    assert_eq!(mechanisms(&alone), ["PLAIN", "LOGIN"]);
    assert_eq!(mechanisms(&chosen), ["SCRAM-SHA-256", "LOGIN"]);
    assert_eq!(mechanisms(&last), ["PLAIN", "LOGIN"]);
    assert_eq!([code(&alone, USER), code(&last, USER), code(&last, "ada")], ["454", "454", "535"]);
    dovecot.run();
    eventually(|| mechanisms(&alone) == ["PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5", "SCRAM-SHA-256"]);
    eventually(|| code(&alone, USER) == "235" && code(&last, USER) == "235");
    assert_eq!(mechanisms(&chosen), ["SCRAM-SHA-256", "LOGIN"]);
    for server in [alone, chosen, last] {
        assert!(server.stderr.so_far().contains("until Dovecot is there, logins are refused for now (454)"));
        stop_without_secrets(server);
    }
}

#[test]
fn mail_programs_log_in_through_it() {
    let Some(dovecot) = Dovecot::start() else { return };
    let directory = TempDir::new().expect("there is room for a directory");
    fs::write(directory.path().join("message"), "Subject: Greetings\r\n\r\nHello.\r\n").expect("it can be written");
    for runtime in ["smol", "tokio", "threads"] {
        let server = relayer(&directory, &["--users", &dovecot.users(), "--runtime", runtime, "--senders", "any"]);
        let port = server.address(0).port().to_string();
        let mails = || maildir(&directory.path().join("mail")).len();
        for (password, accepted) in [(PASSWORD, true), (WRONG, false)] {
            if let Some(curl) = tool("curl") {
                let before = mails();
                let mut curl = Command::new(curl);
                curl.args(["--no-progress-meter", "--ssl-reqd", "--cacert", "mail-cert.pem"]);
                curl.args(["--url", &format!("smtp://localhost:{port}"), "--user", &format!("{USER}:{password}")]);
                curl.args(["--login-options", "AUTH=CRAM-MD5", "--mail-from", "tim@example.org"]);
                curl.args(["--mail-rcpt", "ada@example.com", "--upload-file", "message"]);
                let (sent, transcript) = run(curl.current_dir(directory.path()));
                assert_eq!((sent, mails() - before), (accepted, usize::from(accepted)), "{transcript}");
            }
            if let Some(msmtp) = tool("msmtp") {
                let before = mails();
                let mut msmtp = Command::new(msmtp);
                msmtp.args(["--host=localhost", &format!("--port={port}"), "--auth=scram-sha-256", "--tls=on"]);
                msmtp.args(["--tls-starttls=on", "--tls-trust-file=mail-cert.pem", &format!("--user={USER}")]);
                msmtp.args([&format!("--passwordeval=echo {password}"), "--from=tim@example.org", "ada@example.com"]);
                let message = fs::File::open(directory.path().join("message")).expect("it can be read");
                let (sent, transcript) = run(msmtp.current_dir(directory.path()).stdin(message));
                assert_eq!((sent, mails() - before), (accepted, usize::from(accepted)), "{transcript}");
            }
        }
        stop_without_secrets(server);
    }
}

#[test]
fn it_can_be_the_last_of_several_places() {
    let Some(dovecot) = Dovecot::start() else { return };
    let directory = TempDir::new().expect("there is room for a directory");
    add_user(directory.path(), "ada", "password of hers");
    let server = relayer(&directory, &["--users", "mail.db", "--users", &dovecot.users()]);
    let mut client = Client::greet(server.address(0)).expect("the server talks");
    assert_eq!(client.mechanisms().expect("the server talks"), ["PLAIN", "LOGIN"]);
    for (user, password, code) in [
        (USER, PASSWORD, "235 "),
        ("ada", "password of hers", "235 "),
        ("ada", PASSWORD, "535 5.7.8 "),
        (USER, "password of hers", "535 5.7.8 "),
        ("nobody", PASSWORD, "535 5.7.8 "),
    ] {
        let mut client = Client::greet(server.address(0)).expect("the server talks");
        let reply = client.auth_plain(user, password).expect("the server talks");
        assert!(reply.starts_with(code), "{user}: {reply}");
    }
    stop_without_secrets(server);
}

#[test]
fn what_cannot_be_is_told_at_the_start() {
    let Some(dovecot) = Dovecot::start() else { return };
    let directory = TempDir::new().expect("there is room for a directory");
    let dovecot = dovecot.users();
    for (arguments, expected) in [
        (&["--users", &dovecot, "--mechanisms", "SCRAM-SHA-512"][..], "Dovecot does not offer SCRAM-SHA-512"),
        (&["--users", &dovecot, "--users", "mail.db"], "has to be the last place of users"),
        (&["user", "--users", &dovecot, "list"], "is not changed from here"),
    ] {
        let (done, printed) =
            run(Command::new(example("authenticated_relayer")).args(arguments).current_dir(directory.path()));
        assert!(!done && printed.contains(expected), "{printed}");
    }
}

fn relayer(directory: &TempDir, arguments: &[&str]) -> Program {
    let arguments = [&["--listen", "127.0.0.1:0", "--allow-plaintext-auth"], arguments].concat();
    Program::start("authenticated_relayer", directory.path(), "trace", &arguments)
}

fn stop_without_secrets(server: Program) {
    let (stdout, stderr) = server.stop();
    for secret in [PASSWORD, WRONG] {
        assert_absent(secret, &stdout);
        assert_absent(secret, &stderr);
    }
}

const WRONG: &str = "not-what-it-is";
