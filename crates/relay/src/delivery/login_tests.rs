//! Logins at relays, by whatever mechanism.

use std::fs;
use std::sync::atomic::Ordering;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::tests::{CONTENT, Fixture, ONCE, QUICK, envelope, self_signed};
use super::*;
use crate::testing::{NextHop, Seen, accept};

fn decoded(text: &str) -> String {
    String::from_utf8(STANDARD.decode(text).unwrap()).unwrap()
}

fn auth_lines(seen: &Seen) -> Vec<&str> {
    seen.commands().into_iter().filter(|line| line.starts_with("AUTH")).collect()
}

fn route(hop: &NextHop, scheme: &str, credentials: &str, parameters: &str) -> Route {
    Route::Relays(vec![format!("{}{parameters}", hop.url(scheme, credentials)).parse().unwrap()])
}

/// One message through a relay. Returns what the relay has seen, and what the attempt came to.
fn attempt(hop: &NextHop, credentials: &str, parameters: &str) -> (Seen, String) {
    let mut fixture = Fixture::new();
    let id = fixture.add(envelope("tim@sender.example", &["a@b.example"]), CONTENT);
    let fixture = fixture.start(route(hop, "smtp", credentials, parameters), ONCE, None);
    let state = fixture.wait(&id, |state| state.attempts == 1);
    let last = state.recipients[0].last.as_ref().unwrap();
    assert!(!last.text.contains("hunter2"), "{last:?}");
    (hop.seen(), format!("{} {}", last.status, last.text))
}

/// A server that answers the lines of an exchange of SCRAM so, where FIRST is its first message.
fn scram_server(replies: &'static [&'static str]) -> NextHop {
    let nonce = Mutex::new(String::new());
    NextHop::start(move |_, command| {
        let is_known = ["EHLO", "QUIT", "MAIL", "RCPT", "DATA", "."].contains(&command.split(' ').next().unwrap());
        // An empty line is the greeting at first, and later an empty response.
        let is_greeting = command.is_empty() && nonce.lock().unwrap().is_empty();
        if is_known || is_greeting {
            return accept(command, &["AUTH SCRAM-SHA-256"]);
        }
        let round = if let Some(first) = command.strip_prefix("AUTH SCRAM-SHA-256 ") {
            *nonce.lock().unwrap() = decoded(first).split_once(",r=").unwrap().1.to_owned();
            0
        } else if decoded(command).starts_with("c=biws,") {
            1
        } else {
            2
        };
        let first = STANDARD.encode(format!("r={}more,s=c2FsdA==,i=4096", nonce.lock().unwrap()));
        format!("{}\r\n", replies.get(round).unwrap_or(&"235 2.7.0 welcome").replace("FIRST", &first))
    })
}

#[test]
fn a_server_that_does_not_prove_itself_gets_no_mail() {
    for replies in [
        // Success at once, as if SCRAM were PLAIN.
        &["235 2.7.0 welcome"][..],
        &["334 bm9uc2Vuc2U=", "235 2.7.0 welcome"],
        &["334 %%%", "235 2.7.0 welcome"],
        &["334 FIRST", "334 dj1BQUFB", "235 2.7.0 welcome"],
        &["334 FIRST", "235 2.7.0 welcome"],
        // e=invalid-proof
        &["334 FIRST", "334 ZT1pbnZhbGlkLXByb29m", "235 2.7.0 welcome"],
    ] {
        let (seen, last) = attempt(&scram_server(replies), "tim:hunter2@", "");
        assert!(last.starts_with("4.7.0 SCRAM-SHA-256: the server"), "{replies:?}: {last}");
        assert!(!seen.commands().iter().any(|command| command.starts_with("MAIL")), "{seen:?}");
    }
    // A refusal is one, whether or not a reason comes first.
    for replies in [&["334 FIRST", "334 ZT1pbnZhbGlkLXByb29m", "535 5.7.8 no"][..], &["334 FIRST", "535 5.7.8 no"]] {
        let (_, last) = attempt(&scram_server(replies), "tim:hunter2@", "");
        assert_eq!(last, "4.7.8 535 5.7.8 no");
    }
}

