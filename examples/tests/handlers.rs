//! The `handlers` program: what its clients are told, and where their mail is then.

mod support;

use std::net::{SocketAddr, TcpListener};

use support::{Awkward, Client, NextHop, Program, maildir};
use tempfile::TempDir;

/// A message is the work of one sender: nothing of another's gets into it, which was refused before on the same connection.
#[test]
fn what_was_refused_gets_into_no_other_message() {
    let hop = NextHop::start();
    let hop_address = hop.address.to_string();
    for arguments in [&["debugging"][..], &["message"], &["mailbox", "mail"], &["proxy", &hop_address]] {
        let server = Server::start(arguments);
        let mut client = server.greet();
        for _ in 0..2 {
            client.send_voids(Awkward::REVERSE_PATH, Awkward::RECIPIENT).expect("the server talks");
        }
        let reply = client.send(Awkward::REVERSE_PATH, Awkward::RECIPIENT, &Awkward::content());
        assert!(reply.expect("the server talks").starts_with("250 "));
        let printed = |end: &str| {
            server.program.stdout.wait(|text| text.ends_with(end));
            server.program.stdout.so_far()
        };
        match arguments.first().copied().unwrap_or_default() {
            "debugging" => {
                let printed = printed("END MESSAGE ------------\n");
                assert!(printed.matches("MESSAGE FOLLOWS").count() == 1 && !printed.contains("void"), "{printed}");
            }
            "message" => {
                let printed = printed("\n\n");
                assert!(printed.matches("X-MailFrom").count() == 1 && !printed.contains("void"), "{printed}");
            }
            "mailbox" => {
                let mails = maildir(&server.directory.path().join("mail"));
                let [mail] = &mails[..] else { panic!("{mails:?}") };
                let fields = mail.strip_suffix(&Awkward::content()[..]).expect("it is the message, octet for octet");
                assert!(fields.starts_with(b"X-Peer: ") && fields.split(|octet| *octet == b'\n').count() == 4);
                let unfinished = std::fs::read_dir(server.directory.path().join("mail/tmp")).expect("it is there");
                assert_eq!(unfinished.count(), 0);
            }
            _ => {
                let mails = hop.wait(|mails| !mails.is_empty());
                let [mail] = &mails[..] else { panic!("{mails:?}") };
                assert_eq!(mail.content, Awkward::content());
            }
        }
    }
}

#[test]
fn debugging_prints_the_message() {
    let server = Server::start(&["debugging"]);
    assert_eq!(server.send(), "250");
    server.program.stdout.wait(|text| text.ends_with("END MESSAGE ------------\n"));
    let printed = server.program.stdout.so_far();
    assert!(
        printed.contains("\nX-MailFrom: tim@example.org\nX-RcptTo: friend@example.org\n\n.\n..\n.hidden\n"),
        "{printed}"
    );
}

#[test]
fn sink_takes_everything() {
    let server = Server::start(&["sink"]);
    assert_eq!(server.send(), "250");
    assert_eq!(server.send(), "250");
}

#[test]
fn mailbox_keeps_the_message() {
    let server = Server::start(&["mailbox", "mail/box"]);
    for number in 1..=3 {
        assert_eq!(server.send(), "250");
        let kept = maildir(&server.directory.path().join("mail/box"));
        assert_eq!(kept.len(), number);
        for message in kept {
            let fields = message.strip_suffix(&Awkward::content()[..]).expect("it is the message, octet for octet");
            let fields = String::from_utf8_lossy(fields);
            assert!(fields.starts_with("X-Peer: 127.0.0.1:"), "{fields}");
            assert!(
                fields.ends_with("\r\nX-MailFrom: tim@example.org\r\nX-RcptTo: friend@example.org\r\n"),
                "{fields}"
            );
        }
    }
}

#[test]
fn message_prints_a_summary() {
    let server = Server::start(&["message"]);
    assert_eq!(server.send(), "250");
    server.program.stdout.wait(|text| text.ends_with("\n\n"));
    let printed = server.program.stdout.so_far();
    for line in
        ["X-MailFrom: tim@example.org", "From: Tim <tim@example.org>", "Subject: .", "Date: 2025-04-01T12:00:00Z"]
    {
        assert!(printed.lines().any(|printed| printed == line), "{line}: {printed}");
    }
}

#[test]
fn a_proxys_mail_arrives_as_it_was_sent() {
    let hop = NextHop::start();
    let server = Server::start(&["proxy", &hop.address.to_string()]);
    let mut client = server.greet();
    for number in 1..=2 {
        let reply = client.send(Awkward::REVERSE_PATH, Awkward::RECIPIENT, &Awkward::content());
        assert_eq!(reply.expect("the server talks"), "250 2.0.0 OK");
        let mails = hop.wait(|mails| mails.len() == number);
        let mail = mails.last().expect("it is there");
        assert_eq!(mail.reverse_path, Awkward::REVERSE_PATH);
        assert_eq!(mail.recipients, [Awkward::RECIPIENT]);
        assert_eq!(mail.content, Awkward::content());
    }
    assert_eq!(hop.sessions(), 1);
}

