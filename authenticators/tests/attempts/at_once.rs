//! Guesses that are made at the same time, in all servers of a fleet together.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sansmtp::auth::mechanism::{Anonymous, CramMd5, External, OAuthBearer, Scram, XOAuth2};
use sansmtp::auth::{AttemptLimits, AttemptLog, AuthQuestion, MemoryAttemptLog, ScramHash, ScramKeys};
use sansmtp::{Auth, AuthRequest, AuthResult, Config, Connection, TlsInfo, TlsVersion};
use sansmtp_authenticators::attempts::{Guarded, Standing, ValkeyAttemptLog, WhenUnreachable};
use sansmtp_authenticators::{Authenticator, Knows};

use crate::client::{Asked, Server, Users, peer, talk};
use crate::log;
use crate::support::login::{Door, auth_as, offer};
use crate::support::valkey::Valkey;
use crate::support::wait::until;

const HERE: &str = "192.0.2.1";
const AT_ONCE: usize = 300;
const LIMIT: u32 = 50;

/// Nothing of it drains while a test lasts.
fn limits(by_address: u32) -> AttemptLimits {
    AttemptLimits { by_address, window: Duration::from_secs(30_000_000), ..AttemptLimits::default() }
}

fn limited(valkey: &Valkey, by_address: u32) -> Arc<ValkeyAttemptLog> {
    log(&valkey.url(), |config| {
        let config = config.limits(limits(by_address)).when_unreachable(WhenUnreachable::Closed);
        config.time_limit(Duration::from_secs(30)).max_waiting(AT_ONCE)
    })
}

/// Refuses everybody, once all who can come have come.
#[derive(Default)]
struct Gate {
    inside: AtomicUsize,
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn pass(&self) {
        self.inside.fetch_add(1, Ordering::SeqCst);
        let is_open = self.is_open.lock().unwrap();
        let waited = self.opened.wait_timeout_while(is_open, Duration::from_secs(60), |is_open| !*is_open).unwrap();
        assert!(!waited.1.timed_out(), "the gate does not open");
    }

    fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

struct BehindGate(Arc<Gate>);

impl Authenticator for BehindGate {
    fn authenticate(&self, request: &AuthRequest) -> AuthResult {
        self.0.pass();
        if let AuthQuestion::ScramKeys(hash) = request.question() {
            return AuthResult::scram_keys(ScramKeys::derive(hash, b"pencil", b"salt", 4096).unwrap());
        }
        AuthResult::refuse()
    }