#[test]
fn a_mechanism_can_be_forced() {
    let hop = NextHop::start(|_, command| match command {
        "AUTH CRAM-MD5" => "334 PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+\r\n".to_owned(),
        "dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw" => "235 2.7.0 welcome\r\n".to_owned(),
        command => accept(command, &["AUTH SCRAM-SHA-256 PLAIN CRAM-MD5"]),
    });
    // RFC 2195, section 2.
    let mut fixture = Fixture::new();
    fixture.add(envelope("tim@sender.example", &["a@b.example"]), CONTENT);
    let fixture = fixture.start(route(&hop, "smtp", "tim:tanstaaftanstaaf@", "?mechanism=CRAM-MD5"), ONCE, None);
    fixture.drain();
    assert_eq!(auth_lines(&hop.seen()), ["AUTH CRAM-MD5"]);
    let (_, last) = attempt(&hop, "tim:hunter2@", "?mechanism=SCRAM-SHA-256-PLUS");
    assert_eq!(last, "4.7.0 SCRAM-SHA-256-PLUS: a mechanism that ends in -PLUS needs TLS 1.3");
}

#[test]
fn where_nothing_suits_the_error_says_what_there_is() {
    let hop = NextHop::start(|_, command| accept(command, &["AUTH NTLM GSSAPI"]));
    let (seen, last) = attempt(&hop, "tim:hunter2@", "");
    assert_eq!(last, "4.7.0 no mechanism is offered to log in with a password by; there are: NTLM GSSAPI");
    assert!(auth_lines(&seen).is_empty());
    let silent = NextHop::start(|_, command| accept(command, &[]));
    let (_, last) = attempt(&silent, "tim@", "?token-command=echo%20t0ken");
    assert_eq!(last, "4.7.0 no mechanism is offered to log in with a token by; there are: none");
}

#[test]
fn a_refused_token_is_answered_and_told() {
    for (mechanism, answer) in [("XOAUTH2", ""), ("OAUTHBEARER", "AQ==")] {
        let is_greeted = AtomicBool::new(false);
        let hop = NextHop::start(move |_, command| match command.split(' ').next() {
            Some("AUTH") => "334 eyJzdGF0dXMiOiI0MDEifQ==\r\n".to_owned(),
            Some("EHLO") => accept(command, &[&format!("AUTH {mechanism}")]),
            // The greeting is asked for by an empty line, too.
            Some("") if !is_greeted.swap(true, Ordering::SeqCst) => "220 next.hop ESMTP\r\n".to_owned(),
            _ => "535 5.7.8 no\r\n".to_owned(),
        });
        let (seen, last) = attempt(&hop, "tim:hunter2@", "");
        let position = seen.commands().iter().position(|line| line.starts_with("AUTH ")).unwrap();
        assert_eq!(seen.commands()[position + 1], answer, "{seen:?}");
        assert_eq!(last, "4.7.8 535 5.7.8 no");
    }
}

#[test]
fn a_secret_that_a_server_repeats_is_told_to_nobody() {
    for (mechanism, echo) in [
        ("PLAIN", "AHRpbQBodW50ZXIy"),
        ("LOGIN", "aHVudGVyMg=="),
        ("PLAIN", "hunter2"),
        ("XOAUTH2", "dXNlcj10aW0BYXV0aD1CZWFyZXIgaHVudGVyMgEB"),
    ] {
        let hop = NextHop::start(move |_, command| match command.split(' ').next() {
            Some("AUTH") if mechanism == "LOGIN" => "334 VXNlcm5hbWU6\r\n".to_owned(),
            Some("dGlt") => "334 UGFzc3dvcmQ6\r\n".to_owned(),
            Some("AUTH" | "aHVudGVyMg==") => format!("500-5.5.2 what?\r\n500 5.5.2 unknown: {echo}.\r\n"),
            _ => accept(command, &[&format!("AUTH {mechanism}")]),
        });
        let (_, last) = attempt(&hop, "tim:hunter2@", "");
        assert_eq!(last, "4.5.2 500 5.5.2 what? / 5.5.2 unknown: [redacted].", "{mechanism}");
    }
}

