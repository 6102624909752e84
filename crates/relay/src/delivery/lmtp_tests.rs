//! LMTP (RFC 2033) with a next hop.

use super::tests::{CONTENT, Fixture, ONCE, envelope};
use super::*;
use crate::dsn::Notify;
use crate::spool::Status;
use crate::testing::{NextHop, accept};

fn lmtp(command: &str) -> String {
    match command.strip_prefix("LHLO") {
        Some(rest) => accept(&format!("EHLO{rest}"), &["PIPELINING", "8BITMIME"]),
        None if command.starts_with("EHLO") || command.starts_with("HELO") => "500 5.5.1 LHLO\r\n".to_owned(),
        None => accept(command, &[]),
    }
}

#[test]
fn each_recipient_has_a_reply_of_its_own() {
    let hop = NextHop::start(|_, command| match command {
        "RCPT TO:<nobody@b.example>" => "550 5.1.1 no such user\r\n".to_owned(),
        "." => "250 2.0.0 saved\r\n552 5.2.2 mailbox full\r\n452 4.2.2 almost full\r\n".to_owned(),
        command => lmtp(command),
    });
    let recipients = ["good@b.example", "nobody@b.example", "full@b.example", "later@b.example"];
    let mut fixture = Fixture::new();
    let id = fixture.add(envelope("", &recipients), CONTENT);
    let fixture = fixture.start(Route::Relays(vec![hop.url("lmtp", "").parse().unwrap()]), ONCE, None);
    let state = fixture.wait(&id, |state| state.attempts == 1 && !state.has(Status::Failed));
    let came_to: Vec<_> =
        state.recipients.iter().map(|one| (one.status, one.last.as_ref().unwrap().text.as_str())).collect();
    assert_eq!(
        came_to,
        [
            (Status::Delivered, "250 2.0.0 saved"),
            (Status::Reported, "550 5.1.1 no such user"),
            (Status::Reported, "552 5.2.2 mailbox full"),
            (Status::Pending, "452 4.2.2 almost full"),
        ]
    );
    assert!(state.recipients.iter().all(|recipient| recipient.in_doubt_at.is_none()));
    let seen = hop.seen();
    // What was refused behind the mail data is not asked for again at once.
    assert_eq!(seen.messages.len(), 1, "{seen:?}");
    assert!(seen.has("LHLO relay.example") && !seen.commands().iter().any(|command| command.starts_with("EHLO")));
}

#[test]
fn who_asks_for_it_is_told_that_a_message_is_in_its_mailbox() {
    let lmtp_hop =
        NextHop::start(|_, command| if command == "." { "250 2.1.5 saved\r\n".to_owned() } else { lmtp(command) });
    let mut fixture = Fixture::new();
    let mut message = envelope("tim@sender.example", &["a@b.example"]);
    message.recipients[0].notify = Some(Notify { success: true, ..Notify::NEVER });
    fixture.add(message, CONTENT);
    fixture.start(Route::Relays(vec![lmtp_hop.url("lmtp", "").parse().unwrap()]), ONCE, None).drain();
    let seen = lmtp_hop.seen();
    let report = seen.text(1);
    assert!(report.contains("Subject: Mail delivered\r\n"), "{report}");
    assert!(
        report.contains("Final-Recipient: rfc822; a@b.example\r\nAction: delivered\r\nStatus: 2.1.5\r\n"),
        "{report}"
    );
}

/// What became of two recipients whose replies are these, and whether they are in doubt.
fn two(replies: &'static str) -> Vec<(Status, String, bool)> {
    let hop = NextHop::start(move |_, command| if command == "." { replies.to_owned() } else { lmtp(command) });
    let mut fixture = Fixture::new();
    let id = fixture.add(envelope("tim@sender.example", &["one@b.example", "two@b.example"]), CONTENT);
    let fixture = fixture.start(Route::Relays(vec![hop.url("lmtp", "").parse().unwrap()]), ONCE, None);
    let state = fixture.wait(&id, |state| state.attempts == 1);
    let fate = |one: crate::spool::Recipient| (one.status, one.last.unwrap().text, one.in_doubt_at.is_some());
    state.recipients.into_iter().map(fate).collect()
}

/// RFC 1047, for those that have no reply.
#[test]
fn who_has_no_reply_when_the_connection_breaks_is_in_doubt() {
    let fates = two("250 2.0.0 saved\r\n\x04");
    assert_eq!(fates[0], (Status::Delivered, "250 2.0.0 saved".to_owned(), false));
    assert_eq!((fates[1].0, fates[1].2), (Status::Pending, true), "{fates:?}");
    let fates = two("452 4.2.2 full\r\n\x04");
    assert_eq!(fates[0], (Status::Pending, "452 4.2.2 full".to_owned(), false));
    assert_eq!((fates[1].0, fates[1].2), (Status::Pending, true), "{fates:?}");
}

#[test]
fn a_reply_that_asks_for_more_is_no_delivery() {
    let fates = two("354 go on\r\n250 2.0.0 saved\r\n");
    assert_eq!(fates[0], (Status::Pending, "354 go on".to_owned(), false));
    assert_eq!(fates[1], (Status::Delivered, "250 2.0.0 saved".to_owned(), false));
}

#[test]
fn a_server_that_says_that_it_leaves_has_not_taken_the_rest() {
    let fates = two("421 4.3.2 going down\r\n\x04");
    let put_off = (Status::Pending, "421 4.3.2 going down".to_owned(), false);
    assert_eq!(fates, [put_off.clone(), put_off]);
}

#[cfg(unix)]
#[test]
fn a_socket_takes_mail() {
    use std::io::{Read, Write};

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lmtp socket");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let tcp = NextHop::start(|_, command| match command {
        "LHLO relay.example" => accept("EHLO relay.example", &["STARTTLS"]),
        command => lmtp(command),
    });
    let address = tcp.address;
    std::thread::spawn(move || {
        let (mut one, mut other) = (listener.accept().unwrap().0, std::net::TcpStream::connect(address).unwrap());
        let (mut from, mut to) = (one.try_clone().unwrap(), other.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        let mut octets = [0; 4096];
        while let Ok(read @ 1..) = other.read(&mut octets) {
            one.write_all(&octets[..read]).unwrap();
        }
    });
    let url = format!("lmtp+unix:{}", path.display().to_string().replace(' ', "%20"));
    let mut fixture = Fixture::new();
    fixture.add(envelope("tim@sender.example", &["one@b.example"]), CONTENT);
    let fixture = fixture.start(Route::Relays(vec![url.parse().unwrap()]), ONCE, None);
    fixture.drain();
    let seen = tcp.seen();
    assert_eq!(seen.messages.len(), 1);
    assert!(!seen.has("STARTTLS"));
}
