//! What is remembered of answers, and for how long.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sansmtp_authenticators::oauth2::{Introspection, IntrospectionLimits, TokenRules};
use serde_json::json;

use super::server::{Server, ok};
use super::support::login::{auth, oauthbearer, xoauth2};
use super::{NOW, at, client, code};

/// `good-N` is good until N seconds from now; others are not.
fn server() -> Server {
    Server::start(|asked, stream| {
        let token = asked.field("token").unwrap();
        let answer = match token.strip_prefix("good-").map(str::parse::<u64>) {
            Some(Ok(left)) => json!({ "active": true, "username": "tim", "exp": NOW + left }),
            Some(Err(_)) => json!({ "active": true, "username": "tim" }),
            None => json!({ "active": false }),
        };
        stream.write_all(&ok(&answer.to_string()))
    })
}

fn ask(server: &Server, limits: IntrospectionLimits) -> (Introspection, Arc<AtomicU64>) {
    let time = Arc::new(AtomicU64::new(NOW));
    let introspection = Introspection::new(&server.url(), client(), TokenRules::new()).unwrap().limits(limits);
    (at(introspection, &time), time)
}

#[test]
fn for_so_long_and_never_past_the_tokens_end() {
    let server = server();
    let (introspection, time) = ask(&server, IntrospectionLimits::default());
    for (token, until) in [("good-30", 30), ("good-7200", 60), ("good-x", 60), ("bad", 10)] {
        time.store(NOW, Ordering::SeqCst);
        let expected = if token == "bad" { 535 } else { 235 };
        for (after, asked) in [(0, 1), (0, 0), (until - 1, 0), (until, 1)] {
            time.store(NOW + after, Ordering::SeqCst);
            assert_eq!((code(&introspection, token), server.take_count()), (expected, asked), "{token} after {after}");
        }
    }
    // Within the skew it is good, but that is not remembered.
    time.store(NOW + 31, Ordering::SeqCst);
    for _ in 0..2 {
        assert_eq!((code(&introspection, "good-30"), server.take_count()), (235, 1));
    }
    time.store(NOW + 90, Ordering::SeqCst);
    assert_eq!(code(&introspection, "good-30"), 535);
}

#[test]
fn whose_it_is_and_not_who_said_so() {
    let server = server();
    let (introspection, _) = ask(&server, IntrospectionLimits::default());
    assert_eq!(auth(&introspection, &xoauth2("kurt", "good-60")), 535);
    assert_eq!(auth(&introspection, &xoauth2("tim", "good-60")), 235);
    assert_eq!(auth(&introspection, &oauthbearer("kurt", "good-60")), 535);
    assert_eq!(auth(&introspection, &oauthbearer("", "good-60")), 235);
    assert_eq!(server.take_count(), 1);
    assert_eq!(auth(&introspection, &oauthbearer("", "good-600")), 235);
    assert_eq!(server.take_count(), 1);
}

#[test]
fn a_fault_is_not_remembered_and_what_is_gets_through_one() {
    let mut server = server();
    let (introspection, time) = ask(&server, IntrospectionLimits::default());
    assert_eq!((code(&introspection, "good-60"), code(&introspection, "bad")), (235, 535));
    server.stop();
    assert_eq!((code(&introspection, "good-60"), code(&introspection, "bad")), (235, 535));
    assert_eq!((code(&introspection, "good-61"), code(&introspection, "other")), (454, 454));
    time.store(NOW + 60, Ordering::SeqCst);
    assert_eq!((code(&introspection, "good-60"), code(&introspection, "bad")), (454, 454));
    server.start_again();
    assert_eq!((code(&introspection, "good-61"), code(&introspection, "other")), (235, 535));
}

#[test]
fn made_up_tokens_push_out_no_good_ones() {
    let server = server();
    let limits = IntrospectionLimits { active: 5, refused: 5, ..IntrospectionLimits::default() };
    let (introspection, _) = ask(&server, limits);
    for number in 60..65 {
        assert_eq!(code(&introspection, &format!("good-{number}")), 235);
    }
    for number in 0..100 {
        assert_eq!(code(&introspection, &format!("bad-{number}")), 535);
    }
    server.take_count();
    for number in 60..65 {
        assert_eq!(code(&introspection, &format!("good-{number}")), 235);
    }
    assert_eq!(server.take_count(), 0);
    assert_eq!(code(&introspection, "bad-0"), 535);
    assert_eq!(server.take_count(), 1);
}