#[test]
fn an_old_token_is_replaced_once_and_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let runs = directory.path().join("runs");
    let line = format!("echo run >> {0}; echo token-$(wc -l < {0} | tr -d ' ')", runs.display());
    let parameters =
        format!("?token-command={}", percent_encoding::utf8_percent_encode(&line, percent_encoding::NON_ALPHANUMERIC));
    let token = |line: &str| {
        decoded(line.split(' ').nth(2).unwrap()).split_once("Bearer ").unwrap().1.trim_end_matches('\x01').to_owned()
    };
    // The first token is good for the first session, and the second for no session.
    let hop = NextHop::start(move |session, command| match command.split(' ').next() {
        Some("AUTH") if session == 0 || token(command) == "token-3" => "235 2.7.0 welcome\r\n".to_owned(),
        Some("AUTH") => "535 5.7.8 expired\r\n".to_owned(),
        // One message for each session.
        _ => accept(command, &["AUTH XOAUTH2", "LIMITS MAILMAX=1"]),
    });
    let mut fixture = Fixture::new();
    fixture.add(envelope("tim@sender.example", &["a@b.example"]), CONTENT);
    let mut fixture = fixture.start(route(&hop, "smtp", "tim@", &parameters), QUICK, None);
    hop.wait(|seen| seen.messages.len() == 1);
    fixture.add(envelope("tim@sender.example", &["a@b.example"]), CONTENT);
    let seen = hop.wait(|seen| seen.messages.len() == 2);
    fixture.drain();
    let shown: Vec<_> = auth_lines(&seen).into_iter().map(token).collect();
    assert_eq!(shown, ["token-1", "token-1", "token-2", "token-3"]);
}

#[test]
fn a_command_that_fails_is_no_failure_of_the_mail() {
    let hop = NextHop::start(|_, command| accept(command, &["AUTH XOAUTH2"]));
    let (seen, last) = attempt(&hop, "tim@", "?token-command=exit%201");
    assert_eq!(last, "4.3.5 there is no password or token to log in with");
    assert_eq!(seen.sessions.len(), 0);
}

#[test]
fn a_new_password_in_a_file_is_used_without_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    fs::write(&file, "old\n").unwrap();
    let hop = NextHop::start(|_, command| match command {
        // tim, new
        "AUTH PLAIN AHRpbQBuZXc=" => "235 2.7.0 welcome\r\n".to_owned(),
        command if command.starts_with("AUTH") => "535 5.7.8 no\r\n".to_owned(),
        command => accept(command, &["AUTH PLAIN"]),
    });
    let parameters = format!("?password-file={}", file.display());
    let mut fixture = Fixture::new();
    fixture.add(envelope("tim@sender.example", &["a@b.example"]), CONTENT);
    let fixture = fixture.start(route(&hop, "smtp", "tim@", &parameters), QUICK, None);
    hop.wait(|seen| !auth_lines(seen).is_empty());
    fs::write(&file, "new\n").unwrap();
    fixture.drain();
    assert_eq!(hop.seen().messages.len(), 1);
}

#[test]
fn certificates_are_read_anew() {
    let directory = tempfile::tempdir().unwrap();
    let (tls, ca) = self_signed(directory.path());
    let other = tempfile::tempdir().unwrap();
    let (_, other) = self_signed(other.path());
    let right = fs::read(&ca).unwrap();
    fs::copy(other, &ca).unwrap();
    let hop = NextHop::start_with_tls(Some(tls), |_, command| accept(command, &["STARTTLS"]));
    let mut fixture = Fixture::new();
    let id = fixture.add(envelope("tim@sender.example", &["a@b.example"]), CONTENT);
    let fixture = fixture.start(route(&hop, "smtp+starttls", "", ""), QUICK, Some(&ca));
    fixture.wait(&id, |state| state.attempts > 0);
    let trust = fixture.trust();
    fs::write(&ca, "no certificate").unwrap();
    assert!(trust.reload().is_err());
    fs::write(&ca, right).unwrap();
    trust.reload().unwrap();
    fixture.drain();
    assert_eq!(hop.seen().messages.len(), 1);
}

#[test]
fn a_refused_login_is_not_repeated_at_the_other_addresses_of_the_server() {
    let hop = NextHop::start(|_, command| match command.split(' ').next() {
        Some("AUTH") => "535 5.7.8 no\r\n".to_owned(),
        _ => accept(command, &["AUTH PLAIN"]),
    });
    let url: crate::routes::NextHop = hop.url("smtp", "tim:hunter2@").parse().unwrap();
    let mut fixture = Fixture::new();
    let id = fixture.add(envelope("tim@sender.example", &["a@b.example"]), CONTENT);
    // As if its name had two addresses.
    let fixture = fixture.start(Route::Relays(vec![url.clone(), url]), ONCE, None);
    fixture.wait(&id, |state| state.attempts == 1);
    assert_eq!(auth_lines(&hop.seen()).len(), 1);
}
