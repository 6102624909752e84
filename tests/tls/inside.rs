//! Inside a session: what TLS makes it forget (RFC 3207, section 4.2), and questions that are open.

use std::sync::Arc;

use rustls::version;
use sansmtp::tls::Session;
use sansmtp::{Auth, AuthResult, Verdict};

use crate::certificates::{client_config, server_config};
use crate::server::{Open, Wait};
use crate::wire::{PLAIN, VERSIONS, Wire, config, connection};

#[test]
fn nothing_said_before_tls_is_kept() {
    let auth = Auth::new().require_tls(false);
    let session = Session::new(connection(config(|builder| builder.auth(auth))), Some(Arc::new(server_config())));
    let mut wire = Wire::new(session, client_config(&version::TLS13));
    wire.say_in_the_clear("EHLO before.example\r\n");
    assert!(wire.say_in_the_clear(PLAIN).starts_with("235 "));
    assert!(
        wire.say_in_the_clear("MAIL FROM:<before@example.org>\r\nRCPT TO:<b@example.org>\r\n")
            .ends_with("Forward-path ok\r\n")
    );
    let known = wire.server.session.connection();
    assert!(known.session().is_authenticated() && known.envelope().forward_paths().len() == 1);
    wire.say_in_the_clear("STARTTLS\r\n");
    assert_eq!(wire.shuttle(), "");

    let known = wire.server.session.connection();
    assert!(!known.session().is_authenticated() && known.session().login().is_none());
    assert!(known.session().greeting().is_none() && known.session().client_name().is_empty());
    assert!(known.envelope().forward_paths().len() == 0);
    assert!(!format!("{known:?}").contains("before"));
    assert!(wire.say("DATA\r\n").starts_with("503 5.5.1 Say EHLO or HELO first"));
    assert!(wire.say("MAIL FROM:<a@example.org>\r\n").starts_with("503 5.5.1 Say EHLO or HELO first"));
    assert!(wire.say(PLAIN).starts_with("503 5.5.1 Say EHLO first"));
    assert!(wire.say("STARTTLS\r\n").starts_with("503 5.5.1 TLS is active already"));
    let listed = wire.say("EHLO after.example\r\n");
    assert!(listed.contains("250-AUTH SCRAM-SHA-256 PLAIN LOGIN") && !listed.contains("STARTTLS"), "{listed}");
    assert!(wire.say(PLAIN).starts_with("235 "));
    assert_eq!(wire.server.session.connection().session().client_name(), "after.example");
}

#[test]
fn nothing_is_read_while_a_question_is_open() {
    for version in VERSIONS {
        let mut wire = Wire::implicit(version);
        wire.server.hold = true;
        wire.say(PLAIN);
        let Wait::Answer(due) = wire.server.wait else { panic!("{:?}", wire.server.wait) };
        // 64 records of 16 KiB: not one of them is touched.
        let mut flood = Vec::new();
        for _ in 0..64 {
            flood.extend(wire.encrypt(&"NOOP\r\n".repeat(16 * 1024 / 6)));
        }
        wire.server.feed(&flood);
        for _ in 0..100 {
            wire.server.run();
        }
        assert_eq!(wire.server.unread.len(), flood.len());
        assert_eq!(wire.server.wait, Wait::Answer(due));
        assert_eq!(wire.server.logged("authenticate"), 1);
        assert_eq!(wire.server.logged("Noop"), 0);

        wire.server.hold = false;
        let Some(Open::Authenticator(request)) = wire.server.open.take() else { panic!("a question is open") };
        wire.server.session.answer(request.answer(AuthResult::accept())).unwrap();
        wire.server.run();
        assert_eq!(wire.server.logged("Noop"), 64 * (16 * 1024 / 6));
        let said = wire.shuttle();
        assert!(said.starts_with("235 "), "{}", &said[..80]);
    }
}

#[test]
fn a_question_in_the_middle_of_a_record_holds_the_rest_back() {
    let mut wire = Wire::implicit(&version::TLS13);
    wire.server.hold = true;
    assert_eq!(wire.say("NOOP\r\nMAIL FROM:<tim@example.org>\r\nRCPT TO:<kurt@example.org>\r\n"), "");
    let mut replies = String::new();
    for hook in ["Noop", "Mail", "Rcpt"] {
        assert!(wire.server.log.last().unwrap().starts_with(hook), "{:?}", wire.server.log);
        let Some(Open::Hook(question)) = wire.server.open.take() else { panic!("a question is open") };
        wire.server.session.answer(question.answer(Verdict::Accept)).unwrap();
        wire.server.run();
        replies += &wire.shuttle();
    }
    assert_eq!(replies, "250 2.0.0 Ok\r\n250 2.1.0 Reverse-path ok\r\n250 2.1.5 Forward-path ok\r\n");
}

#[test]
fn a_question_that_is_dropped_or_late_fails_closed_under_tls() {
    let mut wire = Wire::implicit(&version::TLS13);
    wire.server.hold = true;
    wire.say(PLAIN);
    wire.server.open = None;
    wire.server.run();
    assert!(wire.shuttle().starts_with("454 4.7.0 "));
    wire.say(PLAIN);
    let Wait::Answer(due) = wire.server.wait else { panic!("{:?}", wire.server.wait) };
    wire.server.now = due;
    wire.server.run();
    assert!(wire.shuttle().starts_with("454 4.7.0 "));
    let Some(Open::Authenticator(request)) = wire.server.open.take() else { panic!("a question is open") };
    assert!(wire.server.session.answer(request.answer(AuthResult::accept())).is_err());
    assert!(!wire.server.session.connection().session().is_authenticated());
}
