//! What a client sees. `S:` is a line of a reply, or its beginning where it ends in `...`; `!:` is an event, which the
//! client does not see; `P:` is a pause, for which nobody waits.

use sansmtp::testing::Play;

use super::*;

type Tested = Result<(), Box<dyn Error>>;

/// Plays behind EHLO, whole and octet by octet.
fn play(transcript: &str) -> Tested {
    let transcript = format!("S: 220 mx.example.org ESMTP\nC: EHLO client.example\nS*: 250\n{transcript}");
    let staff = Arc::new(staff()?);
    Play::new(config()?).transcript_with(&mut Office::new(Arc::clone(&staff)), &transcript)?;
    Play::new(config()?).cut(1).transcript_with(&mut Office::new(staff), &transcript)?;
    Ok(())
}

#[test]
fn who_has_the_password_gets_in() -> Tested {
    play(
        r"
        C: AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm
        !: auth-ok PLAIN tim
        S: 235 2.7.0 ...
        C: AUTH LOGIN
        !: auth-failed LOGIN out-of-sequence
        S: 503 5.5.1 ...
        ",
    )
}

/// The events know why; the client does not, and its pauses grow.
#[test]
fn whoever_is_refused_learns_no_more_than_that() -> Tested {
    play(
        r"
        C: AUTH PLAIN AHRpbQBndWVzcw==
        !: auth-failed PLAIN bad-credentials
        P: 0.25
        S: 535 5.7.8 Authentication credentials invalid
        C: AUTH PLAIN AG5vYm9keQBndWVzcw==
        !: auth-failed PLAIN unknown-user
        P: 0.5
        S: 535 5.7.8 Authentication credentials invalid
        C: AUTH PLAIN AGt1cnQAeGlwajNwbG1x
        !: auth-failed PLAIN disabled
        P: 1
        S: 535 5.7.8 Authentication credentials invalid
        C: AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm
        !: auth-ok PLAIN tim
        S: 235 2.7.0 ...
        ",
    )
}

#[test]
fn a_server_that_is_down_is_no_refusal() -> Tested {
    play(
        r"
        C: AUTH PLAIN AHJlbW90ZQBndWVzcw==
        !: auth-failed PLAIN cannot-tell
        S: 454 4.7.0 ...
        ",
    )
}

#[test]
fn a_ticket_is_as_good_as_a_password() -> Tested {
    play(
        r"
        C: AUTH X-TICKET
        S: 334\x20
        C: YW5uL2YwMGRjYWZl
        !: auth-ok X-TICKET ann
        S: 235 2.7.0 ...
        ",
    )
}

#[test]
fn a_ticket_that_is_not_ours_is_refused() -> Tested {
    play(
        r"
        C: AUTH X-TICKET YW5uL2RlYWRiZWVm
        !: auth-failed X-TICKET bad-credentials
        S: 535 5.7.8 ...
        C: AUTH X-TICKET YW5u
        !: auth-failed X-TICKET malformed
        S: 501 5.5.2 ...
        ",
    )
}

#[test]
fn the_auth_handler_asks_for_a_pin() -> Tested {
    play(
        r"
        C: AUTH X-PIN
        S: 334 TmFtZSBhbmQgUElOPw==
        C: YW5uIDQ3MTE=
        !: auth-ok X-PIN ann
        S: 235 2.7.0 ...
        ",
    )
}

#[test]
fn a_wrong_pin_is_refused_and_no_pin_is_malformed() -> Tested {
    play(
        r"
        C: AUTH X-PIN
        S*: 334
        C: YW5uIDA4MTU=
        !: auth-failed X-PIN bad-credentials
        S: 535 5.7.8 ...
        C: AUTH X-PIN
        S*: 334
        C: YW5u
        !: auth-failed X-PIN malformed
        S: 501 5.5.2 ...
        C: AUTH X-PIN
        S*: 334
        C: *
        !: auth-failed X-PIN cancelled
        S: 501 5.7.0 ...
        ",
    )
}

#[test]
fn staff_writes_to_anybody() -> Tested {
    play(
        r"
        C: AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm
        S*: 235
        C: MAIL FROM:<tim@example.org>
        C: RCPT TO:<friend@example.net>
        C: DATA
        S*: 250
        S*: 250
        S*: 354
        C: Subject: hello
        C: 
        C: ..
        C: .
        =: Subject: hello\r\n\r\n.\r\n
        S*: 250
        C: QUIT
        S: 221 2.0.0 ...
        S: <closed>
        ",
    )
}

/// What `authenticate` attached is known to the hooks.
#[test]
fn visitors_write_to_us_only() -> Tested {
    play(
        r"
        C: AUTH X-TICKET YW5uL2YwMGRjYWZl
        S*: 235
        C: MAIL FROM:<ann@example.net>
        S*: 250
        C: RCPT TO:<friend@example.net>
        S: 550 5.7.1 Visitors write to us only
        C: RCPT TO:<tim@example.org>
        S*: 250
        ",
    )
}

#[test]
fn strangers_write_to_nobody() -> Tested {
    play(
        r"
        C: MAIL FROM:<ann@example.net>
        S: 530 5.7.0 Who are you?
        ",
    )
}

#[test]
fn a_message_without_a_subject_is_refused() -> Tested {
    play(
        r"
        C: AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm
        S*: 235
        C: MAIL FROM:<tim@example.org>
        S*: 250
        C: RCPT TO:<friend@example.net>
        S*: 250
        C: DATA
        S*: 354
        C: hello
        C: .
        S: 554 5.6.0 A message has a subject here
        ",
    )
}

#[test]
fn a_message_that_breaks_off_is_not_kept_for_the_next_one() -> Tested {
    play(
        r"
        C: AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm
        S*: 235
        C: MAIL FROM:<tim@example.org>
        S*: 250
        C: RCPT TO:<friend@example.net>
        S*: 250
        C: DATA
        S*: 354
        C: Subject: hello\n
        A: bare-lf
        C: .
        S: 554 5.6.11 ...
        C: MAIL FROM:<tim@example.org>
        S*: 250
        C: RCPT TO:<friend@example.net>
        S*: 250
        C: DATA
        S*: 354
        C: hello
        C: .
        S: 554 5.6.0 A message has a subject here
        ",
    )
}

/// Without TLS and `require_tls`, there is no AUTH: the same handler under another policy.
#[test]
fn a_policy_can_be_tested_as_well() -> Tested {
    let config = Config::builder("mx.example.org").auth(Auth::new()).starttls(true).build()?;
    Play::new(config).transcript_with(
        &mut Office::new(Arc::new(staff()?)),
        r"
        S: 220 mx.example.org ESMTP
        C: EHLO client.example
        S*: 250
        C: AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm
        !: auth-failed PLAIN tls-required
        S: 538 5.7.11 ...
        C: STARTTLS
        S: 220 2.0.0 ...
        TLS: start
        C: EHLO client.example
        S*: 250
        C: AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm
        !: auth-ok PLAIN tim
        S: 235 2.7.0 ...
        ",
    )?;
    Ok(())
}