    fn knows(&self, _: &AuthRequest) -> Knows {
        Knows::WhenAsked
    }
}

fn every_mechanism() -> Auth {
    Auth::new()
        .mechanism(Scram::new(ScramHash::Sha1))
        .mechanism(Scram::new(ScramHash::Sha512))
        .mechanism(Scram::plus(ScramHash::Sha256))
        .mechanism(CramMd5::new())
        .mechanism(OAuthBearer::new())
        .mechanism(XOAuth2::new())
        .mechanism(External::new())
        .mechanism(Anonymous::new())
        .handler_mechanism("X-TURNS")
        .pause(Duration::ZERO, Duration::ZERO)
}

fn tls() -> TlsInfo {
    let mut tls = TlsInfo::new(TlsVersion::Tls1_3, "TLS_AES_128_GCM_SHA256");
    tls.peer_certificates = vec![b"a certificate".to_vec()];
    tls.exporter = Some([7; 32]);
    tls
}

/// What a client that knows nothing says first.
fn words(mechanism: &str) -> String {
    let first: &[u8] = match mechanism {
        "PLAIN" => b"\0tim\0wrong",
        "LOGIN" => b"tim",
        "SCRAM-SHA-256-PLUS" => b"p=tls-exporter,,n=tim,r=0123456789",
        "CRAM-MD5" => return mechanism.to_owned(),
        "OAUTHBEARER" => b"n,,\x01auth=Bearer x\x01\x01",
        "XOAUTH2" => b"user=tim\x01auth=Bearer x\x01\x01",
        "EXTERNAL" => return "EXTERNAL =".to_owned(),
        "ANONYMOUS" | "X-TURNS" => b"somebody",
        _ => b"n,,n=tim,r=0123456789",
    };
    format!("{mechanism} {}", BASE64_STANDARD.encode(first))
}

/// And what it says to a challenge.
fn response(mechanism: &str, challenge: &str) -> String {
    let challenge = String::from_utf8(BASE64_STANDARD.decode(challenge).unwrap()).unwrap();
    let response = match mechanism {
        "LOGIN" => "wrong".to_owned(),
        "CRAM-MD5" => format!("tim {}", "0".repeat(32)),
        "OAUTHBEARER" => "\x01".to_owned(),
        _ if mechanism.starts_with("SCRAM") && !challenge.starts_with("e=") => {
            let octets = if mechanism.contains("512") {
                64
            } else if mechanism.ends_with("-1") {
                20
            } else {
                32
            };
            let binding = if mechanism.ends_with("PLUS") {
                BASE64_STANDARD.encode([b"p=tls-exporter,,", &[7; 32][..]].concat())
            } else {
                "biws".to_owned()
            };
            let nonce = challenge.split(',').next().unwrap();
            format!("c={binding},{nonce},p={}", BASE64_STANDARD.encode(vec![0; octets]))
        }
        _ => String::new(),
    };
    BASE64_STANDARD.encode(response)
}

/// A wrong guess, by whatever mechanism. The code of the reply.
fn guess(log: &Arc<ValkeyAttemptLog>, gate: &Arc<Gate>, mechanism: &str) -> u16 {
    let builder = Config::builder("mx.example.org").auth(every_mechanism().attempts(log.clone()));
    let mut connection = Connection::new(builder.implicit_tls(true).build().unwrap(), peer(HERE));
    connection.tls_established(tls()).unwrap();
    let users = Guarded::new(BehindGate(Arc::clone(gate)), Arc::clone(log));
    talk(
        connection,
        &words(mechanism),
        |challenge| Some(response(mechanism, challenge)),
        |asked| match asked {
            Asked::Request(request) => {
                let result = users.authenticate(&request);
                Some(request.answer(result))
            }
            Asked::Turn(turn) => Some(match log.ask(&turn.attempt()).result() {
                Some(refused) => turn.result(refused),
                None => {
                    gate.pass();
                    turn.result(AuthResult::refuse())
                }
            }),
        },
    )
}

#[test]
fn a_fleet_judges_no_more_at_once_than_the_limit_says() {
    let Some(valkey) = Valkey::start() else { return };
    for mechanism in [
        "PLAIN",
        "LOGIN",
        "SCRAM-SHA-1",
        "SCRAM-SHA-256",
        "SCRAM-SHA-512",
        "SCRAM-SHA-256-PLUS",
        "CRAM-MD5",
        "OAUTHBEARER",
        "XOAUTH2",
        "EXTERNAL",
        "ANONYMOUS",
        "X-TURNS",
    ] {
        let logs = [limited(&valkey, LIMIT), limited(&valkey, LIMIT)];
        let [one, other] = logs.each_ref().map(Server::new);
        let (gate, done) = (Arc::new(Gate::default()), AtomicUsize::new(0));
        let mut codes = std::thread::scope(|scope| {
            let begin = |log| {
                let (gate, done) = (&gate, &done);
                scope.spawn(move || {
                    let code = guess(log, gate, mechanism);
                    done.fetch_add(1, Ordering::SeqCst);
                    code
                })
            };
            let guesses: Vec<_> = logs.iter().cycle().take(AT_ONCE).map(begin).collect();
            until("all guesses", || {
                let arrived = gate.inside.load(Ordering::SeqCst) + done.load(Ordering::SeqCst);
                (arrived == AT_ONCE).then_some(())
            });
            // While the others are judged, and once they are.
            let behind = [&one, &other].map(|server| server.plain(HERE, "tim", "tanstaaftanstaaf"));
            gate.open();
            assert_eq!(behind, [454, 454], "{mechanism}");
            guesses.into_iter().map(|guess| guess.join().unwrap()).collect::<Vec<_>>()
        });
        codes.sort_unstable();
        assert_eq!(codes.iter().filter(|code| **code == 535).count(), LIMIT as usize, "{mechanism}: {codes:?}");
        assert_eq!(codes.iter().filter(|code| **code == 454).count(), AT_ONCE - LIMIT as usize, "{mechanism}");
        assert_eq!(gate.inside.load(Ordering::SeqCst), LIMIT as usize, "{mechanism}");
        for server in [&one, &other] {
            assert_eq!(server.plain(HERE, "tim", "tanstaaftanstaaf"), 454, "{mechanism}");
        }
        valkey.ask::<String>(&["FLUSHALL"]);
    }
}

/// At the server nothing is left of an attempt that ends otherwise.
#[test]
fn every_end_but_a_refusal_gives_back_what_was_taken() {
    let Some(valkey) = Valkey::start() else { return };
    let log = limited(&valkey, 1);
    let scram = words("SCRAM-SHA-256");
    let plain = |password: &str| format!("PLAIN {}", BASE64_STANDARD.encode(format!("\0tim\0{password}")));
    let users = Guarded::new(Users, Arc::clone(&log));
    type End<'a> = &'a dyn Fn(AuthRequest, AuthResult) -> Option<sansmtp::Answer>;
    let ends: [(&str, String, End<'_>); 6] = [
        ("success", plain("tanstaaftanstaaf"), &|request, result| Some(request.answer(result))),
        ("cannot tell", plain("wrong"), &|request, _| Some(request.answer(AuthResult::cannot_tell()))),
        ("a dropped answer", plain("wrong"), &|request, result| {
            drop(request.answer(result));
            None
        }),
        ("a dropped question", plain("wrong"), &|_, _| None),
        ("the connection is lost behind a challenge", scram.clone(), &|request, result| Some(request.answer(result))),
        ("keys cannot be told", scram, &|request, _| Some(request.answer(AuthResult::cannot_tell()))),
    ];
    for (end, words, answer) in ends {
        let auth = every_mechanism().attempts(log.clone()).require_tls(false);
        let connection = Connection::new(Config::builder("mx.example.org").auth(auth).build().unwrap(), peer(HERE));
        talk(
            connection,
            &words,
            |_| None,
            |asked| {
                let Asked::Request(request) = asked else { panic!("the hook is asked") };
                let result = users.authenticate(&request);
                // If this process died now, it would leave what drains by itself.
                let taken = valkey.times_to_live();
                assert!(matches!(taken[..], [(_, 1..=30_000_000_000)]), "{end}: {taken:?}");
                answer(request, result)
            },
        );
        until(end, || valkey.times_to_live().is_empty().then_some(()));
        // Here, too, and the server is not asked before what was given back has arrived.
        assert_eq!(Server::new(&log).plain(HERE, "tim", "tanstaaftanstaaf"), 235, "{end}");
        until(end, || valkey.times_to_live().is_empty().then_some(()));
    }
}

/// What is given back belongs to a count that is there no more: the server was emptied, or the key has expired.
#[test]
fn nothing_is_given_back_to_another_count() {
    let Some(valkey) = Valkey::start() else { return };
    let log = limited(&valkey, 3);
    let reserve = || {
        let mut attempt = sansmtp::auth::Attempt::new(peer(HERE), "PLAIN".into(), "");
        attempt.reservation = log.admit(&attempt);
        assert_eq!(log.ask(&attempt), Standing::Admitted);
        attempt
    };
    let first = reserve();
    valkey.ask::<String>(&["FLUSHALL"]);
    let second = reserve();
    let taken = valkey.times_to_live();
    log.release(first.reservation.unwrap());
    // Answered behind it.
    assert_eq!(log.ask(&sansmtp::auth::Attempt::new(peer(HERE), "PLAIN".into(), "")), Standing::Admitted);
    let left = valkey.times_to_live();
    assert_eq!(left.len(), 1);
    // Some seconds have drained at the most, of 10,000,000.
    assert!(left[0].1 > taken[0].1 - 60_000, "{left:?} {taken:?}");
    log.release(second.reservation.unwrap());
    until("the second", || valkey.times_to_live().is_empty().then_some(()));
}

/// As in a chain of guarded authenticators.
#[test]
fn an_attempt_for_which_is_asked_twice_counts_once() {
    let Some(valkey) = Valkey::start() else { return };
    let log = limited(&valkey, 3);
    let mut server = Server::new(&log);
    server.users = Arc::new(Guarded::new(Guarded::new(Users, Arc::clone(&log)), Arc::clone(&log)));
    for _ in 0..2 {
        assert_eq!(server.plain(HERE, "tim", "tanstaaftanstaaf"), 235);
        assert_eq!(server.plain(HERE, "tim", "wrong"), 535);
    }
    assert_eq!(server.plain(HERE, "tim", "tanstaaftanstaaf"), 235);
    assert_eq!(server.plain(HERE, "tim", "wrong"), 535);
    assert_eq!(server.plain(HERE, "tim", "tanstaaftanstaaf"), 454);
}

/// An answer that is made when nobody waits for it any more takes nothing, and judges nothing.
#[test]
fn what_is_asked_too_late_is_not_judged() {
    let Some(valkey) = Valkey::start() else { return };
    let log = limited(&valkey, 3);
    let mut attempt = sansmtp::auth::Attempt::new(peer(HERE), "PLAIN".into(), "");
    attempt.reservation = log.admit(&attempt);
    log.release(attempt.reservation.unwrap());
    assert_eq!(log.ask(&attempt), Standing::CannotTell);
    assert_eq!(valkey.times_to_live().len(), 0);
}

/// Where the engine has no log, or another one, what the authenticator refuses is counted.
#[test]
fn it_counts_where_the_engine_does_not() {
    let Some(valkey) = Valkey::start() else { return };
    let by_user = |valkey: &Valkey| {
        log(&valkey.url(), |config| {
            let limits = AttemptLimits { by_user: 3, by_address: 0, ..limits(0) };
            config.limits(limits).time_limit(Duration::from_secs(30)).when_unreachable(WhenUnreachable::Closed)
        })
    };
    let memory = Arc::new(MemoryAttemptLog::new(AttemptLimits::default(), || Duration::ZERO));
    for auth in [Auth::new(), Auth::new().attempts(memory)] {
        let (one, other) = (by_user(&valkey), by_user(&valkey));
        let [one, other] = [one, other].map(|log| Guarded::new(Users, log));
        let config = offer(auth);
        let log_in = |users: &Guarded<Users>, password: &str| {
            let words = format!("PLAIN {}", BASE64_STANDARD.encode(format!("\0tim\0{password}")));
            auth_as(&config, users, &words)
        };
        for users in [&one, &other, &one] {
            assert_eq!(log_in(users, "tanstaaftanstaaf"), 235);
            assert_eq!(log_in(users, "wrong"), 535);
        }
        assert_eq!((log_in(&one, "tanstaaftanstaaf"), log_in(&other, "tanstaaftanstaaf")), (454, 454));
        assert_eq!(one.log_in("alice@example.org", "correct horse battery staple"), 235);
        valkey.ask::<String>(&["FLUSHALL"]);
    }
}
