//! What a next hop gets that does not take everything.

use std::io::Read;

use hickory_resolver::proto::rr::rdata::{A, MX};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use mail_parser::MessageParser;

use super::tests::{CONTENT, Fixture, QUICK, envelope};
use super::*;
use crate::envelope::Envelope;
use crate::testing::{NextHop, Seen, accept, name_server};

const EIGHT_BIT: &str = "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
                         Content-Transfer-Encoding: 8bit\r\n\r\n.Grüße\r\n";

/// Sends a message to a next hop, and waits until it is done with.
fn sent_to(hop: &NextHop, content: impl AsRef<[u8]>) -> Seen {
    let mut fixture = Fixture::new();
    fixture.add(envelope("tim@sender.example", &["a@b.example"]), content.as_ref());
    fixture.relay(&[hop.url("smtp", "")]).drain();
    hop.seen()
}

fn commands<'a>(seen: &'a Seen, verb: &str) -> Vec<&'a str> {
    seen.commands().into_iter().filter(|command| command.starts_with(verb)).collect()
}

/// The content of a message, without dots for transparency.
fn content(seen: &Seen, message: usize) -> String {
    seen.text(message).replace("\r\n..", "\r\n.").strip_suffix(".\r\n").unwrap().to_owned()
}

#[test]
fn what_has_eight_bits_goes_in_seven_where_eight_are_not_offered() {
    let hop = NextHop::start(|_, command| accept(command, &["SIZE"]));
    let seen = sent_to(&hop, EIGHT_BIT);
    let sent = content(&seen, 0);
    assert!(sent.is_ascii() && sent.contains("Content-Transfer-Encoding: quoted-printable\r\n"), "{sent}");
    assert_eq!(MessageParser::default().parse(&sent).unwrap().body_text(0).unwrap(), ".Grüße\r\n");
    // What is declared is what comes.
    assert_eq!(commands(&seen, "MAIL"), [format!("MAIL FROM:<tim@sender.example> SIZE={}", sent.len())]);
    let hop = NextHop::start(|_, command| accept(command, &["8BITMIME"]));
    let seen = sent_to(&hop, EIGHT_BIT);
    assert_eq!(content(&seen, 0), format!("Received: by relay.example\r\n{EIGHT_BIT}"));
    // SMTPUTF8 brings 8BITMIME for what uses it.
    let hop = NextHop::start(|_, command| accept(command, &["SMTPUTF8"]));
    assert_eq!(content(&sent_to(&hop, EIGHT_BIT), 0), sent);
    // A server that knows no EHLO knows no extensions either.
    let hop = NextHop::start(|_, command| match command.split(' ').next() {
        Some("EHLO") => "502 5.5.1 what\r\n".to_owned(),
        _ => accept(command, &[]),
    });
    assert_eq!(content(&sent_to(&hop, EIGHT_BIT), 0), sent);
}

/// As many devices and scripts write it, without a word of SMTPUTF8.
#[test]
fn header_fields_with_eight_bits_arrive_too() {
    let hop = NextHop::start(|_, command| accept(command, &[]));
    let seen = sent_to(&hop, "From: Büro <scan@sender.example>\r\nSubject: Größe\r\n\r\nplain\r\n");
    let sent = content(&seen, 0);
    assert!(sent.is_ascii(), "{sent}");
    let sent = MessageParser::default().parse(&sent).unwrap();
    assert_eq!((sent.subject(), sent.from().unwrap().first().unwrap().name()), (Some("Größe"), Some("Büro")));
    let message = "Subject: x\r\nTo: büro@b.example\r\n\r\nplain\r\n";
    let report = sent_to(&hop, message).text(1);
    assert!(
        report.contains("Status: 5.6.3\r\n") && report.contains("its header field To has octets above 127"),
        "{report}"
    );
    // Who takes eight bits gets them.
    let hop = NextHop::start(|_, command| accept(command, &["8BITMIME"]));
    assert_eq!(content(&sent_to(&hop, message), 0), format!("Received: by relay.example\r\n{message}"));
}

#[test]
fn a_signature_is_not_broken_and_the_sender_is_told_why() {
    let hop = NextHop::start(|_, command| accept(command, &[]));
    let seen = sent_to(&hop, format!("DKIM-Signature: v=1\r\n{EIGHT_BIT}"));
    assert_eq!(commands(&seen, "MAIL"), ["MAIL FROM:<>"]);
    let report = seen.text(0);
    assert!(report.contains("Status: 5.6.3\r\n") && report.contains("8BITMIME"), "{report}");
    assert!(report.contains("cannot be converted: that would break its signature (DKIM)"), "{report}");
    assert!(report.is_ascii());
}

