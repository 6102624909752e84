//! The `sink` program: what it saves, and its limits.

mod support;

use std::path::Path;
use std::process::Command;

use support::{Awkward, Client, Program, assert_absent, run, tool};
use tempfile::TempDir;

#[test]
fn a_message_is_saved_octet_for_octet() {
    let directory = TempDir::new().expect("there is room for a directory");
    let sink = sink(directory.path(), &["--save", "saved"]);
    let mut client = Client::log_in(sink.address(0), USER, PASSWORD).expect("the server talks");
    for number in 1..=2 {
        let reply =
            client.send(Awkward::REVERSE_PATH, Awkward::RECIPIENT, &Awkward::content()).expect("the server talks");
        assert!(reply.starts_with("250 "), "{reply}");
        let saved = directory.path().join("saved").join(format!("{number:06}.eml"));
        assert_eq!(std::fs::read(saved).expect("it is saved before 250"), Awkward::content());
    }

    // What is begun and not ended is no message.
    client.begin(Awkward::REVERSE_PATH, &[Awkward::RECIPIENT]).expect("the server talks");
    client.write(b"half a message\r\n").expect("the server listens");
    drop(client);
    let (stdout, stderr) = stop(sink);
    assert_eq!(std::fs::read_dir(directory.path().join("saved")).expect("it is there").count(), 2);
    assert_absent(PASSWORD, &stdout);
    assert_absent(PASSWORD, &stderr);
}

#[test]
fn a_message_over_the_limit_gets_552() {
    let directory = TempDir::new().expect("there is room for a directory");
    let sink = sink(directory.path(), &["--save", "saved", "--max-size", "1000"]);
    let mut client = Client::log_in(sink.address(0), USER, PASSWORD).expect("the server talks");

    let reply = client.command("MAIL FROM:<tim@example.org> SIZE=1001").expect("the server talks");
    assert!(reply.starts_with("552 5.3.4 "), "{reply}");
    let line = b"0123456\r\n".repeat(1000 / 9 + 1);
    let reply = client.send("tim@example.org", "friend@example.org", &line).expect("the server talks");
    assert!(reply.starts_with("552 5.3.4 "), "{reply}");
    let fits = line.get(9..).expect("it has several lines");
    let reply = client.send("tim@example.org", "friend@example.org", fits).expect("the server talks");
    assert!(reply.starts_with("250 "), "{reply}");
    assert_eq!(std::fs::read_dir(directory.path().join("saved")).expect("it is there").count(), 1);
}

#[test]
fn refused_credentials_are_counted() {
    let directory = TempDir::new().expect("there is room for a directory");
    let sink = sink(directory.path(), &["--max-failures", "2"]);
    let mut client = Client::greet(sink.address(0)).expect("the server talks");
    let reply = client.auth_plain(USER, "wrong password").expect("the server talks");
    assert!(reply.starts_with("535 5.7.8 "), "{reply}");
    let reply = client.auth_plain("nobody", PASSWORD).expect("the server talks");
    assert!(reply.starts_with("421 4.7.0 "), "{reply}");
    assert!(client.is_closed());

    // The count is the connection's.
    Client::log_in(sink.address(0), USER, PASSWORD).expect("the right password is taken");
    let (_, stderr) = stop(sink);
    assert_absent("wrong password", &stderr);
}

#[test]
fn nothing_is_taken_without_a_login() {
    let directory = TempDir::new().expect("there is room for a directory");
    let sink = sink(directory.path(), &[]);
    let mut client = Client::greet(sink.address(0)).expect("the server talks");
    let reply = client.command("MAIL FROM:<tim@example.org>").expect("the server talks");
    assert!(reply.starts_with("530 5.7.0 "), "{reply}");
}

#[test]
fn curl_sends_over_tls() {
    let Some(curl) = tool("curl") else { return };
    let directory = TempDir::new().expect("there is room for a directory");
    std::fs::write(directory.path().join("message.eml"), Awkward::content()).expect("there is room for a message");
    let sink = sink(directory.path(), &["--listen-tls", "127.0.0.1:0", "--save", "saved"]);
    for (number, scheme) in [(0, "smtp"), (1, "smtps")] {
        // The certificate is made anew at each start: there is nothing to verify it against.
        let (sent, printed) = run(Command::new(&curl)
            .current_dir(directory.path())
            .args(["--verbose", "--silent", "--max-time", "60", "--ssl-reqd", "--insecure"])
            .args(["--url", &format!("{scheme}://{}", sink.address(number)), "--user", &format!("{USER}:{PASSWORD}")])
            .args(["--mail-from", Awkward::REVERSE_PATH, "--mail-rcpt", Awkward::RECIPIENT])
            .args(["--upload-file", "message.eml"]));
        assert!(sent, "{printed}");
        let saved = directory.path().join(format!("saved/{:06}.eml", number + 1));
        assert_eq!(std::fs::read(saved).expect("it is saved"), Awkward::content());
    }
}

fn sink(directory: &Path, arguments: &[&str]) -> Program {
    let login = ["--user", USER, "--password", PASSWORD, "--plaintext-auth", "--no-auth-delay"];
    Program::start("sink", directory, "trace", &[&["--listen", "127.0.0.1:0"], &login[..], arguments].concat())
}

/// Ends the sink, which does not handle signals, and returns what it wrote.
fn stop(sink: Program) -> (String, String) {
    sink.terminate();
    let (_, stdout, stderr) = sink.wait();
    (stdout, stderr)
}

const USER: &str = "tim";
const PASSWORD: &str = "tanstaaftanstaaf";
