//! Guesses that are made at the same time, and passed through to a real Dovecot.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sansmtp::auth::{AttemptLimits, AttemptLog, MemoryAttemptLog};
use sansmtp_authenticators::dovecot::Dovecot;

use crate::dialogue::{Dialogue, Guard, all_in_the_clear, challenge, code};
use crate::server::Server;

const AT_ONCE: usize = 300;
const LIMIT: usize = 50;

/// Nothing of it drains while a test lasts.
fn limits() -> AttemptLimits {
    AttemptLimits { by_address: 50, window: Duration::from_secs(30_000_000), ..AttemptLimits::default() }
}

/// Opens all exchanges, and responds to the challenges then.
fn judges_no_more(dovecot: &Dovecot, mechanism: &str, log: &Arc<dyn AttemptLog>, guard: impl Fn() -> Option<Guard>) {
    let auth = all_in_the_clear(dovecot).attempts(Arc::clone(log));
    let begin = |line: &str| {
        let peer = SocketAddr::from(([192, 0, 2, 1], 1)).into();
        let mut dialogue = Dialogue::new(dovecot.exchange(), auth.clone(), peer, None);
        dialogue.guard = guard();
        let said = dialogue.say(line);
        (dialogue, said)
    };
    let line = if mechanism.starts_with("SCRAM") {
        format!("AUTH {mechanism} {}", crate::base64(b"n,,n=tim,r=rOprNGfwEbeRWgbNEkqO"))
    } else {
        format!("AUTH {mechanism}")
    };
    let (open, refused): (Vec<_>, Vec<_>) =
        (0..AT_ONCE).map(|_| begin(&line)).partition(|(_, said)| said.starts_with("334"));
    assert_eq!((open.len(), refused.len()), (LIMIT, AT_ONCE - LIMIT), "{mechanism}");
    assert!(refused.iter().all(|(_, said)| said.starts_with("454 4.7.0 ")), "{mechanism}");
    let right = format!("AUTH PLAIN {}", crate::base64(b"\0tim\0tanstaaftanstaaf"));
    assert_eq!(code(&begin(&right).1), 454, "{mechanism}: while the others are judged");
    std::thread::scope(|scope| {
        for (mut dialogue, said) in open {
            scope.spawn(move || {
                let said = match mechanism {
                    "PLAIN" => dialogue.respond("\0tim\0wrong"),
                    "LOGIN" => {
                        dialogue.respond("tim");
                        dialogue.respond("wrong")
                    }
                    "CRAM-MD5" => dialogue.respond(format!("tim {}", "0".repeat(32))),
                    _ => {
                        let first = String::from_utf8(challenge(&said)).unwrap();
                        let nonce = first.split(',').next().unwrap();
                        dialogue.respond(format!("c=biws,{nonce},p={}", crate::base64(&[0; 32])))
                    }
                };
                assert_eq!(code(&said), 535, "{mechanism}");
            });
        }
    });
    assert_eq!(code(&begin(&right).1), 454, "{mechanism}");
}

#[test]
fn no_more_are_judged_than_the_limit_says() {
    let Some(server) = Server::start() else { return };
    let dovecot = Dovecot::connect(server.socket()).unwrap();
    for mechanism in ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256"] {
        let log: Arc<dyn AttemptLog> = Arc::new(MemoryAttemptLog::new(limits(), || Duration::ZERO));
        judges_no_more(&dovecot, mechanism, &log, || None);
    }
}

#[cfg(feature = "valkey")]
#[test]
fn nor_by_a_fleet() {
    use sansmtp::{AuthTurn, Secret};
    use sansmtp_authenticators::attempts::{ValkeyAttemptLog, ValkeyConfig, WhenUnreachable};

    use crate::support::valkey::Valkey;

    let (Some(server), Some(valkey)) = (Server::start(), Valkey::start()) else { return };
    let dovecot = Dovecot::connect(server.socket()).unwrap();
    let connect = || {
        let config = ValkeyConfig::from_url(&valkey.url()).unwrap().key(Secret::new(b"the key of the tests".to_vec()));
        let config = config.limits(limits()).when_unreachable(WhenUnreachable::Closed);
        Arc::new(ValkeyAttemptLog::new(config.time_limit(Duration::from_secs(30))).unwrap())
    };
    for mechanism in ["PLAIN", "SCRAM-SHA-256"] {
        let (log, other) = (connect(), connect());
        judges_no_more(&dovecot, mechanism, &(Arc::clone(&log) as Arc<dyn AttemptLog>), || {
            let log = Arc::clone(&log);
            Some(Box::new(move |turn: &AuthTurn| log.ask(&turn.attempt()).result()))
        });
        // Nor is there room in another server.
        let peer = SocketAddr::from(([192, 0, 2, 1], 1)).into();
        assert!(other.ask(&sansmtp::auth::Attempt::new(peer, "PLAIN".into(), "")).result().is_some(), "{mechanism}");
        valkey.ask::<String>(&["FLUSHALL"]);
    }
}