#[test]
fn a_limit_is_for_what_is_sent() {
    let hop = NextHop::start(|_, command| accept(command, &["SIZE 2500"]));
    let content = EIGHT_BIT.replace("Grüße", &"ü\r\n".repeat(300));
    let seen = sent_to(&hop, &content);
    assert!(content.len() < 2500);
    assert_eq!(commands(&seen, "MAIL").len(), 1, "{seen:#?}");
    assert!(seen.text(0).contains("Status: 5.3.4\r\n"));
}

#[test]
fn long_lines_are_broken_for_any_server() {
    let html = format!("<p>{}</p>", "Grüße ".repeat(500));
    let message =
        format!("Subject: x\r\nContent-Type: text/html; charset=utf-8\r\nMIME-Version: 1.0\r\n\r\n{html}\r\n");
    let hop = NextHop::start(|_, command| accept(command, &["8BITMIME", "SIZE"]));
    let seen = sent_to(&hop, &message);
    let sent = content(&seen, 0);
    assert!(sent.lines().all(|line| line.len() <= 76), "{sent}");
    assert_eq!(MessageParser::default().parse(&sent).unwrap().body_html(0).unwrap(), format!("{html}\r\n"));
    assert_eq!(commands(&seen, "MAIL"), [format!("MAIL FROM:<tim@sender.example> SIZE={}", sent.len())]);
    // Who has signed it may know a server that takes it.
    let hop = NextHop::start(|_, command| accept(command, &["8BITMIME"]));
    let signed = format!("DKIM-Signature: v=1\r\n{message}");
    let seen = sent_to(&hop, &signed);
    assert_eq!(content(&seen, 0), format!("Received: by relay.example\r\n{signed}"));
}

#[test]
fn a_large_message_is_converted_piece_by_piece() {
    let hop = NextHop::start(|_, command| accept(command, &[]));
    let line = "é and some more text that makes a line of the usual length, or nearly so\r\n";
    let body = line.repeat(20_000);
    let seen = sent_to(&hop, EIGHT_BIT.replace(".Grüße\r\n", &body));
    let sent = content(&seen, 0);
    assert_eq!(MessageParser::default().parse(&sent).unwrap().body_text(0).unwrap(), body);
}

#[test]
fn a_domain_in_letters_of_any_script_needs_no_smtputf8() {
    for extensions in [&["8BITMIME"][..], &["8BITMIME", "SMTPUTF8"]] {
        let extensions: &'static [&'static str] = extensions;
        let hop = NextHop::start(move |_, command| accept(command, extensions));
        let mut fixture = Fixture::new();
        let recipients = ["info@grå.example", "info@GRÅ.example", "info@xn--gr-zia.example"];
        fixture.add(Envelope { smtputf8: true, ..envelope("tim@grå.example", &recipients) }, CONTENT);
        fixture.relay(&[hop.url("smtp", "")]).drain();
        let seen = hop.seen();
        assert_eq!(commands(&seen, "MAIL"), ["MAIL FROM:<tim@xn--gr-zia.example>"]);
        assert_eq!(commands(&seen, "RCPT"), ["RCPT TO:<info@xn--gr-zia.example>"]);
    }
}

#[test]
fn both_forms_of_a_domain_are_one_destination() {
    let hop = NextHop::start(|_, command| accept(command, &["SMTPUTF8"]));
    let server = name_server(vec![
        (
            "xn--gr-zia.example",
            RecordType::MX,
            Ok(vec![RData::MX(MX::new(1, Name::from_ascii("mx.example.").unwrap()))]),
        ),
        ("mx.example", RecordType::A, Ok(vec![RData::A(A([127, 0, 0, 1].into()))])),
    ]);
    let route = Route::Mx { port: hop.address.port(), resolver: Some(server), allow_local: true };
    let mut fixture = Fixture::new();
    let recipients = ["a@grå.example", "b@xn--gr-zia.example", "c@GRÅ.example", "ü@Grå.example"];
    fixture.add(Envelope { smtputf8: true, ..envelope("tim@sender.example", &recipients) }, CONTENT);
    fixture.start(route, QUICK, None).drain();
    let seen = hop.seen();
    assert_eq!((seen.messages.len(), commands(&seen, "RCPT").len()), (1, 4), "{seen:#?}");
    assert!(seen.has("RCPT TO:<ü@Grå.example>") && seen.has("MAIL FROM:<tim@sender.example> SMTPUTF8"), "{seen:#?}");
}

