//! Sessions in which nothing goes wrong.

use std::io::Write as _;
use std::sync::Arc;
use std::thread;

use crate::client::{Client, plain};
use crate::handler::AsksNothing;
use crate::server::{Kind, Running};

fn first_read_of_a_group(server: &Running, tls: bool) -> Vec<String> {
    let mut client = server.connect_by(tls);
    client.ask("EHLO client.example");
    client.say("MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nRCPT TO:<c@example.org>\r\nDATA\r\n");
    client.read().unwrap();
    String::from_utf8(client.received).unwrap().lines().map(|line| line[..3].to_owned()).collect()
}

/// RFC 2920, section 3.2.
pub fn the_replies_to_a_group_come_at_once<K: Kind>() {
    let server = Running::start_with::<K, _>(|config| config, Arc::default(), |_| AsksNothing);
    for tls in [false, true] {
        assert_eq!(first_read_of_a_group(&server, tls), ["250", "250", "250", "354"]);
    }
}

/// A handler that answers without waiting does not tear the group apart.
pub fn the_replies_to_a_group_come_at_once_with_hooks_too<K: Kind>() {
    let server = Running::start::<K>(|config| config);
    for _ in 0..20 {
        assert_eq!(first_read_of_a_group(&server, false), ["250", "250", "250", "354"]);
    }
}

/// AUTH and a message, over each kind of connection.
pub fn mail_in_the_clear_after_starttls_and_under_tls<K: Kind>() {
    let server = Running::start::<K>(|config| config.auth_required(true));
    for security in ["clear", "starttls", "tls"] {
        let mut client = server.connect_by(security == "tls");
        let listed = client.ask("EHLO client.example");
        assert_eq!(listed.contains("250-STARTTLS\r\n"), security != "tls", "{listed}");
        if security == "starttls" {
            assert!(client.ask("STARTTLS").starts_with("220 2.0.0 "));
            client = client.under_tls();
            assert!(!client.ask("EHLO client.example").contains("STARTTLS"));
        }
        assert!(client.ask("MAIL FROM:<a@example.org>").starts_with("530 5.7.0 "));
        assert!(client.ask(plain("wrong")).starts_with("535 5.7.8 "));
        assert!(client.ask(plain("tim")).starts_with("235 2.7.0 "));
        client.begin_transaction();
        client.say(format!("Subject: {security}\r\n\r\n..x\r\n.\r\n"));
        assert!(client.reply().starts_with("250 2.0.0 "));
        client.say("QUIT\r\n");
        // Under TLS, an end without close_notify would be an error here.
        assert!(client.rest().starts_with("221 2.0.0 "), "{security}");
        let message = server.seen.messages.lock().unwrap().pop().unwrap();
        assert_eq!(message, format!("Subject: {security}\r\n\r\n.x\r\n").into_bytes());
    }
}

/// A message of many reads, with lines that begin with a dot.
pub fn ten_mebibytes_arrive_as_they_were_sent<K: Kind>() {
    let mut content = Vec::new();
    while content.len() < 10 << 20 {
        let number = content.len();
        let dot = if number % 5 == 0 { "." } else { "" };
        let _ = write!(content, "{dot}{number} {}\r\n", "y".repeat(number % 75));
    }
    let text = std::str::from_utf8(&content).unwrap();
    let mut stuffed: Vec<u8> = text
        .split_inclusive('\n')
        .flat_map(|line| {
            let dot = if line.starts_with('.') { "." } else { "" };
            [dot, line]
        })
        .collect::<String>()
        .into_bytes();
    stuffed.extend_from_slice(b".\r\nQUIT\r\n");
    let server = Running::start::<K>(|config| config);
    for tls in [false, true] {
        let mut client = server.connect_by(tls);
        client.begin_message();
        client.say(&stuffed);
        assert!(client.reply().starts_with("250 2.0.0 "), "TLS {tls}");
        assert!(client.reply().starts_with("221 "));
        let message = server.seen.messages.lock().unwrap().pop().unwrap();
        assert!(message == content, "TLS {tls}: {} of {} octets", message.len(), content.len());
    }
}

