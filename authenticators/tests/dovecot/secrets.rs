//! Nothing of what is secret is logged or shown.

use std::time::Duration;

use sansmtp_authenticators::dovecot::{Dovecot, Settings};

use crate::dialogue::Dialogue;
use crate::scripted::{HANG_UP, HELLO, Scripted};
use crate::support::login::Door as _;
use crate::support::logs::collect_here;

#[test]
fn faults_are_logged_without_names_passwords_and_replies() {
    for answer in [
        "FAIL\t#\tuser=a-name\tcode=temp_fail\treason=a-reason\n",
        "OK\t#\tuser=a-name\u{1}n\tpass=a-secret\n",
        "OK\t#\tuser=a-name\tresp=a-secret\n",
        "OK\t#\tpass=a-secret\n",
        "CONT\t#\ta-secret\n",
        "OK\ta-secret\n",
        "CONT\t#\tc2VjcmV0\n",
        "hang up",
        "",
        "a-secret",
    ] {
        let scripted = Scripted::start(HELLO, move |words| match words {
            ["AUTH", id, ..] if !answer.as_bytes().eq(HANG_UP) => answer.replace('#', id).into_bytes(),
            ["AUTH", ..] => HANG_UP.to_vec(),
            _ => Vec::new(),
        });
        let dovecot = Settings::unix(scripted.socket()).time_limit(Duration::from_millis(200)).connect().unwrap();
        let (code, log) = collect_here(|| dovecot.log_in("a-name", "a-password"));
        assert_eq!(code, 454, "{answer:?}");
        let (_, passed_through) = collect_here(|| {
            let mut dialogue = Dialogue::in_the_clear(&dovecot);
            dialogue.auth("PLAIN", "\0a-name\0a-password");
            dialogue.respond("a-password")
        });
        let encoded = crate::base64(b"\0a-name\0a-password");
        // One line each that says what is wrong, but where the exchange goes on.
        assert_eq!(log.matches("WARN").count(), 1, "{answer:?}: {log}");
        for log in [log, passed_through, format!("{dovecot:?} {:?}", dovecot.exchange())] {
            for secret in ["a-name", "a-password", "a-secret", "a-reason", &encoded] {
                assert!(!log.contains(secret), "{secret} in {log}");
            }
        }
    }
}

#[test]
fn logins_and_refusals_are_the_engines_to_tell() {
    let right = format!("resp={}", crate::base64(b"\0a-name\0a-password"));
    let scripted = Scripted::start(HELLO, move |words| match words {
        ["AUTH", id, .., response] if *response == right => format!("OK\t{id}\tuser=a-name\n").into_bytes(),
        ["AUTH", id, ..] => format!("FAIL\t{id}\tuser=a-name\n").into_bytes(),
        _ => Vec::new(),
    });
    let dovecot = Dovecot::connect(scripted.socket()).unwrap();
    let (codes, log) = collect_here(|| [dovecot.log_in("a-name", "a-password"), dovecot.log_in("a-name", "wrong")]);
    assert_eq!(codes, [235, 535]);
    assert_eq!(log, "");
}
