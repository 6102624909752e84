//! What the programs refuse leaves a line in their logs, with the client and the reply, and nothing that is secret.

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use support::{Client, Program, add_user, assert_absent, eventually, maildir, user};
use tempfile::TempDir;

#[test]
fn what_is_refused_is_logged() {
    for (name, runtime) in [
        // It hashes passwords, which takes its time.
        ("authenticated_relayer", "smol"),
        ("sink", "smol"),
        ("sink", "tokio"),
        ("sink", "threads"),
    ] {
        let directory = TempDir::new().expect("there is room for a directory");
        let options: &[&str] = if name == "sink" {
            &["--user", USER, "--password", PASSWORD, "--plaintext-auth"]
        } else {
            add_user(directory.path(), USER, PASSWORD);
            &["--maildir", "mail", "--allow-plaintext-auth"]
        };
        let listeners = ["--listen", "127.0.0.1:0", "--listen-tls", "127.0.0.1:0"];
        let arguments = [&listeners[..], &["--runtime", runtime, "--max-size", "1000"], options].concat();
        let program = Program::start(name, directory.path(), "info", &arguments);
        let large = format!("{TRANSACTION}DATA\r\n{}.\r\n", "0123456\r\n".repeat(200));
        for (listener, client, refused) in [
            (0, "tanstaaftanstaaf\r\n", "command refused command=\"unknown\" reply=500 5.5.1 "),
            (0, "EHLO c\r\nMAIL FROM:<a@b.example>\r\n", "command refused command=\"MAIL\" reply=530 5.7.0 "),
            (0, "EHLO c\r\nAUTH PLAIN AHRpbQB3cm9uZw==\r\n", "authentication failed"),
            (0, "EHLO c\r\nAUTH NTLM\r\n", "authentication failed"),
            (0, "EHLO c\r\nLOGIN\r\nMAIL FROM:a@b@c\r\n", "command refused command=\"MAIL\" reply=501 "),
            (
                0,
                "EHLO c\r\nLOGIN\r\nMAIL FROM:<a@b.example> SIZE=9999\r\n",
                "command refused command=\"MAIL\" reply=552 ",
            ),
            (
                0,
                "EHLO c\r\nLOGIN\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<@>\r\n",
                "recipient refused sender=<a@b.example> reply=501 ",
            ),
            (0, &format!("{TRANSACTION}DATA\r\na\nb\r\n.\r\n"), "octets=1 reply=554 5.6.11 "),
            (0, &large, "message refused login=\"tim\" sender=<a@b.example> recipients=1 octets=1000 reply=552 5.3.4 "),
            (
                0,
                &format!("{TRANSACTION}DATA\r\nhalf a message\r\n"),
                "message given up reason=connection-lost octets=16",
            ),
            (0, "GET / HTTP/1.1\r\n", "command refused command=\"unknown\" reply=554 "),
            (0, "EHLO c\r\nSTARTTLS\r\n", "TLS handshake failed reason=connection-lost"),
            (1, "EHLO c\r\n", "TLS handshake failed reason=not-tls"),
        ] {
            let address = program.address(listener);
            let mut stream = TcpStream::connect(address).expect("the server listens");
            let client = client.replace("LOGIN", LOGIN);
            let peer = stream.local_addr().expect("it is connected");
            stream.write_all(client.as_bytes()).expect("the server reads");
            stream.shutdown(Shutdown::Write).expect("it is connected");
            // Until it has said all. Where the client is not TLS, that may be a reset.
            let _ = stream.read_to_end(&mut Vec::new());
            let connection = format!(" peer={peer} listener={address}}}: ");
            program.stderr.wait(|log| log.lines().any(|line| line.contains(&connection) && line.contains(refused)));
        }
        program.terminate();
        let (_, stdout, stderr) = program.wait();
        for secret in [PASSWORD, "tanstaaftanstaaf", "AHRpbQB3cm9uZw=="] {
            assert_absent(secret, &stdout);
            assert_absent(secret, &stderr);
        }
    }
}