#[test]
fn only_who_needs_smtputf8_fails_for_the_want_of_it() {
    let hop = NextHop::start(|_, command| accept(command, &["8BITMIME", "PIPELINING"]));
    let mut fixture = Fixture::new();
    let recipients = ["a@b.example", "jörg@b.example", "b@grå.example", "jörg@grå.example"];
    fixture.add(Envelope { smtputf8: true, ..envelope("tim@sender.example", &recipients) }, CONTENT);
    fixture.relay(&[hop.url("smtp", "")]).drain();
    let seen = hop.wait(|seen| seen.messages.len() == 2);
    let rcpts = commands(&seen, "RCPT");
    assert_eq!(rcpts, ["RCPT TO:<a@b.example>", "RCPT TO:<b@xn--gr-zia.example>", "RCPT TO:<tim@sender.example>"]);
    let report = seen.text(1);
    assert_eq!(report.matches("Status: 5.6.7\r\n").count(), 2, "{report}");
    assert!(report.contains("utf-8; jörg@b.example\r\n") && report.contains("utf-8; jörg@grå.example\r\n"), "{report}");
}

#[test]
fn a_server_that_refuses_parameters_still_gets_what_needs_smtputf8() {
    let hop = NextHop::start(|_, command| match command.contains("BODY=") {
        true => "555 5.5.4 what\r\n".to_owned(),
        false => accept(command, &["8BITMIME", "SMTPUTF8"]),
    });
    let mut fixture = Fixture::new();
    let content = "Subject: é\r\n\r\né\r\n";
    fixture.add(Envelope { smtputf8: true, ..envelope("tim@sender.example", &["ü@b.example"]) }, content.as_bytes());
    fixture.relay(&[hop.url("smtp", "")]).drain();
    let seen = hop.seen();
    assert!(seen.has("MAIL FROM:<tim@sender.example> SMTPUTF8") && seen.text(0).contains(content), "{seen:#?}");
}

#[test]
fn a_header_that_needs_smtputf8_fails_for_all() {
    let hop = NextHop::start(|_, command| accept(command, &["8BITMIME"]));
    let mut fixture = Fixture::new();
    let with =
        |reverse_path: &str| Envelope { smtputf8: true, ..envelope(reverse_path, &["a@b.example", "c@b.example"]) };
    fixture.add(with("tim@sender.example"), "Subject: é\r\n\r\nx\r\n".as_bytes());
    // There is nobody to tell: the report could not go either.
    fixture.add(with("jörg@sender.example"), CONTENT);
    fixture.relay(&[hop.url("smtp", "")]).drain();
    let seen = hop.seen();
    assert_eq!(seen.messages.len(), 1, "{seen:#?}");
    assert_eq!(seen.text(0).matches("Status: 5.6.9\r\n").count(), 2);
}

#[test]
fn a_report_in_utf_8_goes_to_a_server_of_seven_bits() {
    let hop = NextHop::start(|_, command| accept(command, &[]));
    let mut fixture = Fixture::new();
    fixture.add(Envelope { smtputf8: true, ..envelope("tim@sender.example", &["jörg@b.example"]) }, CONTENT);
    fixture.relay(&[hop.url("smtp", "")]).drain();
    let report = content(&hop.seen(), 0);
    assert!(report.is_ascii(), "{report}");
    let report = MessageParser::default().parse(&report).unwrap();
    assert!(String::from_utf8_lossy(report.parts[2].contents()).contains("utf-8; jörg@b.example"), "{report:#?}");
}

/// Offers extensions, and answers MAIL with `refusal` where it has parameters.
fn lies(refusal: &'static str) -> NextHop {
    NextHop::start(move |_, command| match command.split(' ').collect::<Vec<_>>()[..] {
        ["MAIL", _, _, ..] => format!("{refusal}\r\n"),
        _ => accept(command, &["8BITMIME", "SIZE", "DSN", "PIPELINING"]),
    })
}

#[test]
fn a_server_that_offers_what_it_does_not_know_gets_mail_without() {
    for refusal in ["501 syntax error", "555 5.5.4 BODY not recognised", "500 5.5.2 what", "504 5.6.1 no"] {
        let hop = lies(refusal);
        let mut fixture = Fixture::new();
        fixture.add(envelope("tim@sender.example", &["a@b.example"]), EIGHT_BIT.as_bytes());
        fixture
            .add(Envelope { envid: Some("x".to_owned()), ..envelope("tim@sender.example", &["b@b.example"]) }, CONTENT);
        fixture.relay(&[hop.url("smtp", "")]).drain();
        let seen = hop.seen();
        assert_eq!((seen.messages.len(), seen.sessions.len()), (2, 1), "{refusal}: {seen:#?}");
        assert!((0..2).all(|message| content(&seen, message).is_ascii()), "{seen:#?}");
        // It is believed from then on.
        assert_eq!(commands(&seen, "MAIL").len(), 3, "{seen:#?}");
    }
}

