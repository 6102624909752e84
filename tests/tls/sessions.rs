//! Whole sessions, and what TLS negotiated in them.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;

use rustls::{SupportedProtocolVersion, version};
use sansmtp::tls::Session;

use crate::certificates::{AUTHORITY, asking_server_config, client_config, identified_client_config};
use crate::server::Open;
use crate::wire::{Cut, PLAIN, VERSIONS, Wire, config, connection, implicit_session, starttls_session};

#[derive(Debug, PartialEq)]
struct Played {
    log: Vec<String>,
    content: Vec<u8>,
    replies: String,
}

/// More than four records of content, and lines with dots.
fn message() -> (String, Vec<u8>) {
    let (mut wire, mut content) = (String::new(), String::new());
    for number in 0.. {
        if content.len() > 70_000 {
            break;
        }
        let dot = if number % 7 == 0 { "." } else { "" };
        let line = format!("{dot}line {number} of the message, {}\r\n", "x".repeat(number % 61));
        let _ = write!(wire, "{dot}{line}");
        content.push_str(&line);
    }
    (wire + ".\r\n", content.into_bytes())
}

fn play(version: &'static SupportedProtocolVersion, implicit: bool, cut: Cut) -> Played {
    let session = if implicit { implicit_session() } else { starttls_session() };
    let mut wire = Wire::new(session, client_config(version)).cut(cut);
    let mut replies = String::new();
    if implicit {
        assert_eq!(wire.server.sent, b"", "nothing is said before the handshake");
    } else {
        replies += &wire.say_in_the_clear("");
        let listed = wire.say_in_the_clear("EHLO client.example\r\n");
        assert!(listed.contains("\r\n250-STARTTLS\r\n") && !listed.contains("AUTH"), "{listed}");
        replies += &listed;
        assert!(wire.say_in_the_clear(PLAIN).starts_with("538 5.7.11 "));
        let ready = wire.say_in_the_clear("STARTTLS\r\n");
        assert!(ready.starts_with("220 2.0.0 ") && ready.lines().count() == 1, "{ready}");
    }
    let clear_before = wire.server.clear.len();
    replies += &wire.shuttle();
    assert!(!wire.client.is_handshaking());

    let listed = wire.say("EHLO client.example\r\n");
    assert!(listed.contains("\r\n250-AUTH SCRAM-SHA-256 PLAIN LOGIN\r\n") && !listed.contains("STARTTLS"), "{listed}");
    replies += &listed;
    replies += &wire.say(PLAIN);
    replies += &wire.say("MAIL FROM:<tim@example.org>\r\nRCPT TO:<kurt@example.org>\r\nDATA\r\n");
    let (encoded, _) = message();
    replies += &wire.say(&encoded);
    replies += &wire.say("QUIT\r\n");
    assert!(wire.closed_cleanly && wire.server.is_closed());
    assert_eq!(wire.error, None);
    assert_eq!(wire.server.clear.len(), clear_before, "nothing in the clear any more");
    let transmitted = &wire.server.transmitted;
    assert!(
        !transmitted.windows(4).any(|four| [b"250 ", b"250-", b"235 ", b"354 "].contains(&four.try_into().unwrap()))
    );
    Played { log: wire.server.log, content: wire.server.content, replies }
}

#[test]
fn a_whole_session_is_the_same_however_its_ciphertext_is_cut() {
    let (_, content) = message();
    for version in VERSIONS {
        for implicit in [false, true] {
            let whole = play(version, implicit, Cut::Whole);
            assert!(whole.content == content);
            let codes: Vec<_> =
                whole.replies.lines().filter(|line| line.as_bytes()[3] == b' ').map(|line| &line[..3]).collect();
            let expected = ["220", "250", "250", "235", "250", "250", "354", "250", "221"];
            let expected = if implicit { [&expected[..1], &expected[2..]].concat() } else { expected.to_vec() };
            assert_eq!(codes, expected, "{}", whole.replies);
            assert!(whole.log.contains(&format!("Message {{ octets: {} }}", content.len())));
            for cut in [Cut::Octets, Cut::Random(1), Cut::Random(2), Cut::Random(3)] {
                let same = play(version, implicit, cut);
                assert_eq!(same.log, whole.log, "{cut:?}");
                assert_eq!(same.replies, whole.replies, "{cut:?}");
                assert!(same.content == whole.content, "{cut:?}");
            }
        }
    }
}