/// Whatever ends a transaction without a message gives back what it has reserved.
#[test]
fn a_login_sends_as_much_as_it_may() {
    let directory = TempDir::new().expect("there is room for a directory");
    add_user(directory.path(), USER, PASSWORD);
    let arguments = ["--listen", "127.0.0.1:0", "--allow-plaintext-auth", "--max-size", "1000"];
    let limits = ["--max-messages-per-hour", "2", "--max-recipients-per-day", "3", "--hide-client-address"];
    let arguments = [&arguments[..], &limits, &["--ignore-case-of-logins"]].concat();
    let program = Program::start("authenticated_relayer", directory.path(), "info", &arguments);
    let log_in = |name| Client::log_in(program.address(0), name, PASSWORD).expect("a login is possible");
    let mut client = log_in("Tim");
    let mut say = |line: &str| client.command(line).expect("the session goes on");
    let begin = ["MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>", "RCPT TO:<e@d.example>"];
    for ending in ["RSET", "EHLO c", "DATA"] {
        for _ in 0..3 {
            assert!(begin.iter().all(|line| say(line).starts_with("250 ")), "{ending}");
            let end = say(ending);
            // A message that is too large.
            if ending == "DATA" {
                assert!(end.starts_with("354 "), "{end}");
                assert!(say(&format!("{}\r\n.", "0123456\r\n".repeat(200))).starts_with("552 "));
            }
        }
    }
    for _ in 0..2 {
        let mut lost = log_in("TIM");
        let taken = begin.iter().filter(|line| lost.command(line).is_ok_and(|reply| reply.starts_with("250 ")));
        assert_eq!(taken.count(), 3);
        drop(lost);
        // The server has to find out first.
        let mut next = log_in("tim");
        let room = || {
            let begun = begin.iter().all(|line| next.command(line).is_ok_and(|reply| reply.starts_with("250 ")));
            next.command("RSET").is_ok() && begun
        };
        let room = std::cell::RefCell::new(room);
        eventually(|| (room.borrow_mut())());
    }

    // Of three recipients, and one more in the second message, the last is too many.
    let send = |recipients: &[&str]| {
        let mut client = log_in("tim");
        let mut said = vec![client.command("MAIL FROM:<a@b.example>").expect("the session goes on")];
        for recipient in recipients {
            said.push(client.command(&format!("RCPT TO:<{recipient}>")).expect("the session goes on"));
        }
        said.push(client.command("DATA").expect("the session goes on"));
        said.push(client.command("Subject: x\r\n\r\nIt works.\r\n.").expect("the session goes on"));
        said
    };
    let codes = |said: Vec<String>| said.iter().map(|reply| reply[..3].to_owned()).collect::<Vec<_>>();
    assert_eq!(codes(send(&["c@d.example", "e@d.example"])), ["250", "250", "250", "354", "250"]);
    let said = send(&["c@d.example", "e@d.example"]);
    assert!(said[2].starts_with("450 4.7.1 No more than 3 recipients a day, try again in 2"), "{said:?}");
    assert_eq!(codes(said), ["250", "250", "450", "354", "250"]);
    for name in ["tim", "TIM"] {
        let reply = log_in(name).command("MAIL FROM:<a@b.example>").expect("the session goes on");
        assert!(reply.starts_with("450 4.7.1 No more than 2 messages an hour, try again in 6"), "{reply}");
    }
    let mails = maildir(&directory.path().join("mail"));
    assert_eq!(mails.len(), 2);
    for mail in mails {
        let mail = String::from_utf8(mail).expect("it is text");
        assert!(
            mail.contains("Received: by ") && !mail.contains("127.0.0.1") && !mail.contains("Received: from"),
            "{mail}"
        );
    }
    let (_, stderr) = program.stop();
    for told in ["limit reached: No more than 2 messages", "limit reached: No more than 3 recipients"] {
        assert_eq!(stderr.matches(told).count(), 1, "{stderr}");
    }
}