#[test]
fn a_proxy_says_what_the_next_hop_says() {
    let hop = NextHop::with_script(|line| match line {
        "MAIL FROM:<spam@example.org> BODY=8BITMIME" => Some("550 5.7.1 Not from you"),
        "RCPT TO:<moved@example.org>" => Some("251 2.1.5 Forwarded"),
        "RCPT TO:<nobody@example.org>" => Some("550-5.1.1 There is\r\n550 5.1.1 no such user"),
        "RCPT TO:<busy@example.org>" => Some("450 4.2.0 Come back later"),
        "." => Some("552 5.2.2 No room"),
        _ => None,
    });
    let server = Server::start(&["proxy", &hop.address.to_string()]);
    let mut client = server.greet();
    let told = [
        ("MAIL FROM:<spam@example.org> BODY=8BITMIME", "550 5.7.1 Not from you"),
        ("MAIL FROM:<>", "250 2.0.0 OK"),
        ("RCPT TO:<moved@example.org>", "251 2.1.5 Forwarded"),
        ("RCPT TO:<nobody@example.org>", "550-5.1.1 There is\n550 5.1.1 no such user"),
        ("RCPT TO:<busy@example.org>", "450 4.2.0 Come back later"),
    ];
    for (command, reply) in told {
        assert_eq!(client.command(command).expect("the server talks"), reply);
    }
    assert!(client.command("DATA").expect("the server talks").starts_with("354 "));
    assert_eq!(client.command("Subject: x\r\n.").expect("the server talks"), "552 5.2.2 No room");
    assert!(client.command("QUIT").expect("the server talks").starts_with("221 "));
    assert!(hop.mails().is_empty());
}

#[test]
fn a_proxy_has_data_refused_by_the_next_hop() {
    let hop = NextHop::with_script(|line| (line == "DATA").then_some("554 5.3.0 Not today"));
    let server = Server::start(&["proxy", &hop.address.to_string()]);
    let reply = server.greet().send(Awkward::REVERSE_PATH, Awkward::RECIPIENT, b"x\r\n").expect("the server talks");
    assert_eq!(reply, "554 5.3.0 Not today");
}

#[test]
fn a_next_hop_that_is_about_to_close_is_asked_anew() {
    let closing = std::sync::atomic::AtomicBool::new(true);
    let hop = NextHop::with_script(move |line| {
        let closes = line.starts_with("MAIL") && closing.swap(false, std::sync::atomic::Ordering::Relaxed);
        closes.then_some("421 4.3.2 Closing")
    });
    let server = Server::start(&["proxy", &hop.address.to_string()]);
    let mut client = server.greet();
    // It is not our client's connection that closes.
    assert_eq!(client.command("MAIL FROM:<tim@example.org>").expect("the server talks"), "451 4.3.2 Closing");
    let reply = client.send(Awkward::REVERSE_PATH, Awkward::RECIPIENT, b"x\r\n").expect("the server talks");
    assert_eq!(reply, "250 2.0.0 OK");
    assert_eq!(hop.sessions(), 2);
}

#[test]
fn a_next_hop_that_is_not_there_is_a_temporary_failure() {
    let nobody = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = nobody.local_addr().expect("it is bound");
    drop(nobody);
    let server = Server::start(&["proxy", &address.to_string()]);
    let reply = server.greet().command("MAIL FROM:<tim@example.org>").expect("the server talks");
    assert!(reply.starts_with("451 4.4.1 "), "{reply}");
}

#[test]
fn what_a_client_does_not_finish_never_gets_through_a_proxy() {
    let hop = NextHop::start();
    let server = Server::start(&["proxy", &hop.address.to_string()]);
    let mut smuggling = server.greet();
    let reply = smuggling.send("tim@example.org", "friend@example.org", b"one\r\n.\nMAIL FROM:<evil@example.org>\r\n");
    assert!(reply.expect("the server talks").starts_with("554 5.6.11 "));
    let mut leaving = server.greet();
    leaving.begin("tim@example.org", &["friend@example.org"]).expect("the server talks");
    leaving.write(b"half a message\r\n").expect("the server listens");
    drop(leaving);
    // Given up, and then another one on the same connection.
    let mut again = server.greet();
    again.command("MAIL FROM:<wrong@example.org>").expect("the server talks");
    again.command("RCPT TO:<wrong@example.org>").expect("the server talks");
    again.command("EHLO client.example").expect("the server talks");
    let reply = again.send("tim@example.org", "friend@example.org", b"whole\r\n").expect("the server talks");
    assert_eq!(reply, "250 2.0.0 OK");
    let mails = hop.wait(|mails| !mails.is_empty());
    let [mail] = &mails[..] else { panic!("{mails:?}") };
    assert_eq!((&mail.content[..], &mail.recipients[..]), (&b"whole\r\n"[..], &["friend@example.org".to_owned()][..]));
}

struct Server {
    program: Program,
    directory: TempDir,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        let directory = TempDir::new().expect("there is room for a directory");
        let arguments = [&["--listen", "127.0.0.1:0"], arguments].concat();
        Self { program: Program::start("handlers", directory.path(), "trace", &arguments), directory }
    }

    fn address(&self) -> SocketAddr {
        self.program.address(0)
    }

    fn greet(&self) -> Client {
        Client::greet(self.address()).expect("the server talks")
    }

    /// Sends the awkward message; the code of the reply to it.
    fn send(&self) -> String {
        let reply = self.greet().send(Awkward::REVERSE_PATH, Awkward::RECIPIENT, &Awkward::content());
        reply.expect("the server talks").split(' ').next().unwrap_or_default().to_owned()
    }
}