/// Far more commands than fit into one read.
pub fn lines_that_lie_across_reads_are_read_once<K: Kind>() {
    let server = Running::start::<K>(|config| config);
    let mut client = server.connect();
    let commands = 50_000;
    let mut writer = client.socket().try_clone().unwrap();
    let writing = thread::spawn(move || writer.write_all("RSET\r\n".repeat(commands).as_bytes()).unwrap());
    for _ in 0..commands {
        assert_eq!(client.reply(), "250 2.0.0 Reset\r\n");
    }
    writing.join().unwrap();

    let mut client = server.connect_tls();
    for _ in 0..200 {
        client.say("NOOP\r\n".repeat(100));
        for _ in 0..100 {
            assert_eq!(client.reply(), "250 2.0.0 Ok\r\n");
        }
    }
}

/// As slow clients send, and as no client should.
pub fn a_session_octet_by_octet<K: Kind>() {
    let session = format!(
        "EHLO client.example\r\n{}\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n\
         Subject: x\r\n\r\n..x\r\n.\r\nQUIT\r\n",
        plain("tim")
    );
    let server = Running::start::<K>(|config| config);
    for tls in [false, true] {
        let mut replies = Vec::new();
        for at_a_time in [session.len(), 1] {
            let mut client = server.connect_by(tls);
            for octets in session.as_bytes().chunks(at_a_time) {
                client.say(octets);
            }
            replies.push(client.rest());
            assert_eq!(server.seen.messages.lock().unwrap().pop().unwrap(), b"Subject: x\r\n\r\n.x\r\n");
        }
        assert_eq!(replies[0], replies[1]);
        assert!(replies[0].contains("\r\n235 2.7.0 ") && replies[0].contains("\r\n221 2.0.0 "), "{}", replies[0]);
    }
}

/// A client may close its half when it has said all (RFC 9293, section 3.6).
pub fn after_half_a_close_all_replies_arrive<K: Kind>() {
    let server = Running::start::<K>(|config| config);
    for tls in [false, true] {
        let mut client = server.connect_by(tls);
        client.say("EHLO client.example\r\n".to_owned() + &"NOOP\r\n".repeat(300) + "RCPT");
        client.end();
        let replies = client.rest();
        assert_eq!(replies.matches("250 2.0.0 Ok\r\n").count(), 300);
        assert!(replies.ends_with("250 2.0.0 Ok\r\n"));

        let mut client = server.connect_by(tls);
        client.begin_message();
        client.say("x\r\n.\r\n");
        client.end();
        assert!(client.rest().starts_with("250 2.0.0 "));

        // Nothing is accepted that did not come whole.
        for unfinished in ["AUTH LOGIN\r\n", "MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nx\r\n"] {
            let messages = server.seen.messages.lock().unwrap().len();
            let mut client = server.connect_by(tls);
            client.say(format!("EHLO client.example\r\n{unfinished}"));
            client.end();
            assert!(client.rest().contains("\r\n3"));
            assert_eq!(server.seen.messages.lock().unwrap().len(), messages);
        }
    }
    server.seen.wait_for("Aborted { reason: ConnectionLost");
    server.seen.wait_until_all_have_gone();
}

/// Each with a message.
pub fn two_hundred_at_a_time<K: Kind>() {
    let server = Running::start::<K>(|config| config);
    let mut clients: Vec<_> = (0..200).map(|_| Client::new(server.clear)).collect();
    for client in &mut clients {
        client.say("EHLO client.example\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n");
    }
    for (number, client) in clients.iter_mut().enumerate() {
        client.say(format!("{number}\r\n.\r\nQUIT\r\n"));
    }
    for client in &mut clients {
        let said = client.rest();
        assert!(said.contains("\r\n354 ") && said.contains("\r\n250 2.0.0 Message accepted\r\n221 "), "{said}");
    }
    let mut messages = server.seen.messages.lock().unwrap().clone();
    messages.sort();
    messages.dedup();
    assert_eq!(messages.len(), 200);
}

/// From several threads, some of them under TLS.
pub fn five_hundred_connects_at_once<K: Kind>() {
    let server = Running::start::<K>(|config| config);
    let connected = thread::scope(|scope| {
        let connecting: Vec<_> = (0..10)
            .map(|number| {
                let server = &server;
                scope.spawn(move || (0..50).map(|_| server.connect_silently(number == 0)).collect::<Vec<_>>())
            })
            .collect();
        connecting.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    for mut client in connected {
        assert_eq!(client.reply(), "220 mx.example.org ESMTP\r\n");
        assert!(client.ask("QUIT").starts_with("221 "));
    }
    server.seen.wait_until_all_have_gone();
}