#[test]
fn what_comes_in_one_flight_with_the_end_of_the_handshake_is_not_lost() {
    for version in VERSIONS {
        let mut wire = Wire::new(implicit_session(), client_config(version));
        // The client says EHLO as soon as it may, without waiting for the greeting.
        wire.client.writer().write_all(b"EHLO client.example\r\nNOOP\r\nQUIT\r\n").unwrap();
        let said = wire.shuttle();
        assert!(said.starts_with("220 ") && said.contains("\r\n250 HELP\r\n250 2.0.0 Ok\r\n221 "), "{said}");
        assert!(wire.closed_cleanly);
    }
}

#[test]
fn replies_to_a_long_pipeline_all_arrive() {
    // Each answer is some sixteen times as long as its command: 16 KiB of plaintext are 260 KiB of replies.
    for version in VERSIONS {
        let mut wire = Wire::implicit(version);
        let commands = 10_000;
        let said = wire.say(&"HELP\r\n".repeat(commands));
        assert_eq!(said.lines().filter(|line| line.starts_with("214 2.0.0 Commands:")).count(), commands);
        assert_eq!(said.lines().count(), commands);
        assert_eq!(wire.say("NOOP\r\n"), "250 2.0.0 Ok\r\n");
    }
}

#[test]
fn the_session_knows_what_was_negotiated() {
    for (version, name) in [(&version::TLS12, "TLSv1.2"), (&version::TLS13, "TLSv1.3")] {
        for implicit in [false, true] {
            let mut tls = asking_server_config();
            tls.alpn_protocols = vec![b"smtp".to_vec()];
            let tls = Arc::new(tls);
            let connection = connection(config(|builder| builder));
            let session = if implicit {
                Session::implicit(connection, tls).unwrap()
            } else {
                Session::new(connection, Some(tls))
            };
            let mut offered = identified_client_config(version);
            offered.alpn_protocols = vec![b"smtp".to_vec()];
            let mut wire = Wire::new(session, offered);
            if !implicit {
                wire.say_in_the_clear("EHLO client.example\r\n");
                wire.say_in_the_clear("STARTTLS\r\n");
                assert!(wire.server.session.connection().session().tls().is_none());
            }
            wire.shuttle();
            let info = Arc::clone(wire.server.session.connection().session().tls().unwrap());
            assert_eq!(info.version.to_string(), name);
            let suite = wire.client.negotiated_cipher_suite().unwrap().suite();
            assert_eq!(info.cipher_suite, suite.as_str().unwrap().replace("TLS13_", "TLS_"));
            assert!(info.cipher_suite.starts_with("TLS_") && !info.cipher_suite.contains("TLS13"));
            assert_eq!(info.server_name.as_deref(), Some("mx.example.org"));
            assert_eq!(info.alpn_protocol.as_deref(), Some(&b"smtp"[..]));
            assert_eq!(info.peer_certificates, [AUTHORITY.client.chain[0].to_vec()]);
            let exported = wire.client.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(&[])).unwrap();
            let expected = (name == "TLSv1.3").then_some(exported);
            assert_eq!(info.exporter, expected);
            // It reaches the authenticator too.
            wire.say("EHLO client.example\r\n");
            wire.server.hold = true;
            wire.say(PLAIN);
            match wire.server.open.take() {
                // EHLO was answered before questions were held.
                Some(Open::Authenticator(request)) => assert_eq!(request.tls(), Some(&*info)),
                Some(Open::Hook(question)) => panic!("{question:?}"),
                None => panic!("the authenticator is asked"),
            }
        }
    }
}

#[test]
fn what_was_not_negotiated_is_absent() {
    let wire = Wire::implicit(&version::TLS13);
    let info = wire.server.session.connection().session().tls().unwrap();
    assert_eq!(info.alpn_protocol, None);
    assert!(info.peer_certificates.is_empty());
}

#[test]
fn a_client_without_the_certificate_that_is_asked_for_gets_an_alert() {
    for version in VERSIONS {
        let session =
            Session::implicit(connection(config(|builder| builder)), Arc::new(asking_server_config())).unwrap();
        let mut wire = Wire::new(session, client_config(version));
        assert_eq!(wire.shuttle(), "");
        assert!(wire.server.is_closed());
        assert!(wire.alert().contains("AlertReceived"), "{}", wire.alert());
        assert_eq!(wire.server.log, Vec::<String>::new());
        assert_eq!(wire.server.clear, "");
    }
}