/// RFC 6409, section 6.1.
#[test]
fn who_sends_as_somebody_else_is_refused_at_mail_and_at_the_end_of_the_data() {
    for runtime in ["smol", "tokio", "threads"] {
        let directory = TempDir::new().expect("there is room for a directory");
        add_user(directory.path(), "tim", PASSWORD);
        add_user(directory.path(), "boss@example.org", PASSWORD);
        let arguments =
            ["--listen", "127.0.0.1:0", "--allow-plaintext-auth", "--maildir", "mail", "--runtime", runtime];
        let program = Program::start("authenticated_relayer", directory.path(), "info", &arguments);
        let mut client = Client::log_in(program.address(0), "tim", PASSWORD).expect("a login is possible");
        let mut send = |path: &str, from: &str| {
            let content = format!("Subject: x\r\nFrom: The\r\n Sender <{from}>\r\n\r\nHello\r\n");
            client.send(path, "friend@example.net", content.as_bytes()).expect("the server talks")
        };
        let none = send("tim@example.org", "tim@example.org");
        assert!(none.starts_with("550 5.7.1 tim@example.org is no address of the login tim, which has none"), "{none}");
        let (added, printed) = user(directory.path(), &["address", "add", "tim", "tim@Example.org"], "");
        assert!(added, "{printed}");
        // On the same connection.
        for (path, from, code) in [
            ("tim@example.org", "boss@example.org", "550 5.7.1 From: has boss@example.org, which is no address of "),
            ("boss@example.org", "tim@example.org", "550 5.7.1 boss@example.org is no address of the login tim"),
            ("", "boss@example.org", "550 5.7.1 From: "),
            ("tim@example.org", "tim", "550 5.7.1 From: has tim@"),
            ("tim@example.org", "tim@example.org>, <boss@example.org", "550 5.6.0 From: has several addresses"),
            ("tim@example.org", "tim@example.org", "250 "),
            ("", "TIM@EXAMPLE.org", "250 "),
        ] {
            let reply = send(path, from);
            assert!(reply.starts_with(code), "{path} {from}: {reply}");
        }
        assert_eq!(maildir(&directory.path().join("mail")).len(), 2);
        let (_, log) = program.stop();
        assert!(log.contains("users may send from their own addresses only"), "{log}");
        assert!(
            log.contains("command=\"MAIL\" sender=<boss@example.org> reply=550 5.7.1 boss@example.org is "),
            "{log}"
        );
        assert!(log.contains(" reply=550 5.7.1 From: has boss@example.org, "), "{log}");
    }
}

#[test]
fn whose_addresses_nobody_knows_may_send_from_any_unless_told_otherwise() {
    let directory = TempDir::new().expect("there is room for a directory");
    add_user(directory.path(), USER, PASSWORD);
    let sends = |options: &[&str], path: &str, told: &str| {
        let arguments = [&["--listen", "127.0.0.1:0", "--allow-plaintext-auth"], options].concat();
        let program = Program::start("authenticated_relayer", directory.path(), "info", &arguments);
        let mut client = Client::log_in(program.address(0), USER, PASSWORD).expect("a login is possible");
        // Without a From:, which may be missing.
        let reply = client.send(path, "friend@example.net", b"Subject: x\r\n\r\n").expect("the server talks");
        let (_, log) = program.stop();
        assert!(log.contains(told), "{log}");
        reply.get(..9).unwrap_or_default().to_owned()
    };
    let own = "users may send from their own addresses only";
    assert_eq!(sends(&[], "boss@example.org", "until then, these users may send from any"), "250 2.0.0");
    assert_eq!(sends(&["--senders", "own"], "boss@example.org", own), "550 5.7.1");
    assert_eq!(sends(&["--sender-pattern", "{user}@example.org"], "boss@example.org", own), "550 5.7.1");
    assert_eq!(sends(&["--sender-pattern", "{user}@example.org"], "tim@example.org", own), "250 2.0.0");
    add_user(directory.path(), "boss@example.org", PASSWORD);
    assert_eq!(sends(&[], "boss@example.org", own), "550 5.7.1");
    assert_eq!(sends(&["--senders", "any"], "boss@example.org", "users may send from any address"), "250 2.0.0");
}

const USER: &str = "tim";
const PASSWORD: &str = "correct horse";
/// `\0tim\0correct horse`.
const LOGIN: &str = "AUTH PLAIN AHRpbQBjb3JyZWN0IGhvcnNl";
const TRANSACTION: &str = "EHLO c\r\nLOGIN\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n";