#[test]
fn a_refusal_for_another_reason_stands() {
    for (refusal, times) in [("501 5.1.7 bad address", 1), ("550 no", 1), ("501 bad address", 2)] {
        let hop = NextHop::start(move |_, command| match command {
            _ if command.starts_with("MAIL FROM:<tim@") => format!("{refusal}\r\n"),
            _ => accept(command, &["8BITMIME", "SIZE"]),
        });
        let mut fixture = Fixture::new();
        fixture.add(envelope("tim@sender.example", &["a@b.example"]), EIGHT_BIT.as_bytes());
        let fixture = fixture.relay(&[hop.url("smtp", "")]);
        fixture.drain();
        let seen = hop.seen();
        assert_eq!(commands(&seen, "MAIL FROM:<tim").len(), times, "{seen:#?}");
        assert!(seen.text(0).contains(refusal));
        // The report goes with all that is offered.
        assert!(commands(&seen, "MAIL FROM:<> SIZE=").len() == 1, "{seen:#?}");
    }
}

#[test]
fn a_server_that_speaks_before_it_is_asked_is_not_believed() {
    let early = |at: &'static str, text: &'static str| {
        NextHop::start(move |_, command| {
            let answer = accept(command, &[]);
            if command.split(' ').next() == Some(at) { format!("{answer}{text}\r\n") } else { answer }
        })
    };
    for (at, text) in [
        ("", "250 hello"),
        ("EHLO", "250 2.1.0 OK"),
        ("DATA", "250 2.0.0 taken"),
        ("DATA", "250-2.0.0 taken\r\n250 yes"),
    ] {
        let first = early(at, text);
        let second = NextHop::start(|_, command| accept(command, &[]));
        let mut fixture = Fixture::new();
        fixture.add(envelope("tim@sender.example", &["a@b.example"]), CONTENT);
        fixture.relay(&[format!("smtp://{}", first.address), second.url("smtp", "")]).drain();
        assert_eq!((first.seen().messages.len(), second.seen().messages.len()), (0, 1), "{at} {text}");
    }
    // To say no amid the mail data is fine.
    let hop = NextHop::start(|_, command| match command {
        "DATA" => "354 go on\r\n552 5.3.4 too large for me\r\n".to_owned(),
        _ => accept(command, &[]),
    });
    let mut fixture = Fixture::new();
    fixture.add(envelope("", &["a@b.example"]), CONTENT);
    fixture.relay(&[hop.url("smtp", "")]).drain();
    assert_eq!(hop.seen().messages.len(), 0);
    // Empty lines behind a reply are no news.
    let hop = NextHop::start(|_, command| accept(command, &[]) + "\r\n");
    assert_eq!(sent_to(&hop, CONTENT).messages.len(), 1);
}

#[test]
fn odd_replies_are_no_reason_to_lose_mail() {
    // Each of them once, and then it works.
    for (at, reply) in [
        ("", "100 wait\r\n"),
        ("", "HTTP/1.1 400 Bad Request\r\n"),
        ("EHLO", "354 go on\r\n"),
        ("MAIL", "334 what\r\n"),
        ("RCPT", "999 no\r\n"),
        ("RCPT", "250-a\r\n251 b\r\n"),
        ("DATA", "250 OK\r\n"),
        (".", "354 more\r\n"),
        (".", "2500 OK\r\n"),
        (".", "250\tOK\r\n"),
        (".", "\r\n\r\n\r\n\r\n\r\n"),
    ] {
        let times = std::sync::atomic::AtomicUsize::new(0);
        let hop = NextHop::start(move |_, command| {
            let is_here = command.split(' ').next() == Some(at);
            if is_here && times.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 {
                return reply.to_owned();
            }
            accept(command, &[])
        });
        let seen = sent_to(&hop, CONTENT);
        let last = seen.messages.last().unwrap_or_else(|| panic!("{at} {reply:?}: {seen:#?}"));
        assert!(last.ends_with(b"Hello\r\n.\r\n"), "{at} {reply:?}: {seen:#?}");
    }
}

#[test]
fn the_spool_knows_what_is_in_content() {
    let kind = |pieces: &[&[u8]]| {
        let fixture = Fixture::new();
        let mut incoming = Spool::begin(&fixture.spool, envelope("tim@sender.example", &["a@b.example"])).unwrap();
        pieces.iter().for_each(|piece| incoming.write(piece).unwrap());
        let id = incoming.commit().unwrap();
        let mut octets = Vec::new();
        fixture.spool.content(&id).unwrap().read_to_end(&mut octets).unwrap();
        assert!(octets.ends_with(&pieces.concat()));
        let state = fixture.spool.load(&id).unwrap();
        (state.eight_bit, state.long_lines)
    };
    let x = |count| "x".repeat(count).into_bytes();
    assert_eq!(kind(&[b"\r\n", &x(998), b"\r", b"\n", &x(998)]), (false, false));
    assert_eq!(kind(&[b"\r\n", &x(500), &x(499), b"\r\n"]), (false, true));
    assert_eq!(kind(&[b"\r\n", &x(999)]), (false, true));
    assert_eq!(kind(&[b"\r\n", "é".as_bytes()]), (true, false));
}
